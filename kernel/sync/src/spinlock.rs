//! Data behind a spin lock. Preemption is off while it is held; interrupts stay on, so an interrupt
//! handler must not take it (use [`crate::IrqSpinLock`] there). Holders do not sleep.

use crate::rawspin::{RawGuard, RawSpin};
use crate::{Pinned, Rank};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

/// A value that one CPU at a time reaches.
pub struct SpinLock<T: ?Sized> {
    raw: RawSpin,
    rank: Rank,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached only through a guard, and `RawSpin` lets one guard exist at a time.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            raw: RawSpin::new(),
            rank,
            data: UnsafeCell::new(value),
        }
    }

    /// The value, when nobody can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock, spinning.
    ///
    /// # Panics
    /// In checked builds, if a lock of the same or an inner rank is held.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        self.guard(self.raw.lock(self.rank))
    }

    /// Takes the lock while one of the same rank is held; the caller orders the two.
    #[inline]
    pub fn lock_nested(&self) -> SpinGuard<'_, T> {
        self.guard(self.raw.lock_nested(self.rank))
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        self.raw.try_lock(self.rank).map(|raw| self.guard(raw))
    }

    /// Somebody holds it; only a hint.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// The value; no lock needed with exclusive access.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    #[inline]
    fn guard<'a>(&'a self, raw: RawGuard<'a>) -> SpinGuard<'a, T> {
        SpinGuard {
            data: &self.data,
            raw,
        }
    }
}

/// Access to a locked value; preemption is off.
#[must_use = "the lock is released when the guard is dropped"]
pub struct SpinGuard<'a, T: ?Sized> {
    data: &'a UnsafeCell<T>,
    raw: RawGuard<'a>,
}

impl<'a, T: ?Sized> SpinGuard<'a, T> {
    /// The raw guard, as a proof that the lock is held.
    #[inline]
    pub fn raw(&self) -> &RawGuard<'a> {
        &self.raw
    }
}

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `raw` proves that this thread holds the lock.
        unsafe { &*self.data.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: `raw` proves that this thread holds the lock; `&mut self` that no other borrow
        // exists.
        unsafe { &mut *self.data.get() }
    }
}

impl Pinned for RawGuard<'_> {}
impl<T: ?Sized> Pinned for SpinGuard<'_, T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_survives_and_try_respects_holder() {
        let mut l = SpinLock::new(Rank::LruLock, 7);
        *l.lock() += 1;
        let g = l.lock();
        std::thread::scope(|s| {
            s.spawn(|| assert!(l.try_lock().is_none()));
        });
        drop(g);
        assert_eq!(*l.try_lock().unwrap(), 8);
        assert_eq!(*l.get_mut(), 8);
        assert_eq!(l.into_inner(), 8);
    }
}
