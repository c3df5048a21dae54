//! What one CPU's TLB may hold: which address space's root is loaded, up to which generation, and
//! whether the CPU is lazy about it.
//!
//! Interrupts are off wherever a CPU changes its own record; no other CPU does. Takes no lock.

use super::{Change, Counted, EVERYTHING, Machine, NO_SPACE, Order, Shootdown, Space};
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64};
use crate::irq::IrqGuard;
use crate::point::{self, AccessKind, PointKind, class};
use crate::twin::{Twin, broken, order_of};
use core::sync::atomic::Ordering;

/// See the module text. Written by that CPU only.
#[repr(align(64))]
pub(super) struct Holder {
    /// Id + 1 of the address space whose root is loaded, or [`NO_SPACE`].
    loaded: AtomicU32,
    /// Runs a kernel thread on a borrowed root.
    lazy: AtomicBool,
    /// The generation of `loaded` that this CPU has caught up with.
    generation: AtomicU64,
}

/// What a CPU has loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuState {
    /// The id of the address space.
    pub loaded: Option<u32>,
    /// It only borrows the root.
    pub lazy: bool,
    /// The generation that it has caught up with.
    pub generation: u64,
}

impl Holder {
    pub(super) const fn new() -> Self {
        Self {
            loaded: AtomicU32::new(NO_SPACE),
            lazy: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        }
    }

    #[inline]
    fn loaded(&self) -> Option<u32> {
        self.loaded.load(Ordering::Relaxed).checked_sub(1)
    }

    #[inline]
    pub(super) fn has_loaded(&self, id: u32) -> bool {
        self.loaded.load(Ordering::Relaxed) == id + 1
    }

    /// For the CPU itself.
    #[inline]
    pub(super) fn is_lazy(&self) -> bool {
        self.lazy.load(Ordering::Relaxed)
    }

    /// For another CPU, which spares this one then. Acquire pairs with the Release in
    /// [`Shootdown::switch`].
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.lazy
            .load(order_of(Twin::SpareRelaxed, Ordering::Acquire))
    }

    /// Leaves a borrowed root for the kernel's own.
    pub(super) fn leave(&self, machine: &impl Machine, me: usize, id: u32) {
        let space = machine.space(id);
        if broken(Twin::LeaveEarly) {
            space.leave(me);
        }
        machine.load_root(None);
        self.loaded.store(NO_SPACE, Ordering::Relaxed);
        self.lazy.store(false, Ordering::Relaxed);
        space.touch(AccessKind::Write);
        space.leave(me);
    }

    /// Brings this CPU's TLB up to the current generation of `space`, which it has loaded, for a
    /// request for `change`.
    #[inline]
    pub(super) fn catch_up(&self, machine: &impl Machine, space: &Space, change: &Change) {
        let local = self.generation.load(Ordering::Relaxed);
        let now = space.answered();
        if local == now {
            machine.count(Counted::GenerationSkip, 1);
            return;
        }
        let missed_none_before = change.generation == local + 1 || broken(Twin::MissedBefore);
        let is_last = change.generation == now || broken(Twin::MissedAfter);
        // (A request for everything has no range.)
        let believed = change.generation != 0 && !machine.keeps(Order::Missed);
        if missed_none_before && is_last || believed {
            machine.flush_range(&change.addresses);
        } else {
            machine.flush_all();
        }
        self.generation.store(now, Ordering::Relaxed);
    }

    /// Brings this CPU up to the current generation of the address space it has loaded, unless it
    /// is lazy: it catches up by itself when it stops being so.
    pub(super) fn catch_up_loaded(&self, machine: &impl Machine) {
        if let Some(id) = self.loaded()
            && !self.is_lazy()
        {
            self.catch_up(machine, machine.space(id), &EVERYTHING);
        }
    }
}

impl Shootdown {
    /// The record of CPU `cpu`, which the running actor looks at or changes.
    #[inline(always)]
    pub(super) fn holder(&self, cpu: usize, access: AccessKind) -> &Holder {
        point::touch(access, || point::object(class::TLB, cpu as u64));
        &self.holders[cpu]
    }

    /// What `cpu` has loaded.
    #[inline]
    pub fn cpu_state(&self, cpu: usize) -> CpuState {
        let holder = self.holder(cpu, AccessKind::Read);
        CpuState {
            loaded: holder.loaded(),
            lazy: holder.is_lazy(),
            generation: holder.generation.load(Ordering::Relaxed),
        }
    }

    /// The running thread changes its address space: `next` is an id, or `None` for a kernel
    /// thread, which stays on the loaded root and turns lazy. Called by the scheduler with
    /// interrupts off.
    pub fn switch(&self, machine: &impl Machine, _irq: &IrqGuard, next: Option<u32>) {
        let me = machine.cpu();
        point::at(PointKind::Space, AccessKind::Write, || {
            point::object(class::TLB, me as u64)
        });
        let holder = &self.holders[me];
        let loaded = holder.loaded();
        let Some(id) = next else {
            // Release pairs with the Acquire in `Holder::is_idle`: the user accesses before are
            // over for whoever spares this CPU.
            let order = order_of(Twin::LazyRelaxed, Ordering::Release);
            holder.lazy.store(loaded.is_some(), order);
            return;
        };
        let space = machine.space(id);
        if loaded == Some(id) {
            holder.lazy.store(false, Ordering::Relaxed);
            let now = space.awake();
            if holder.generation.load(Ordering::Relaxed) != now && !broken(Twin::AwakeBlind) {
                self.holder(me, AccessKind::Write);
                machine.flush_all();
                holder.generation.store(now, Ordering::Relaxed);
            }
            return;
        }
        // In the mask and not lazy before the root is loaded: a flusher either sends an IPI here
        // (served once interrupts are on again) or was seen. From the root load on the CPU may walk
        // the new tables ahead of any access, so it must not be spared as lazy any more.
        holder.loaded.store(NO_SPACE, Ordering::Relaxed);
        holder.lazy.store(false, Ordering::Relaxed);
        let late = broken(Twin::EnterLate);
        let now = if late {
            space.generation()
        } else {
            space.enter(me)
        };
        self.holder(me, AccessKind::Write);
        if broken(Twin::LeaveEarly)
            && let Some(old) = loaded
        {
            machine.space(old).leave(me);
        }
        machine.load_root(Some(id));
        if late {
            space.enter(me);
        }
        holder.generation.store(now, Ordering::Relaxed);
        holder.loaded.store(id + 1, Ordering::Relaxed);
        if let Some(old) = loaded {
            machine.space(old).point_and_leave(me);
        }
    }

    /// For the explorer: the running CPU goes back to the kernel's own root. Interrupts are off.
    #[cfg(feature = "lab")]
    pub fn leave_root(&self, machine: &impl Machine) {
        let me = machine.cpu();
        let holder = &self.holders[me];
        if let Some(id) = holder.loaded() {
            holder.leave(machine, me, id);
        }
    }
}
