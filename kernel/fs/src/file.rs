//! A file on a volume: its content, through a page cache of its own whose pages are its clusters.
//!
//! Reading takes no lock of the volume. Writing and truncating take it, so that the size in the directory, the chain of clusters
//! and the cache change together. Sleeps.

use alloc::string::String;
use alloc::sync::Arc;

use mm::MmError;
use mm::file::Opener;

use crate::FsError;
use crate::volume::{State, Volume};

/// What all openers of one file share.
pub(crate) struct Node {
    path: String,
    pub(crate) opener: Opener,
}

impl Node {
    pub(crate) fn new(path: String, opener: Opener) -> Self {
        Self { path, opener }
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

    /// What areas map. Its size is the file's; it can be written and truncated through [`File`] only.
    pub fn opener(&self) -> &Opener {
        &self.content
    }

    /// Reads from byte `pos` on; how much, less than asked for at the end of the file or when something failed on the way.
    ///
    /// # Errors
    /// When nothing was read: Io, NoMemory.
    pub fn read(&self, pos: u64, into: &mut [u8]) -> Result<usize, FsError> {
        Ok(self.content.read(pos, into)?)
    }

    /// Writes `data` at byte `pos`; how much of it, less than all when something failed on the way. Behind the end the file
    /// grows; what lies between is zeroes.
    ///
    /// # Errors
    /// When nothing was written: NotMounted, TooLarge, Full, Corrupt, Io, NoMemory.
    pub fn write(&self, pos: u64, data: &[u8]) -> Result<usize, FsError> {
        let state = self.volume.lock()?;
        let end = pos.saturating_add(data.len() as u64);
        if data.is_empty() || end <= self.size() {
            return Ok(self.content.write(pos, data)?);
        }
        self.growing(&state, end, || self.content.write(pos, data))
    }

    /// Makes the file `size` bytes long: cuts it off, or appends zeroes.
    ///
    /// # Errors
    /// NotMounted, TooLarge, Full, Corrupt, Io, NoMemory.
    pub fn truncate(&self, size: u64) -> Result<(), FsError> {
        let state = self.volume.lock()?;
        if size < self.size() {
            return self.volume.shrink(&state, &self.node, size);
        }
        if size == self.size() {
            return Ok(());
        }
        self.growing(&state, size, || self.content.truncate(size))
    }

    /// Runs `f`, which makes the file reach byte `end`, with clusters for that. Those that it did not reach are given back.
    fn growing<R>(
        &self,
        state: &State,
        end: u64,
        f: impl FnOnce() -> Result<R, MmError>,
    ) -> Result<R, FsError> {
        self.volume.grow(state, &self.node, end)?;
        let result = f();
        if self.size() < end {
            self.volume.give_back(state, &self.node)?;
        }
        Ok(result?)
    }

    /// Makes everything durable that was written to the file before: its content, then the metadata of the whole volume.
    ///
    /// # Errors
    /// Io when a write has failed since this was last told, or the file was opened.
    pub fn sync(&self) -> Result<(), FsError> {
        self.content.sync()?;
        self.disk.sync()?;
        Ok(())
    }
}
