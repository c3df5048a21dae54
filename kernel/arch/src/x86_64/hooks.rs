//! The scheduler as the locks see it.

use sync::{TaskId, Threads, preempt};

use super::{sched, thread, time};

/// Turns of a spin wait before PAUSE: under TCG a PAUSE is costly for the other CPUs (see `ipi`).
const BARE_TURNS: u32 = 2000;

struct Hooks;

impl Threads for Hooks {
    fn park(&self) {
        thread::park();
    }
    fn park_timeout(&self, ns: u64) {
        thread::park_timeout(ns);
    }
    fn unpark(&self, t: TaskId) {
        thread::unpark(t);
    }
    fn reschedule(&self) {
        if preempt::count() == 0 {
            sched::yield_now();
        }
    }
    fn yield_now(&self) {
        thread::yield_now();
    }
    /// When instructions are counted only one CPU runs at a time, and PAUSE is what passes the turn
    /// on.
    fn relax(&self, spins: u32) {
        if spins >= BARE_TURNS || time::counts_instructions() {
            core::hint::spin_loop();
        }
    }
    fn now_ns(&self) -> u64 {
        time::now_ns()
    }
}

/// Registers the scheduler: from here on locks sleep.
pub(super) fn register() {
    sync::set_threads(&Hooks);
}
