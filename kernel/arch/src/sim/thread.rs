//! Kernel threads: each takes a simulated CPU for as long as it lives. Blocking goes through
//! [`SimThreads`].

use super::board::machine;
use super::cpu::{SimCpu, lock, try_this_cpu};
use super::ipi::{self, pending};
use crate::upcall::upcalls;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sync::task::{self, MAX_TASKS};
use sync::{TaskId, Threads, WaitQueue, host::parker};

/// `Spawn::cpu` is a wish here: a CPU runs one thread at a time, so another one is taken if it is
/// not free.
pub use crate::spawn::{Spawn, SpawnError};

#[derive(Default)]
struct Done {
    flag: AtomicBool,
    queue: WaitQueue,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Work for a CPU's thread.
pub(super) struct Job {
    f: Box<dyn FnOnce() + Send>,
    done: Arc<Done>,
}

/// A started thread.
pub struct JoinHandle {
    task: TaskId,
    done: Arc<Done>,
}

impl JoinHandle {
    /// Sleeps until the thread has ended.
    ///
    /// # Panics
    /// With the thread's own panic, if it did.
    pub fn join(self) {
        self.done.queue.wait_until(|| self.done.flag.load(Acquire));
        if let Some(panic) = lock(&self.done.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Its number; another thread may get the same one after its end.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// It has ended.
    pub fn is_finished(&self) -> bool {
        self.done.flag.load(Acquire)
    }
}

/// Takes `cpu` for a thread if none has it.
pub(super) fn claim(cpu: &SimCpu) -> bool {
    cpu.taken
        .compare_exchange(false, true, AcqRel, Relaxed)
        .is_ok()
}

/// Starts `f` as a kernel thread.
///
/// # Errors
/// [`SpawnError`].
pub fn spawn(opts: Spawn, f: Box<dyn FnOnce() + Send>) -> Result<JoinHandle, SpawnError> {
    let cpus = &machine().cpus;
    if let Some(wish) = opts.cpu
        && wish >= cpus.len()
    {
        return Err(SpawnError::NoSuchCpu);
    }
    let wished = opts.cpu.map(|i| &cpus[i]).filter(|c| claim(c));
    let cpu = wished
        .or_else(|| cpus.iter().find(|c| claim(c)))
        .ok_or(SpawnError::TooMany)?;
    let done = Arc::new(Done::default());
    *lock(&cpu.name) = opts.name;
    *lock(&cpu.job) = Some(Job {
        f,
        done: done.clone(),
    });
    parker(cpu.task()).interrupt();
    Ok(JoinHandle {
        task: cpu.task(),
        done,
    })
}

/// Runs a job on its CPU's thread, to its end.
pub(super) fn run(cpu: &'static SimCpu, job: Job) {
    parker(cpu.task()).clear();
    cpu.ran_ns.store(0, Relaxed);
    cpu.awake_since.store(super::now_ns().max(1), Relaxed);
    let result = catch_unwind(AssertUnwindSafe(job.f));
    leave_space();
    if let Err(panic) = result {
        eprintln!(
            "kernel thread {} on CPU {}: {}",
            name(cpu.task()),
            cpu.id,
            message(&*panic)
        );
        *lock(&job.done.panic) = Some(panic);
    }
    // A next thread may start here before the joiner wakes.
    cpu.taken.store(false, Release);
    job.done.flag.store(true, Release);
    job.done.queue.wake_all();
}

/// The running thread ends: it has no address space any more.
pub(super) fn leave_space() {
    ADOPTED[task::current().index()].store(0, Relaxed);
    if let Some(up) = upcalls() {
        let irq = sync::irq::disable();
        up.switch_mm(&irq, 0);
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic")
}

static ADOPTED: [AtomicU64; MAX_TASKS] = [const { AtomicU64::new(0) }; MAX_TASKS];

/// Sets the running thread's word that names its address space; 0 = none.
///
/// # Safety
/// The address space stays until the word is another, and the caller makes the `switch_mm` upcall
/// for it before interrupts are on again.
pub unsafe fn set_adopted(token: u64) {
    // Pairs with the Acquire in `adopted_on`.
    ADOPTED[task::current().index()].store(token, Release);
}

/// The word set by [`set_adopted`].
pub fn adopted() -> u64 {
    ADOPTED[task::current().index()].load(Relaxed)
}

/// The word of the thread that `cpu` runs, 0 when it runs none: a thread has its CPU's number.
pub(super) fn adopted_on(cpu: usize) -> u64 {
    // Pairs with the Release in `set_adopted`: a CPU that has adopted has switched before.
    ADOPTED[cpu].load(Acquire)
}

/// Time in interrupt handlers while the interrupted CPU was idle: not measured here.
pub fn idle_interrupt_time() -> u64 {
    0
}

/// How long `t` has been running, in the unit of [`super::cycles`].
pub fn cpu_time(t: TaskId) -> u64 {
    let Some(cpu) = machine().cpus.get(t.index()) else {
        return 0;
    };
    let since = match cpu.awake_since.load(Relaxed) {
        0 => 0,
        at => super::now_ns().saturating_sub(at),
    };
    cpu.ran_ns.load(Relaxed) + since
}

/// What `t` was called at its start.
pub fn name(t: TaskId) -> &'static str {
    let cpu = machine().cpus.get(t.index());
    cpu.map_or("host", |cpu| *lock(&cpu.name))
}

/// Asks for `cpu`. A thread of this machine never leaves its CPU, so nothing happens: code that
/// needs to be on a certain CPU asks [`sync::cpu::id`].
///
/// # Panics
/// If there is no such CPU.
pub fn migrate_to(cpu: usize) {
    let nr = super::nr_cpus();
    assert!(cpu < nr, "migrate_to({cpu}): there are {nr} CPUs");
}

/// Lets the running thread run on any CPU again; nothing on this machine.
pub fn unpin() {}

/// Sleeps for about `ns` nanoseconds.
pub fn sleep_ns(ns: u64) {
    WaitQueue::new().wait_until_timeout(ns, || false);
}

/// Lets other threads run.
pub fn yield_now() {
    sync::threads().yield_now();
}

pub(super) struct SimThreads;

pub(super) static SIM_THREADS: SimThreads = SimThreads;

impl SimThreads {
    /// Sleeps until the token or the time-out; interrupts are served, and end the sleep spuriously.
    fn sleep(&self, timeout: Option<Duration>) {
        let Some(cpu) = try_this_cpu() else {
            parker(task::current()).park(timeout, || false);
            return;
        };
        sync::irq::poll();
        let since = cpu.awake_since.swap(0, Relaxed);
        cpu.ran_ns
            .fetch_add(super::now_ns().saturating_sub(since), Relaxed);
        cpu.halted.store(true, Release);
        parker(cpu.task()).park(timeout, || pending(cpu.id));
        cpu.halted.store(false, Release);
        cpu.awake_since.store(super::now_ns().max(1), Relaxed);
        sync::irq::poll();
    }
}

impl Threads for SimThreads {
    fn park(&self) {
        self.sleep(None);
    }
    fn park_timeout(&self, ns: u64) {
        self.sleep(Some(Duration::from_nanos(ns)));
    }
    fn unpark(&self, t: TaskId) {
        parker(t).unpark();
    }
    fn reschedule(&self) {
        self.yield_now();
    }
    fn yield_now(&self) {
        sync::irq::poll();
        super::cpu::poll_left();
        std::thread::yield_now();
    }
    fn relax(&self, _spins: u32) {
        self.yield_now();
    }
    fn now_ns(&self) -> u64 {
        super::now_ns()
    }
    fn poll(&self) {
        ipi::deliver();
    }
}
