//! Directories as they lie on the disk: slots of 32 bytes. A file has one, and before it those of
//! its long name.
//!
//! The crate makes names and finds them; what an entry says of clusters and sizes is written here,
//! so that the order of writes is `commit`'s. A slot does not cross a sector: whatever the power
//! does, it is as it was or as it was to be. Sleeps; the caller holds the volume's lock.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::FsError;
use crate::geometry::{Geometry, Root};
use crate::table::{Next, Table};

/// What is wrong with a directory that does not end where it must.
pub(crate) const TOO_LONG: &str = "a directory of more than 65536 entries";
const SLOT: usize = 32;
const END: u8 = 0;
const DELETED: u8 = 0xe5;
const ATTRIBUTES: usize = 11;
const LONG_NAME: u8 = 0x0f;
const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
/// The names of a directory itself, and of the one that it is in.
const DOTS: [&[u8]; 2] = [b".          ", b"..         "];
/// Letters of a long name in one slot.
const LETTERS: usize = 13;

/// One slot, and the byte of the disk where it lies.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) at: u64,
    bytes: [u8; SLOT],
}

impl Slot {
    /// The directory has nothing from here on.
    pub(crate) fn is_end(&self) -> bool {
        self.bytes[0] == END
    }

    fn is_free(&self) -> bool {
        matches!(self.bytes[0], END | DELETED)
    }

    fn is_long_name(&self) -> bool {
        self.bytes[ATTRIBUTES] == LONG_NAME
    }

    /// It is the entry of a file or directory, but for `.` and `..`.
    pub(crate) fn is_entry(&self) -> bool {
        !self.is_free() && self.bytes[ATTRIBUTES] & LABEL == 0 && !DOTS.contains(&&self.bytes[..11])
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.bytes[ATTRIBUTES] & DIRECTORY != 0
    }

    /// The short name as it lies there.
    pub(crate) fn name(&self) -> [u8; 11] {
        let mut name = [0; 11];
        name.copy_from_slice(&self.bytes[..11]);
        if name[0] == 0x05 {
            name[0] = DELETED;
        }
        name
    }

    /// The first cluster; 0 for none.
    pub(crate) fn first(&self) -> u32 {
        let half = |at: usize| u32::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]));
        half(20) << 16 | half(26)
    }

    /// Bytes in the file.
    pub(crate) fn size(&self) -> u32 {
        let mut size = [0; 4];
        size.copy_from_slice(&self.bytes[28..]);
        u32::from_le_bytes(size)
    }

    /// The same entry with another first cluster and size.
    pub(crate) fn with(mut self, first: u32, size: u32) -> Self {
        let [a, b, c, d] = first.to_le_bytes();
        self.bytes[26..28].copy_from_slice(&[a, b]);
        self.bytes[20..22].copy_from_slice(&[c, d]);
        self.bytes[28..].copy_from_slice(&size.to_le_bytes());
        self
    }

    /// The same entry as a directory's.
    pub(crate) fn of_directory(mut self) -> Self {
        self.bytes[ATTRIBUTES] = DIRECTORY;
        self
    }
}

/// An entry: its slot, and where those of its long name lie.
pub(crate) struct Found {
    pub(crate) slot: Slot,
    long: Vec<u64>,
}

/// Slots that a name takes at most.
pub(crate) fn slots_of(name: &str) -> usize {
    1 + name.encode_utf16().count().div_ceil(LETTERS)
}

/// The first slots of a new directory, itself and its parent; 0: the root.
pub(crate) fn dots(itself: u32, parent: u32) -> [u8; 2 * SLOT] {
    let mut both = [0; 2 * SLOT];
    for (name, cluster, bytes) in [
        (DOTS[0], itself, 0..SLOT),
        (DOTS[1], parent, SLOT..2 * SLOT),
    ] {
        let mut slot = Slot {
            at: 0,
            bytes: [0; SLOT],
        };
        slot.bytes[..11].copy_from_slice(name);
        both[bytes].copy_from_slice(&slot.of_directory().with(cluster, 0).bytes);
    }
    both
}

/// Where a directory is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// FAT12's and FAT16's root.
    Fixed,
    /// Its first cluster.
    Chain(u32),
}

impl Place {
    /// Of a volume's root.
    pub(crate) fn root(geometry: &Geometry) -> Self {
        match geometry.root {
            Root::Fixed { .. } => Self::Fixed,
            Root::Cluster(first) => Self::Chain(first),
        }
    }
}

/// The directories of a volume.
pub(crate) struct Slots<'a> {
    pub(crate) table: Table<'a>,
    pub(crate) geometry: &'a Geometry,
}

impl Slots<'_> {
    /// Calls `f` with each slot of a directory, free ones too; what it breaks with.
    ///
    /// # Errors
    /// Corrupt, Io, NoMemory.
    pub(crate) fn each<B>(
        &mut self,
        dir: Place,
        mut f: impl FnMut(Slot) -> ControlFlow<B>,
    ) -> Result<Option<B>, FsError> {
        let first = match (dir, self.geometry.root) {
            (Place::Chain(first), _) => first,
            (Place::Fixed, Root::Fixed { at, bytes }) => return self.part(at, bytes, &mut f),
            (Place::Fixed, Root::Cluster(first)) => first,
        };
        let mut cluster = first;
        for _ in 0..self.geometry.most_of_directory() {
            if self.geometry.page_of(cluster).is_none() {
                return Err(FsError::Corrupt("a directory without a cluster"));
            }
            let (at, bytes) = (self.geometry.byte_of(cluster), self.geometry.cluster);
            let broken = self.part(at, u64::from(bytes), &mut f)?;
            if broken.is_some() {
                return Ok(broken);
            }
            cluster = match self.table.next(cluster)? {
                Next::Cluster(next) => next,
                Next::End | Next::Free => return Ok(None),
            };
        }
        Err(FsError::Corrupt(TOO_LONG))
    }

    fn part<B>(
        &mut self,
        at: u64,
        bytes: u64,
        f: &mut impl FnMut(Slot) -> ControlFlow<B>,
    ) -> Result<Option<B>, FsError> {
        for at in (at..at + bytes / SLOT as u64 * SLOT as u64).step_by(SLOT) {
            let mut slot = Slot {
                at,
                bytes: [0; SLOT],
            };
            self.table.disk.get(at, &mut slot.bytes)?;
            if let ControlFlow::Break(b) = f(slot) {
                return Ok(Some(b));
            }
        }
        Ok(None)
    }

    /// The entry with this short name.
    ///
    /// # Errors
    /// NotFound; Corrupt, Io, NoMemory.
    pub(crate) fn find(&mut self, dir: Place, name: [u8; 11]) -> Result<Found, FsError> {
        let mut long = Vec::new();
        let slot = self.each(dir, |slot| {
            if slot.is_end() {
                return ControlFlow::Break(None);
            }
            if !slot.is_free() && slot.is_long_name() {
                long.push(slot.at);
            } else if slot.is_entry() && slot.name() == name {
                return ControlFlow::Break(Some(slot));
            } else {
                long.clear();
            }
            ControlFlow::Continue(())
        })?;
        let slot = slot.flatten().ok_or(FsError::NotFound)?;
        Ok(Found { slot, long })
    }

    /// Writes a slot where it lies.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn put(&mut self, slot: &Slot) -> Result<(), FsError> {
        self.table.disk.put(slot.at, &slot.bytes)
    }

    /// The entry is no more. The first write decides; what is left of a long name by a failure
    /// means nothing.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn delete(&mut self, found: &Found) -> Result<(), FsError> {
        let all = [found.slot.at]
            .into_iter()
            .chain(found.long.iter().copied());
        for at in all {
            self.table.disk.put(at, &[DELETED])?;
        }
        Ok(())
    }

    /// Whether `n` free slots follow each other in a directory.
    ///
    /// # Errors
    /// Corrupt, Io, NoMemory.
    pub(crate) fn has_room(&mut self, dir: Place, n: usize) -> Result<bool, FsError> {
        let (mut run, mut ended) = (0, false);
        let found = self.each(dir, |slot| {
            ended |= slot.is_end();
            run = if ended || slot.is_free() { run + 1 } else { 0 };
            if run >= n {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(found.is_some())
    }
}
