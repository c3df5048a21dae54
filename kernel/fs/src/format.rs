//! Making a volume.
//!
//! The crate says what lies where (`calculate_params`). It is written from here, a page at a time:
//! the crate's formatter asks for a whole table's zeroes at once and cannot be refused. The first
//! sector, which makes a volume of the disk, comes last.

use arch::PAGE_SIZE;
use hadris_fat::FatType;
use hadris_fat::sync::format::{
    FatFormatOptions, FatTypeSelection, FatVolumeFormatter, FormatParams, SectorSize,
};
use mm::file::{self, Opener};

use crate::FsError;
use crate::disk::{self, Taken};

const PAGE: usize = PAGE_SIZE as usize;

/// The smallest volume, in bytes.
const MIN: u64 = 1 << 20;
/// A volume of more bytes than this has larger clusters, so that its tables have 8 MiB at most up
/// to 64 GiB.
const SMALL_CLUSTERS: u64 = 8 << 30;
/// Most pages in a cluster.
const MOST: u8 = 8;
/// Disks of some sizes have too many clusters for one type and, with the next type's longer tables,
/// too few for that one. So many pages fewer, and each has a type.
const BETWEEN: u64 = 128;

/// Makes a volume of the first `bytes` of the data disk, or of a little less: with clusters of a
/// page, or larger ones above 8 GiB. What was on it is lost. Ends early when `stop` says so.
/// Sleeps.
///
/// # Errors
/// NoDisk; Busy; ReadOnly; BadSize for less than 1 MiB, or more than the disk has; Io, NoMemory,
/// Interrupted: what is on the disk is no volume then, or still the one of before with what was in
/// it lost.
pub fn format(bytes: u64, stop: impl Fn() -> bool) -> Result<(), FsError> {
    let _taken = Taken::new()?;
    let disk = disk::open()?;
    if let Some(why) = disk::read_only() {
        return Err(FsError::ReadOnly(why));
    }
    let result = write(&disk, bytes, stop);
    if result.is_err() {
        // What the disk did not take shall not be read, nor written later.
        disk.invalidate(0, u64::MAX)?;
    }
    drop(disk);
    file::drop_caches();
    result
}

fn write(disk: &Opener, bytes: u64, stop: impl Fn() -> bool) -> Result<(), FsError> {
    if bytes > disk.size() {
        return Err(FsError::BadSize);
    }
    let volume = Volume(layout(bytes)?);
    for page in 1..volume.first_free() {
        if stop() {
            return Err(FsError::Interrupted);
        }
        put(disk, page, &volume.page(page))?;
    }
    disk.sync()?;
    put(disk, 0, &volume.page(0))?;
    disk.sync()?;
    Ok(())
}

fn put(disk: &Opener, page: u64, content: &[u8; PAGE]) -> Result<(), FsError> {
    match disk.write(page * PAGE_SIZE, content)? {
        PAGE => Ok(()),
        _ => Err(FsError::Io),
    }
}

/// What a volume of `bytes` bytes looks like: the type follows from the clusters that are left when
/// the tables are made.
///
/// # Errors
/// BadSize.
fn layout(bytes: u64) -> Result<FormatParams, FsError> {
    let mut cluster = 1;
    while cluster < MOST && bytes > SMALL_CLUSTERS * u64::from(cluster) {
        cluster *= 2;
    }
    let pages = bytes / PAGE_SIZE;
    let kinds = [
        FatTypeSelection::Fat12,
        FatTypeSelection::Fat16,
        FatTypeSelection::Fat32,
    ];
    (pages.saturating_sub(BETWEEN)..=pages)
        .rev()
        .filter(|pages| pages * PAGE_SIZE >= MIN)
        .find_map(|pages| {
            let options = FatFormatOptions::new(pages * PAGE_SIZE)
                .sector_size(SectorSize::S4096)
                .sectors_per_cluster(cluster);
            kinds.iter().find_map(|&kind| {
                FatVolumeFormatter::calculate_params(&options.clone().fat_type(kind)).ok()
            })
        })
        .ok_or(FsError::BadSize)
}

/// A volume to be written; its sectors are pages.
struct Volume(FormatParams);

/// A page, written piece by piece.
struct Page([u8; PAGE]);

impl Page {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn word(&mut self, at: usize, v: u16) {
        self.put(at, &v.to_le_bytes());
    }
    fn long(&mut self, at: usize, v: u32) {
        self.put(at, &v.to_le_bytes());
    }
}

/// Pages of a FAT32 volume in front of its tables: the numbers of free clusters, and copies of it
/// and of the first page.
const INFO: u64 = 1;
const BOOT_COPY: u64 = 6;
const INFO_COPY: u64 = 7;
/// The root directory's cluster on FAT32.
const ROOT: u32 = 2;

impl Volume {
    fn is_fat32(&self) -> bool {
        self.0.fat_type == FatType::Fat32
    }

    /// The first page that needs not be written: behind the root directory.
    fn first_free(&self) -> u64 {
        let root = if self.is_fat32() {
            self.0.sectors_per_cluster
        } else {
            // In front of the clusters.
            0
        };
        u64::from(self.0.data_start_sector) + u64::from(root)
    }

    /// What is in a page of it.
    fn page(&self, page: u64) -> [u8; PAGE] {
        let mut content = Page([0; PAGE]);
        let reserved = u64::from(self.0.reserved_sectors);
        let table = u64::from(self.0.sectors_per_fat);
        if page < reserved {
            match page {
                0 => self.boot(&mut content),
                BOOT_COPY if self.is_fat32() => self.boot(&mut content),
                INFO | INFO_COPY if self.is_fat32() => self.info(&mut content),
                _ => {}
            }
        } else if (0..u64::from(self.0.fat_count)).any(|n| page == reserved + n * table) {
            self.table(&mut content);
        }
        content.0
    }

    /// The first page. (Microsoft, "FAT: General Overview of On-Disk Format", 1.03.)
    fn boot(&self, page: &mut Page) {
        let p = &self.0;
        page.put(0, &[0xeb, 0x58, 0x90]);
        page.put(3, b"QUIRE   ");
        page.word(11, PAGE as u16);
        page.put(13, &[p.sectors_per_cluster]);
        page.word(14, p.reserved_sectors);
        page.put(16, &[p.fat_count]);
        page.word(17, p.root_entry_count);
        match u16::try_from(p.total_sectors) {
            Ok(short) if !self.is_fat32() => page.word(19, short),
            _ => page.long(32, p.total_sectors),
        }
        page.put(21, &[p.media_type]);
        // A geometry that nobody uses any more.
        page.word(24, 63);
        page.word(26, 255);
        page.long(28, p.hidden_sectors);
        // Where the types differ: drive, a mark that what follows is there, label, type.
        let rest = if self.is_fat32() {
            page.long(36, p.sectors_per_fat);
            page.long(44, ROOT);
            page.word(48, INFO as u16);
            page.word(50, BOOT_COPY as u16);
            64
        } else {
            page.word(22, p.sectors_per_fat as u16);
            36
        };
        page.put(rest, &[0x80, 0, 0x29]);
        page.put(rest + 7, b"NO NAME    ");
        page.put(
            rest + 18,
            match p.fat_type {
                FatType::Fat12 => b"FAT12   ",
                FatType::Fat16 => b"FAT16   ",
                FatType::Fat32 => b"FAT32   ",
            },
        );
        page.put(510, &[0x55, 0xaa]);
    }

    fn info(&self, page: &mut Page) {
        page.put(0, b"RRaA");
        page.put(484, b"rrAa");
        // All but the root directory's.
        page.long(488, self.0.cluster_count - 1);
        page.long(492, ROOT + 1);
        page.put(510, &[0x55, 0xaa]);
    }

    /// The first page of a table: two entries that are no clusters', and FAT32's root directory.
    fn table(&self, page: &mut Page) {
        let media = u32::from(self.0.media_type);
        match self.0.fat_type {
            FatType::Fat12 => page.put(0, &[media as u8, 0xff, 0xff]),
            FatType::Fat16 => page.long(0, 0xffff_ff00 | media),
            FatType::Fat32 => {
                page.long(0, 0x0fff_ff00 | media);
                page.long(4, 0x0fff_ffff);
                page.long(8, 0x0fff_fff8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;

    /// What mounting makes of a volume of this size.
    fn mounted(bytes: u64) -> (FatType, Geometry) {
        let volume = Volume(layout(bytes).unwrap());
        let first = volume.page(0);
        let sector: &[u8; 512] = first[..512].try_into().unwrap();
        let geometry = Geometry::new(sector, bytes).unwrap();
        assert_eq!(geometry.clusters, volume.0.cluster_count, "{bytes} bytes");
        let type_of = match geometry.clusters {
            ..4085 => FatType::Fat12,
            4085..65525 => FatType::Fat16,
            _ => FatType::Fat32,
        };
        assert_eq!(type_of, volume.0.fat_type, "{bytes} bytes");
        (type_of, geometry)
    }

    #[test]
    fn every_size_makes_a_volume() {
        for pages in (256..5000)
            .chain(65_000..67_000)
            .chain((67_000..300_000).step_by(997))
        {
            let bytes = pages * PAGE_SIZE;
            let (_, geometry) = mounted(bytes);
            let unused = bytes - geometry.data - u64::from(geometry.clusters) * PAGE_SIZE;
            assert!(unused <= BETWEEN * PAGE_SIZE, "{pages} pages");
        }
    }

    #[test]
    fn the_type_follows_from_the_clusters_that_are_left() {
        let of = |pages: u64| mounted(pages * PAGE_SIZE).0;
        assert_eq!((of(4093), of(4094)), (FatType::Fat12, FatType::Fat16));
        assert_eq!((of(65_686), of(65_687)), (FatType::Fat16, FatType::Fat32));
        assert_eq!(mounted(256 << 20).0, FatType::Fat16);
    }

    #[test]
    fn tables_are_bounded() {
        for gib in [1u64, 8, 9, 16, 17, 32, 33, 64] {
            let volume = Volume(layout(gib << 30).unwrap());
            assert!(volume.0.sectors_per_fat <= 2049, "{gib} GiB");
            assert!(mounted(gib << 30).1.cluster <= 32 << 10);
        }
        assert_eq!(mounted(64 << 30).1.cluster, 32 << 10);
        assert!(layout(1 << 40).is_ok());
        for none in [0, MIN - 1, 3 << 40, u64::MAX] {
            assert_eq!(layout(none).map(drop), Err(FsError::BadSize), "{none}");
        }
    }
}
