//! Folios: the references, the lock and the writeback state of a frame that holds user data.
//!
//! Locks: the folio lock is a bit in the frame with a sleeping slow path (`Rank::FolioLock`); the explorer lets
//! an actor go on only where it is free, so that none sleeps for it. The last
//! reference takes the folio off the LRU (`Rank::LruLock`) and frees it. [`put`] never sleeps.

use crate::buddy::Page;
use crate::content::HasContent;
use crate::frame::{Frame, flag, frame};
use crate::lru;
use arch::Pfn;
use core::sync::atomic::{Ordering, fence};
use sync::point::{self, AccessKind, Go};
use sync::{Rank, WaitQueue};

/// Sleepers on folio locks and on writeback, hashed by frame number.
const QUEUES: usize = 64;
static WAITING: [WaitQueue; QUEUES] = [const { WaitQueue::new() }; QUEUES];

fn queue(pfn: Pfn) -> &'static WaitQueue {
    &WAITING[pfn.index() % QUEUES]
}

/// A held folio lock: content, `mapping`, `private` and swap-cache membership stay as they are.
#[must_use]
pub struct FolioGuard {
    pfn: Pfn,
}

impl FolioGuard {
    /// The locked folio.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }
    /// Its record.
    #[inline]
    pub fn frame(&self) -> &'static Frame {
        frame(self.pfn)
    }
}

impl FolioGuard {
    /// Leaves the folio locked and hands the lock over to whoever keeps the number (a batch of reclaim
    /// holds more locks at once than one thread's checker follows).
    pub(crate) fn hand_over(self) -> Pfn {
        let pfn = self.pfn;
        sync::lock_released(Rank::FolioLock);
        core::mem::forget(self);
        pfn
    }
    /// Takes a lock over from [`FolioGuard::hand_over`].
    pub(crate) fn take_over(pfn: Pfn) -> Self {
        debug_assert!(frame(pfn).is_locked());
        sync::lock_acquired(Rank::FolioLock, true);
        Self { pfn }
    }
}

// SAFETY: who holds the lock holds a reference, or keeps the folio in its cache.
unsafe impl HasContent for FolioGuard {
    #[inline]
    fn frame_number(&self) -> Pfn {
        self.pfn
    }
}

impl Drop for FolioGuard {
    fn drop(&mut self) {
        sync::lock_released(Rank::FolioLock);
        let f = self.frame();
        point::unlock(Rank::FolioLock, AccessKind::Unlock, || f.lock_object());
        wake(self.pfn, f.unlock());
    }
}

/// A bit was cleared in the flags `before`: wakes whoever waits for that. May be called from interrupt context
/// (writeback).
fn wake(pfn: Pfn, before: u32) {
    if before & flag::WAITERS != 0 {
        frame(pfn).clear(flag::WAITERS);
        queue(pfn).wake_all();
    }
}

/// Locks a folio that the caller holds a reference on. Sleeps.
pub(crate) fn lock(pfn: Pfn) -> FolioGuard {
    let f = frame(pfn);
    let go = point::lock(
        Rank::FolioLock,
        AccessKind::Lock,
        || f.lock_object(),
        || !f.is_locked(),
    );
    if !f.try_lock() && go == Go::Free {
        lock_slow(pfn);
    }
    sync::lock_acquired(Rank::FolioLock, false);
    FolioGuard { pfn }
}

#[cold]
fn lock_slow(pfn: Pfn) {
    loop {
        wait_clear(pfn, flag::LOCKED);
        if frame(pfn).try_lock() {
            return;
        }
    }
}

/// Locks the folio if nobody has it. Never waits, so it may be tried under a PTL as well.
#[inline]
pub(crate) fn try_lock(pfn: Pfn) -> Option<FolioGuard> {
    let f = frame(pfn);
    point::try_lock(Rank::FolioLock, || f.lock_object());
    if !f.try_lock() {
        return None;
    }
    point::tried(Rank::FolioLock, AccessKind::Lock, || f.lock_object());
    sync::lock_acquired(Rank::FolioLock, true);
    Some(FolioGuard { pfn })
}

/// Sleeps until none of `bits` is set. The caller holds a reference.
#[inline]
fn wait_clear(pfn: Pfn, bits: u32) {
    if frame(pfn).flags() & bits != 0 {
        wait_clear_slow(pfn, bits);
    }
}

#[cold]
fn wait_clear_slow(pfn: Pfn, bits: u32) {
    let f = frame(pfn);
    queue(pfn).wait_until(|| {
        if f.flags() & bits == 0 {
            return true;
        }
        // The waker clears the bit first and looks at WAITERS in the same operation: setting it before
        // looking again means that one of us sees the other.
        f.flags_point();
        f.set(flag::WAITERS);
        f.flags() & bits == 0
    });
}

/// Sleeps until no write of the folio is in flight. The caller holds a reference.
pub(crate) fn wait_writeback(pfn: Pfn) {
    wait_clear(pfn, flag::WRITEBACK);
}

/// The write of the folio is done. May be called from interrupt context.
pub(crate) fn end_writeback(pfn: Pfn) {
    let f = frame(pfn);
    f.flags_point();
    wake(pfn, f.clear(flag::WRITEBACK));
}

/// One more entry through which the folio was written is gone and will make it dirty: until [`end_pending`], whoever cleans
/// the folio waits. Under the PTL of the entry, whose reference the caller holds.
pub(crate) fn begin_pending(pfn: Pfn) {
    frame(pfn).pending_inc();
}

/// The folio is dirty for one of those entries.
pub(crate) fn end_pending(pfn: Pfn) {
    if frame(pfn).pending_dec() {
        wake(pfn, frame(pfn).flags());
    }
}

/// Sleeps until the folio is dirty for every entry that is gone. The caller holds the folio lock, and nothing else that who
/// unmaps pages may wait for.
pub(crate) fn wait_pending(pfn: Pfn) {
    let f = frame(pfn);
    queue(pfn).wait_until(|| {
        if f.pending() == 0 {
            return true;
        }
        f.flags_point();
        f.set(flag::WAITERS);
        // The other fence is in `pending_dec`: the waker sees the flag, or the look below sees its count.
        fence(Ordering::SeqCst);
        f.pending() == 0
    });
}

/// Sleeps until no read of the folio is in flight. The caller holds a reference.
pub(crate) fn wait_read(pfn: Pfn) {
    wait_clear(pfn, flag::READING);
}

/// The read of the folio is done: its content is valid, or else flags say why not, before the waiters are let go. May be
/// called from interrupt context.
pub(crate) fn end_read(pfn: Pfn, result: Result<(), u32>) {
    let f = frame(pfn);
    f.set(match result {
        Ok(()) => flag::UPTODATE,
        Err(failed) => failed,
    });
    f.flags_point();
    wake(pfn, f.clear(flag::READING));
}

/// A reference, given up when this is dropped.
pub struct Ref(Pfn);

impl Ref {
    /// Takes charge of a reference that the caller has on `pfn`.
    ///
    /// # Safety
    /// The reference was counted, for a folio, and nobody else gives it up.
    #[inline]
    pub(crate) unsafe fn new(pfn: Pfn) -> Self {
        Self(pfn)
    }
    /// The folio.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.0
    }
    /// Hands the reference to whoever keeps the number.
    #[inline]
    pub fn into_pfn(self) -> Pfn {
        let pfn = self.0;
        core::mem::forget(self);
        pfn
    }
}

// SAFETY: the reference keeps the folio.
unsafe impl HasContent for Ref {
    #[inline]
    fn frame_number(&self) -> Pfn {
        self.0
    }
}

impl Drop for Ref {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference is this value's.
        unsafe { put(self.0) };
    }
}

/// Gives up one reference; the last one frees the folio.
///
/// # Safety
/// As [`Ref::new`].
#[inline]
pub(crate) unsafe fn put(pfn: Pfn) {
    if frame(pfn).put_testzero() {
        // SAFETY: that was the last one.
        unsafe { release(pfn) };
    }
}

/// Frees a folio that nobody refers to any more.
///
/// # Safety
/// The last reference is gone, or all are frozen by the caller; nothing maps the folio, and no CPU
/// can still reach it.
pub(crate) unsafe fn release(pfn: Pfn) {
    lru::remove(pfn);
    // SAFETY: as above; and no list leads to it now.
    drop(unsafe { Page::take_back(pfn, 0) });
}

/// Gives up one reference on each of `pages`.
///
/// # Safety
/// As [`Ref::new`], for each.
pub(crate) unsafe fn put_all(pages: &[Pfn]) {
    for &pfn in pages {
        // SAFETY: the caller's word.
        unsafe { put(pfn) };
    }
}
