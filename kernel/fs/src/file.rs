//! A file on a volume: its content, through a page cache of its own whose pages are its clusters.
//!
//! Reading takes no lock of the volume. Writing, truncating and syncing take it, so that the size,
//! the clusters and the cache change together. Sleeps.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use mm::file::Opener;

use crate::FsError;
use crate::chain::Chain;
use crate::commit::What;
use crate::volume::Volume;

/// What all openers of one file share.
pub(crate) struct Node {
    path: String,
    pub(crate) opener: Opener,
    /// The holder of the volume's lock reads and changes it.
    pub(crate) chain: spin::Mutex<Chain>,
    /// It was written or cut off after it was last made durable. The volume's lock orders it.
    unsynced: AtomicBool,
}

impl Node {
    pub(crate) fn new(path: String, opener: Opener, chain: Chain) -> Self {
        Self {
            path,
            opener,
            chain: spin::Mutex::new(chain),
            unsynced: AtomicBool::new(false),
        }
    }

    /// Where it is, as the directories spell it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is the file at this path.
    pub(crate) fn is(&self, spelled: &str) -> bool {
        self.path == spelled
    }

    /// Whether somebody besides the volume has it.
    pub(crate) fn is_open(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Whether a power cut now may find something else than the last sync has left. What was stored
    /// through a mapping counts as long as it is not written back.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Relaxed) || self.opener.has_unwritten()
    }

    /// Something changes; or it was made durable.
    pub(crate) fn set_unsynced(&self, is: bool) {
        self.unsynced.store(is, Ordering::Relaxed);
    }

    /// The cache has nothing of the file any more and writes nothing to its clusters.
    pub(crate) fn forget(&self) -> Result<(), FsError> {
        self.opener.truncate(0)?;
        self.opener.cut_extents(0)?;
        Ok(())
    }
}

/// An open file. It can be mapped through [`File::opener`].
pub struct File {
    volume: Volume,
    node: Arc<Node>,
    content: Opener,
    /// The whole disk, where the metadata is; its errors are told to each file once.
    disk: Opener,
}

impl File {
    pub(crate) fn new(volume: Volume, node: Arc<Node>, disk: &Opener) -> Result<Self, FsError> {
        Ok(Self {
            volume,
            content: node.opener.again()?,
            node,
            disk: disk.again()?,
        })
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        self.content.size()
    }

    /// What areas map. Its size is the file's; it can be written and truncated through [`File`]
    /// only.
    pub fn opener(&self) -> &Opener {
        &self.content
    }

    /// Reads from byte `pos` on; how much, less than asked for at the end of the file or when
    /// something failed on the way.
    ///
    /// # Errors
    /// When nothing was read: Io, NoMemory.
    pub fn read(&self, pos: u64, into: &mut [u8]) -> Result<usize, FsError> {
        Ok(self.content.read(pos, into)?)
    }

    /// Writes `data` at byte `pos`; how much of it, less than all when something failed on the way.
    /// Behind the end the file grows to the last byte that was written; what lies between is
    /// zeroes.
    ///
    /// # Errors
    /// When nothing was written, and the file has the length that it had: NotMounted, ReadOnly,
    /// TooLarge, Full, Corrupt, Io, NoMemory.
    pub fn write(&self, pos: u64, data: &[u8]) -> Result<usize, FsError> {
        let mut state = self.volume.lock_to_write()?;
        self.node.set_unsynced(true);
        let old = self.size();
        let end = pos.saturating_add(data.len() as u64);
        if data.is_empty() || end <= old {
            return Ok(self.content.write(pos, data)?);
        }
        state.reserve(&self.node, end)?;
        let wrote = self.content.write(pos, data);
        if wrote.is_err() && self.size() > old {
            // It failed in the gap, or behind it. The size is set whatever comes of this.
            let _ = self.content.truncate(old);
        }
        Ok(wrote?)
    }

    /// Makes the file `size` bytes long: cuts it off, or appends zeroes.
    ///
    /// # Errors
    /// NotMounted, ReadOnly, TooLarge, Full, Corrupt, Io, NoMemory: a file that was to grow is as
    /// before.
    pub fn truncate(&self, size: u64) -> Result<(), FsError> {
        let mut state = self.volume.lock_to_write()?;
        self.node.set_unsynced(true);
        if size > self.size() {
            state.reserve(&self.node, size)?;
        }
        self.content.truncate(size)?;
        state.taken_away(Some(&self.node))
    }

    /// Makes everything durable that was written to the file before: its content, then its entry
    /// and the directories of the whole volume.
    ///
    /// # Errors
    /// Io when a write has failed since this was last told, or the file was opened. NotMounted,
    /// Corrupt, NoMemory.
    pub fn sync(&self) -> Result<(), FsError> {
        // Most of it without the lock: others go on.
        self.content.sync()?;
        let mut state = self.volume.lock()?;
        state.commit(What::One(&self.node, &self.content), &self.disk)
    }
}
