//! What the first sector says of a volume, and whether its clusters can be pages of a page cache.
//! Pure.

use crate::FsError;
use arch::PAGE_SIZE;

/// Where the clusters lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    /// Bytes in a cluster: whole pages.
    pub(crate) cluster: u32,
    /// The byte where the first cluster begins: whole pages.
    pub(crate) data: u64,
    /// Clusters in the volume.
    pub(crate) clusters: u32,
    /// Where the root directory is.
    pub(crate) root: Root,
    /// The byte where FAT32 counts its free clusters.
    pub(crate) info: Option<u64>,
}

/// Where the root directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Root {
    /// FAT12 and FAT16: so many bytes from this one on.
    Fixed {
        /// The first byte.
        at: u64,
        /// How many.
        bytes: u64,
    },
    /// FAT32: a directory like others, that begins in this cluster.
    Cluster(u32),
}

/// The number of the first cluster.
pub(crate) const FIRST: u32 = 2;
/// Bytes in the largest directory.
const LARGEST_DIRECTORY: u32 = 2 << 20;
/// Bytes in the largest clusters that the crate reads.
const LARGEST: u64 = 32 << 10;

/// FAT32's flags: only one table is kept up to date, and which.
const ONE_TABLE: u64 = 1 << 7;
const WHICH_TABLE: u64 = 0xf;

fn word(sector: &[u8; 512], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([sector[at], sector[at + 1]]))
}

fn long(sector: &[u8; 512], at: usize) -> u64 {
    word(sector, at) | word(sector, at + 2) << 16
}

impl Geometry {
    /// Of the volume that begins with `sector`, on a disk of `disk` bytes.
    ///
    /// # Errors
    /// NotFat, SmallClusters, LargeClusters, Unaligned, Truncated, Corrupt.
    pub(crate) fn new(sector: &[u8; 512], disk: u64) -> Result<Self, FsError> {
        if sector[510..] != [0x55, 0xaa] {
            return Err(FsError::NotFat("no boot signature"));
        }
        let (bytes, per_cluster) = (word(sector, 11), u64::from(sector[13]));
        if !bytes.is_power_of_two() || !(512..=4096).contains(&bytes) {
            return Err(FsError::NotFat("sectors of an impossible size"));
        }
        if !per_cluster.is_power_of_two() {
            return Err(FsError::NotFat("clusters of an impossible size"));
        }
        let (reserved, fats) = (word(sector, 14), u64::from(sector[16]));
        let either = |short, wide| if short != 0 { short } else { wide };
        let fat = either(word(sector, 22), long(sector, 36));
        let total = either(word(sector, 19), long(sector, 32));
        let root_bytes = word(sector, 17) * 32;
        let root = root_bytes.div_ceil(bytes);
        let first = reserved + fats * fat + root;
        if reserved == 0 || fats == 0 || fat == 0 || total <= first {
            return Err(FsError::NotFat("no room for clusters"));
        }
        // As the crate tells FAT32 from the others.
        let is_wide = word(sector, 17) == 0 && word(sector, 22) == 0;
        let (cluster, data) = (bytes * per_cluster, bytes * first);
        if cluster < PAGE_SIZE {
            return Err(FsError::SmallClusters {
                bytes: cluster as u32,
            });
        }
        if cluster > LARGEST {
            return Err(FsError::LargeClusters {
                bytes: cluster as u32,
            });
        }
        if total * bytes > disk {
            let volume = total * bytes;
            return Err(FsError::Truncated { volume, disk });
        }
        if !data.is_multiple_of(PAGE_SIZE) {
            return Err(FsError::Unaligned { at: data });
        }
        let clusters = (total - first) / per_cluster;
        // The first two entries of a table are no clusters'.
        let entry_bits = match clusters {
            _ if is_wide => 32,
            ..4085 => 12,
            _ => 16,
        };
        if (clusters + 2) * entry_bits > fat * bytes * 8 {
            return Err(FsError::Corrupt("tables too short for the clusters"));
        }
        let flags = long(sector, 40);
        if is_wide && flags & ONE_TABLE != 0 && flags & WHICH_TABLE != 0 {
            return Err(FsError::NotFat("a table other than the first is in use"));
        }
        Ok(Self {
            cluster: cluster as u32,
            data,
            // Below 2^32, as sectors are.
            clusters: clusters as u32,
            root: if is_wide {
                Root::Cluster(long(sector, 44) as u32)
            } else {
                Root::Fixed {
                    at: bytes * (reserved + fats * fat),
                    bytes: root_bytes,
                }
            },
            info: is_wide.then(|| bytes * word(sector, 48)),
        })
    }

    /// Clusters that `size` bytes take.
    pub(crate) fn clusters_of(&self, size: u64) -> u64 {
        size.div_ceil(u64::from(self.cluster))
    }

    /// The first page of the disk that `cluster` is; None for a number that is no cluster's.
    pub(crate) fn page_of(&self, cluster: u32) -> Option<u32> {
        let index = cluster.checked_sub(FIRST).filter(|i| *i < self.clusters)?;
        let at = self.data + u64::from(index) * u64::from(self.cluster);
        u32::try_from(at / PAGE_SIZE).ok()
    }

    /// The cluster that page `page` of the disk lies in, which is not before the first.
    pub(crate) fn cluster_of(&self, page: u32) -> u32 {
        let behind = u64::from(page) * PAGE_SIZE - self.data;
        (behind / u64::from(self.cluster)) as u32 + FIRST
    }

    /// The byte where `cluster`, which is one, begins.
    pub(crate) fn byte_of(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster - FIRST) * u64::from(self.cluster)
    }

    /// Clusters that a directory has at most: 65,536 entries.
    pub(crate) fn most_of_directory(&self) -> u32 {
        LARGEST_DIRECTORY / self.cluster
    }

    /// Pages in a cluster.
    pub(crate) fn pages_per_cluster(&self) -> u32 {
        self.cluster / PAGE_SIZE as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FAT16, two tables of 128 sectors, 512 root entries: as mkfs.fat makes 128 MiB with -s 8.
    fn boot(per_cluster: u8, reserved: u16) -> [u8; 512] {
        let mut s = [0; 512];
        s[11..13].copy_from_slice(&512u16.to_le_bytes());
        s[13] = per_cluster;
        s[14..16].copy_from_slice(&reserved.to_le_bytes());
        s[16] = 2;
        s[17..19].copy_from_slice(&512u16.to_le_bytes());
        s[22..24].copy_from_slice(&128u16.to_le_bytes());
        s[32..36].copy_from_slice(&262_144u32.to_le_bytes());
        s[510..].copy_from_slice(&[0x55, 0xaa]);
        s
    }

    const DISK: u64 = 128 << 20;

    #[test]
    fn clusters_are_pages_of_the_disk() {
        let g = Geometry::new(&boot(8, 8), DISK).unwrap();
        assert_eq!((g.cluster, g.data), (4096, (8 + 256 + 32) * 512));
        assert_eq!(g.clusters, (262_144 - 296) / 8);
        assert_eq!(g.page_of(2), Some(37));
        assert_eq!(g.page_of(g.clusters + 1), Some(36 + g.clusters));
        for none in [0, 1, g.clusters + 2, u32::MAX] {
            assert_eq!(g.page_of(none), None);
        }
        assert_eq!(g.cluster_of(37), 2);
        assert_eq!(g.cluster_of(36 + g.clusters), g.clusters + 1);
        assert_eq!(g.byte_of(3), g.data + 4096);
        let (at, bytes) = ((8 + 256) * 512, 512 * 32);
        assert_eq!((g.root, g.info), (Root::Fixed { at, bytes }, None));
        assert_eq!((g.clusters_of(0), g.clusters_of(1)), (0, 1));
        assert_eq!((g.clusters_of(4096), g.clusters_of(4097)), (1, 2));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let of = |s: &[u8; 512]| Geometry::new(s, DISK).unwrap_err();
        assert_eq!(of(&[0; 512]), FsError::NotFat("no boot signature"));
        assert_eq!(of(&boot(4, 8)), FsError::SmallClusters { bytes: 2048 });
        assert_eq!(of(&boot(128, 8)), FsError::LargeClusters { bytes: 65536 });
        assert_eq!(of(&boot(8, 1)), FsError::Unaligned { at: 289 * 512 });
        let cut = FsError::Truncated {
            volume: DISK,
            disk: DISK - 4096,
        };
        assert_eq!(Geometry::new(&boot(8, 8), DISK - 4096), Err(cut));
        let mut short = boot(8, 8);
        short[22] = 127;
        // So that the clusters begin on a page.
        short[14] = 10;
        assert_eq!(
            of(&short),
            FsError::Corrupt("tables too short for the clusters")
        );
        let broken: [fn(&mut [u8; 512]); 5] = [
            |s| s[11] = 1,
            |s| s[12] = 0x40,
            |s| s[13] = 3,
            |s| s[16] = 0,
            |s| s[35] = 0xff,
        ];
        for (i, change) in broken.iter().enumerate() {
            let mut s = boot(8, 8);
            change(&mut s);
            assert!(Geometry::new(&s, DISK).is_err(), "{i}");
        }
    }
}
