//! The counts of a record: references, entries that map it, entries that will make it dirty.
//!
//! References keep the frame what it is; the entries that map it hold one each. No lock is taken
//! here, nothing sleeps. For the explorer each change is a point.

use super::Frame;
use core::sync::atomic::{AtomicU32, Ordering, fence};
use sync::point::{self, AccessKind, PointKind, class};

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
    /// Holders of the frame.
    #[inline]
    pub fn refcount(&self) -> u32 {
        touch_count(AccessKind::Read, &self.refcount);
        self.refcount.load(Ordering::Relaxed)
    }
    /// Sets the count of a frame that nobody else can see, but for lockless walkers that come too
    /// late and try for a reference.
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
    /// One holder less; true when it was the last. Release: what this holder did comes before the
    /// free; the Acquire side is in the same operation of the last holder.
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

    /// Of a file folio: entries that are gone and will make it dirty (see `folio::begin_pending`).
    /// Acquire: pairs with the Release of [`Frame::pending_dec`], before which it was made dirty.
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
}
