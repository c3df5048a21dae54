//! The page cache: files as the rest of the memory manager sees them (Linux: `address_space`).
//!
//! `tree` is the cache of one file, page index → folio; `layout` says where its pages lie on the
//! disk; `opened` is a file in somebody's use. What is read, written and cut off is
//! [`crate::file`]'s business; which areas map a file is `vma::imap`'s, whose lock and tree root
//! lie in the record. The table of files is guarded by `Rank::Files`, which sleeps; nothing is read
//! or written under it.
//!
//! A file's size changes under its `resize` lock (`Rank::FileSize`) and the lock of its tree, so
//! that no page appears in the cache beyond the end behind the back of who cuts it off.
//!
//! A record is somebody's file from [`enter`] until [`forget_unused`] finds it without users and
//! pages: a record with pages stays what it is, so that the folio's `mapping` names it.

pub(crate) mod layout;
pub(crate) mod opened;
pub(crate) mod tree;

use crate::arena::{Arena, Slot};
use crate::error::MmError;
use crate::folio::Folio;
use crate::frame::{NIL, flag};
use crate::knobs::{self, Knob};
use algo::errseq::ErrSeq;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use core::num::NonZeroU8;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use layout::{Extent, Kind, Layout};
use sync::point::{self, AccessKind, class};
use sync::{Mutex, MutexGuard, Rank, RwSem};

pub use tree::{Unwritten, cached, unwritten};

/// What a file's error sequence holds when the disk failed.
const EIO: NonZeroU8 = NonZeroU8::new(5).unwrap();

/// One file. Its id is in the `mapping` of each of its folios.
pub(crate) struct File {
    link: AtomicU32,
    /// Open files, and whoever else must find the file as it is. Raised from none under
    /// `Rank::Files` only.
    users: AtomicU32,
    /// Openings. Of a file in memory never one again after none: nobody finds it then.
    opened: AtomicU32,
    pub(crate) layout: Layout,
    /// Bytes in it. Written by [`tree::set_size`].
    size: AtomicU64,
    /// Held while the size changes, and while pages are cut out.
    pub(crate) resize: Mutex<()>,
    pub(crate) tree: tree::Cache,
    /// Failed writes, for each opener to be told once.
    pub(crate) errors: ErrSeq,
    /// When it got dirty, or was last written; in nanoseconds.
    pub(crate) since: AtomicU64,
    /// The areas that map it: lock and root of the interval tree, for `vma::imap`.
    pub(crate) areas_lock: RwSem<()>,
    pub(crate) areas: AtomicU32,
}

impl Default for File {
    fn default() -> Self {
        Self {
            link: AtomicU32::new(0),
            users: AtomicU32::new(0),
            opened: AtomicU32::new(0),
            layout: Layout::default(),
            size: AtomicU64::new(0),
            resize: Mutex::new(Rank::FileSize, ()),
            tree: tree::Cache::default(),
            errors: ErrSeq::default(),
            since: AtomicU64::new(0),
            areas_lock: RwSem::new(Rank::IMmap, ()),
            areas: AtomicU32::new(NIL),
        }
    }
}

impl Slot for File {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

static FILES: Arena<File> = Arena::new();
static TABLE: Mutex<()> = Mutex::new(Rank::Files, ());

/// The pool of the records, for the explorer.
#[cfg(feature = "lab")]
pub(crate) fn pool() -> &'static Arena<File> {
    &FILES
}

/// The record of a file's id.
#[inline]
pub(crate) fn file(id: u32) -> &'static File {
    FILES.get(id)
}

/// The file whose page a folio in a cache is.
#[inline]
pub(crate) fn file_of(folio: Folio) -> Option<&'static File> {
    folio.mapping().checked_sub(1).map(file)
}

/// The content is newer than the disk's. Under the folio lock, or under the PTL of an entry that
/// maps the folio: truncation unmaps a folio before it takes it out of the cache. A folio that is
/// in no cache stays as it is.
pub(crate) fn set_dirty(folio: Folio) {
    if folio.has(flag::DIRTY) {
        // So it is nearly always: an entry lets nobody write before. The flag goes only under the
        // folio lock, after whoever cleans the folio has had the PTL: not before we have let go of
        // ours.
        return;
    }
    if let Some(f) = file_of(folio) {
        f.set_dirty(folio);
    }
}

impl File {
    /// For the explorer: the step touches `word`, which others look at without a lock.
    #[inline(always)]
    fn touch<T>(&self, access: AccessKind, word: &T) {
        point::touch(access, || point::object_at(class::FILE, word));
    }

    /// Bytes in it.
    pub(crate) fn size(&self) -> u64 {
        self.touch(AccessKind::Read, &self.size);
        self.size.load(Ordering::Relaxed)
    }

    /// Pages in it, of which the last may be in use in part only.
    pub(crate) fn pages(&self) -> u32 {
        // Within `layout::MAX_PAGES`, whoever sets the size.
        self.size().div_ceil(PAGE_SIZE) as u32
    }

    /// Bytes that it can grow to.
    pub(crate) fn limit(&self) -> u64 {
        match self.layout.kind() {
            Kind::Fixed => self.size(),
            _ => layout::bytes(self.layout.limit()),
        }
    }

    fn is_file(&self) -> bool {
        self.layout.kind() != Kind::Nothing
    }

    /// For the explorer: a file that was lost becomes a free record, whatever it holds. False where
    /// somebody still holds its lock.
    #[cfg(feature = "lab")]
    pub(crate) fn abandon(&self) -> bool {
        self.users.store(0, Ordering::Relaxed);
        self.opened.store(0, Ordering::Relaxed);
        self.layout.become_kind(Kind::Nothing, Vec::new());
        self.areas.store(NIL, Ordering::Relaxed);
        self.tree.abandon();
        self.areas_lock.try_write().is_some() && self.resize.try_lock().is_some()
    }

    /// A write failed: every opener is told once.
    pub(crate) fn note_error(&self) {
        self.touch(AccessKind::Write, &self.errors);
        if knobs::on(Knob::FailedTold) {
            self.errors.set(EIO);
        }
    }

    /// See [`set_dirty`]. True when the file had no dirty page before.
    pub(crate) fn set_dirty(&self, folio: Folio) -> bool {
        let first = self.tree.mark_dirty(folio);
        if first {
            self.since.store(arch::now_ns(), Ordering::Relaxed);
        }
        first
    }
}

/// A file that stays a file while this lives.
pub(crate) struct Pin(pub(crate) u32);

impl Pin {
    /// `id` is a file's, and its table is locked.
    fn new(id: u32, _table: &MutexGuard<'_, ()>) -> Self {
        let f = file(id);
        f.touch(AccessKind::Write, &f.users);
        // Relaxed: a look for no users holds the table's lock.
        f.users.fetch_add(1, Ordering::Relaxed);
        Self(id)
    }

    /// Another one of a file that the caller has pinned.
    fn again(id: u32) -> Self {
        file(id).users.fetch_add(1, Ordering::Relaxed);
        Self(id)
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.0
    }

    pub(crate) fn file(&self) -> &'static File {
        file(self.0)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let f = self.file();
        f.touch(AccessKind::Write, &f.users);
        // Release pairs with the Acquire in `forget_unused`: its user is done with it.
        f.users.fetch_sub(1, Ordering::Release);
    }
}

/// The ids of all files, one after the other, pinned. Sleeps for the table's lock.
pub(crate) fn each() -> impl Iterator<Item = Pin> {
    (0..FILES.capacity()).filter_map(|id| {
        let table = TABLE.lock();
        file(id).is_file().then(|| Pin::new(id, &table))
    })
}

/// The file that is this extent of the disk; the same one for whoever enters the same extent.
/// Sleeps; allocates.
///
/// # Errors
/// [`MmError::Exists`] when it overlaps another such file; [`MmError::NoMemory`].
pub(crate) fn enter(extent: Extent) -> Result<Pin, MmError> {
    // Before the lock, which the flusher takes: whoever waits for memory may wait for the flusher.
    let fresh = Fresh::new(layout::joined(&[extent])?)?;
    let table = TABLE.lock();
    for id in 0..FILES.capacity() {
        match file(id).layout.fixed() {
            Some(other) if other == extent => return Ok(Pin::new(id, &table)),
            Some(other) if other.overlaps(extent) => return Err(MmError::Exists),
            _ => {}
        }
    }
    Ok(fresh.become_file(Kind::Fixed, layout::bytes(extent.pages), &table))
}

/// A new file of `size` bytes, which only those who share this opening know; on `list` or in
/// memory. Sleeps; allocates.
///
/// # Errors
/// [`MmError::NoMemory`].
pub(crate) fn enter_new(kind: Kind, size: u64, list: Vec<Extent>) -> Result<Pin, MmError> {
    // Such files come and go: their records are not left lying about.
    forget_unused();
    let fresh = Fresh::new(list)?;
    let table = TABLE.lock();
    Ok(fresh.become_file(kind, size, &table))
}

/// A record that is no file yet; it goes back unless it becomes one.
struct Fresh {
    id: u32,
    list: Vec<Extent>,
}

impl Fresh {
    fn new(list: Vec<Extent>) -> Result<Self, MmError> {
        Ok(Self {
            id: FILES.alloc()?,
            list,
        })
    }

    fn become_file(mut self, kind: Kind, size: u64, table: &MutexGuard<'_, ()>) -> Pin {
        let id = self.id;
        let f = file(id);
        f.since.store(0, Ordering::Relaxed);
        f.errors.reset();
        tree::set_size(f, size);
        f.layout.become_kind(kind, core::mem::take(&mut self.list));
        core::mem::forget(self);
        Pin::new(id, table)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        FILES.free(self.id);
    }
}

/// Gives back the records of files that have no users and no pages.
pub(crate) fn forget_unused() {
    let _table = TABLE.lock();
    for id in 0..FILES.capacity() {
        let f = file(id);
        f.touch(AccessKind::Read, &f.users);
        // Acquire pairs with the Release of the last user, whose pages are counted then.
        if f.is_file() && f.users.load(Ordering::Acquire) == 0 && f.tree.len() == 0 {
            f.layout.become_kind(Kind::Nothing, Vec::new());
            FILES.free(id);
        }
    }
}
