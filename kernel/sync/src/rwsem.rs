//! Data behind a sleeping reader-writer semaphore (the mmap lock, the reverse-map locks). Fair:
//! while a writer waits, new readers queue behind it, so a thread must not read the same semaphore
//! twice at a time.

use crate::check::{self, How};
use crate::rawrwsem::{Mode, RawRwSem, SemState};
use crate::{Rank, might_sleep};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

/// A value that many threads read or one writes; waiting sleeps.
pub struct RwSem<T: ?Sized> {
    raw: RawRwSem,
    rank: Rank,
    data: UnsafeCell<T>,
}

// SAFETY: shared references to the data come from read guards (needs `Sync`), exclusive ones from
// the one write guard, possibly on another thread than the last (needs `Send`).
unsafe impl<T: ?Sized + Send + Sync> Sync for RwSem<T> {}

impl<T> RwSem<T> {
    /// A free semaphore.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            raw: RawRwSem::new(),
            rank,
            data: UnsafeCell::new(value),
        }
    }

    /// The value, when nobody can hold it any more.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> RwSem<T> {
    /// Waits for shared access.
    ///
    /// # Panics
    /// In checked builds, if the caller must not sleep or holds a lock of the same or an inner
    /// rank.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        self.down(Mode::Read, How::Ordered);
        ReadGuard::new(self)
    }

    /// Waits for exclusive access.
    ///
    /// # Panics
    /// As [`RwSem::read`].
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        self.down(Mode::Write, How::Ordered);
        WriteGuard::new(self)
    }

    /// As [`RwSem::write`] while a lock of the same rank is held (fork holds the parent's); the
    /// caller orders the two.
    #[inline]
    pub fn write_nested(&self) -> WriteGuard<'_, T> {
        self.down(Mode::Write, How::Nested);
        WriteGuard::new(self)
    }

    /// Shared access if no writer is inside and nobody waits.
    #[inline]
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.try_down(Mode::Read).then(|| ReadGuard::new(self))
    }

    /// Exclusive access if nobody is inside or waits.
    #[inline]
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.try_down(Mode::Write).then(|| WriteGuard::new(self))
    }

    /// For a thread that tries again and again: as an actor of the explorer it stands here until
    /// nobody is inside exclusively. False for others, which have to wait a moment by themselves.
    pub fn poll_readable(&self) -> bool {
        self.raw.poll_readable()
    }

    /// Who holds it now.
    pub fn state(&self) -> SemState {
        self.raw.state()
    }

    /// The value; no lock needed with exclusive access.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    #[inline]
    fn down(&self, mode: Mode, how: How) {
        might_sleep(self.rank.name());
        check::acquire(self.rank, how);
        self.raw.down(mode, self.rank);
    }

    #[inline]
    fn try_down(&self, mode: Mode) -> bool {
        let got = self.raw.try_down(mode, self.rank);
        if got {
            check::acquire(self.rank, How::Try);
        }
        got
    }
}

/// Shared access.
#[must_use = "the semaphore is released when the guard is dropped"]
pub struct ReadGuard<'a, T: ?Sized> {
    sem: &'a RwSem<T>,
    not_send: PhantomData<*const ()>,
}

/// Exclusive access.
#[must_use = "the semaphore is released when the guard is dropped"]
pub struct WriteGuard<'a, T: ?Sized> {
    sem: &'a RwSem<T>,
    not_send: PhantomData<*const ()>,
}

impl<'a, T: ?Sized> ReadGuard<'a, T> {
    #[inline]
    fn new(sem: &'a RwSem<T>) -> Self {
        Self {
            sem,
            not_send: PhantomData,
        }
    }
}

impl<'a, T: ?Sized> WriteGuard<'a, T> {
    #[inline]
    fn new(sem: &'a RwSem<T>) -> Self {
        Self {
            sem,
            not_send: PhantomData,
        }
    }

    /// Becomes shared access without letting a writer in between; waiting readers enter.
    pub fn downgrade(self) -> ReadGuard<'a, T> {
        let this = ManuallyDrop::new(self);
        this.sem.raw.downgrade(this.sem.rank);
        ReadGuard::new(this.sem)
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the semaphore shared, so no exclusive reference exists.
        unsafe { &*self.sem.data.get() }
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the semaphore exclusively.
        unsafe { &*self.sem.data.get() }
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the semaphore exclusively; `&mut self` excludes other borrows
        // through it.
        unsafe { &mut *self.sem.data.get() }
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        check::release(self.sem.rank);
        self.sem.raw.up(Mode::Read, self.sem.rank);
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        check::release(self.sem.rank);
        self.sem.raw.up(Mode::Write, self.sem.rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    const ROUNDS: usize = if cfg!(miri) { 5 } else { 1000 };

    fn until(cond: impl Fn() -> bool) {
        while !cond() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn readers_share_writers_exclude() {
        let s = RwSem::new(Rank::MmapLock, 0);
        let r = s.read();
        std::thread::scope(|t| {
            t.spawn(|| {
                assert!(s.try_read().is_some());
                assert!(s.try_write().is_none());
            });
        });
        drop(r);
        let w = s.write();
        std::thread::scope(|t| {
            t.spawn(|| {
                assert!(s.try_read().is_none());
                assert!(s.try_write().is_none());
            });
        });
        drop(w);
        let free = SemState {
            readers: 0,
            writer: false,
            waiters: false,
        };
        assert_eq!(s.state(), free);
    }

    #[test]
    fn updates_are_never_lost_or_torn() {
        let s = RwSem::new(Rank::MmapLock, (0usize, 0usize));
        std::thread::scope(|t| {
            for _ in 0..2 {
                t.spawn(|| {
                    for _ in 0..ROUNDS {
                        let mut g = s.write();
                        g.0 += 1;
                        g.1 += 1;
                    }
                });
                t.spawn(|| {
                    for _ in 0..ROUNDS {
                        let g = s.read();
                        assert_eq!(g.0, g.1);
                    }
                });
            }
        });
        assert_eq!(*s.read(), (2 * ROUNDS, 2 * ROUNDS));
    }

    #[test]
    fn a_waiting_writer_stops_new_readers() {
        let s = RwSem::new(Rank::MmapLock, 0);
        let order = AtomicUsize::new(0);
        std::thread::scope(|t| {
            let r = s.read();
            t.spawn(|| {
                *s.write() = order.fetch_add(1, Ordering::SeqCst);
            });
            until(|| s.state().waiters);
            t.spawn(|| {
                let g = s.read();
                // The writer, first in the queue, has been.
                assert_eq!(*g, 0);
                assert_eq!(order.fetch_add(1, Ordering::SeqCst), 1);
            });
            assert!(s.try_read().is_none());
            drop(r);
        });
        assert_eq!(order.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn downgrade_lets_readers_in_and_keeps_writers_out() {
        let s = RwSem::new(Rank::MmapLock, 0);
        let entered = AtomicBool::new(false);
        std::thread::scope(|t| {
            let w = s.write();
            t.spawn(|| {
                let _r = s.read();
                entered.store(true, Ordering::SeqCst);
            });
            until(|| s.state().waiters);
            let r = w.downgrade();
            until(|| entered.load(Ordering::SeqCst));
            assert!(s.try_write().is_none());
            drop(r);
        });
        assert!(s.try_write().is_some());
    }

    #[test]
    fn more_readers_than_a_batch_enter_together() {
        const N: usize = 20;
        let s = RwSem::new(Rank::MmapLock, ());
        let inside = AtomicUsize::new(0);
        std::thread::scope(|t| {
            let w = s.write();
            for _ in 0..N {
                t.spawn(|| {
                    let _r = s.read();
                    inside.fetch_add(1, Ordering::SeqCst);
                    until(|| inside.load(Ordering::SeqCst) == N);
                });
            }
            until(|| s.state().waiters);
            drop(w);
        });
        assert!(!s.state().waiters);
    }
}
