//! The scheduler: which thread runs on this CPU, and which CPU a woken thread goes to.
//!
//! Round robin per CPU. A woken thread goes to its last CPU if that is idle, else to another idle
//! one, else it waits at its last CPU; a CPU without work pulls from the longest queue, then halts.
//! The timer runs only for sleepers and while somebody waits for the CPU.
//!
//! Locks: one run queue at a time (rank RunQueue). [`schedule`] runs with interrupts off and
//! switches without a lock held: `Thread::on_cpu` keeps others off a thread until its stack is
//! left.

use core::sync::atomic::{AtomicU64, Ordering};

use sync::cpu::CPU_LOCALS;
use sync::irq::Aside;
use sync::task::current;
use sync::{AtomicCpuMask, CpuMask, TaskId};
use x86_64::instructions::interrupts;

use super::queue::{NEVER, queue, waiting};
use super::switch::switch_stacks;
use super::thread::{self, PARKED, RUNNABLE, thread};
use super::{MAX_X86_CPUS, apic, irq, smp, time};
use crate::upcall::upcalls;

/// CPUs that look for work.
static IDLE: AtomicCpuMask = AtomicCpuMask::new();

/// CPUs on which only threads run that are pinned there: those of the explorer's actors.
#[cfg(feature = "lab")]
static RESERVED: AtomicCpuMask = AtomicCpuMask::new();

#[cfg(feature = "lab")]
fn reserved() -> CpuMask {
    RESERVED.load(Ordering::Relaxed)
}
/// Without the lab there are none.
#[cfg(not(feature = "lab"))]
const fn reserved() -> CpuMask {
    CpuMask::empty()
}

/// What becomes of the thread that is switched away from, once its stack is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Stays ready, at the end of this CPU's queue.
    Ready,
    /// Sleeps; whoever wakes it queues it.
    Asleep,
    /// Goes to the queue of another CPU.
    Move(usize),
    /// Ends.
    Dead,
}

/// What [`finish_switch`] has to do on each CPU, as the code of a [`Leave`], and when the running
/// thread was switched to.
struct PerCpu {
    after: AtomicU64,
    since: AtomicU64,
}

static PER_CPU: [PerCpu; MAX_X86_CPUS] = [const {
    PerCpu {
        after: AtomicU64::new(0),
        since: AtomicU64::new(0),
    }
}; MAX_X86_CPUS];

const AFTER_NOTHING: u64 = 0;
const AFTER_DEAD: u64 = 1;
/// Plus the CPU's number.
const AFTER_MOVE: u64 = 2;

/// Makes the calling context this CPU's idle thread.
pub(super) fn init_cpu(cpu: usize) {
    PER_CPU[cpu].since.store(time::cycles(), Ordering::Relaxed);
    let idle = thread(cpu as u16);
    idle.cpu.store(cpu as u32, Ordering::Relaxed);
    idle.on_cpu.store(true, Ordering::Relaxed);
    // The idle thread switches in its loop only, never at the end of an interrupt.
    CPU_LOCALS[cpu].preempt_count.store(1, Ordering::Relaxed);
}

/// Gives the CPU to the next thread, or goes on if there is none. Interrupts are off.
pub(super) fn schedule(leave: Leave) {
    debug_assert!(!sync::irq::enabled(), "schedule with interrupts on");
    // Whatever happens here is no part of what an actor does that is switched away from.
    let aside = sync::irq::aside();
    let cpu = sync::cpu::id();
    let prev = current().0;
    let next = {
        let mut q = queue(cpu).lock();
        sync::cpu::set_need_resched(cpu, false);
        if leave == Leave::Ready && !q.is_idle() {
            q.push(prev);
        }
        let next = q.pop().unwrap_or(cpu as u16);
        if next != q.current {
            q.current = next;
            q.slice_end = NEVER;
        }
        q.update_slice();
        next
    };
    if next != prev {
        switch_to(cpu, prev, next, leave, aside);
    }
}

fn switch_to(cpu: usize, prev: u16, next: u16, leave: Leave, aside: Aside) {
    let local = &CPU_LOCALS[cpu];
    let mine = &PER_CPU[cpu];
    let (p, n) = (thread(prev), thread(next));
    let now = time::cycles();
    let ran = now.wrapping_sub(mine.since.swap(now, Ordering::Relaxed));
    p.time.fetch_add(ran, Ordering::Relaxed);
    let after = match leave {
        Leave::Ready | Leave::Asleep => AFTER_NOTHING,
        Leave::Dead => AFTER_DEAD,
        Leave::Move(to) => AFTER_MOVE + to as u64,
    };
    mine.after.store(after, Ordering::Relaxed);
    let adopted = thread::adopted_on(cpu);
    let (left, mm) = (
        adopted.load(Ordering::Relaxed),
        n.mm.load(Ordering::Relaxed),
    );
    p.mm.store(left, Ordering::Relaxed);
    if mm != left {
        adopted.store(mm, Ordering::Relaxed);
        if let Some(u) = upcalls() {
            u.switch_mm(&sync::irq::disable(), mm);
        }
    }
    aside.end();
    n.on_cpu.store(true, Ordering::Relaxed);
    n.cpu.store(cpu as u32, Ordering::Relaxed);
    let count = local.preempt_count.load(Ordering::Relaxed);
    p.preempt_count.store(count, Ordering::Relaxed);
    local
        .preempt_count
        .store(n.preempt_count.load(Ordering::Relaxed), Ordering::Relaxed);
    sync::cpu::set_task(TaskId(next));
    // SAFETY: interrupts are off. `next` came off this CPU's queue (or is its idle thread), so its
    // stack pointer was kept by a switch that is over, and nobody else runs it.
    let left = unsafe {
        switch_stacks(
            p.rsp.as_ptr(),
            n.rsp.load(Ordering::Relaxed),
            u64::from(prev),
        )
    };
    finish_switch(left as u16);
}

/// First thing on the new stack: the thread that was left may run elsewhere from here on.
pub(super) fn finish_switch(left: u16) {
    let _not_a_step = sync::irq::handler();
    let mine = &PER_CPU[sync::cpu::id()];
    let after = mine.after.swap(AFTER_NOTHING, Ordering::Relaxed);
    // Release: pairs with the Acquire in `enqueue` and `steal`; its registers are saved.
    thread(left).on_cpu.store(false, Ordering::Release);
    match after {
        AFTER_NOTHING => {}
        AFTER_DEAD => thread::release(left),
        to => push(left, (to - AFTER_MOVE) as usize),
    }
}

/// Switches at the end of an interrupt. Interrupts are off.
pub(super) fn preempt() {
    schedule(Leave::Ready);
}

/// Lets another thread run if one waits.
pub(super) fn yield_now() {
    interrupts::without_interrupts(|| schedule(Leave::Ready));
}

/// Puts a ready thread that no queue holds where it shall run.
pub(super) fn enqueue(t: u16) {
    // Acquire: pairs with the Release in `finish_switch`. A thread that is still being switched
    // away from goes to its own CPU, which takes it up after that.
    let cpu = if thread(t).on_cpu.load(Ordering::Acquire) {
        thread(t).cpu.load(Ordering::Relaxed) as usize
    } else {
        select(t)
    };
    push(t, cpu);
}

/// Those of `allowed` that are not reserved; all if all are.
fn open(allowed: CpuMask) -> CpuMask {
    let open = CpuMask::from_bits(allowed.bits() & !reserved().bits());
    if open.is_empty() { allowed } else { open }
}

/// Where thread `t` is meant to run.
fn allowed(t: u16) -> CpuMask {
    CpuMask::from_bits(thread(t).allowed.load(Ordering::Relaxed))
}

/// Where a woken thread shall run.
fn select(t: u16) -> usize {
    let last = thread(t).cpu.load(Ordering::Relaxed) as usize;
    let allowed = open(allowed(t).and(smp::online()));
    let mut idle = IDLE.load(Ordering::Relaxed).and(allowed);
    if idle.contains(last) {
        return last;
    }
    while let Some(cpu) = idle.iter().next() {
        if IDLE.remove(cpu, Ordering::Relaxed) {
            return cpu;
        }
        idle.remove(cpu);
    }
    if allowed.contains(last) {
        return last;
    }
    allowed.iter().min_by_key(|cpu| waiting(*cpu)).unwrap_or(0)
}

/// Where a new thread shall run: an idle CPU, else the one with the fewest waiting.
pub(super) fn select_new(allowed: CpuMask) -> usize {
    let allowed = open(allowed.and(smp::online()));
    let idle = IDLE.load(Ordering::Relaxed).and(allowed);
    let claimed = idle.iter().find(|cpu| IDLE.remove(*cpu, Ordering::Relaxed));
    claimed
        .or_else(|| allowed.iter().min_by_key(|cpu| waiting(*cpu)))
        .unwrap_or(0)
}

/// Queues a new thread on `cpu`.
pub(super) fn start(t: u16, cpu: usize) {
    push(t, cpu);
}

fn push(t: u16, cpu: usize) {
    let _off = sync::irq::disable();
    let here = cpu == sync::cpu::id();
    let tell = {
        let mut q = queue(cpu).lock();
        thread(t).cpu.store(cpu as u32, Ordering::Relaxed);
        q.push(t);
        if here {
            q.update_slice();
        }
        // A busy CPU whose slice runs looks at its queue when it ends.
        !here && (q.is_idle() || q.slice_end == NEVER)
    };
    if tell {
        apic::send(CpuMask::single(cpu), irq::KICK);
    }
}

/// A kick: the queue has changed, or a wait is over. The idle loop and `wait_for` look for
/// themselves.
pub(super) fn kick_interrupt() {
    queue(sync::cpu::id()).lock().update_slice();
}

/// The timer went off.
pub(super) fn timer_interrupt() {
    let cpu = sync::cpu::id();
    loop {
        let due = queue(cpu).lock().pop_timer(time::now_ns());
        let Some(t) = due else { break };
        wake(t);
    }
    let mut q = queue(cpu).lock();
    if q.slice_end <= time::now_ns() {
        q.slice_end = NEVER;
        if !q.is_empty() {
            sync::cpu::set_need_resched(cpu, true);
        }
    }
    q.reprogram();
}

/// Makes `t` ready if it is parked.
pub(super) fn wake(t: u16) {
    // SeqCst: pairs with the store in `park`; either that sees the token, or this sees PARKED.
    let state = &thread(t).state;
    if state
        .compare_exchange(PARKED, RUNNABLE, Ordering::SeqCst, Ordering::Relaxed)
        .is_ok()
    {
        enqueue(t);
    }
}

/// Takes a thread that may run here from the longest other queue.
fn steal(cpu: usize) -> Option<u16> {
    let busy = smp::online()
        .without(cpu)
        .iter()
        .filter(|c| waiting(*c) > 0);
    let victim = busy.max_by_key(|c| waiting(*c))?;
    let may_take = |t: u16| {
        // Acquire: pairs with the Release in `finish_switch`.
        open(allowed(t)).contains(cpu) && !thread(t).on_cpu.load(Ordering::Acquire)
    };
    queue(victim).lock().take(may_take)
}

/// Reserves `n` CPUs for the threads that are pinned there, the boot CPU last because devices
/// interrupt it. The caller's is not among them, and the caller does not come there. One caller at
/// a time.
///
/// # Errors
/// How many there are, if not `n`.
#[cfg(feature = "lab")]
pub(super) fn reserve(n: usize) -> Result<CpuMask, usize> {
    let _here = sync::preempt::disable();
    let others = smp::online().without(sync::cpu::id());
    if others.count() < n {
        return Err(others.count());
    }
    let mut cpus = CpuMask::empty();
    let boot_last = others.without(0).iter().chain([0]);
    boot_last.take(n).for_each(|cpu| cpus.insert(cpu));
    RESERVED.store(cpus, Ordering::Relaxed);
    Ok(cpus)
}

/// Any thread may run on `cpu` again.
#[cfg(feature = "lab")]
pub(super) fn unreserve(cpu: usize) {
    RESERVED.remove(cpu, Ordering::Relaxed);
}

/// Sends the threads that wait for this CPU, which is reserved, to where they may run.
#[cfg(feature = "lab")]
pub(super) fn evict() {
    let cpu = sync::cpu::id();
    let unwanted = |t: u16| !open(allowed(t)).contains(cpu);
    loop {
        let Some(t) = queue(cpu).lock().take(unwanted) else {
            return;
        };
        push(t, select(t));
    }
}

/// The idle thread of the calling CPU: runs what is ready, pulls work, halts.
pub(super) fn idle() -> ! {
    let cpu = sync::cpu::id();
    loop {
        interrupts::disable();
        if waiting(cpu) > 0 {
            schedule(Leave::Asleep);
            continue;
        }
        IDLE.insert(cpu, Ordering::SeqCst);
        if let Some(t) = steal(cpu) {
            push(t, cpu);
        } else if waiting(cpu) == 0 {
            // A push from now on sends a kick, which ends the halt.
            interrupts::enable_and_hlt();
        }
        IDLE.remove(cpu, Ordering::Relaxed);
    }
}

/// Cycles that `t` has run.
pub(super) fn cpu_time(t: TaskId) -> u64 {
    let _off = sync::irq::disable();
    let before = thread(t.0).time.load(Ordering::Relaxed);
    if t != current() {
        return before;
    }
    let since = PER_CPU[sync::cpu::id()].since.load(Ordering::Relaxed);
    before + time::cycles().wrapping_sub(since)
}
