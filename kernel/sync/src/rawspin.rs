//! The spin lock word. One `u32`, zero = free, so that a zeroed frame table holds free locks.
//!
//! Taking it turns preemption off; holders do not sleep. Test-and-set, not a ticket: on an
//! overcommitted host a ticket's next owner may be a CPU that does not run. Waiting goes through
//! [`crate::Threads::relax`]. The swap's Acquire pairs with the Release store of the unlock. Every
//! lock and unlock in the system that spins passes through `take` and `give` here.

use crate::atomic::AtomicU32;
use crate::check::{self, How};
use crate::point::{self, AccessKind, Go, class};
use crate::twin::{Twin, broken, order_of};
use crate::{Rank, irq, preempt, threads};
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

const FREE: u32 = 0;
const TAKEN: u32 = 1;

/// A spin lock of one word without data.
#[derive(Default)]
#[repr(transparent)]
pub struct RawSpin(AtomicU32);

impl RawSpin {
    /// A free lock.
    pub const fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    /// The lock that lives in `word`, 0 when free: for records that have a word to spare.
    #[inline]
    pub const fn from_word(word: &AtomicU32) -> &Self {
        // SAFETY: `RawSpin` is a transparent wrapper of `AtomicU32`: same layout, same validity,
        // and the reference keeps its lifetime.
        unsafe { &*core::ptr::from_ref(word).cast::<Self>() }
    }

    /// Takes the lock, spinning. The guard keeps preemption off.
    ///
    /// # Panics
    /// In checked builds, if a lock of the same or an inner rank is held (see [`Rank`]).
    #[inline]
    pub fn lock(&self, rank: Rank) -> RawGuard<'_> {
        self.lock_how(rank, How::Ordered)
    }

    /// As [`RawSpin::lock`] while a lock of the same rank is held; the caller orders the two.
    #[inline]
    pub fn lock_nested(&self, rank: Rank) -> RawGuard<'_> {
        self.lock_how(rank, How::Nested)
    }

    #[inline]
    fn lock_how(&self, rank: Rank, how: How) -> RawGuard<'_> {
        check::acquire(rank, how);
        preempt::enter();
        self.take(rank);
        RawGuard {
            lock: self,
            rank,
            not_send: PhantomData,
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self, rank: Rank) -> Option<RawGuard<'_>> {
        preempt::enter();
        if !self.try_take_at(rank) {
            preempt::exit();
            return None;
        }
        check::acquire(rank, How::Try);
        Some(RawGuard {
            lock: self,
            rank,
            not_send: PhantomData,
        })
    }

    /// Takes the lock with interrupts off: for locks that interrupt handlers take.
    #[inline]
    pub fn lock_irq(&self, rank: Rank) -> RawIrqGuard<'_> {
        let preempt = preempt::disable();
        let irq = irq::disable();
        check::acquire(rank, How::Ordered);
        self.take(rank);
        RawIrqGuard {
            lock: self,
            rank,
            irq,
            _preempt: preempt,
        }
    }

    /// Takes the lock with interrupts off if it is free.
    #[inline]
    pub fn try_lock_irq(&self, rank: Rank) -> Option<RawIrqGuard<'_>> {
        let preempt = preempt::disable();
        let irq = irq::disable();
        if !self.try_take_at(rank) {
            return None;
        }
        check::acquire(rank, How::Try);
        Some(RawIrqGuard {
            lock: self,
            rank,
            irq,
            _preempt: preempt,
        })
    }

    /// Somebody holds it; only a hint unless the caller does.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != FREE
    }

    pub(crate) fn object(&self) -> u32 {
        point::object_at(class::LOCK, self)
    }

    #[inline]
    fn try_take(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FREE && self.swap_in()
    }

    #[inline]
    fn swap_in(&self) -> bool {
        if broken(Twin::SpinTwoSteps) {
            let free = self.0.load(Ordering::Acquire) == FREE;
            self.0.store(TAKEN, Ordering::Relaxed);
            return free;
        }
        self.0.swap(TAKEN, Ordering::Acquire) == FREE
    }

    /// A try that the explorer knows of.
    #[inline]
    fn try_take_at(&self, rank: Rank) -> bool {
        point::try_lock(rank, || self.object());
        let got = self.try_take();
        if got {
            point::tried(rank, AccessKind::Lock, || self.object());
        }
        got
    }

    #[inline]
    fn take(&self, rank: Rank) {
        let go = point::lock(
            rank,
            AccessKind::Lock,
            || self.object(),
            || !self.is_locked(),
        );
        if go == Go::Forced {
            return;
        }
        if !self.swap_in() {
            self.take_slow(rank);
        }
    }

    #[cold]
    fn take_slow(&self, rank: Rank) {
        rank.count_contended();
        let mut spins = 0u32;
        while !self.try_take() {
            threads().relax(spins);
            spins = spins.saturating_add(1);
        }
    }

    #[inline]
    fn give(&self, rank: Rank) {
        point::unlock(rank, AccessKind::Unlock, || self.object());
        let order = order_of(Twin::SpinRelaxed, Ordering::Release);
        self.0.store(FREE, order);
        point::unlocked(rank);
    }
}

/// A held [`RawSpin`]; preemption is off.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RawGuard<'a> {
    lock: &'a RawSpin,
    rank: Rank,
    not_send: PhantomData<*const ()>,
}

impl RawGuard<'_> {
    /// The guard is of this lock.
    #[inline]
    pub fn guards(&self, lock: &RawSpin) -> bool {
        core::ptr::eq(self.lock, lock)
    }
}

impl Drop for RawGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        check::release(self.rank);
        self.lock.give(self.rank);
        preempt::exit();
    }
}

/// A held [`RawSpin`]; preemption and interrupts are off.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RawIrqGuard<'a> {
    lock: &'a RawSpin,
    rank: Rank,
    // Dropped in this order: interrupts come back before the preemption count falls, whose
    // reschedule needs them on.
    irq: irq::IrqGuard,
    _preempt: preempt::PreemptGuard,
}

impl RawIrqGuard<'_> {
    /// The token that interrupts are off.
    #[inline]
    pub fn irq(&self) -> &irq::IrqGuard {
        &self.irq
    }
}

impl Drop for RawIrqGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        check::release(self.rank);
        self.lock.give(self.rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn excludes_threads() {
        const ROUNDS: u64 = if cfg!(miri) { 20 } else { 5000 };
        let shared = Arc::new((RawSpin::new(), AtomicU64::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let s = shared.clone();
                std::thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        let _g = s.0.lock(Rank::Ptl);
                        // Not one atomic step: only exclusion keeps the sum right.
                        let v = s.1.load(Ordering::Relaxed);
                        s.1.store(v + 1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for t in threads {
            t.join().unwrap();
        }
        assert_eq!(shared.1.load(Ordering::Relaxed), 4 * ROUNDS);
    }

    #[test]
    fn try_lock_fails_on_a_held_lock_and_leaves_no_trace() {
        let l = RawSpin::new();
        let before = preempt::count();
        let g = l.lock(Rank::Ptl);
        assert!(g.guards(&l) && l.is_locked());
        std::thread::scope(|s| {
            s.spawn(|| {
                assert!(l.try_lock(Rank::Ptl).is_none());
                assert!(l.try_lock_irq(Rank::Ptl).is_none());
                assert!(irq::enabled());
                assert_eq!(preempt::count(), 0);
            });
        });
        drop(g);
        assert!(!l.is_locked());
        assert_eq!(preempt::count(), before);
    }

    #[test]
    fn irq_guard_turns_interrupts_off_and_restores() {
        let l = RawSpin::new();
        let g = l.lock_irq(Rank::WaitQueue);
        assert!(!irq::enabled() && preempt::count() == 1);
        drop(g);
        assert!(irq::enabled() && preempt::count() == 0);
    }
}
