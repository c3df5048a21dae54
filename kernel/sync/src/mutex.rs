//! Data behind a sleeping lock: the semaphore with writers only.

use crate::{Rank, RwSem, WriteGuard};

/// A value that one thread at a time reaches; waiting sleeps, first come first served.
pub struct Mutex<T: ?Sized>(RwSem<T>);

/// Access to a locked value.
pub type MutexGuard<'a, T> = WriteGuard<'a, T>;

// SAFETY: only write guards are handed out, so the data is never shared between threads, only
// moved.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self(RwSem::new(rank, value))
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    ///
    /// # Panics
    /// In checked builds, if the caller must not sleep or holds a lock of the same or an inner
    /// rank.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.write()
    }

    /// The lock if it is free and nobody waits.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_write()
    }

    /// Somebody holds it; only a hint.
    pub fn is_locked(&self) -> bool {
        self.0.state().writer
    }

    /// Somebody waits for it; only a hint.
    pub fn is_waited_for(&self) -> bool {
        self.0.state().waiters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_threads() {
        const ROUNDS: u32 = if cfg!(miri) { 5 } else { 1000 };
        let m = Mutex::new(Rank::SwapOn, 0u32);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..ROUNDS {
                        *m.lock() += 1;
                    }
                });
            }
        });
        assert_eq!(*m.lock(), 4 * ROUNDS);
        let _g = m.lock();
        assert!(m.is_locked() && m.try_lock().is_none());
    }
}
