//! TLB shootdown on this machine: what [`sync::tlb`], which decides who is asked and what a CPU has
//! missed, does to real TLBs; and who must flush before relying on an entry that somebody else took
//! out.
//!
//! Requests run with preemption off and interrupts **on** (rule 6). The IPI handler takes no lock.
//! Nothing sleeps.

#![expect(unsafe_code, reason = "the root that the MMU walks")]

use crate::knobs::{self, Knob};
use crate::mm::{Mm, by_id};
use crate::stats::{Event, count, count_n};
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::{USER_TOP, VirtAddr};
use core::ops::Range;
use core::sync::atomic::Ordering;
use sync::irq::IrqGuard;
use sync::point::AccessKind;
use sync::tlb::{Counted, CpuState, Machine, Order, Request, Shootdown, Space};
use sync::{CpuMask, cpu};

/// Up to this many pages are flushed one by one; above it the whole TLB goes (Linux's default).
pub(crate) const CEILING: u64 = 33;

static TLB: Shootdown = Shootdown::new();

/// The running CPU.
struct Here;

impl Machine for Here {
    #[inline(always)]
    fn cpu(&self) -> usize {
        cpu::id()
    }
    #[inline(always)]
    fn space(&self, id: u32) -> &Space {
        &by_id(id).tlb
    }
    #[inline(always)]
    fn load_root(&self, id: Option<u32>) {
        let root = id.map_or_else(arch::kernel_root, |id| by_id(id).root());
        // SAFETY: interrupts are off. The kernel's root stays for ever. Of an address space the
        // running thread has a handle, and no table of it is freed before this CPU, which is in its
        // mask, has answered a flush.
        unsafe { arch::switch_root(root) };
    }
    #[inline]
    fn flush_all(&self) {
        count(Event::TlbFlushAll);
        arch::flush_local();
    }
    #[inline]
    fn flush_range(&self, addresses: &Range<u64>) {
        let pages = (addresses.end - addresses.start) >> PAGE_SHIFT;
        if pages > CEILING {
            self.flush_all();
            return;
        }
        count_n(Event::TlbFlushOne, pages);
        let mut va = addresses.start;
        while va < addresses.end {
            arch::invlpg(VirtAddr(va));
            va += PAGE_SIZE;
        }
    }
    #[inline(always)]
    fn send(&self, to: CpuMask) {
        arch::send_tlb_ipi(to);
    }
    #[inline]
    fn wait(&self, request: &Request) {
        let done = || request.is_acknowledged();
        let what = || request.object();
        if knobs::on(Knob::AckIrqsOn) {
            assert!(
                sync::irq::enabled(),
                "waiting for TLB acknowledgements with interrupts off"
            );
            arch::wait_for(what, &done);
        } else {
            let _irq = sync::irq::disable();
            arch::wait_for(what, &done);
        }
    }
    #[inline(always)]
    fn kick(&self, cpu: usize) {
        arch::kick(cpu);
    }
    #[inline(always)]
    fn count(&self, what: Counted, n: u64) {
        let event = match what {
            Counted::Flush => Event::TlbFlush,
            Counted::GenerationSkip => Event::TlbGenSkip,
            Counted::LazySkip => Event::TlbLazySkip,
            Counted::Remote => Event::TlbRemoteFlush,
            Counted::Ipi => Event::TlbIpi,
            Counted::Received => Event::TlbRemoteFlushReceived,
        };
        count_n(event, n);
    }
    #[inline(always)]
    fn keeps(&self, order: Order) -> bool {
        knobs::on(match order {
            Order::Missed => Knob::MissedGen,
            Order::Acknowledged => Knob::AckedFirst,
        })
    }
}

/// What a CPU has loaded, for the `tlb` command.
pub fn cpu_state(cpu: usize) -> CpuState {
    TLB.cpu_state(cpu)
}

/// This CPU runs `mm`, so that a shootdown of it waits for this CPU's acknowledgement. Interrupts
/// are off.
pub(super) fn holds_off_shootdown(mm: &Mm) -> bool {
    let CpuState { loaded, lazy, .. } = cpu_state(cpu::id());
    !lazy && loaded.is_some_and(|id| core::ptr::eq(by_id(id), mm))
}

/// See [`Shootdown::switch`]: `next` is an mm id, or `None` for a kernel thread.
pub(crate) fn switch_mm(irq: &IrqGuard, next: Option<u32>) {
    TLB.switch(&Here, irq, next);
}

/// The TLB IPI's handler. See [`Shootdown::on_ipi`].
pub(crate) fn on_ipi() {
    TLB.on_ipi(&Here);
}

/// Makes every CPU forget its translations of `start..end` in `mm`. See [`Shootdown::flush`].
pub(crate) fn flush_range(mm_id: u32, mm: &Mm, start: u64, end: u64, freed_tables: bool) {
    TLB.flush(&Here, mm_id, &mm.tlb, start..end, freed_tables);
}

/// Makes every CPU in `cpus` catch up. See [`Shootdown::flush_batch`].
pub(crate) fn flush_batch(cpus: CpuMask) {
    TLB.flush_batch(&Here, cpus);
}

/// Reclaim takes entries out of many address spaces and flushes them all at once, later. Whoever
/// relies on an entry of this one being gone for good calls this first, under the PTL.
#[inline]
pub(crate) fn flush_batched_pending(mm_id: u32, mm: &Mm) {
    if mm.tlb.has_batched() && knobs::on(Knob::BatchedPending) {
        flush_range(mm_id, mm, 0, USER_TOP, false);
    }
}

/// Whoever fills an empty entry calls this first, under the PTL: reclaim may have emptied it and
/// not flushed yet, and no CPU may go on reading the old page after another has written the new
/// one. (An entry that names a slot needs no such care: the folio is locked until the flush.)
#[inline]
pub(crate) fn flush_emptied_pending(mm_id: u32, mm: &Mm) {
    if mm.tlb.has_emptied() && knobs::on(Knob::BatchedPending) {
        flush_range(mm_id, mm, 0, USER_TOP, false);
    }
}

/// Who cuts a file off, or makes a hole in it, takes entries out of address spaces without their
/// `mmap_lock`, and flushes later. Whoever relies on an empty entry being gone for good, or fills
/// it with another page than the file's, calls this first, under the PTL.
#[inline]
pub(crate) fn flush_gathered_pending(mm_id: u32, mm: &Mm) {
    mm.touch_gathers(AccessKind::Read);
    // Acquire pairs with the Release of a gather's end: one that is no longer counted has flushed.
    if mm.gathers.load(Ordering::Acquire) > 0 && knobs::on(Knob::GatheredPending) {
        flush_range(mm_id, mm, 0, USER_TOP, false);
    }
}

/// For the explorer, while nobody runs. See [`Shootdown::unserved`].
#[cfg(feature = "lab")]
pub(crate) fn unserved() -> Option<(Option<usize>, CpuMask)> {
    TLB.unserved()
}

/// For the explorer: no request waits for anything.
#[cfg(feature = "lab")]
pub(crate) fn forget_requests() {
    TLB.forget_requests();
}

/// For the explorer: the running CPU goes back to the kernel's own root. Interrupts are off.
#[cfg(feature = "lab")]
pub(crate) fn leave_root() {
    TLB.leave_root(&Here);
}
