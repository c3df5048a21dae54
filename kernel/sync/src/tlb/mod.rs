//! TLB shootdown: who may hold a translation, and how they are made to forget it.
//!
//! Every address space has a generation, bumped by each flush request *after* the entries were
//! changed ([`Space`]). Every CPU knows which address space's root it has loaded and which
//! generation it has caught up with (`holder`). A request goes only to CPUs in the space's mask
//! (`request`); a CPU that has already seen the generation flushes nothing; one that missed more
//! than this request flushes everything. A CPU that runs a kernel thread keeps the last root loaded
//! but is *lazy*: it is spared, and catches up when it takes the space again, unless page tables
//! are freed, which even a lazy CPU could walk. (The scheme is Linux's; commits b0579ade, 94b1b03b,
//! 145f573b explain it.)
//!
//! Here are the words by which CPUs agree, and the order in which they are read and written; what a
//! CPU does to its own TLB is the [`Machine`]'s. So this code is what `tests/loom` runs under the
//! C++11 memory model.
//!
//! Requests run with preemption off and interrupts **on** (rule 6): two CPUs may wait for each
//! other. The IPI handler takes no lock. Nothing sleeps.

mod holder;
mod request;
mod space;

pub use holder::CpuState;
pub use request::Request;
pub use space::Space;

use crate::irq;
use crate::point::AccessKind;
use crate::twin::{Twin, broken};
use crate::{CpuMask, MAX_CPUS, preempt};
use core::ops::Range;
use holder::Holder;
use request::Mailbox;

/// No address space.
const NO_SPACE: u32 = 0;
/// In a request: whichever address space the target has loaded.
const ANY_SPACE: u32 = u32::MAX;

/// Whatever changed: 0 is no request's generation.
const EVERYTHING: Change = Change {
    addresses: 0..0,
    generation: 0,
};

/// What is worth counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// A request, of whatever size.
    Flush,
    /// A CPU had nothing to flush: it has seen the generation.
    GenerationSkip,
    /// A lazy CPU was spared.
    LazySkip,
    /// A request went to other CPUs.
    Remote,
    /// One of those.
    Ipi,
    /// A CPU was interrupted for a request.
    Received,
}

/// The CPU that the code runs on, and what address spaces are. Flushing, loading a root and serving
/// are called with interrupts off.
pub trait Machine {
    /// The running CPU's number. Preemption is off.
    fn cpu(&self) -> usize;
    /// The words of the address space with this id.
    fn space(&self, id: u32) -> &Space;
    /// Loads the root of this address space, or the kernel's own. The CPU forgets every
    /// translation.
    fn load_root(&self, id: Option<u32>);
    /// The CPU forgets every translation.
    fn flush_all(&self);
    /// The CPU forgets at least its translations of these addresses.
    fn flush_range(&self, addresses: &Range<u64>);
    /// Interrupts `to`, which call [`Shootdown::on_ipi`]. What was stored before is seen there.
    fn send(&self, to: CpuMask);
    /// Waits, with interrupts on, until the request is acknowledged.
    fn wait(&self, request: &Request);
    /// Wakes `cpu` out of [`Machine::wait`].
    fn kick(&self, cpu: usize);
    /// It happened `n` times.
    fn count(&self, what: Counted, n: u64);
    /// Whether an order is kept: tests of what lies above break one on purpose.
    #[inline(always)]
    fn keeps(&self, _: Order) -> bool {
        true
    }
}

/// What relies on others' flushes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// A CPU that has missed more than one request flushes everything.
    Missed,
    /// Others hear of a flush only once every CPU has acknowledged it.
    Acknowledged,
}

/// What translations changed, and the generation that says so.
#[derive(Clone)]
struct Change {
    addresses: Range<u64>,
    generation: u64,
}

/// What all CPUs' TLBs may hold, and the requests under way.
pub struct Shootdown {
    holders: [Holder; MAX_CPUS],
    requests: [Request; MAX_CPUS],
    mailboxes: [Mailbox; MAX_CPUS],
}

impl Default for Shootdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shootdown {
    /// No CPU has an address space loaded.
    pub const fn new() -> Self {
        Self {
            holders: [const { Holder::new() }; MAX_CPUS],
            requests: [const { Request::new() }; MAX_CPUS],
            mailboxes: [const { Mailbox::new() }; MAX_CPUS],
        }
    }

    /// Makes every CPU forget its translations of `addresses` in the space `id`. With
    /// `freed_tables`, page-table pages of the range are about to be freed, so lazy CPUs must leave
    /// the root as well.
    ///
    /// Interrupts must be on; preemption is disabled here. The caller holds no lock that an IPI
    /// handler takes (there is none). Spin locks such as the PTL may be held.
    #[inline]
    pub fn flush(
        &self,
        machine: &impl Machine,
        id: u32,
        space: &Space,
        addresses: Range<u64>,
        freed_tables: bool,
    ) {
        machine.count(Counted::Flush, 1);
        let pinned = preempt::disable();
        let generation = space.bump();
        let change = Change {
            addresses,
            generation,
        };
        if !machine.keeps(Order::Acknowledged) {
            space.note_flushed(generation);
        }
        let me = machine.cpu();
        let remote = self.targets(machine, space, me, freed_tables);
        if !remote.is_empty() {
            self.post(machine, me, id, &change, remote);
        }
        self.flush_own(machine, me, id, space, &change, freed_tables);
        if !remote.is_empty() {
            machine.wait(&self.requests[me]);
        }
        drop(pinned);
        space.note_flushed(generation);
    }

    /// Makes every CPU in `cpus` catch up with the address space it has loaded, whichever that is.
    /// For reclaim, whose batch spans many; each one's generation was bumped by
    /// [`Space::note_batched`]. Contract of [`Shootdown::flush`].
    pub fn flush_batch(&self, machine: &impl Machine, cpus: CpuMask) {
        machine.count(Counted::Flush, 1);
        let pinned = preempt::disable();
        let me = machine.cpu();
        let remote = self.not_lazy(machine, cpus.without(me));
        if !remote.is_empty() {
            self.post(machine, me, ANY_SPACE, &EVERYTHING, remote);
        }
        {
            let _irq = irq::disable();
            self.holder(me, AccessKind::Write).catch_up_loaded(machine);
        }
        if !remote.is_empty() {
            machine.wait(&self.requests[me]);
        }
        drop(pinned);
    }

    /// The other CPUs that must act on a request; lazy ones are spared unless tables are freed.
    #[inline]
    fn targets(
        &self,
        machine: &impl Machine,
        space: &Space,
        me: usize,
        freed_tables: bool,
    ) -> CpuMask {
        let targets = space.others(me);
        if freed_tables && !broken(Twin::SpareWalkers) {
            targets
        } else {
            self.not_lazy(machine, targets)
        }
    }

    /// The CPUs of `targets` that are not lazy.
    #[inline]
    fn not_lazy(&self, machine: &impl Machine, mut targets: CpuMask) -> CpuMask {
        let mut spared = 0;
        for cpu in targets.iter() {
            if self.holder(cpu, AccessKind::Read).is_idle() {
                targets.remove(cpu);
                spared += 1;
            }
        }
        if spared > 0 {
            machine.count(Counted::LazySkip, spared);
        }
        targets
    }

    /// The sender's own TLB, while the remote CPUs work.
    #[inline]
    fn flush_own(
        &self,
        machine: &impl Machine,
        me: usize,
        id: u32,
        space: &Space,
        change: &Change,
        freed_tables: bool,
    ) {
        let _irq = irq::disable();
        let holder = self.holder(me, AccessKind::Write);
        if !holder.has_loaded(id) {
            return;
        }
        if !holder.is_lazy() {
            holder.catch_up(machine, space, change);
        } else if freed_tables {
            holder.leave(machine, me, id);
        }
    }
}
