//! The allocation table: which cluster follows which, and which are free.
//!
//! All changes of it are made here, through a stream of the volume's own; what they must come
//! before and after is `commit`'s. Sleeps; the caller holds the volume's lock.

use arch::block::SECTOR;
use hadris_fat::Error as FatError;
use hadris_fat::sync::fat_table::Fat;

use crate::FsError;
use crate::disk::Disk;

/// What the table has for a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Another follows.
    Cluster(u32),
    /// It is the last of its chain.
    End,
    /// It belongs to nobody.
    Free,
}

/// The table and the stream that it is read and written through.
pub(crate) struct Table<'a> {
    pub(crate) fat: &'a Fat,
    pub(crate) disk: &'a mut Disk,
}

impl Table<'_> {
    /// What follows `cluster`.
    ///
    /// # Errors
    /// Corrupt for what is no cluster; Io, NoMemory.
    pub(crate) fn next(&mut self, cluster: u32) -> Result<Next, FsError> {
        match self.fat.next_cluster(self.disk, cluster as usize) {
            Ok(Some(next)) => Ok(Next::Cluster(next)),
            Ok(None) => Ok(Next::End),
            Err(FatError::ClusterOutOfBounds { cluster: 0, .. }) => Ok(Next::Free),
            Err(e) => Err(e.into()),
        }
    }

    /// Sets what follows `cluster`; None: it is the last.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn link(&mut self, cluster: u32, next: Option<u32>) -> Result<(), FsError> {
        const END: u32 = 0x0fff_fff8;
        let (at, value) = (cluster as usize, next.unwrap_or(END));
        let done = match self.fat {
            Fat::Fat12(f) => f.write_clus(self.disk, at, value as u16),
            Fat::Fat16(f) => f.write_clus(self.disk, at, value as u16),
            Fat::Fat32(f) => f.write_clus(self.disk, at, value),
        };
        Ok(done?)
    }

    /// Whether what the table has for `cluster` lies in two sectors, as happens on FAT12: a cut may
    /// leave half of a change.
    pub(crate) fn is_split(&self, cluster: u32) -> bool {
        let at = u64::from(cluster) + u64::from(cluster / 2);
        matches!(self.fat, Fat::Fat12(_)) && at % SECTOR == SECTOR - 1
    }

    /// Takes a free cluster, the first from `hint` on; it is the last of a chain.
    ///
    /// # Errors
    /// Full, Io, NoMemory.
    pub(crate) fn allocate(&mut self, hint: u32) -> Result<u32, FsError> {
        let hint = if hint > self.fat.max_cluster() {
            crate::geometry::FIRST
        } else {
            hint
        };
        Ok(match self.fat {
            Fat::Fat12(f) => u32::from(f.allocate_cluster(self.disk, hint as u16)?),
            Fat::Fat16(f) => u32::from(f.allocate_cluster(self.disk, hint as u16)?),
            Fat::Fat32(f) => f.allocate_cluster(self.disk, hint)?,
        })
    }

    /// Gives a chain back; how many clusters.
    ///
    /// # Errors
    /// Io, NoMemory: a part of it may be free.
    pub(crate) fn free(&mut self, first: u32) -> Result<u32, FsError> {
        Ok(self.fat.free_chain(self.disk, first as usize)?)
    }
}
