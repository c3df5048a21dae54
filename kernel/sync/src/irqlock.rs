//! Data behind a spin lock that interrupt handlers take too: interrupts are off on the holder's
//! CPU.

use crate::rawspin::{RawIrqGuard, RawSpin};
use crate::{Pinned, Rank, irq};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

/// A value that one CPU at a time reaches, from threads and interrupt handlers.
pub struct IrqSpinLock<T: ?Sized> {
    raw: RawSpin,
    rank: Rank,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached only through a guard, and `RawSpin` lets one guard exist at a time.
unsafe impl<T: ?Sized + Send> Sync for IrqSpinLock<T> {}

impl<T> IrqSpinLock<T> {
    /// A free lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            raw: RawSpin::new(),
            rank,
            data: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> IrqSpinLock<T> {
    /// Turns interrupts off and takes the lock, spinning.
    ///
    /// # Panics
    /// In checked builds, if a lock of the same or an inner rank is held.
    #[inline]
    pub fn lock(&self) -> IrqSpinGuard<'_, T> {
        IrqSpinGuard {
            data: &self.data,
            raw: self.raw.lock_irq(self.rank),
        }
    }

    /// Takes the lock if it is free; interrupts stay as they are if not.
    #[inline]
    pub fn try_lock(&self) -> Option<IrqSpinGuard<'_, T>> {
        self.raw.try_lock_irq(self.rank).map(|raw| IrqSpinGuard {
            data: &self.data,
            raw,
        })
    }

    /// Somebody holds it; only a hint.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }
}

/// Access to a locked value; preemption and interrupts are off.
#[must_use = "the lock is released when the guard is dropped"]
pub struct IrqSpinGuard<'a, T: ?Sized> {
    data: &'a UnsafeCell<T>,
    raw: RawIrqGuard<'a>,
}

impl<T: ?Sized> IrqSpinGuard<'_, T> {
    /// The token that interrupts are off.
    #[inline]
    pub fn irq(&self) -> &irq::IrqGuard {
        self.raw.irq()
    }
}

impl<T: ?Sized> Deref for IrqSpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `raw` proves that this thread holds the lock.
        unsafe { &*self.data.get() }
    }
}

impl<T: ?Sized> DerefMut for IrqSpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: `raw` proves that this thread holds the lock; `&mut self` that no other borrow
        // exists.
        unsafe { &mut *self.data.get() }
    }
}

impl Pinned for RawIrqGuard<'_> {}
impl<T: ?Sized> Pinned for IrqSpinGuard<'_, T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_off_while_held() {
        let l = IrqSpinLock::new(Rank::DiskQueue, 1);
        {
            let mut g = l.lock();
            *g += 1;
            assert!(!irq::enabled());
            std::thread::scope(|s| {
                s.spawn(|| {
                    assert!(l.try_lock().is_none());
                    assert!(irq::enabled());
                });
            });
        }
        assert!(irq::enabled());
        assert_eq!(*l.try_lock().unwrap(), 2);
    }
}
