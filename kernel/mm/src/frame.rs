//! The memmap: 32 bytes per page frame, and the words in them.
//!
//! Every field is an atomic, so a `&'static Frame` is always safe to hold; what a field *means* depends
//! on the frame's [`Use`], and who may write it on the lock named at its accessor. No lock is taken here,
//! nothing sleeps.
//!
//! For the explorer a record is three objects: each count, and all the rest but the links (`class::FLAGS`). A
//! change of a count is a point; everything else only touches, because some lock guards it nearly everywhere:
//! where not, [`Frame::flags_point`] comes before. The links belong to their list's lock.
//!
//! | word | free block | anonymous folio | file folio | page-table page |
//! |---|---|---|---|---|
//! | `flags` | use, order | state bits, use, LRU shard | state bits, use, LRU shard | use |
//! | `refcount` | 0 | mappings + holders + swap cache | mappings + holders + page cache | 1 |
//! | `mapcount` | 0 | page-table entries that map it | page-table entries that map it | 0 |
//! | `next`, `prev` | buddy or per-CPU list | LRU list | LRU list | gather list |
//! | `mapping` | 0 | anon_vma id + 1 | file id + 1 | 0 |
//! | `index` | debug: whether it is poisoned | page index in the anon_vma | page index in the file | 0 |
//! | `private` | order | swap slot + 1 | entries that will make it dirty | the split page-table lock |

use crate::stats::{self, Use};
use arch::Pfn;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use sync::RawSpin;
use sync::point::{self, AccessKind, PointKind, class};

/// End of a list, no frame.
pub const NIL: u32 = u32::MAX;

/// State bits of [`Frame::flags`].
pub mod flag {
    /// The folio lock (see `folio::lock`).
    pub const LOCKED: u32 = 1 << 0;
    /// Somebody sleeps on the folio lock or on writeback.
    pub const WAITERS: u32 = 1 << 1;
    /// The content is newer than what swap or the file's disk holds.
    pub const DIRTY: u32 = 1 << 2;
    /// The content is valid (a swap read that failed leaves it clear).
    pub const UPTODATE: u32 = 1 << 3;
    /// On an LRU list; links belong to the shard's lock.
    pub const LRU: u32 = 1 << 4;
    /// On (or meant for) the active list.
    pub const ACTIVE: u32 = 1 << 5;
    /// Reclaim needs swap for it. Clear for files, and after MADV_FREE (lazily freeable). (Next to ACTIVE: the two bits
    /// are the number of an LRU list.)
    pub const SWAPBACKED: u32 = 1 << 6;
    /// Seen accessed once while inactive.
    pub const REFERENCED: u32 = 1 << 7;
    /// In the swap cache; `private` holds the slot.
    pub const SWAPCACHE: u32 = 1 << 8;
    /// A write of the content is in flight.
    pub const WRITEBACK: u32 = 1 << 9;
    /// The last read or write of the content failed.
    pub const ERROR: u32 = 1 << 10;
    /// Mapped by one address space only: a write fault may take it over.
    pub const EXCLUSIVE: u32 = 1 << 11;
    /// Read ahead, not used yet.
    pub const READAHEAD: u32 = 1 << 12;
    /// Head of a free block of the buddy allocator.
    pub const BUDDY: u32 = 1 << 13;
    /// A read of the content is in flight.
    pub const READING: u32 = 1 << 14;
    /// With ERROR: the write failed in a request together with others, any of which may be the culprit.
    pub const SUSPECT: u32 = 1 << 15;
    /// Was active once: should it come back after its eviction, memory is too small for what is in use.
    pub const WORKINGSET: u32 = 1 << 16;
    /// Reclaim's laundry has a reference, and does nothing with the content but under the folio lock. Changes under that.
    pub const LAUNDRY: u32 = 1 << 17;
    /// Was used again since reclaim looked, so that reclaim makes it active when it comes to it.
    pub const USED: u32 = 1 << 18;
    /// The signs of use.
    pub const SIGNS: u32 = REFERENCED | USED;
    /// First of the eight bits that hold the LRU shard (4) and the [`super::Use`] (4).
    pub(super) const SHARD_SHIFT: u32 = 24;
    pub(super) const USE_SHIFT: u32 = 28;
    /// Every state bit, without shard and use.
    pub const STATE: u32 = (1 << SHARD_SHIFT) - 1;
}

/// What the kernel knows of one page frame.
#[repr(C)]
pub struct Frame {
    flags: AtomicU32,
    refcount: AtomicU32,
    mapcount: AtomicU32,
    next: AtomicU32,
    prev: AtomicU32,
    mapping: AtomicU32,
    index: AtomicU32,
    private: AtomicU32,
}

const _: () = assert!(size_of::<Frame>() == 32);

macro_rules! word {
    ($get:ident, $set:ident, $touch:ident, $doc:literal) => {
        #[doc = $doc]
        #[inline]
        pub fn $get(&self) -> u32 {
            self.$touch(AccessKind::Read);
            self.$get.load(Ordering::Relaxed)
        }
        #[doc = concat!("Sets: ", $doc)]
        #[inline]
        pub(crate) fn $set(&self, v: u32) {
            self.$touch(AccessKind::Write);
            self.$get.store(v, Ordering::Relaxed);
        }
    };
}

/// A point before a change of a count.
#[inline(always)]
fn counting(count: &AtomicU32) {
    point::at(PointKind::Count, AccessKind::Write, || {
        point::object_at(class::COUNT, count)
    });
}

/// A look at a count, or the first value of one.
#[inline(always)]
fn touch_count(access: AccessKind, count: &AtomicU32) {
    point::touch(access, || point::object_at(class::COUNT, count));
}

impl Frame {
    word!(
        next,
        set_next,
        no_touch,
        "The next frame in the list that owns this one."
    );
    word!(
        prev,
        set_prev,
        no_touch,
        "The previous frame in the list that owns this one."
    );
    word!(
        mapping,
        set_mapping,
        touch,
        "anon_vma id + 1 or file id + 1, 0 for none. Written under the folio lock or before the folio is visible."
    );
    word!(
        index,
        set_index,
        touch,
        "Page index in the anon_vma's address order, or in the file."
    );
    word!(
        private,
        set_private,
        touch,
        "Swap slot + 1 (under the folio lock), or the order of a free block."
    );

    #[inline(always)]
    fn no_touch(&self, _: AccessKind) {}

    fn object(&self) -> u32 {
        point::object_at(class::FLAGS, self)
    }

    #[inline(always)]
    fn touch(&self, access: AccessKind) {
        point::touch(access, || self.object());
    }

    /// A point before a change of the flags that others look at without the lock it is made under.
    #[inline(always)]
    pub(crate) fn flags_point(&self) {
        point::at(PointKind::Count, AccessKind::Write, || self.object());
    }

    /// State bits, shard and use.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.touch(AccessKind::Read);
        self.flags.load(Ordering::Relaxed)
    }
    /// All of `bits` are set.
    #[inline]
    pub fn has(&self, bits: u32) -> bool {
        self.flags() & bits == bits
    }
    /// Sets `bits`; returns the flags before.
    #[inline]
    pub(crate) fn set(&self, bits: u32) -> u32 {
        self.touch(AccessKind::Write);
        self.flags.fetch_or(bits, Ordering::AcqRel)
    }
    /// Clears `bits`; returns the flags before.
    #[inline]
    pub(crate) fn clear(&self, bits: u32) -> u32 {
        self.touch(AccessKind::Write);
        self.flags.fetch_and(!bits, Ordering::AcqRel)
    }
    /// The folio lock's bit, for `folio`: an object of its own.
    #[inline]
    pub(crate) fn lock_object(&self) -> u32 {
        point::object_at(class::LOCK, &self.flags)
    }
    /// The folio is locked; only a hint unless the caller holds the lock.
    #[inline]
    pub(crate) fn is_locked(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & flag::LOCKED != 0
    }
    /// Sets LOCKED; false when it was set. Acquire: pairs with the Release of [`Frame::unlock`].
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.flags.fetch_or(flag::LOCKED, Ordering::AcqRel) & flag::LOCKED == 0
    }
    /// Clears LOCKED; returns the flags before.
    #[inline]
    pub(crate) fn unlock(&self) -> u32 {
        self.touch(AccessKind::Read);
        self.flags.fetch_and(!flag::LOCKED, Ordering::AcqRel)
    }
    /// Sets state, shard and use at once, of a frame that nobody else can see.
    #[inline]
    pub(crate) fn init_flags(&self, state: u32, shard: u32, usage: Use) {
        self.flags.store(
            state | (shard << flag::SHARD_SHIFT) | ((usage as u32) << flag::USE_SHIFT),
            Ordering::Relaxed,
        );
    }
    /// What the frame is used for.
    #[inline]
    pub fn usage(&self) -> Use {
        // Stays as it is for as long as the frame is somebody's, but for `change_use`: no touch.
        Use::from_bits(self.flags.load(Ordering::Relaxed) >> flag::USE_SHIFT)
    }
    /// Anonymous, and not in the swap cache. (One look at one word, for paths that see little else.)
    #[inline]
    pub(crate) fn is_plain_anon(&self) -> bool {
        const OTHERS: u32 =
            flag::SWAPCACHE | (Use::File as u32 & !(Use::Anon as u32)) << flag::USE_SHIFT;
        self.flags() & OTHERS == 0
    }
    /// A page of a file's cache.
    #[inline]
    pub(crate) fn is_file(&self) -> bool {
        // As with the use.
        self.flags.load(Ordering::Relaxed) >> flag::USE_SHIFT == Use::File as u32
    }
    /// A folio's use changes, under its lock: a page of a file in memory goes to swap, or comes back.
    pub(crate) fn change_use(&self, from: Use, to: Use) {
        debug_assert!(self.usage() == from);
        self.touch(AccessKind::Write);
        let change = (from as u32 ^ to as u32) << flag::USE_SHIFT;
        self.flags.fetch_xor(change, Ordering::AcqRel);
        stats::move_use(from, to, 1);
    }
    /// The LRU shard that the folio belongs to, 0 to 15.
    #[inline]
    pub fn shard(&self) -> usize {
        // As with the use.
        ((self.flags.load(Ordering::Relaxed) >> flag::SHARD_SHIFT) & 15) as usize
    }

    /// Holders of the frame.
    #[inline]
    pub fn refcount(&self) -> u32 {
        touch_count(AccessKind::Read, &self.refcount);
        self.refcount.load(Ordering::Relaxed)
    }
    /// Sets the count of a frame that nobody else can see, but for lockless walkers that come too late and try
    /// for a reference.
    #[inline]
    pub(crate) fn init_refcount(&self, n: u32) {
        touch_count(AccessKind::Write, &self.refcount);
        self.refcount.store(n, Ordering::Relaxed);
    }
    /// One more holder; the caller already is one.
    #[inline]
    pub(crate) fn get(&self) {
        counting(&self.refcount);
        let was = self.refcount.fetch_add(1, Ordering::Relaxed);
        debug_assert!(was != 0, "reference taken on a free frame");
    }
    /// One more holder, unless the frame is free or frozen. The Acquire pairs with the Release of
    /// [`Frame::unfreeze`] and of the store that made the frame findable.
    #[inline]
    pub(crate) fn try_get(&self) -> bool {
        counting(&self.refcount);
        self.refcount
            .try_update(Ordering::Acquire, Ordering::Relaxed, |n| {
                if n == 0 { None } else { Some(n + 1) }
            })
            .is_ok()
    }
    /// One holder less; true when it was the last. Release: what this holder did comes before the free;
    /// the Acquire side is in the same operation of the last holder.
    #[inline]
    pub(crate) fn put_testzero(&self) -> bool {
        counting(&self.refcount);
        let was = self.refcount.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(was != 0, "refcount below zero");
        was == 1
    }
    /// From exactly `expected` holders to none, so that nobody can take a reference any more.
    #[inline]
    pub(crate) fn freeze(&self, expected: u32) -> bool {
        counting(&self.refcount);
        self.refcount
            .compare_exchange(expected, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
    /// Ends a freeze with `n` holders.
    #[inline]
    pub(crate) fn unfreeze(&self, n: u32) {
        counting(&self.refcount);
        self.refcount.store(n, Ordering::Release);
    }

    /// Page-table entries that map the folio.
    #[inline]
    pub fn mapcount(&self) -> u32 {
        touch_count(AccessKind::Read, &self.mapcount);
        self.mapcount.load(Ordering::Relaxed)
    }
    /// One more entry maps it. Under the PTL of that entry.
    #[inline]
    pub(crate) fn map_inc(&self) {
        counting(&self.mapcount);
        self.mapcount.fetch_add(1, Ordering::Relaxed);
    }
    /// Sets the count of a folio that nobody else can see.
    #[inline]
    pub(crate) fn init_mapcount(&self, n: u32) {
        self.mapcount.store(n, Ordering::Relaxed);
    }
    /// One entry less maps it. Under the PTL of that entry.
    ///
    /// # Panics
    /// If no entry was counted: an entry was dropped twice.
    #[inline]
    pub(crate) fn map_dec(&self) {
        counting(&self.mapcount);
        let was = self.mapcount.fetch_sub(1, Ordering::Release);
        assert!(was != 0, "mapcount below zero");
    }

    /// Of a file folio: entries that are gone and will make it dirty (see `folio::begin_pending`). Acquire: pairs with the
    /// Release of [`Frame::pending_dec`], before which it was made dirty.
    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        touch_count(AccessKind::Read, &self.private);
        self.private.load(Ordering::Acquire)
    }
    /// One more.
    #[inline]
    pub(crate) fn pending_inc(&self) {
        counting(&self.private);
        self.private.fetch_add(1, Ordering::Relaxed);
    }
    /// One less; true when it was the last.
    #[inline]
    pub(crate) fn pending_dec(&self) -> bool {
        counting(&self.private);
        let was = self.private.fetch_sub(1, Ordering::Release);
        assert!(was != 0, "pending below zero");
        fence(Ordering::SeqCst);
        was == 1
    }

    /// The split page-table lock of a page-table page.
    #[inline]
    pub(crate) fn ptl(&self) -> &RawSpin {
        RawSpin::from_word(&self.private)
    }
}

static MEMMAP: AtomicPtr<Frame> = AtomicPtr::new(core::ptr::null_mut());
static MAX_PFN: AtomicUsize = AtomicUsize::new(0);

/// Number of frames the memmap covers: one more than the highest frame number.
#[inline]
pub fn max_pfn() -> usize {
    MAX_PFN.load(Ordering::Relaxed)
}

/// What is known of `pfn`.
///
/// # Panics
/// If the memmap does not cover it: a frame number was made up.
#[inline]
pub fn frame(pfn: Pfn) -> &'static Frame {
    assert!(pfn.index() < max_pfn(), "no such frame");
    // SAFETY: `install` made MEMMAP point to MAX_PFN initialised frames that are never freed; the index
    // is below MAX_PFN, and before `install` MAX_PFN is 0. All fields are atomics, so sharing is sound.
    unsafe { &*MEMMAP.load(Ordering::Relaxed).add(pfn.index()) }
}

/// Whether the memmap covers `pfn`.
pub fn valid(pfn: Pfn) -> bool {
    pfn.index() < max_pfn()
}

/// Puts the memmap for `frames` frames into the physically contiguous RAM from `at` on, all reserved.
/// Called once, by the boot CPU alone.
pub(crate) fn install(at: Pfn, frames: usize) {
    assert!(max_pfn() == 0, "memmap installed twice");
    let base = arch::frame_ptr(at).cast::<Frame>();
    for i in 0..frames {
        // SAFETY: the caller gives contiguous usable RAM of at least `frames * 32` bytes that nobody else
        // uses; the direct map makes it writable; page alignment satisfies Frame's.
        unsafe {
            base.add(i).write(Frame {
                flags: AtomicU32::new(0),
                refcount: AtomicU32::new(0),
                mapcount: AtomicU32::new(0),
                next: AtomicU32::new(NIL),
                prev: AtomicU32::new(NIL),
                mapping: AtomicU32::new(0),
                index: AtomicU32::new(0),
                private: AtomicU32::new(0),
            });
        }
    }
    MEMMAP.store(base, Ordering::Relaxed);
    MAX_PFN.store(frames, Ordering::Release);
}

/// The memmap's list links, for the lists of `algo` (buddy, per-CPU, LRU).
#[derive(Clone, Copy)]
pub(crate) struct FrameLinks;

impl algo::list::Links for FrameLinks {
    #[inline]
    fn next(&self, i: u32) -> u32 {
        frame(Pfn(i)).next()
    }
    #[inline]
    fn set_next(&self, i: u32, v: u32) {
        frame(Pfn(i)).set_next(v);
    }
    #[inline]
    fn prev(&self, i: u32) -> u32 {
        frame(Pfn(i)).prev()
    }
    #[inline]
    fn set_prev(&self, i: u32, v: u32) {
        frame(Pfn(i)).set_prev(v);
    }
}
