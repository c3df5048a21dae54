//! A simulated CPU: an OS thread, its TLB and its mailbox. The thread lives as long as the process; kernel
//! threads run on it one after the other, and in between it idles and serves its mailbox.

use super::board::{kernel_root, machine};
use super::disk::Completion;
use super::simctl::Config;
use super::thread::Job;
use super::tlb::Tlb;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use sync::TaskId;

/// A function call that this CPU asks of others (see [`super::ipi::call_on`]). Written by this CPU only.
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
            completions: Mutex::new(VecDeque::with_capacity(super::disk::QUEUE)),
            halted: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            job: Mutex::new(None),
            name: Mutex::new("idle"),
            ran_ns: AtomicU64::new(0),
            awake_since: AtomicU64::new(0),
        }
    }

    pub(super) fn tlb(&self) -> MutexGuard<'_, Tlb> {
        lock(&self.tlb)
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
    loop {
        let job = lock(&cpu.job).take();
        match job {
            Some(job) => super::thread::run(cpu, job),
            None => {
                sync::irq::poll();
                cpu.halted.store(true, Ordering::Release);
                sync::host::parker(cpu.task()).park(None, || super::ipi::pending(cpu.id));
                cpu.halted.store(false, Ordering::Release);
            }
        }
    }
}
