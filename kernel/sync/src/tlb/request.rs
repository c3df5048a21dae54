//! Asking other CPUs: a request in the sender's slot, a bit in the mailbox of each target, an
//! acknowledgement from each.
//!
//! The handler runs with interrupts off and takes no lock. A sender has one request under way at a
//! time.

use super::{ANY_SPACE, Change, Counted, Machine, Shootdown};
use crate::CpuMask;
#[cfg(feature = "lab")]
use crate::MAX_CPUS;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::point::{self, AccessKind, PointKind, class};
use crate::twin::{Twin, order_of};
use core::sync::atomic::Ordering;

/// A request of one CPU, for all its targets. Written by that CPU only, except for `missing`.
#[repr(align(64))]
pub struct Request {
    /// The id of an address space, or [`ANY_SPACE`].
    space: AtomicU32,
    start: AtomicU64,
    end: AtomicU64,
    generation: AtomicU64,
    /// Targets that have not acknowledged.
    missing: AtomicU32,
}

impl Request {
    pub(super) const fn new() -> Self {
        Self {
            space: AtomicU32::new(0),
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            missing: AtomicU32::new(0),
        }
    }

    /// What its sender waits for, and with it all that the targets read.
    #[inline]
    pub fn object(&self) -> u32 {
        point::object_at(class::ACKS, &self.missing)
    }

    /// Every target has done what it was asked for. Acquire pairs with the Release of
    /// `Shootdown::serve`.
    #[inline]
    pub fn is_acknowledged(&self) -> bool {
        let order = order_of(Twin::AcknowledgedRelaxed, Ordering::Acquire);
        self.missing.load(order) == 0
    }
}

/// CPUs whose request this CPU has still to serve.
#[repr(align(64))]
pub(super) struct Mailbox(AtomicU32);

impl Mailbox {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }
}

fn mailbox(cpu: usize) -> u32 {
    point::object(class::MAILBOX, cpu as u64)
}

/// For the explorer: touches the mailboxes of all CPUs in `to` but one, whose object it returns.
fn mailboxes(mut to: CpuMask) -> u32 {
    let one = to.iter().next().unwrap_or_default();
    to.remove(one);
    for cpu in to.iter() {
        point::touch(AccessKind::Write, || mailbox(cpu));
    }
    mailbox(one)
}

impl Shootdown {
    pub(super) fn post(
        &self,
        machine: &impl Machine,
        me: usize,
        space: u32,
        change: &Change,
        to: CpuMask,
    ) {
        let r = &self.requests[me];
        debug_assert!(
            r.missing.load(Ordering::Relaxed) == 0,
            "a TLB request is still under way"
        );
        point::touch(AccessKind::Write, || r.object());
        r.space.store(space, Ordering::Relaxed);
        r.start.store(change.addresses.start, Ordering::Relaxed);
        r.end.store(change.addresses.end, Ordering::Relaxed);
        r.generation.store(change.generation, Ordering::Relaxed);
        r.missing.store(to.bits(), Ordering::Relaxed);
        for cpu in to.iter() {
            point::touch(AccessKind::Write, || mailbox(cpu));
            // Release: pairs with the Acquire in `on_ipi`.
            self.mailboxes[cpu]
                .0
                .fetch_or(1 << me, order_of(Twin::PostRelaxed, Ordering::Release));
        }
        machine.count(Counted::Remote, 1);
        machine.count(Counted::Ipi, to.count() as u64);
        point::at(PointKind::IpiSend, AccessKind::Write, || r.object());
        point::touch(AccessKind::Write, || mailboxes(to));
        machine.send(to);
    }

    /// Serves every request in this CPU's mailbox. The TLB IPI's handler: interrupts off, takes no
    /// lock.
    pub fn on_ipi(&self, machine: &impl Machine) {
        machine.count(Counted::Received, 1);
        let me = machine.cpu();
        point::touch(AccessKind::Write, || mailbox(me));
        // Acquire pairs with the Release that put the bit in: the request's fields are seen.
        let order = order_of(Twin::TakeRelaxed, Ordering::Acquire);
        let senders = CpuMask::from_bits(self.mailboxes[me].0.swap(0, order));
        for sender in senders.iter() {
            self.serve(machine, me, sender);
        }
    }

    fn serve(&self, machine: &impl Machine, me: usize, sender: usize) {
        let r = &self.requests[sender];
        point::touch(AccessKind::Write, || r.object());
        let holder = self.holder(me, AccessKind::Write);
        let id = r.space.load(Ordering::Relaxed);
        if id == ANY_SPACE {
            holder.catch_up_loaded(machine);
        } else if holder.has_loaded(id) {
            if holder.is_lazy() {
                // Lazy CPUs are asked only when tables are freed, or by a flusher that saw an older
                // state.
                holder.leave(machine, me, id);
            } else {
                let change = Change {
                    addresses: r.start.load(Ordering::Relaxed)..r.end.load(Ordering::Relaxed),
                    generation: r.generation.load(Ordering::Relaxed),
                };
                holder.catch_up(machine, machine.space(id), &change);
            }
        }
        // Release pairs with the Acquire of the waiting sender: the flush came before the
        // acknowledgement.
        let order = order_of(Twin::AcknowledgeRelaxed, Ordering::Release);
        let before = r.missing.fetch_and(!(1 << me), order);
        if before == 1 << me {
            machine.kick(sender);
        }
    }
}

/// For the explorer, while nobody runs.
#[cfg(feature = "lab")]
impl Shootdown {
    /// A request that is not acknowledged everywhere, as (who sent it, who is missing), or one that
    /// waits in the mailbox of a CPU, as (`None`, which).
    pub fn unserved(&self) -> Option<(Option<usize>, CpuMask)> {
        let asked = (0..MAX_CPUS).find_map(|cpu| {
            let missing = self.requests[cpu].missing.load(Ordering::Acquire);
            (missing != 0).then(|| (Some(cpu), CpuMask::from_bits(missing)))
        });
        let posted = || {
            let full = |&cpu: &usize| self.mailboxes[cpu].0.load(Ordering::Acquire) != 0;
            (0..MAX_CPUS)
                .find(full)
                .map(|cpu| (None, CpuMask::from_bits(1 << cpu)))
        };
        asked.or_else(posted)
    }

    /// No request waits for anything.
    pub fn forget_requests(&self) {
        for cpu in 0..MAX_CPUS {
            self.mailboxes[cpu].0.store(0, Ordering::Relaxed);
            self.requests[cpu].missing.store(0, Ordering::Relaxed);
        }
    }
}
