//! Files: extents of the data disk, and what a file system makes of it, read and written through a
//! page cache.
//!
//! `io` moves folios between the page cache and the disk; `read`, `write` and `writeback` are what
//! an [`Opener`] does; `uptodate` is the content of one page; `mapped` is what faults ask for;
//! `flusher` writes in the background, and `balance` calls it and holds writers back; `evict` drops
//! what is clean; `check` counts.

mod balance;
mod check;
mod copy;
mod evict;
mod flusher;
pub(crate) mod io;
#[cfg(feature = "lab")]
pub(crate) mod lend;
pub(crate) mod mapped;
pub(crate) mod memory;
mod read;
mod size;
mod uptodate;
mod write;
pub(crate) mod writeback;

use crate::error::MmError;
use crate::pagecache;
use crate::pagecache::layout::{self, Kind};
use crate::pagecache::opened::{self, OpenFile};
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;

pub use crate::pagecache::layout::Extent;
pub use crate::pagecache::{Unwritten, cached, unwritten};
#[cfg(feature = "lab")]
pub(crate) use balance::forget as forget_flusher;
pub use balance::{Limits, limits, set_limits};
pub(crate) use balance::{wait_written, wake as wake_flusher, written};
pub use check::check;
#[cfg(feature = "lab")]
pub(crate) use evict::discard;
pub use evict::drop_caches;
pub(crate) use evict::{Removal, remove_mapping};
pub use flusher::{Paused, pause as pause_flusher};
#[cfg(feature = "lab")]
pub use flusher::{as_flusher, call as call_flusher};
pub use io::read_raw;
pub(crate) use read::will_need;
#[cfg(feature = "lab")]
pub use writeback::write_back;
pub(crate) use writeback::{begin_write, submit};

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

/// Called once, at boot.
pub(crate) fn init() {
    opened::set_release(|id| size::remove_folios(id, 0, u32::MAX));
}

/// Pages of the disk for files; 0 without one.
pub fn disk_pages() -> u32 {
    let pages = io::device().map_or(0, |d| d.sectors() / io::SECTORS_PER_PAGE);
    // One less than there are indices: the end of a file is one as well.
    pages.min(u64::from(u32::MAX)) as u32
}

/// The disk for files takes no writes. False without one.
pub fn disk_is_read_only() -> bool {
    io::device().is_some_and(|d| d.is_read_only())
}

/// Opens the file of `pages` pages from page `first` of the disk on. Whoever opens the same extent
/// has the same file. Sleeps; allocates.
///
/// # Errors
/// [`MmError::Invalid`] for an extent that is empty or not within the disk; [`MmError::Exists`]
/// when it overlaps another file; [`MmError::NoMemory`].
pub fn open(first: u32, pages: u32) -> Result<Opener, MmError> {
    let extent = Extent { first, pages };
    if !extent.is_within(disk_pages()) {
        return Err(MmError::Invalid);
    }
    Ok(Opener(OpenFile::new(pagecache::enter(extent)?)?))
}

/// A new file of `size` bytes whose pages lie in `extents`, in this order: for file systems, which
/// know what belongs to whom and keep one such file for each of theirs. Other openers come from
/// [`Opener::again`]. What is in the extents beyond the size does not show. Extents that other
/// files have too are theirs to keep consistent ([`Opener::invalidate`]). Sleeps; allocates.
///
/// # Errors
/// [`MmError::Invalid`] when an extent is empty or not within the disk, or the size is more than
/// fits; [`MmError::NoMemory`].
pub fn open_extents(size: u64, extents: &[Extent]) -> Result<Opener, MmError> {
    let disk = disk_pages();
    let room: u64 = extents.iter().map(|e| layout::bytes(e.pages)).sum();
    let all_within = extents.iter().all(|e| e.is_within(disk));
    if !all_within || room > layout::bytes(disk) || size > room {
        return Err(MmError::Invalid);
    }
    let list = layout::joined(extents)?;
    let pin = pagecache::enter_new(Kind::Listed, size, list)?;
    Ok(Opener(OpenFile::new(pin)?))
}

/// A new file of `size` bytes in memory, and in swap where that is short: zeroes. It is gone when
/// the last opener and the last area that maps it are. Other openers come from [`Opener::again`].
/// Sleeps; allocates.
///
/// # Errors
/// [`MmError::Invalid`] for a size that no file can have; [`MmError::NoMemory`].
pub fn shmem(size: u64) -> Result<Opener, MmError> {
    if size > layout::bytes(layout::MAX_PAGES) {
        return Err(MmError::Invalid);
    }
    let pin = pagecache::enter_new(Kind::Memory, size, Vec::new())?;
    Ok(Opener(OpenFile::new(pin)?))
}

impl Opener {
    /// Another opener of the same file: told of errors from now on. Allocates.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub fn again(&self) -> Result<Self, MmError> {
        Ok(Self(OpenFile::new(self.0.pin())?))
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.0.file().size()
    }

    /// Bytes that the file can have where it is.
    pub fn limit(&self) -> u64 {
        self.0.file().limit()
    }

    /// Gives the file more room, behind what it has. The size stays. Sleeps; allocates.
    ///
    /// # Errors
    /// [`MmError::Invalid`] when this file has no list of extents, or `extent` is empty or not
    /// within the disk, or the file would have more than the whole disk; [`MmError::NoMemory`].
    pub fn add_extent(&self, extent: Extent) -> Result<(), MmError> {
        let (f, disk) = (self.0.file(), disk_pages());
        let _resize = f.resize.lock();
        let pages = u64::from(f.layout.limit()) + u64::from(extent.pages);
        if f.layout.kind() != Kind::Listed || !extent.is_within(disk) || pages > u64::from(disk) {
            return Err(MmError::Invalid);
        }
        f.layout.add(extent)
    }

    /// Takes room away: the file keeps its first `pages` pages of the disk. Nothing is read from or
    /// written to the others through it afterwards. Sleeps; allocates.
    ///
    /// # Errors
    /// [`MmError::Invalid`] when this file has no list of extents, or is larger (truncate it
    /// first); [`MmError::NoMemory`].
    pub fn cut_extents(&self, pages: u32) -> Result<(), MmError> {
        let f = self.0.file();
        let _resize = f.resize.lock();
        if f.layout.kind() != Kind::Listed || f.pages() > pages {
            return Err(MmError::Invalid);
        }
        f.layout.cut(pages)
    }

    /// The page of the disk where page `index` of the file lies. `None` behind its room, and for a
    /// file in memory.
    pub fn place(&self, index: u32) -> Option<u32> {
        let place = self.0.file().layout.place(index);
        place.map(|(page, _)| page)
    }

    /// Something written to the file is not on the disk yet.
    pub fn has_unwritten(&self) -> bool {
        pagecache::tree::has_unwritten(self.0.file())
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

/// The page that byte `pos` of a file lies in, and where in it. The caller has checked it against
/// the file's size.
fn split(pos: u64) -> (u32, usize) {
    ((pos / PAGE_SIZE) as u32, (pos % PAGE_SIZE) as usize)
}
