//! Kernel threads: a static table, one entry per task number.
//!
//! Spawning allocates (the closure, and frames for a stack slot at its first use); nothing else
//! here does. A slot is used again only when its thread has ended, has left its stack, and its
//! [`JoinHandle`] is gone. Locks: see `sched`. `park`, `join` and `sleep` sleep; `unpark` may be
//! called from anywhere.

use alloc::boxed::Box;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use sync::cpu::{CPU_LOCALS, CpuLocal};
use sync::task::{self, MAX_TASKS, current};
use sync::{CpuMask, TaskId};
use x86_64::instructions::interrupts;

use super::queue::queue;
use super::sched::{self, Leave};
use super::{smp, stack, switch, time};

/// Ready or running.
pub(super) const RUNNABLE: u8 = 0;
/// Asleep until woken.
pub(super) const PARKED: u8 = 1;
/// No thread, in links.
pub(super) const NIL: u16 = u16::MAX;

type Main = Box<dyn FnOnce() + Send>;

/// One thread.
pub(super) struct Thread {
    /// The stack pointer while it does not run.
    pub(super) rsp: AtomicU64,
    /// [`RUNNABLE`] or [`PARKED`]. Who changes PARKED to RUNNABLE queues the thread.
    pub(super) state: AtomicU8,
    /// An unpark that no park has consumed.
    token: AtomicBool,
    /// A CPU is on its stack.
    pub(super) on_cpu: AtomicBool,
    /// Where it runs, waits or ran last.
    pub(super) cpu: AtomicU32,
    /// Where it may run: bits of a [`CpuMask`].
    pub(super) allowed: AtomicU32,
    /// The preemption count while it does not run.
    pub(super) preempt_count: AtomicU32,
    /// The adopted address space while it does not run, in the memory manager's terms; 0 is none.
    pub(super) mm: AtomicU64,
    /// Cycles used, without the current turn.
    pub(super) time: AtomicU64,
    /// The next thread in a run queue.
    pub(super) next: AtomicU16,
    /// The next sleeper, and this one's deadline.
    pub(super) timer_next: AtomicU16,
    pub(super) deadline: AtomicU64,
    /// It has ended.
    done: AtomicBool,
    /// Who waits for that, or [`NIL`].
    joiner: AtomicU16,
    /// The thread and its handle: the last one frees the slot.
    refs: AtomicU8,
    main: UnsafeCell<Option<Main>>,
    name: Mutex<&'static str>,
}

// SAFETY: `main` is written by the spawner before the thread is queued and taken by the thread
// alone.
unsafe impl Sync for Thread {}

static THREADS: [Thread; MAX_TASKS] = [const {
    Thread {
        rsp: AtomicU64::new(0),
        state: AtomicU8::new(RUNNABLE),
        token: AtomicBool::new(false),
        on_cpu: AtomicBool::new(false),
        cpu: AtomicU32::new(0),
        allowed: AtomicU32::new(u32::MAX),
        preempt_count: AtomicU32::new(0),
        mm: AtomicU64::new(0),
        time: AtomicU64::new(0),
        next: AtomicU16::new(NIL),
        timer_next: AtomicU16::new(NIL),
        deadline: AtomicU64::new(0),
        done: AtomicBool::new(false),
        joiner: AtomicU16::new(NIL),
        refs: AtomicU8::new(0),
        main: UnsafeCell::new(None),
        name: Mutex::new("idle"),
    }
}; MAX_TASKS];

/// The table's entry of task `t`.
pub(super) fn thread(t: u16) -> &'static Thread {
    &THREADS[t as usize]
}

pub use crate::spawn::{Spawn, SpawnError};

/// A started thread. Dropping it lets the thread run on unobserved.
#[derive(Debug)]
pub struct JoinHandle(TaskId);

/// Starts a thread that runs `f`.
///
/// # Errors
/// See [`SpawnError`]; `f` is dropped then.
pub fn spawn(how: Spawn, f: Main) -> Result<JoinHandle, SpawnError> {
    if how.cpu.is_some_and(|cpu| cpu >= smp::nr_cpus()) {
        return Err(SpawnError::NoSuchCpu);
    }
    let id = task::alloc().ok_or(SpawnError::TooMany)?;
    let Ok(top) = stack::thread_stack(id.index()) else {
        task::free(id);
        return Err(SpawnError::NoMemory);
    };
    let allowed = how
        .cpu
        .map_or(CpuMask::from_bits(u32::MAX), CpuMask::single);
    let t = thread(id.0);
    *t.name.lock() = how.name;
    // SAFETY: the number was free, so nobody runs on this stack or looks at `main`.
    unsafe {
        t.rsp.store(switch::prepare(top), Ordering::Relaxed);
        *t.main.get() = Some(f);
    }
    t.state.store(RUNNABLE, Ordering::Relaxed);
    t.token.store(false, Ordering::Relaxed);
    t.allowed.store(allowed.bits(), Ordering::Relaxed);
    t.preempt_count.store(0, Ordering::Relaxed);
    t.mm.store(0, Ordering::Relaxed);
    t.time.store(0, Ordering::Relaxed);
    t.done.store(false, Ordering::Relaxed);
    t.joiner.store(NIL, Ordering::Relaxed);
    t.refs.store(2, Ordering::Relaxed);
    // The queue's lock orders all of this before the thread's first instruction.
    sched::start(id.0, sched::select_new(allowed));
    Ok(JoinHandle(id))
}

/// A new thread's first Rust code; `left` is the thread that this CPU switched away from.
pub(super) extern "C" fn main(left: u64) -> ! {
    sched::finish_switch(left as u16);
    interrupts::enable();
    // SAFETY: the spawner filled it before it queued this thread; nobody else takes it.
    let f = unsafe { (*thread(current().0).main.get()).take() };
    if let Some(f) = f {
        f();
    }
    end()
}

fn end() -> ! {
    let me = thread(current().0);
    interrupts::disable();
    // SeqCst: pairs with the store in `join`; either this sees the joiner, or it sees the end.
    me.done.store(true, Ordering::SeqCst);
    let joiner = me.joiner.load(Ordering::SeqCst);
    if joiner != NIL {
        unpark(TaskId(joiner));
    }
    sched::schedule(Leave::Dead);
    unreachable!("an ended thread ran on")
}

/// Drops one of the two references to a thread's slot.
pub(super) fn release(t: u16) {
    // AcqRel: the last one sees everything that the other did with the slot.
    if thread(t).refs.fetch_sub(1, Ordering::AcqRel) == 1 {
        task::free(TaskId(t));
    }
}

impl JoinHandle {
    /// The thread's number.
    pub fn task(&self) -> TaskId {
        self.0
    }

    /// It has ended.
    pub fn is_finished(&self) -> bool {
        // Acquire: pairs with the store in `end`; what the thread did is visible.
        thread(self.0.0).done.load(Ordering::Acquire)
    }

    /// Sleeps until the thread has ended.
    pub fn join(self) {
        sync::might_sleep("JoinHandle::join");
        let t = thread(self.0.0);
        t.joiner.store(current().0, Ordering::SeqCst);
        while !t.done.load(Ordering::SeqCst) {
            park();
        }
    }
}

impl Drop for JoinHandle {
    fn drop(&mut self) {
        release(self.0.0);
    }
}

/// Sleeps until [`unpark`]; returns at once if one came since the last park. May return without
/// one.
pub fn park() {
    let off = sync::irq::disable();
    park_with(None);
    drop(off);
}

/// As [`park`], at most about `ns` nanoseconds.
pub fn park_timeout(ns: u64) {
    let off = sync::irq::disable();
    park_with(Some(time::now_ns().saturating_add(ns)));
    drop(off);
}

/// Interrupts are off.
fn park_with(deadline: Option<u64>) {
    let id = current().0;
    let me = thread(id);
    if me.token.swap(false, Ordering::SeqCst) {
        return;
    }
    debug_assert!(sync::preempt::count() == 0, "park with preemption off");
    let timer_cpu = sync::cpu::id();
    if let Some(deadline) = deadline {
        queue(timer_cpu).lock().add_timer(id, deadline);
    }
    me.state.store(PARKED, Ordering::SeqCst);
    // An unpark between the two looks at the token either saw PARKED, and has queued this thread,
    // or left the token: then this thread must take PARKED back itself, or lose that race to a
    // waker.
    let stay = me.token.swap(false, Ordering::SeqCst)
        && me
            .state
            .compare_exchange(PARKED, RUNNABLE, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok();
    if !stay {
        sched::schedule(Leave::Asleep);
    }
    me.token.store(false, Ordering::SeqCst);
    if deadline.is_some() {
        queue(timer_cpu).lock().remove_timer(id);
    }
}

/// Wakes `t` if it is parked; else makes its next [`park`] return at once. Any context.
pub fn unpark(t: TaskId) {
    thread(t.0).token.store(true, Ordering::SeqCst);
    sched::wake(t.0);
}

/// Sleeps at least `ns` nanoseconds.
pub fn sleep_ns(ns: u64) {
    sync::might_sleep("sleep_ns");
    let end = time::now_ns().saturating_add(ns);
    loop {
        let now = time::now_ns();
        if now >= end {
            return;
        }
        park_timeout(end - now);
    }
}

/// Lets other threads run.
pub fn yield_now() {
    sched::yield_now();
}

/// Moves the calling thread to `cpu`, where it stays until [`unpin`]. False if there is no such
/// CPU.
pub fn migrate_to(cpu: usize) -> bool {
    if cpu >= smp::nr_cpus() {
        return false;
    }
    sync::might_sleep("migrate_to");
    let _off = sync::irq::disable();
    let me = thread(current().0);
    me.allowed
        .store(CpuMask::single(cpu).bits(), Ordering::Relaxed);
    if sync::cpu::id() != cpu {
        sched::schedule(Leave::Move(cpu));
    }
    true
}

/// Lets the calling thread run on any CPU again.
pub fn unpin() {
    thread(current().0)
        .allowed
        .store(u32::MAX, Ordering::Relaxed);
}

/// Where in [`CpuLocal::machine`] the running thread's adopted word is.
const ADOPTED: usize = 0;
const ADOPTED_OFFSET: usize = offset_of!(CpuLocal, machine) + 8 * ADOPTED;

/// Remembers which address space the calling thread has adopted (0: none). At a switch between
/// threads whose words differ the scheduler makes the `switch_mm` upcall; this function makes none.
///
/// # Safety
/// The address space stays until the word is another, and the caller makes the `switch_mm` upcall
/// for it before interrupts are on again.
pub unsafe fn set_adopted(mm: u64) {
    // SAFETY: GS base points to this CPU's `CpuLocal`; one aligned store, which no thread switch
    // can split.
    unsafe {
        asm!("mov gs:[{offset}], {mm}", offset = const ADOPTED_OFFSET, mm = in(reg) mm,
             options(nostack, preserves_flags));
    }
}

/// What the calling thread set last.
#[inline]
pub fn adopted() -> u64 {
    let mm: u64;
    // SAFETY: GS base points to this CPU's `CpuLocal`; one aligned load, and a thread switch brings
    // the word along.
    unsafe {
        asm!("mov {mm}, gs:[{offset}]", offset = const ADOPTED_OFFSET, mm = out(reg) mm,
             options(nostack, preserves_flags, readonly));
    }
    mm
}

/// The calling thread has adopted an address space.
#[inline]
pub(super) fn has_adopted() -> bool {
    // SAFETY: as in `adopted`; the label is an ordinary block of this function.
    unsafe {
        asm!("cmp qword ptr gs:[{offset}], 0", "je {none}", offset = const ADOPTED_OFFSET,
             none = label { return false }, options(nostack, readonly));
    }
    true
}

/// The word of the thread that runs on `cpu`. Interrupts are off there.
pub(super) fn adopted_on(cpu: usize) -> &'static AtomicU64 {
    &CPU_LOCALS[cpu].machine[ADOPTED]
}

/// Cycles that `t` has run on CPUs.
pub fn cpu_time(t: TaskId) -> u64 {
    sched::cpu_time(t)
}

/// Cycles spent in interrupt handlers while the interrupted CPU was idle. A handler that interrupts
/// a thread counts as that thread's time; the sum of both does not depend on when a device answers.
pub fn idle_interrupt_time() -> u64 {
    super::trap::idle_interrupt_time()
}

/// What `t` was called at its start. Never waits, for the sake of a panic.
pub fn name(t: TaskId) -> &'static str {
    thread(t.0).name.try_lock().map_or("?", |name| *name)
}
