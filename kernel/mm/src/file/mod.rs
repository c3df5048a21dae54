//! Files: extents of the data disk, read and written through a page cache.
//!
//! `tree` is the cache of one file; `io` moves folios between it and the disk; `read`, `write` and `writeback` are what an
//! [`Opener`] does; `flusher` writes in the background and holds writers back; `evict` drops what is clean; `check`
//! counts. The table of files is guarded by `Rank::Files`, which sleeps; nothing is read or written under it.
//!
//! A record is somebody's file from [`open`] until [`forget_unused`] finds it without users and pages: a record with
//! pages stays what it is, so that the folio's `mapping` names it.

mod check;
mod copy;
mod evict;
mod flusher;
pub(crate) mod io;
mod read;
mod tree;
mod write;
mod writeback;

use crate::arena::{Arena, Slot};
use crate::error::MmError;
use algo::errseq::{ErrSeq, Told};
use algo::ondemand::Ondemand;
use arch::addr::PAGE_SIZE;
use core::num::NonZeroU8;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sync::{Mutex, MutexGuard, Rank};

pub use check::check;
pub use evict::drop_caches;
pub(crate) use evict::{Fate, evict};
pub use flusher::{Limits, limits, set_limits};
pub(crate) use flusher::{wait_written, wake as wake_flusher, written};
pub use io::read_raw;
pub use tree::{cached, dirty, writeback as under_writeback};

/// What a file's error sequence holds when the disk failed.
const EIO: NonZeroU8 = NonZeroU8::new(5).unwrap();

/// One file. Its id is in the `mapping` of each of its folios.
#[derive(Default)]
pub(crate) struct File {
    link: AtomicU32,
    /// Openers, and whoever else must find the file as it is. Raised from none under `Rank::Files` only.
    users: AtomicU32,
    /// The extent, in pages of the disk; no pages: this record is no file. Written under `Rank::Files`.
    first: AtomicU32,
    pages: AtomicU32,
    tree: tree::Cache,
    /// Failed writes, for each opener to be told once.
    errors: ErrSeq,
    /// When it got dirty, or was last written; in nanoseconds.
    since: AtomicU64,
}

impl Slot for File {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

static FILES: Arena<File> = Arena::new();
static TABLE: Mutex<()> = Mutex::new(Rank::Files, ());

/// The record of a file's id.
#[inline]
fn file(id: u32) -> &'static File {
    FILES.get(id)
}

impl File {
    fn pages(&self) -> u32 {
        self.pages.load(Ordering::Relaxed)
    }

    /// The sector where page `index` lies.
    fn sector(&self, index: u32) -> u64 {
        (u64::from(self.first.load(Ordering::Relaxed)) + u64::from(index)) * io::SECTORS_PER_PAGE
    }

    /// A write failed: every opener is told once.
    fn note_error(&self) {
        self.errors.set(EIO);
    }
}

/// A file that stays a file while this lives.
struct Pin(u32);

impl Pin {
    /// `id` is a file's, and its table is locked.
    fn new(id: u32, _table: &MutexGuard<'_, ()>) -> Self {
        // Relaxed: whoever looks for no users holds the table's lock.
        file(id).users.fetch_add(1, Ordering::Relaxed);
        Self(id)
    }

    fn file(&self) -> &'static File {
        file(self.0)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `forget_unused`: its user is done with it.
        self.file().users.fetch_sub(1, Ordering::Release);
    }
}

/// The ids of all files, one after the other, pinned. Sleeps for the table's lock.
fn each() -> impl Iterator<Item = Pin> {
    (0..FILES.capacity()).filter_map(|id| {
        let table = TABLE.lock();
        (file(id).pages() > 0).then(|| Pin::new(id, &table))
    })
}

/// A file in somebody's use: what was told to it of errors, and where it reads.
pub struct Opener {
    pin: Pin,
    /// What this opener has been told of the file's error sequence.
    told: Told,
    ahead: Ondemand,
}

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
    // Before the lock, which the flusher takes: whoever waits for memory may wait for the flusher.
    let fresh = Fresh::new()?;
    let table = TABLE.lock();
    for id in 0..FILES.capacity() {
        let f = file(id);
        let (at, n) = (f.first.load(Ordering::Relaxed), f.pages());
        if (at, n) == (first, pages) {
            return Ok(Opener::new(Pin::new(id, &table)));
        }
        if n > 0 && at < end && first < at + n {
            return Err(MmError::Exists);
        }
    }
    let id = fresh.taken();
    let f = file(id);
    f.since.store(0, Ordering::Relaxed);
    f.errors.reset();
    f.first.store(first, Ordering::Relaxed);
    f.pages.store(pages, Ordering::Relaxed);
    Ok(Opener::new(Pin::new(id, &table)))
}

/// A record that is no file yet; it goes back unless it is taken.
struct Fresh(u32);

impl Fresh {
    fn new() -> Result<Self, MmError> {
        Ok(Self(FILES.alloc()?))
    }

    fn taken(self) -> u32 {
        let id = self.0;
        core::mem::forget(self);
        id
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        FILES.free(self.0);
    }
}

/// Gives back the records of files that have no users and no pages.
fn forget_unused() {
    let _table = TABLE.lock();
    for id in 0..FILES.capacity() {
        let f = file(id);
        // Acquire pairs with the Release of the last user, whose pages are counted then.
        if f.pages() > 0 && f.users.load(Ordering::Acquire) == 0 && f.tree.len() == 0 {
            f.pages.store(0, Ordering::Relaxed);
            FILES.free(id);
        }
    }
}

impl Opener {
    fn new(pin: Pin) -> Self {
        Self {
            told: pin.file().errors.sample(),
            ahead: Ondemand::new(),
            pin,
        }
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        u64::from(self.pin.file().pages()) * PAGE_SIZE
    }

    fn file(&self) -> &'static File {
        self.pin.file()
    }
}

/// The page that byte `pos` of a file lies in, and where in it. The caller has checked it against the file's size.
fn split(pos: u64) -> (u32, usize) {
    ((pos / PAGE_SIZE) as u32, (pos % PAGE_SIZE) as usize)
}
