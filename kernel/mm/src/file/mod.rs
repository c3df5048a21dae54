//! Files: extents of the data disk, read and written through a page cache.
//!
//! `io` moves folios between the page cache and the disk; `read`, `write` and `writeback` are what an [`Opener`] does;
//! `flusher` writes in the background and holds writers back; `evict` drops what is clean; `check` counts.

mod check;
mod copy;
mod evict;
mod flusher;
pub(crate) mod io;
#[cfg(feature = "lab")]
pub(crate) mod lend;
mod read;
mod write;
pub(crate) mod writeback;

use crate::error::MmError;
use crate::pagecache;
use crate::pagecache::opened::OpenFile;
use arch::addr::PAGE_SIZE;

pub use crate::pagecache::{cached, dirty, writeback as under_writeback};
pub use check::check;
#[cfg(feature = "lab")]
pub(crate) use evict::discard;
pub use evict::drop_caches;
pub(crate) use evict::{Fate, evict};
pub use flusher::{Limits, limits, set_limits};
pub(crate) use flusher::{wait_written, wake as wake_flusher, written};
pub use io::read_raw;

/// A file in somebody's use.
pub struct Opener(OpenFile);

/// Starts using `disk` for files, once; the flusher runs from then on.
///
/// # Errors
/// [`MmError::NoMemory`] when there is no thread for the flusher.
pub fn attach(disk: &'static dyn arch::block::BlockDevice) -> Result<(), MmError> {
    io::set_device(disk);
    flusher::start().map_err(|_| MmError::NoMemory)
}

/// Pages of the disk for files; 0 without one.
pub fn disk_pages() -> u32 {
    let pages = io::device().map_or(0, |d| d.sectors() / io::SECTORS_PER_PAGE);
    // One less than there are indices: the end of a file is one as well.
    pages.min(u64::from(u32::MAX)) as u32
}

/// Opens the file of `pages` pages from page `first` of the disk on. Whoever opens the same extent has the same file.
/// Sleeps; allocates.
///
/// # Errors
/// [`MmError::Invalid`] for an extent that is empty or not within the disk; [`MmError::Exists`] when it overlaps another
/// file; [`MmError::NoMemory`].
pub fn open(first: u32, pages: u32) -> Result<Opener, MmError> {
    let end = first.checked_add(pages).ok_or(MmError::Invalid)?;
    if pages == 0 || end > disk_pages() {
        return Err(MmError::Invalid);
    }
    Ok(Opener(OpenFile::new(pagecache::enter(first, pages)?)?))
}

impl Opener {
    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        u64::from(self.0.file().pages()) * PAGE_SIZE
    }

    /// What it is a handle on.
    #[cfg(feature = "lab")]
    pub(crate) fn opened(&self) -> &OpenFile {
        &self.0
    }

    /// What an area that maps it holds.
    pub(crate) fn share(&self) -> OpenFile {
        self.0.share()
    }
}

/// The page that byte `pos` of a file lies in, and where in it. The caller has checked it against the file's size.
fn split(pos: u64) -> (u32, usize) {
    ((pos / PAGE_SIZE) as u32, (pos % PAGE_SIZE) as usize)
}
