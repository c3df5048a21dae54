//! TLB shootdown: who may hold a translation, and how they are made to forget it.
//!
//! Every address space has a generation, bumped by each flush request *after* the entries were changed.
//! Every CPU knows which address space's root it has loaded and which generation it has caught up with. A
//! request goes only to CPUs in the mm's mask; a CPU that has already seen the generation flushes nothing;
//! one that missed more than this request flushes everything. A CPU that runs a kernel thread keeps the
//! last root loaded but is *lazy*: it is spared, and catches up when it takes the mm again, unless page
//! tables are freed, which even a lazy CPU could walk. (The scheme is Linux's; commits b0579ade, 94b1b03b,
//! 145f573b explain it.)
//!
//! Requests run with preemption off and interrupts **on** (rule 6): two CPUs may wait for each other. The
//! IPI handler takes no lock. Nothing sleeps.

use crate::knobs::{self, Knob};
use crate::mm::{Mm, by_id};
use crate::stats::{Event, count, count_n};
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::{USER_TOP, VirtAddr};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use sync::irq::IrqGuard;
use sync::point::{self, AccessKind, PointKind, class};
use sync::{CpuMask, MAX_CPUS, cpu, preempt};

/// Up to this many pages are flushed one by one; above it the whole TLB goes (Linux's default).
pub const CEILING: u64 = 33;
/// No address space.
const NO_MM: u32 = 0;
/// In a request: whichever address space the target has loaded.
const ANY_MM: u32 = u32::MAX;

/// What one CPU's TLB may hold. Written by that CPU only.
#[repr(align(64))]
struct CpuTlb {
    /// Id + 1 of the address space whose root is loaded, or [`NO_MM`].
    loaded: AtomicU32,
    /// Runs a kernel thread on a borrowed root.
    lazy: AtomicBool,
    /// The generation of `loaded` that this CPU has caught up with.
    generation: AtomicU64,
}

impl CpuTlb {
    /// For the explorer: the running actor looks at, or changes, the record of CPU `cpu`.
    #[inline(always)]
    fn touched(cpu: usize, access: AccessKind) -> &'static Self {
        point::touch(access, || point::object(class::TLB, cpu as u64));
        &CPUS[cpu]
    }

    /// As [`CpuTlb::touched`], and stands at a point before.
    #[inline(always)]
    fn point(cpu: usize) {
        point::at(PointKind::Space, AccessKind::Write, || {
            point::object(class::TLB, cpu as u64)
        });
    }
}

/// A request of one CPU, for all its targets. Written by that CPU only, except for `missing`.
#[repr(align(64))]
struct Request {
    mm: AtomicU32,
    start: AtomicU64,
    end: AtomicU64,
    generation: AtomicU64,
    /// Targets that have not acknowledged.
    missing: AtomicU32,
}

impl Request {
    /// What its sender waits for, and with it all that the targets read.
    fn object(&self) -> u32 {
        point::object_at(class::ACKS, &self.missing)
    }
}

/// CPUs whose request this CPU has still to serve.
#[repr(align(64))]
struct Mailbox(AtomicU32);

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

static CPUS: [CpuTlb; MAX_CPUS] = [const {
    CpuTlb {
        loaded: AtomicU32::new(NO_MM),
        lazy: AtomicBool::new(false),
        generation: AtomicU64::new(0),
    }
}; MAX_CPUS];

static REQUESTS: [Request; MAX_CPUS] = [const {
    Request {
        mm: AtomicU32::new(0),
        start: AtomicU64::new(0),
        end: AtomicU64::new(0),
        generation: AtomicU64::new(0),
        missing: AtomicU32::new(0),
    }
}; MAX_CPUS];

static MAILBOXES: [Mailbox; MAX_CPUS] = [const { Mailbox(AtomicU32::new(0)) }; MAX_CPUS];

/// What a CPU has loaded, for the `tlb` command: (mm id, lazy, generation).
pub fn cpu_state(cpu: usize) -> (Option<u32>, bool, u64) {
    let c = CpuTlb::touched(cpu, AccessKind::Read);
    (
        c.loaded.load(Ordering::Relaxed).checked_sub(1),
        c.lazy.load(Ordering::Relaxed),
        c.generation.load(Ordering::Relaxed),
    )
}

/// This CPU runs `mm`, so that a shootdown of it waits for this CPU's acknowledgement. Interrupts are off.
pub(super) fn holds_off_shootdown(mm: &Mm) -> bool {
    let (loaded, lazy, _) = cpu_state(cpu::id());
    !lazy && loaded.is_some_and(|id| core::ptr::eq(by_id(id), mm))
}

/// The running thread changes its address space: `next` is an mm id, or `None` for a kernel thread, which
/// stays on the loaded root and turns lazy. Called by the scheduler with interrupts off.
pub(crate) fn switch_mm(_irq: &IrqGuard, next: Option<u32>) {
    let me = cpu::id();
    CpuTlb::point(me);
    let c = &CPUS[me];
    let loaded = c.loaded.load(Ordering::Relaxed);
    let Some(id) = next else {
        // Release pairs with the Acquire in `not_lazy`: the user accesses before are over for whoever spares
        // this CPU.
        c.lazy.store(loaded != NO_MM, Ordering::Release);
        return;
    };
    let mm = by_id(id);
    if loaded == id + 1 {
        c.lazy.store(false, Ordering::Relaxed);
        // Either the flusher sees this CPU not lazy, or this CPU sees the flusher's generation.
        fence(Ordering::SeqCst);
        mm.tlb_point(AccessKind::Read);
        let now = mm.tlb_gen.load(Ordering::Relaxed);
        if c.generation.load(Ordering::Relaxed) != now {
            CpuTlb::touched(me, AccessKind::Write);
            flush_all_local();
            c.generation.store(now, Ordering::Relaxed);
        }
        return;
    }
    // In the mask and not lazy before the generation is read: a flusher either sends an IPI here (served once
    // interrupts are on again) or was seen. From the root load on the CPU may walk the new tables ahead of
    // any access, so it must not be spared as lazy any more.
    c.loaded.store(NO_MM, Ordering::Relaxed);
    c.lazy.store(false, Ordering::Relaxed);
    mm.tlb_point(AccessKind::Write);
    mm.cpumask.insert(me, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    mm.tlb_point(AccessKind::Read);
    let now = mm.tlb_gen.load(Ordering::Relaxed);
    CpuTlb::touched(me, AccessKind::Write);
    // SAFETY: interrupts are off. The thread holds the address space, and no table of it is freed
    // before this CPU, which is in its mask, has answered a flush.
    unsafe { arch::switch_root(mm.root()) };
    c.generation.store(now, Ordering::Relaxed);
    c.loaded.store(id + 1, Ordering::Relaxed);
    if let Some(old) = loaded.checked_sub(1) {
        let old = by_id(old);
        old.tlb_point(AccessKind::Write);
        old.cpumask.remove(me, Ordering::SeqCst);
    }
}

/// Leaves a borrowed root for the kernel's own.
fn leave_lazy(c: &CpuTlb, id: u32, me: usize) {
    // SAFETY: the kernel's root stays for ever; interrupts are off.
    unsafe { arch::switch_root(arch::kernel_root()) };
    c.loaded.store(NO_MM, Ordering::Relaxed);
    c.lazy.store(false, Ordering::Relaxed);
    let mm = by_id(id);
    mm.touch_tlb(AccessKind::Write);
    mm.cpumask.remove(me, Ordering::SeqCst);
}

fn flush_all_local() {
    count(Event::TlbFlushAll);
    arch::flush_local();
}

fn flush_pages_local(start: u64, end: u64) {
    count_n(Event::TlbFlushOne, (end - start) >> PAGE_SHIFT);
    let mut va = start;
    while va < end {
        arch::invlpg(VirtAddr(va));
        va += PAGE_SIZE;
    }
}

/// Brings this CPU's TLB up to `mm`'s current generation, for a request for `start..end` that was given
/// generation `generation`. Interrupts are off.
fn catch_up(c: &CpuTlb, mm: &Mm, start: u64, end: u64, generation: u64) {
    mm.touch_tlb(AccessKind::Read);
    let local = c.generation.load(Ordering::Relaxed);
    // Acquire pairs with the bump in `flush_range`: entries changed before it are seen as changed.
    let now = mm.tlb_gen.load(Ordering::Acquire);
    if local == now {
        count(Event::TlbGenSkip);
        return;
    }
    let only_this = generation == local + 1 && generation == now;
    if only_this && (end - start) >> PAGE_SHIFT <= CEILING {
        flush_pages_local(start, end);
    } else {
        flush_all_local();
    }
    c.generation.store(now, Ordering::Relaxed);
}

/// Brings this CPU up to the current generation of the address space it has loaded, unless it is lazy: it
/// catches up by itself when it stops being so. Interrupts are off.
fn catch_up_loaded(c: &CpuTlb) {
    let Some(id) = c.loaded.load(Ordering::Relaxed).checked_sub(1) else {
        return;
    };
    if !c.lazy.load(Ordering::Relaxed) {
        catch_up(c, by_id(id), 0, USER_TOP, 0);
    }
}

/// Serves every request in this CPU's mailbox. The TLB IPI's handler: interrupts off, takes no lock.
pub(crate) fn on_ipi() {
    count(Event::TlbRemoteFlushReceived);
    let me = cpu::id();
    point::touch(AccessKind::Write, || mailbox(me));
    // Acquire pairs with the Release that put the bit in: the request's fields are seen.
    let senders = CpuMask::from_bits(MAILBOXES[me].0.swap(0, Ordering::AcqRel));
    for sender in senders.iter() {
        serve(me, sender);
    }
}

fn serve(me: usize, sender: usize) {
    let r = &REQUESTS[sender];
    point::touch(AccessKind::Write, || r.object());
    let c = CpuTlb::touched(me, AccessKind::Write);
    let id = r.mm.load(Ordering::Relaxed);
    if id == ANY_MM {
        catch_up_loaded(c);
    } else if c.loaded.load(Ordering::Relaxed) == id + 1 {
        if c.lazy.load(Ordering::Relaxed) {
            // Lazy CPUs are asked only when tables are freed, or by a flusher that saw an older state.
            leave_lazy(c, id, me);
        } else {
            catch_up(
                c,
                by_id(id),
                r.start.load(Ordering::Relaxed),
                r.end.load(Ordering::Relaxed),
                r.generation.load(Ordering::Relaxed),
            );
        }
    }
    // Release pairs with the Acquire of the waiting sender: the flush came before the acknowledgement.
    let before = r.missing.fetch_and(!(1 << me), Ordering::Release);
    if before == 1 << me {
        arch::kick(sender);
    }
}

/// Makes every CPU forget its translations of `start..end` in `mm`. With `freed_tables`, page-table
/// pages of the range are about to be freed, so lazy CPUs must leave the root as well.
///
/// Interrupts must be on; preemption is disabled here. The caller holds no lock that an IPI handler takes
/// (there is none). Spin locks such as the PTL may be held.
pub(crate) fn flush_range(mm_id: u32, mm: &Mm, start: u64, end: u64, freed_tables: bool) {
    count(Event::TlbFlush);
    let pinned = preempt::disable();
    mm.tlb_point(AccessKind::Write);
    // A full barrier: entries changed before it are changed for whoever reads this generation.
    let generation = mm.tlb_gen.fetch_add(1, Ordering::SeqCst) + 1;
    fence(Ordering::SeqCst);
    let me = cpu::id();
    let remote = remote_targets(mm, me, freed_tables);
    if !remote.is_empty() {
        post(me, mm_id, start, end, generation, remote);
    }
    flush_own(mm_id, mm, start, end, generation, freed_tables, me);
    if !remote.is_empty() {
        wait_acknowledged(&REQUESTS[me]);
    }
    drop(pinned);
    mm.tlb_point(AccessKind::Write);
    if mm.batched_gen.load(Ordering::Relaxed) > mm.flushed_gen.load(Ordering::Relaxed) {
        // A CPU that missed batched changes before this request flushed everything for it. Release: whoever
        // sees this number skips its flush on the strength of this one.
        mm.flushed_gen.fetch_max(generation, Ordering::Release);
    }
}

/// Reclaim took an entry of `mm` out and will flush later, with many others. Adds the CPUs that may cache
/// the entry to `cpus`. Under the PTL of the entry, after the change. Returns the generation that covers it.
pub(crate) fn note_batched(mm: &Mm, cpus: &mut CpuMask) -> u64 {
    mm.tlb_point(AccessKind::Write);
    // As in `flush_range`: who reads this generation sees the entry changed.
    let generation = mm.tlb_gen.fetch_add(1, Ordering::SeqCst) + 1;
    fence(Ordering::SeqCst);
    mm.tlb_point(AccessKind::Read);
    *cpus = cpus.or(mm.cpumask.load(Ordering::SeqCst));
    mm.touch_tlb(AccessKind::Write);
    // Release pairs with the Acquire in `flush_batched_pending`. The PTL orders it too for that entry.
    mm.batched_gen.fetch_max(generation, Ordering::Release);
    generation
}

/// As [`note_batched`], for an entry that is empty now.
pub(crate) fn note_emptied(mm: &Mm, cpus: &mut CpuMask) {
    let generation = note_batched(mm, cpus);
    mm.tlb_point(AccessKind::Write);
    // Release pairs with the Acquire in `flush_emptied_pending`.
    mm.emptied_gen.fetch_max(generation, Ordering::Release);
}

/// Makes every CPU in `cpus` catch up with the address space it has loaded, whichever that is. For reclaim,
/// whose batch spans many; each mm's generation was bumped by [`note_batched`]. Contract of [`flush_range`].
pub(crate) fn flush_batch(cpus: CpuMask) {
    count(Event::TlbFlush);
    let pinned = preempt::disable();
    let me = cpu::id();
    let remote = not_lazy(cpus.without(me));
    if !remote.is_empty() {
        post(me, ANY_MM, 0, USER_TOP, 0, remote);
    }
    {
        let _irq = sync::irq::disable();
        catch_up_loaded(CpuTlb::touched(me, AccessKind::Write));
    }
    if !remote.is_empty() {
        wait_acknowledged(&REQUESTS[me]);
    }
    drop(pinned);
}

/// Reclaim takes entries out of many address spaces and flushes them all at once, later. Whoever relies on
/// an entry of this one being gone for good calls this first, under the PTL.
#[inline]
pub(crate) fn flush_batched_pending(mm_id: u32, mm: &Mm) {
    mm.touch_tlb(AccessKind::Read);
    // Acquire pairs with the Release in `note_batched`.
    let batched = mm.batched_gen.load(Ordering::Acquire);
    if batched > mm.flushed_gen.load(Ordering::Acquire) && knobs::on(Knob::BatchedPending) {
        flush_range(mm_id, mm, 0, USER_TOP, false);
    }
}

/// Whoever fills an empty entry calls this first, under the PTL: reclaim may have emptied it and not flushed yet,
/// and no CPU may go on reading the old page after another has written the new one. (An entry that names a
/// slot needs no such care: the folio is locked until the flush.)
#[inline]
pub(crate) fn flush_emptied_pending(mm_id: u32, mm: &Mm) {
    mm.touch_tlb(AccessKind::Read);
    // Acquire pairs with the Release in `note_emptied`.
    let emptied = mm.emptied_gen.load(Ordering::Acquire);
    if emptied > mm.flushed_gen.load(Ordering::Acquire) && knobs::on(Knob::BatchedPending) {
        flush_range(mm_id, mm, 0, USER_TOP, false);
    }
}

/// Who cuts a file off, or makes a hole in it, takes entries out of address spaces without their `mmap_lock`, and flushes later.
/// Whoever relies on an empty entry being gone for good, or fills it with another page than the file's, calls this first, under
/// the PTL.
#[inline]
pub(crate) fn flush_gathered_pending(mm_id: u32, mm: &Mm) {
    mm.touch_gathers(AccessKind::Read);
    // Acquire pairs with the Release of a gather's end: one that is no longer counted has flushed.
    if mm.gathers.load(Ordering::Acquire) > 0 && knobs::on(Knob::GatheredPending) {
        flush_range(mm_id, mm, 0, USER_TOP, false);
    }
}

/// The other CPUs that must act on a request; lazy ones are spared unless tables are freed.
fn remote_targets(mm: &Mm, me: usize, freed_tables: bool) -> CpuMask {
    mm.tlb_point(AccessKind::Read);
    let mut targets = mm.cpumask.load(Ordering::SeqCst);
    targets.remove(me);
    if freed_tables {
        targets
    } else {
        not_lazy(targets)
    }
}

/// The CPUs of `targets` that are not lazy.
fn not_lazy(mut targets: CpuMask) -> CpuMask {
    let mut spared = 0;
    for cpu in targets.iter() {
        // Acquire pairs with the Release in `switch_mm`.
        let c = CpuTlb::touched(cpu, AccessKind::Read);
        if c.lazy.load(Ordering::Acquire) {
            targets.remove(cpu);
            spared += 1;
        }
    }
    if spared > 0 {
        count_n(Event::TlbLazySkip, spared);
    }
    targets
}

fn post(me: usize, mm: u32, start: u64, end: u64, generation: u64, to: CpuMask) {
    let r = &REQUESTS[me];
    debug_assert!(
        r.missing.load(Ordering::Relaxed) == 0,
        "a TLB request is still under way"
    );
    point::touch(AccessKind::Write, || r.object());
    r.mm.store(mm, Ordering::Relaxed);
    r.start.store(start, Ordering::Relaxed);
    r.end.store(end, Ordering::Relaxed);
    r.generation.store(generation, Ordering::Relaxed);
    r.missing.store(to.bits(), Ordering::Relaxed);
    for cpu in to.iter() {
        point::touch(AccessKind::Write, || mailbox(cpu));
        // Release: pairs with the Acquire in `on_ipi`.
        MAILBOXES[cpu].0.fetch_or(1 << me, Ordering::Release);
    }
    count(Event::TlbRemoteFlush);
    count_n(Event::TlbIpi, to.count() as u64);
    point::at(PointKind::IpiSend, AccessKind::Write, || r.object());
    point::touch(AccessKind::Write, || mailboxes(to));
    arch::send_tlb_ipi(to);
}

/// The sender's own TLB, while the remote CPUs work.
fn flush_own(mm_id: u32, mm: &Mm, start: u64, end: u64, generation: u64, freed: bool, me: usize) {
    let _irq = sync::irq::disable();
    let c = CpuTlb::touched(me, AccessKind::Write);
    if c.loaded.load(Ordering::Relaxed) != mm_id + 1 {
        return;
    }
    if !c.lazy.load(Ordering::Relaxed) {
        catch_up(c, mm, start, end, generation);
    } else if freed {
        leave_lazy(c, mm_id, me);
    }
}

fn wait_acknowledged(r: &Request) {
    let done = || r.missing.load(Ordering::Acquire) == 0;
    let what = || r.object();
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

/// For the explorer, while nobody runs: a request that is not acknowledged everywhere, as (who sent it, who is
/// missing), or one that waits in the mailbox of a CPU, as (`None`, which).
#[cfg(feature = "lab")]
pub(crate) fn unserved() -> Option<(Option<usize>, CpuMask)> {
    let asked = (0..MAX_CPUS).find_map(|cpu| {
        let missing = REQUESTS[cpu].missing.load(Ordering::Acquire);
        (missing != 0).then(|| (Some(cpu), CpuMask::from_bits(missing)))
    });
    let posted = || {
        let full = |&cpu: &usize| MAILBOXES[cpu].0.load(Ordering::Acquire) != 0;
        (0..MAX_CPUS)
            .find(full)
            .map(|cpu| (None, CpuMask::from_bits(1 << cpu)))
    };
    asked.or_else(posted)
}

/// For the explorer: no request waits for anything.
#[cfg(feature = "lab")]
pub(crate) fn forget_requests() {
    for cpu in 0..MAX_CPUS {
        MAILBOXES[cpu].0.store(0, Ordering::Relaxed);
        REQUESTS[cpu].missing.store(0, Ordering::Relaxed);
    }
}

/// For the explorer: the running CPU goes back to the kernel's own root. Interrupts are off.
#[cfg(feature = "lab")]
pub(crate) fn leave_root() {
    let me = cpu::id();
    let loaded = CPUS[me].loaded.load(Ordering::Relaxed);
    if let Some(id) = loaded.checked_sub(1) {
        leave_lazy(&CPUS[me], id, me);
    }
}
