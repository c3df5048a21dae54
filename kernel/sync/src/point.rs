//! Points: the places where the explorer may stop a thread and let another one go on.
//!
//! A thread that the explorer drives (an *actor*) calls it at every point; for all others, and in a
//! build without the feature `lab`, a point does nothing. What an actor touches between two points
//! is told by [`touch`] and belongs to the step that it is taking.
//!
//! Locks from `FileSize` to `SwapCache` in the table of ranks are explored, and `SwapOn`: taking
//! one is a point at which an actor stands until the lock can be had. All others are leaves whose
//! sections no actor is stopped in (*quiet* sections): points inside them only touch.
//!
//! Takes no lock itself. A point may be anywhere but in a real interrupt's handler, where it does
//! nothing.

pub use algo::point::{AccessKind, PointKind};

use crate::{CpuMask, Rank, TaskId};

/// What an actor stands at a point for.
#[derive(Clone, Copy)]
pub enum Until<'a> {
    /// Nothing: it can go on.
    Now,
    /// A lock, until it can be had.
    Lock(&'a (dyn Fn() -> bool + Sync)),
    /// Acknowledgements of interrupts that it sent, until the last one.
    Acks(&'a (dyn Fn() -> bool + Sync)),
    /// A wake-up.
    Woken(&'a (dyn Fn() -> bool + Sync)),
}

/// Where an actor stands.
#[derive(Clone, Copy)]
pub struct Stop<'a> {
    /// What it does next.
    pub kind: PointKind,
    /// How that touches `object`.
    pub access: AccessKind,
    /// What it touches: see [`object`].
    pub object: u32,
    /// What it waits for.
    pub until: Until<'a>,
}

/// How an actor goes on from a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Go {
    /// What it waited for has come.
    Free,
    /// It has not and never will: the run is a deadlock that was reported, and everyone is being
    /// brought to an end.
    Forced,
}

/// What happened to a CPU's translations, or to a frame that they may lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// The running CPU dropped its translations of the page at this address.
    Invlpg(u64),
    /// The running CPU dropped all its translations.
    FlushLocal,
    /// The running CPU loaded this frame as its root.
    SwitchRoot(u32),
    /// This frame is about to be free.
    FrameFreed(u32),
    /// Code reads an entry of the page table in this frame without a lock.
    Walked(u32),
}

/// What drives actors.
pub trait Explorer: Sync {
    /// The running actor stands at `stop`; returns when it is to go on.
    fn stop(&self, stop: &Stop<'_>) -> Go;
    /// The running actor's step touches `object`.
    fn touch(&self, access: AccessKind, object: u32);
    /// See [`Note`]. Called by actors only.
    fn note(&self, note: Note);
    /// The running actor sends the TLB interrupt to `to`.
    fn tlb_ipi(&self, to: CpuMask);
    /// The running actor wakes `task`; false when that is no actor.
    fn unpark(&self, task: TaskId) -> bool;
}

pub use crate::object::{class, object, object_at};

/// A point: the running actor is about to touch `object` as `access` says.
#[inline(always)]
pub fn at(kind: PointKind, access: AccessKind, object: impl FnOnce() -> u32) {
    if imp::is_actor() {
        imp::stop(&Stop {
            kind,
            access,
            object: object(),
            until: Until::Now,
        });
    }
}

/// The step that the running actor is taking touches `object`.
#[inline(always)]
pub fn touch(access: AccessKind, object: impl FnOnce() -> u32) {
    if imp::is_actor() {
        imp::touch(access, object());
    }
}

/// The step that the running actor is taking touches more than is worth naming.
#[inline(always)]
pub fn touch_all() {
    if imp::is_actor() {
        // A footprint has room for fewer things; with more it is everything.
        for n in 0..32 {
            imp::touch(AccessKind::Write, object(class::OWN, u64::MAX - 1 - n));
        }
    }
}

/// A point before taking a lock of `rank` as `access` says. When [`Go::Free`] comes back to an
/// actor, `free` holds.
#[inline(always)]
pub fn lock(
    rank: Rank,
    access: AccessKind,
    object: impl FnOnce() -> u32,
    free: impl Fn() -> bool + Sync,
) -> Go {
    if !imp::is_actor() {
        return Go::Free;
    }
    imp::lock(rank, access, object(), &free)
}

/// A point before a try at a lock of `rank`, which does not wait.
#[inline(always)]
pub fn try_lock(rank: Rank, object: impl FnOnce() -> u32) {
    if imp::is_actor() {
        imp::try_lock(rank, object());
    }
}

/// After such a try that succeeded.
#[inline(always)]
pub fn tried(rank: Rank, access: AccessKind, object: impl FnOnce() -> u32) {
    if imp::is_actor() {
        imp::tried(rank, access, object());
    }
}

/// A point before a lock of `rank` is given back, as `access` says.
#[inline(always)]
pub fn unlock(rank: Rank, access: AccessKind, object: impl FnOnce() -> u32) {
    if imp::is_actor() {
        imp::unlock(rank, access, object());
    }
}

/// A quiet section ends: for a lock of a leaf rank, after it was given back.
#[inline(always)]
pub fn unlocked(rank: Rank) {
    if imp::is_actor() {
        imp::unlocked(rank);
    }
}

/// The running actor waits for acknowledgements; true when it has them, false when it is no actor
/// and has to wait by itself.
#[inline(always)]
pub fn wait_acks(object: impl FnOnce() -> u32, came: &(dyn Fn() -> bool + Sync)) -> bool {
    imp::is_actor() && {
        imp::stop(&Stop {
            kind: PointKind::IpiWait,
            access: AccessKind::Read,
            object: object(),
            until: Until::Acks(came),
        });
        true
    }
}

/// The running actor sleeps until `woken`; false when it is no actor and has to sleep by itself.
#[inline(always)]
pub fn sleep(task: TaskId, woken: impl Fn() -> bool + Sync) -> bool {
    imp::is_actor() && {
        imp::stop(&Stop {
            kind: PointKind::Wake,
            access: AccessKind::Write,
            object: object(class::SLEEP, u64::from(task.0)),
            until: Until::Woken(&woken),
        });
        true
    }
}

/// The running actor spins until `over`, which another thread makes true soon; false when it is no
/// actor and has to spin by itself. A wait must be a state for the explorer: of turns of a loop
/// there would be infinitely many.
#[inline(always)]
pub fn spin(object: impl FnOnce() -> u32, over: impl Fn() -> bool + Sync) -> bool {
    imp::is_actor() && {
        imp::stop(&Stop {
            kind: PointKind::Lock,
            access: AccessKind::Read,
            object: object(),
            until: Until::Lock(&over),
        });
        true
    }
}

/// The running actor wakes `task`; false when the two are not both actors.
#[inline(always)]
pub fn unpark(task: TaskId) -> bool {
    imp::is_actor() && imp::unpark(task)
}

/// See [`Note`].
#[inline(always)]
pub fn note(note: impl FnOnce() -> Note) {
    if imp::is_actor() {
        imp::note(note());
    }
}

/// The running actor sends the TLB interrupt to `to`; false when it is no actor and the machine has
/// to.
#[inline(always)]
pub fn tlb_ipi(to: CpuMask) -> bool {
    imp::is_actor() && imp::tlb_ipi(to)
}

/// The running thread is an actor: what it does is judged by the explorer's oracles.
#[inline(always)]
pub fn exploring() -> bool {
    imp::is_actor()
}

#[cfg(feature = "lab")]
pub use imp::{Aside, Delivery, Quiet, is_actor, make_actor, set_explorer};

#[cfg(feature = "lab")]
mod imp {
    use super::{AccessKind, Explorer, Go, Note, PointKind, Stop, Until};
    use crate::cpu::{self, backend};
    use crate::{CpuMask, Rank, TaskId, irq};
    use core::marker::PhantomData;

    static EXPLORER: spin::Once<&'static dyn Explorer> = spin::Once::new();

    /// Registers what drives actors; later calls have no effect.
    pub fn set_explorer(e: &'static dyn Explorer) {
        EXPLORER.call_once(|| e);
    }

    /// Makes the running thread an actor, on the CPU where it is and stays, or ends that.
    pub fn make_actor(yes: bool) {
        cpu::set_actor(yes);
    }

    /// The running thread is an actor.
    #[inline(always)]
    pub fn is_actor() -> bool {
        backend::is_actor()
    }

    /// In [`crate::cpu::CpuLocal::quiet`]: the handler that runs here is the explorer's doing.
    const DELIVERY: u32 = 1 << 16;

    /// As above: the explorer is at work for itself.
    const ASIDE: u32 = 1 << 24;

    /// The explorer, unless a real interrupt came in between: its handler is no part of the step.
    /// Nor is the unwinding of an actor that panicked (on the host): nobody may be stopped in it.
    fn explorer() -> Option<&'static dyn Explorer> {
        let quiet = backend::quiet();
        if quiet & ASIDE != 0 || irq::in_handler() && quiet & DELIVERY == 0 {
            return None;
        }
        if crate::unwinding() {
            return None;
        }
        EXPLORER.get().copied()
    }

    /// Until it is dropped, points of the running actor only touch.
    pub struct Quiet {
        by: u32,
        not_send: PhantomData<*const ()>,
    }

    impl Quiet {
        /// Begins a quiet section.
        #[must_use = "the section ends when this is dropped"]
        pub fn begin() -> Self {
            Self::of(1)
        }

        /// The running CPU's actor is in one.
        pub fn is_on() -> bool {
            backend::quiet() != 0
        }

        fn of(by: u32) -> Self {
            backend::quiet_add(by as i32);
            Self {
                by,
                not_send: PhantomData,
            }
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            backend::quiet_add(-(self.by as i32));
        }
    }

    /// Until it is dropped, nothing that the running actor does is a point or touches anything:
    /// what the explorer does for itself in between, under a lock of its own, with memory from the
    /// kernel's heap.
    pub struct Aside {
        _quiet: Quiet,
    }

    impl Aside {
        /// Begins the explorer's own work.
        #[must_use = "the work ends when this is dropped"]
        pub fn begin() -> Self {
            Self {
                _quiet: Quiet::of(ASIDE),
            }
        }
    }

    /// Until it is dropped, the running CPU serves an interrupt that the explorer chose to deliver:
    /// a quiet section in interrupt context, with interrupts off.
    pub struct Delivery {
        // Dropped in this order.
        _handler: irq::HandlerGuard,
        _irq: irq::IrqGuard,
        _quiet: Quiet,
    }

    impl Delivery {
        /// Begins the handler.
        #[must_use = "the handler ends when this is dropped"]
        pub fn begin() -> Self {
            Self {
                _quiet: Quiet::of(DELIVERY),
                _irq: irq::disable(),
                _handler: irq::handler(),
            }
        }
    }

    #[cold]
    pub(super) fn stop(stop: &Stop<'_>) -> Go {
        let Some(e) = explorer() else {
            return Go::Free;
        };
        let waits = !matches!(stop.until, Until::Now);
        if backend::quiet() != 0 && !waits {
            e.touch(stop.access, stop.object);
            return Go::Free;
        }
        e.stop(stop)
    }

    #[cold]
    pub(super) fn touch(access: AccessKind, object: u32) {
        if let Some(e) = explorer() {
            e.touch(access, object);
        }
    }

    #[cold]
    pub(super) fn lock(
        rank: Rank,
        access: AccessKind,
        object: u32,
        free: &(dyn Fn() -> bool + Sync),
    ) -> Go {
        if rank.is_explored() {
            return self::stop(&Stop {
                kind: PointKind::Lock,
                access,
                object,
                until: Until::Lock(free),
            });
        }
        touch(AccessKind::Write, object);
        backend::quiet_add(1);
        Go::Free
    }

    #[cold]
    pub(super) fn try_lock(rank: Rank, object: u32) {
        if rank.is_explored() {
            self::stop(&Stop {
                kind: PointKind::Lock,
                access: AccessKind::Write,
                object,
                until: Until::Now,
            });
        } else {
            touch(AccessKind::Write, object);
        }
    }

    #[cold]
    pub(super) fn tried(rank: Rank, access: AccessKind, object: u32) {
        if rank.is_explored() {
            touch(access, object);
        } else {
            backend::quiet_add(1);
        }
    }

    #[cold]
    pub(super) fn unlock(rank: Rank, access: AccessKind, object: u32) {
        if rank.is_explored() {
            self::stop(&Stop {
                kind: PointKind::Unlock,
                access,
                object,
                until: Until::Now,
            });
            // A kind that does not stop, or a quiet section, has said so already.
        }
    }

    #[cold]
    pub(super) fn unlocked(rank: Rank) {
        if !rank.is_explored() {
            backend::quiet_add(-1);
        }
    }

    #[cold]
    pub(super) fn unpark(task: TaskId) -> bool {
        explorer().is_some_and(|e| e.unpark(task))
    }

    #[cold]
    pub(super) fn note(note: Note) {
        if let Some(e) = explorer() {
            e.note(note);
        }
    }

    #[cold]
    pub(super) fn tlb_ipi(to: CpuMask) -> bool {
        match explorer() {
            Some(e) => {
                e.tlb_ipi(to);
                true
            }
            None => false,
        }
    }
}

/// Without the lab nobody is an actor, and nothing of the above remains.
#[cfg(not(feature = "lab"))]
mod imp {
    use super::{AccessKind, Go, Note, Stop};
    use crate::{CpuMask, Rank, TaskId};

    #[inline(always)]
    pub(super) const fn is_actor() -> bool {
        false
    }
    pub(super) fn stop(_: &Stop<'_>) -> Go {
        Go::Free
    }
    pub(super) fn touch(_: AccessKind, _: u32) {}
    pub(super) fn lock(_: Rank, _: AccessKind, _: u32, _: &(dyn Fn() -> bool + Sync)) -> Go {
        Go::Free
    }
    pub(super) fn try_lock(_: Rank, _: u32) {}
    pub(super) fn tried(_: Rank, _: AccessKind, _: u32) {}
    pub(super) fn unlock(_: Rank, _: AccessKind, _: u32) {}
    pub(super) fn unlocked(_: Rank) {}
    pub(super) fn unpark(_: TaskId) -> bool {
        false
    }
    pub(super) fn note(_: Note) {}
    pub(super) fn tlb_ipi(_: CpuMask) -> bool {
        false
    }
}

#[cfg(feature = "lab")]
pub use crate::slot::Slot;
