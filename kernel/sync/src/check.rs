//! The lock checker (with `debug_assertions`; otherwise every function here is empty).
//!
//! Per thread it keeps the ranks held. Taking a rank at or inside the innermost one held panics
//! naming both. So does sleeping with preemption or interrupts off, waiting with interrupts off for
//! a lock whose holder may wait for an IPI, and a rank that both interrupt handlers and threads
//! with interrupts on take. An interrupt handler's locks go on the interrupted thread's stack: they
//! must rank inside whatever it holds.

use crate::{Rank, TaskId};

/// How a lock is being taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// May wait; the rank must be inside everything held.
    Ordered,
    /// May wait; a lock of the same rank may be held (the caller orders the two by address or by
    /// level).
    Nested,
    /// Does not wait, so it cannot deadlock: any order.
    Try,
}

#[cfg(not(debug_assertions))]
mod imp {
    use super::{How, Rank, TaskId};

    #[inline(always)]
    pub(crate) fn acquire(_rank: Rank, _how: How) {}
    #[inline(always)]
    pub(crate) fn release(_rank: Rank) {}
    #[inline(always)]
    pub(crate) fn sleep(_what: &str) {}
    #[inline(always)]
    pub(crate) fn wait_for_ipi() {}
    #[inline(always)]
    pub(crate) fn held_by(_t: TaskId, _f: &mut dyn FnMut(Rank)) {}
    #[cfg(not(target_os = "none"))]
    pub(crate) fn forget_held() {}
}

#[cfg(debug_assertions)]
mod imp {
    use super::{How, Rank, TaskId};
    use crate::task::{self, TaskCtx};
    use crate::{irq, preempt, threads_ready};
    use core::fmt;
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

    const DEPTH: usize = 24;

    /// The ranks that a thread holds, oldest first. Written by that thread (and handlers on top of
    /// it) only.
    pub(crate) struct HeldLocks {
        n: AtomicU8,
        ranks: [AtomicU8; DEPTH],
    }

    impl HeldLocks {
        pub(crate) const fn new() -> Self {
            Self {
                n: AtomicU8::new(0),
                ranks: [const { AtomicU8::new(0) }; DEPTH],
            }
        }

        fn iter(&self) -> impl Iterator<Item = Rank> + '_ {
            self.ranks[..self.n.load(Relaxed) as usize]
                .iter()
                .map(|r| Rank::from_index(r.load(Relaxed)))
        }

        fn push(&self, rank: Rank) {
            // A handler between the two stores would push to the same place.
            let _irq = irq::disable();
            let n = self.n.load(Relaxed) as usize;
            assert!(n < DEPTH, "more than {DEPTH} locks held: {self}");
            self.ranks[n].store(rank as u8, Relaxed);
            self.n.store(n as u8 + 1, Relaxed);
        }

        fn pop(&self, rank: Rank) {
            let _irq = irq::disable();
            let n = self.n.load(Relaxed) as usize;
            let at = (0..n)
                .rev()
                .find(|&i| self.ranks[i].load(Relaxed) == rank as u8);
            let Some(at) = at else {
                panic!("{} released but not held; held: {self}", rank.name());
            };
            for i in at + 1..n {
                self.ranks[i - 1].store(self.ranks[i].load(Relaxed), Relaxed);
            }
            self.n.store(n as u8 - 1, Relaxed);
        }
    }

    impl fmt::Display for HeldLocks {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            if self.n.load(Relaxed) == 0 {
                return f.write_str("none");
            }
            for (i, r) in self.iter().enumerate() {
                let sep = if i == 0 { "" } else { ", " };
                write!(f, "{sep}{}", r.name())?;
            }
            Ok(())
        }
    }

    fn ctx() -> &'static TaskCtx {
        task::ctx(task::current())
    }

    const BY_HANDLER: u8 = 1;
    const WITH_IRQS_ON: u8 = 2;
    static USED: [AtomicU8; Rank::ALL.len()] = [const { AtomicU8::new(0) }; Rank::ALL.len()];

    fn check_order(rank: Rank, how: How) {
        let held = &ctx().held;
        let Some(inner) = held.iter().max() else {
            return;
        };
        if rank < inner || rank == inner && how != How::Nested {
            panic!(
                "lock order: {} taken while {} is held; held: {held}",
                rank.name(),
                inner.name()
            );
        }
    }

    fn check_interrupts(rank: Rank) {
        // Boot runs with interrupts off, alone.
        if !threads_ready() && cfg!(target_os = "none") {
            return;
        }
        let on = irq::enabled();
        assert!(
            on || !rank.held_over_shootdown(),
            "{} waited for with interrupts off: its holder may wait for this CPU's acknowledgement",
            rank.name()
        );
        let how = if irq::in_handler() {
            BY_HANDLER
        } else if on {
            WITH_IRQS_ON
        } else {
            0
        };
        let seen = &USED[rank as usize];
        if seen.load(Relaxed) & how != how
            && (seen.fetch_or(how, Relaxed) | how) == BY_HANDLER | WITH_IRQS_ON
        {
            panic!(
                "{} is taken by interrupt handlers and, elsewhere, with interrupts on",
                rank.name()
            );
        }
    }

    pub(crate) fn acquire(rank: Rank, how: How) {
        if how != How::Try {
            check_order(rank, how);
            check_interrupts(rank);
        }
        ctx().held.push(rank);
    }

    pub(crate) fn release(rank: Rank) {
        ctx().held.pop(rank);
    }

    pub(crate) fn sleep(what: &str) {
        if !threads_ready() && cfg!(target_os = "none") {
            return;
        }
        let held = &ctx().held;
        assert!(
            preempt::count() == 0 && irq::enabled() && !irq::in_handler(),
            "{what} may sleep, but preemption count is {}, interrupts are {}; held: {held}",
            preempt::count(),
            if irq::enabled() { "on" } else { "off" },
        );
    }

    pub(crate) fn wait_for_ipi() {
        let held = &ctx().held;
        assert!(
            irq::enabled() && !irq::in_handler(),
            "waits for another CPU with interrupts off; held: {held}"
        );
        if let Some(inner) = held.iter().max() {
            assert!(
                inner.held_over_shootdown(),
                "waits for another CPU while {} is held; held: {held}",
                inner.name()
            );
        }
    }

    pub(crate) fn held_by(t: TaskId, f: &mut dyn FnMut(Rank)) {
        task::ctx(t).held.iter().for_each(f);
    }

    #[cfg(not(target_os = "none"))]
    pub(crate) fn forget_held() {
        ctx().held.n.store(0, Relaxed);
    }
}

#[cfg(debug_assertions)]
pub(crate) use imp::HeldLocks;
#[cfg(not(target_os = "none"))]
pub(crate) use imp::forget_held;
pub(crate) use imp::{acquire, release};

/// Panics (in checked builds) if the caller must not sleep here; `what` names the operation.
#[inline]
#[track_caller]
pub fn might_sleep(what: &str) {
    imp::sleep(what);
}

/// Panics (in checked builds) if the caller must not wait here for another CPU's interrupt handler:
/// with interrupts off, or with a lock held that is not [`Rank::held_over_shootdown`].
#[inline]
pub fn might_wait_for_ipi() {
    imp::wait_for_ipi();
}

/// For locks that live outside of this crate (bit locks): the calling thread is about to take, or
/// with `tried` has taken without waiting, a lock of `rank`.
#[inline]
pub fn lock_acquired(rank: Rank, tried: bool) {
    acquire(rank, if tried { How::Try } else { How::Ordered });
}

/// The counterpart of [`lock_acquired`], by the same thread.
#[inline]
pub fn lock_released(rank: Rank) {
    release(rank);
}

/// Calls `f` with each rank that the running thread holds, oldest first (nothing in unchecked
/// builds).
pub fn held(f: &mut dyn FnMut(Rank)) {
    held_by(crate::task::current(), f);
}

/// As [`held`], for a thread that does not run now.
pub fn held_by(task: TaskId, f: &mut dyn FnMut(Rank)) {
    imp::held_by(task, f);
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use crate::{IrqSpinLock, Mutex, Rank, RwSem, SpinLock, irq, might_sleep, might_wait_for_ipi};

    #[test]
    fn ascending_order_is_fine_and_release_order_free() {
        let a = SpinLock::new(Rank::Pmd, ());
        let b = SpinLock::new(Rank::Ptl, ());
        let ga = a.lock();
        let gb = b.lock();
        drop(ga);
        drop(gb);
        let mut n = 0;
        crate::held(&mut |_| n += 1);
        assert_eq!(n, 0);
    }

    #[test]
    #[should_panic(expected = "lock order: Pmd taken while Ptl is held")]
    fn descending_order_panics_naming_both() {
        let a = SpinLock::new(Rank::Pmd, ());
        let b = SpinLock::new(Rank::Ptl, ());
        let _b = b.lock();
        let _a = a.lock();
    }

    #[test]
    #[should_panic(expected = "lock order: Ptl taken while Ptl is held")]
    fn same_rank_panics() {
        let a = SpinLock::new(Rank::Ptl, ());
        let b = SpinLock::new(Rank::Ptl, ());
        let _a = a.lock();
        let _b = b.lock();
    }

    #[test]
    fn same_rank_nested_and_tried_are_fine() {
        let a = SpinLock::new(Rank::Ptl, ());
        let b = SpinLock::new(Rank::Ptl, ());
        let c = SpinLock::new(Rank::Pmd, ());
        let _a = a.lock();
        let _b = b.lock_nested();
        assert!(c.try_lock().is_some());
    }

    #[test]
    #[should_panic(expected = "lock order: MmapLock taken while AnonVma is held")]
    fn sleeping_locks_are_ordered_too() {
        let mmap = RwSem::new(Rank::MmapLock, ());
        let anon = RwSem::new(Rank::AnonVma, ());
        let _b = anon.read();
        let _a = mmap.write();
    }

    #[test]
    #[should_panic(expected = "may sleep, but preemption count is 1")]
    fn sleeping_with_a_spin_lock_panics() {
        let a = SpinLock::new(Rank::SwapOn, ());
        let m = Mutex::new(Rank::MmapLock, ());
        let _a = a.lock();
        let _m = m.lock();
    }

    #[test]
    #[should_panic(expected = "interrupts are off")]
    fn sleeping_with_interrupts_off_panics() {
        let _irq = irq::disable();
        might_sleep("test");
    }

    #[test]
    #[should_panic(expected = "Ptl waited for with interrupts off")]
    fn page_table_lock_with_interrupts_off_panics() {
        let a = SpinLock::new(Rank::Ptl, ());
        let _irq = irq::disable();
        let _a = a.lock();
    }

    #[test]
    #[should_panic(expected = "while ZoneLock is held")]
    fn waiting_for_ipis_under_an_inner_lock_panics() {
        let a = SpinLock::new(Rank::ZoneLock, ());
        let _a = a.lock();
        might_wait_for_ipi();
    }

    #[test]
    fn waiting_for_ipis_under_the_page_table_lock_is_allowed() {
        let a = SpinLock::new(Rank::Ptl, ());
        let _a = a.lock();
        might_wait_for_ipi();
    }

    // `Arena` is taken nowhere else in this crate's tests: the usage bits are per rank and process.
    #[test]
    #[should_panic(
        expected = "Arena is taken by interrupt handlers and, elsewhere, with interrupts on"
    )]
    fn handler_lock_taken_with_interrupts_on_panics() {
        let ok = IrqSpinLock::new(Rank::Arena, ());
        let bad = SpinLock::new(Rank::Arena, ());
        {
            let _irq = irq::disable();
            let _h = irq::handler();
            drop(ok.lock());
        }
        let _bad = bad.lock();
    }
}
