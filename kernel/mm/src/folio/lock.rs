//! The folio lock (Linux: `PG_locked`): content, `mapping`, `private`, and membership of the swap
//! cache stay as they are while it is held.
//!
//! It is a bit in the record, `Rank::FolioLock`. Its slow path sleeps; the explorer lets an actor
//! go on only where it is free, so that none sleeps for it.

#![expect(unsafe_code, reason = "a locked folio has content")]

use super::Folio;
use crate::content::HasContent;
use crate::frame::flag;
use arch::Pfn;
use sync::Rank;
use sync::point::{self, AccessKind, Go};

/// A held folio lock.
#[must_use]
pub struct FolioGuard {
    folio: Folio,
}

impl FolioGuard {
    /// The locked folio.
    #[inline]
    pub fn folio(&self) -> Folio {
        self.folio
    }
    /// Leaves the folio locked and hands the lock over with the folio (a batch of reclaim holds
    /// more locks at once than one thread's checker follows).
    pub(crate) fn hand_over(self) -> Folio {
        let folio = self.folio;
        sync::lock_released(Rank::FolioLock);
        core::mem::forget(self);
        folio
    }
    /// Takes a lock over from [`FolioGuard::hand_over`].
    pub(crate) fn take_over(folio: Folio) -> Self {
        debug_assert!(folio.is_locked());
        sync::lock_acquired(Rank::FolioLock, true);
        Self { folio }
    }
}

impl core::ops::Deref for FolioGuard {
    type Target = Folio;
    #[inline]
    fn deref(&self) -> &Folio {
        &self.folio
    }
}

// SAFETY: a holder of the lock holds a reference, or keeps the folio in its cache.
unsafe impl HasContent for FolioGuard {
    #[inline]
    fn frame_number(&self) -> Pfn {
        self.pfn()
    }
}

impl Drop for FolioGuard {
    fn drop(&mut self) {
        sync::lock_released(Rank::FolioLock);
        let folio = self.folio;
        point::unlock(Rank::FolioLock, AccessKind::Unlock, || folio.lock_object());
        folio.wake(folio.unlock());
    }
}

impl Folio {
    /// Locks a folio that the caller holds a reference on. Sleeps.
    pub(crate) fn lock(self) -> FolioGuard {
        let go = point::lock(
            Rank::FolioLock,
            AccessKind::Lock,
            || self.lock_object(),
            || !self.is_locked(),
        );
        if !self.set_locked() && go == Go::Free {
            self.lock_slow();
        }
        sync::lock_acquired(Rank::FolioLock, false);
        FolioGuard { folio: self }
    }

    #[cold]
    fn lock_slow(self) {
        loop {
            self.wait_clear(flag::LOCKED);
            if self.set_locked() {
                return;
            }
        }
    }

    /// Locks the folio if nobody has it. Never waits, so it may be tried under a PTL as well.
    #[inline]
    pub(crate) fn try_lock(self) -> Option<FolioGuard> {
        point::try_lock(Rank::FolioLock, || self.lock_object());
        if !self.set_locked() {
            return None;
        }
        point::tried(Rank::FolioLock, AccessKind::Lock, || self.lock_object());
        sync::lock_acquired(Rank::FolioLock, true);
        Some(FolioGuard { folio: self })
    }
}
