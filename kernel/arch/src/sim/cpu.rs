//! A simulated CPU: an OS thread, its TLB and its mailbox. The thread lives as long as the process;
//! kernel threads run on it one after the other, and in between it idles and serves its mailbox.

use super::board::{kernel_root, machine};
use super::disk::Completion;
use super::simctl::Config;
use super::thread::Job;
use super::tlb::Tlb;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use sync::TaskId;
use sync::cpu::CPU_LOCALS;

/// A function call that this CPU asks of others (see [`super::ipi::call_on`]). Written by this CPU
/// only.
#[derive(Default)]
pub(super) struct Call {
    pub(super) f: Mutex<Option<fn(usize)>>,
    pub(super) arg: AtomicUsize,
    /// CPUs that have not finished it.
    pub(super) missing: AtomicU32,
}

pub(super) struct SimCpu {
    pub(super) id: usize,
    tlb: Mutex<Tlb>,
    /// What has arrived: bits of [`super::ipi::mail`].
    pub(super) mail: AtomicU32,
    /// CPUs whose [`Call`] this one has still to serve.
    pub(super) calls_from: AtomicU32,
    pub(super) call: Call,
    /// Finished disk requests to be reported by this CPU.
    pub(super) completions: Mutex<VecDeque<Completion>>,
    /// Sleeps now, so an interrupt is served at once.
    pub(super) halted: AtomicBool,
    /// A kernel thread runs here (or is about to).
    pub(super) taken: AtomicBool,
    /// An OS thread runs as this CPU. Its own one does so until it has started, for a kernel
    /// thread's life and while it serves an interrupt; in between another one may (see
    /// [`super::actor`]).
    seat: AtomicBool,
    pub(super) job: Mutex<Option<Job>>,
    /// What the last thread here was called.
    pub(super) name: Mutex<&'static str>,
    /// Nanoseconds that kernel threads were awake here, up to `awake_since`.
    pub(super) ran_ns: AtomicU64,
    /// When the running thread last woke; 0 while it sleeps.
    pub(super) awake_since: AtomicU64,
}

pub(super) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimCpu {
    pub(super) fn new(id: usize, config: &Config) -> Self {
        let seed = config.seed ^ (id as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            id,
            tlb: Mutex::new(Tlb::new(kernel_root(), seed, config.evict)),
            mail: AtomicU32::new(0),
            calls_from: AtomicU32::new(0),
            call: Call::default(),
            completions: Mutex::new(VecDeque::with_capacity(2 * super::disk::QUEUE)),
            halted: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            seat: AtomicBool::new(true),
            job: Mutex::new(None),
            name: Mutex::new("idle"),
            ran_ns: AtomicU64::new(0),
            awake_since: AtomicU64::new(0),
        }
    }

    pub(super) fn tlb(&self) -> MutexGuard<'_, Tlb> {
        lock(&self.tlb)
    }

    /// Waits until no OS thread runs as this CPU. From here to [`SimCpu::rise`] the caller does.
    pub(super) fn sit(&self) {
        while !self.try_sit() {
            std::thread::yield_now();
        }
    }

    fn try_sit(&self) -> bool {
        // Acquire pairs with the Release in `rise`: the CPU's words are as the one before left
        // them.
        !self.seat.swap(true, Ordering::Acquire)
    }

    /// The end of [`SimCpu::sit`]. The CPU's own thread serves what has come in and was not served.
    pub(super) fn rise(&self) {
        // SeqCst, with the loads that `idle` sleeps on: it sees the seat free, or the mailbox is
        // seen full here.
        self.seat.swap(false, Ordering::SeqCst);
        if CPU_LOCALS[self.id].pending.load(Ordering::SeqCst) != 0 {
            sync::host::parker(self.task()).interrupt();
        }
    }

    /// There is something to do for this CPU's own thread, and it can.
    fn called(&self) -> bool {
        lock(&self.job).is_some()
            || CPU_LOCALS[self.id].pending.load(Ordering::SeqCst) != 0
                && !self.seat.load(Ordering::SeqCst)
    }

    /// Serves the mailbox, whatever the interrupt flag of a stopped actor is.
    fn serve(&self) {
        if !self.try_sit() {
            return;
        }
        let irq_off = &CPU_LOCALS[self.id].irq_off;
        let was = irq_off.swap(0, Ordering::Relaxed);
        sync::irq::poll();
        irq_off.store(was, Ordering::Relaxed);
        self.rise();
    }

    /// CPU `i` always runs task `i`.
    pub(super) fn task(&self) -> TaskId {
        TaskId(self.id as u16)
    }
}

/// The running thread's CPU, if it is one.
pub(super) fn try_this_cpu() -> Option<&'static SimCpu> {
    machine().cpus.get(sync::task::current().index())
}

/// The running thread's CPU.
///
/// # Panics
/// If the thread is none.
pub(super) fn this_cpu() -> &'static SimCpu {
    try_this_cpu().expect(
        "this OS thread is no simulated CPU: use arch::simctl::run or arch::thread::spawn to get on one",
    )
}

/// Starts the CPUs' threads.
pub(super) fn start_all() {
    for cpu in &machine().cpus {
        std::thread::Builder::new()
            .name(format!("cpu{}", cpu.id))
            .spawn(move || idle(cpu))
            .expect("the host has a thread for each simulated CPU");
    }
}

fn idle(cpu: &'static SimCpu) -> ! {
    sync::cpu::install(cpu.id);
    cpu.rise();
    loop {
        let job = lock(&cpu.job).take();
        if let Some(job) = job {
            cpu.sit();
            super::thread::run(cpu, job);
            cpu.rise();
        }
        cpu.serve();
        cpu.halted.store(true, Ordering::Release);
        // The token stays: it is the one of an actor, if that has this CPU and sleeps.
        sync::host::parker(cpu.task()).halt(None, || cpu.called());
        cpu.halted.store(false, Ordering::Release);
    }
}

/// Without actors no OS thread leaves its CPU.
#[cfg(not(feature = "lab"))]
pub(super) fn poll_left() {}

#[cfg(feature = "lab")]
pub(super) use super::actor::poll_left;
