//! The scheduler as the locks see it. The machine registers its own; until then locks spin.

use crate::TaskId;

/// What the locks need of the machine's scheduler.
pub trait Threads: Sync {
    /// The running thread sleeps until [`Threads::unpark`]. An unpark before the park makes it
    /// return at once. May return spuriously: callers loop. Interrupts are on, preemption count 0.
    fn park(&self);
    /// As [`Threads::park`], at most about `ns` nanoseconds.
    fn park_timeout(&self, ns: u64);
    /// Wakes `t`, or makes its next park return at once. Any context, interrupts on or off.
    fn unpark(&self, t: TaskId);
    /// Preemption became possible and a reschedule is asked for: switch if another thread should
    /// run.
    fn reschedule(&self);
    /// Lets other threads run.
    fn yield_now(&self);
    /// One turn of a spin wait; `spins` is the number of turns so far (saturating).
    fn relax(&self, spins: u32);
    /// Nanoseconds since boot, monotonic.
    fn now_ns(&self) -> u64;
    /// Delivers the interrupts waiting in the simulated CPU's mailbox; called with interrupts on.
    /// The real machine has none.
    fn poll(&self) {}
}

static THREADS: spin::Once<&'static dyn Threads> = spin::Once::new();

/// Registers the scheduler; later calls have no effect.
pub fn set_threads(t: &'static dyn Threads) {
    THREADS.call_once(|| t);
}

/// A scheduler is registered: threads can sleep.
#[inline]
pub fn threads_ready() -> bool {
    THREADS.is_completed()
}

/// The registered scheduler, or one that spins (on the host: plain OS threads).
#[inline]
pub fn threads() -> &'static dyn Threads {
    match THREADS.get() {
        Some(t) => *t,
        None => &EARLY,
    }
}

#[cfg(not(target_os = "none"))]
static EARLY: crate::host::StdThreads = crate::host::StdThreads;

#[cfg(target_os = "none")]
static EARLY: Early = Early;

/// Boot, one thread per CPU: a park is a turn of a spin loop.
#[cfg(target_os = "none")]
struct Early;

#[cfg(target_os = "none")]
impl Threads for Early {
    fn park(&self) {
        core::hint::spin_loop();
    }
    fn park_timeout(&self, _ns: u64) {
        core::hint::spin_loop();
    }
    fn unpark(&self, _t: TaskId) {}
    fn reschedule(&self) {}
    fn yield_now(&self) {
        core::hint::spin_loop();
    }
    fn relax(&self, _spins: u32) {
        core::hint::spin_loop();
    }
    /// No clock yet: a timed wait then lasts until its condition holds.
    fn now_ns(&self) -> u64 {
        0
    }
}
