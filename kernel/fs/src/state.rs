//! What a volume's lock guards: its directories and tables, the files that are known, and what
//! waits for the next commit.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hadris_fat::FatVolume;

use crate::FsError;
use crate::disk::{Device, Disk, Taken};
use crate::file::Node;
use crate::geometry::{FIRST, Geometry};
use crate::path::Tree;
use crate::slots::{Found, Slots};
use crate::table::Table;

/// FAT32's count of free clusters when nobody knows it.
const UNKNOWN: u32 = u32::MAX;
/// Where in its sector that count is.
const COUNT_AT: u64 = 488;

/// See the module.
pub(crate) struct State {
    pub(crate) tree: Tree,
    pub(crate) device: Arc<Device>,
    /// Our own stream, besides the crate's.
    pub(crate) disk: Disk,
    /// Every file that was opened since the volume was mounted: its cache stays the only one of its
    /// clusters.
    pub(crate) nodes: Vec<Arc<Node>>,
    /// First clusters of chains to be freed once what the directories have is durable.
    pub(crate) freed: Vec<u32>,
    /// The device's count of changes that were durable at least.
    pub(crate) durable: u64,
    /// Where to look for a free cluster.
    pub(crate) hint: u32,
    /// How many clusters are free, if the volume counts them.
    pub(crate) free: Option<u32>,
    /// Entries were removed whose slots the disk may still have.
    pub(crate) deleted: bool,
    /// The count on the disk is no more; see [`State::begin_change`].
    uncounted: bool,
    /// Why nothing may be written.
    pub(crate) read_only: Option<&'static str>,
    /// While the volume is mounted.
    pub(crate) taken: Option<Taken>,
}

impl State {
    /// Of the volume on `device`.
    ///
    /// # Errors
    /// What [`FsError`] says of bad volumes; Io, NoMemory.
    pub(crate) fn new(
        geometry: Geometry,
        device: Arc<Device>,
        read_only: Option<&'static str>,
    ) -> Result<Self, FsError> {
        let mut disk = Disk::new(device.clone());
        let fat = FatVolume::open(Disk::new(device.clone()))?;
        let mut free = None;
        if let Some(info) = geometry.info {
            let mut count = [0; 4];
            disk.get(info + COUNT_AT, &mut count)?;
            free = Some(u32::from_le_bytes(count)).filter(|n| *n <= geometry.clusters);
        }
        Ok(Self {
            tree: Tree { fat, geometry },
            durable: device.changes(),
            device,
            disk,
            nodes: Vec::new(),
            freed: Vec::new(),
            hint: FIRST,
            free,
            deleted: false,
            uncounted: false,
            read_only,
            taken: None,
        })
    }

    /// Before the first change since the volume was mounted: FAT32's count of free clusters says
    /// that nobody knows it, on the disk as well, so that it is not wrong after a power cut.
    ///
    /// # Errors
    /// Io, NoMemory, Corrupt.
    pub(crate) fn begin_change(&mut self) -> Result<(), FsError> {
        let Some(info) = self.tree.geometry.info.filter(|_| !self.uncounted) else {
            return Ok(());
        };
        self.disk.put(info + COUNT_AT, &UNKNOWN.to_le_bytes())?;
        let device = self.device.clone();
        self.sync_disk(&device.opener)?;
        // The crate keeps a count of its own, which it takes from there.
        self.tree.fat = FatVolume::open(Disk::new(device))?;
        self.uncounted = true;
        Ok(())
    }

    /// The allocation table.
    pub(crate) fn table(&mut self) -> Table<'_> {
        Table {
            fat: self.tree.fat.fat(),
            disk: &mut self.disk,
        }
    }

    /// The directories as they lie on the disk.
    pub(crate) fn slots(&mut self) -> Slots<'_> {
        Slots {
            table: Table {
                fat: self.tree.fat.fat(),
                disk: &mut self.disk,
            },
            geometry: &self.tree.geometry,
        }
    }

    /// The entry of what is at `path`, as it lies on the disk.
    ///
    /// # Errors
    /// NotFound, NotDirectory, BadName, Corrupt, Io, NoMemory.
    pub(crate) fn entry(&mut self, path: &str) -> Result<Found, FsError> {
        let (dir, place, name) = self.tree.parent(path)?;
        let name = self.tree.entry(&dir, name)?.short_name().raw_bytes();
        self.slots().find(place, name)
    }

    /// An entry is no more.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn delete(&mut self, found: &Found) -> Result<(), FsError> {
        self.deleted = true;
        self.slots().delete(found)
    }

    /// Before an entry is made: those that were removed are so on the disk. The new one may take
    /// their slots, and a cut between would leave its long name with the old file.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn end_deletion(&mut self) -> Result<(), FsError> {
        if !self.deleted {
            return Ok(());
        }
        let device = self.device.clone();
        self.sync_disk(&device.opener)
    }

    /// The file that was opened as `spelled`, if it was.
    pub(crate) fn known(&self, spelled: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.is(spelled))
    }

    /// The count of free clusters is right again, as the volume is unmounted.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn write_count(&mut self) -> Result<(), FsError> {
        let count = self.tree.geometry.info.zip(self.free);
        match count.filter(|_| self.uncounted) {
            Some((info, free)) => self.disk.put(info + COUNT_AT, &free.to_le_bytes()),
            None => Ok(()),
        }
    }
}
