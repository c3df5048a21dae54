//! The host's stand-in for a CPU: a thread-local pointer to a [`CpuLocal`](crate::cpu::CpuLocal),
//! and parking by condition variable.
//!
//! "Interrupts off" is a flag in the block; while it is set the simulator delivers nothing to that
//! CPU.

use crate::cpu::{CPU_LOCALS, NO_ACTOR};
use crate::own::{self, with};
use crate::task::{self, TaskId};
use crate::{check, threads};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[cfg(feature = "loom")]
use crate::model::{Condvar, Mutex, MutexGuard, thread};
#[cfg(not(feature = "loom"))]
use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};

/// Makes the calling thread CPU `cpu`, running task `cpu`, from now on.
///
/// # Panics
/// If `cpu` is not below [`MAX_CPUS`](crate::MAX_CPUS). The caller sees to it that no other thread
/// is that CPU.
pub fn install(cpu: usize) {
    own::set(cpu);
    CPU_LOCALS[cpu].task.store(cpu as u32, Relaxed);
    restart();
}

/// Puts the running CPU's words, and what its thread is known to hold, back to what they are when a
/// thread starts: after one was unwound, whose sections did not all end in order.
pub fn restart() {
    with(|l| {
        l.preempt_count.store(0, Relaxed);
        l.irq_off.store(0, Relaxed);
        l.irq_depth.store(0, Relaxed);
        l.actor.store(NO_ACTOR, Relaxed);
        l.quiet.store(0, Relaxed);
    });
    check::forget_held();
}

/// Makes the calling thread go on as CPU `cpu`, whose words stay as they are: for a thread that
/// plays several CPUs in turn.
///
/// # Panics
/// If `cpu` is not below [`MAX_CPUS`](crate::MAX_CPUS). The caller sees to it that no other thread
/// runs as that CPU meanwhile.
pub fn become_cpu(cpu: usize) {
    own::set(cpu);
}

pub(crate) fn cpu_id() -> u32 {
    with(|l| l.cpu_id.load(Relaxed))
}
pub(crate) fn task() -> u32 {
    with(|l| l.task.load(Relaxed))
}
pub(crate) fn set_task(t: u32) {
    with(|l| l.task.store(t, Relaxed));
}
#[cfg(feature = "lab")]
#[inline]
pub(crate) fn is_actor() -> bool {
    with(|l| l.actor.load(Relaxed) == l.task.load(Relaxed))
}
#[cfg(feature = "lab")]
pub(crate) fn set_actor(actor: u32) {
    with(|l| l.actor.store(actor, Relaxed));
}
#[cfg(feature = "lab")]
pub(crate) fn quiet() -> u32 {
    with(|l| l.quiet.load(Relaxed))
}
#[cfg(feature = "lab")]
pub(crate) fn quiet_add(n: i32) {
    with(|l| {
        l.quiet
            .store(l.quiet.load(Relaxed).wrapping_add_signed(n), Relaxed);
    });
}
pub(crate) fn preempt_count() -> u32 {
    with(|l| l.preempt_count.load(Relaxed))
}
pub(crate) fn need_resched() -> bool {
    with(|l| l.need_resched.load(Relaxed) != 0)
}
pub(crate) fn irq_depth() -> u32 {
    with(|l| l.irq_depth.load(Relaxed))
}
pub(crate) fn irq_depth_inc() {
    with(|l| {
        l.irq_depth.fetch_add(1, Relaxed);
    });
}
pub(crate) fn irq_depth_dec() {
    with(|l| {
        l.irq_depth.fetch_sub(1, Relaxed);
    });
}
pub(crate) fn preempt_inc() {
    with(|l| {
        l.preempt_count
            .store(l.preempt_count.load(Relaxed) + 1, Relaxed);
    });
}
pub(crate) fn preempt_dec() -> bool {
    with(|l| {
        let n = l.preempt_count.load(Relaxed) - 1;
        l.preempt_count.store(n, Relaxed);
        n == 0
    })
}
pub(crate) fn irq_enabled() -> bool {
    with(|l| l.irq_off.load(Relaxed) == 0)
}
pub(crate) fn irq_save() -> bool {
    with(|l| l.irq_off.swap(1, Relaxed) == 0)
}
pub(crate) fn irq_restore(on: bool) {
    if on {
        with(|l| l.irq_off.store(0, Relaxed));
        poll();
    }
}

/// A place where a simulated interrupt may arrive: delivers what is in this CPU's mailbox if
/// interrupts are on.
#[inline]
pub fn poll() {
    let due = with(|l| l.pending.load(Relaxed) != 0 && l.irq_off.load(Relaxed) == 0);
    if due {
        threads().poll();
    }
}

/// Where one task sleeps: a token, as [`std::thread::park`] has it.
pub struct Parker {
    token: Mutex<bool>,
    cv: Condvar,
}

impl Parker {
    const fn new() -> Self {
        Self {
            token: Mutex::new(false),
            cv: Condvar::new(),
        }
    }

    fn token(&self) -> MutexGuard<'_, bool> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the token is there (and takes it), `interrupted` says so, or `timeout` is over.
    /// Returns true if it took the token. `interrupted` is asked under the lock that
    /// [`Parker::interrupt`] takes, so that no interruption is lost.
    pub fn park(&self, timeout: Option<Duration>, interrupted: impl Fn() -> bool) -> bool {
        let mut token = self.token();
        if !*token && !interrupted() {
            token = self.wait(token, timeout);
        }
        std::mem::take(&mut *token)
    }

    fn wait<'a>(
        &self,
        token: MutexGuard<'a, bool>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, bool> {
        match timeout {
            None => self.cv.wait(token).unwrap_or_else(PoisonError::into_inner),
            Some(d) => {
                self.cv
                    .wait_timeout(token, d)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }

    /// Sleeps until woken, `interrupted` or `timeout`, and leaves the token where it is: for a CPU
    /// that halts in the middle of a thread's work, or without one.
    pub fn halt(&self, timeout: Option<Duration>, interrupted: impl Fn() -> bool) {
        let token = self.token();
        if !interrupted() {
            drop(self.wait(token, timeout));
        }
    }

    /// Leaves the token and wakes the sleeper.
    pub fn unpark(&self) {
        *self.token() = true;
        self.cv.notify_all();
    }

    /// Wakes the sleeper without a token, so that it looks at its mailbox.
    pub fn interrupt(&self) {
        drop(self.token());
        self.cv.notify_all();
    }

    /// Takes the token away (a new thread starts under this number).
    pub fn clear(&self) {
        *self.token() = false;
    }
}

static PARKERS: [Parker; task::MAX_TASKS] = [const { Parker::new() }; task::MAX_TASKS];

/// The sleeping place of task `t`.
pub fn parker(t: TaskId) -> &'static Parker {
    &PARKERS[t.index()]
}

/// What [`threads()`](crate::threads()) is on the host until a machine registers: plain OS threads.
pub(crate) struct StdThreads;

impl crate::Threads for StdThreads {
    fn park(&self) {
        parker(task::current()).park(None, || false);
    }
    fn park_timeout(&self, ns: u64) {
        parker(task::current()).park(Some(Duration::from_nanos(ns)), || false);
    }
    fn unpark(&self, t: TaskId) {
        parker(t).unpark();
    }
    fn reschedule(&self) {
        thread::yield_now();
    }
    fn yield_now(&self) {
        thread::yield_now();
    }
    fn relax(&self, _spins: u32) {
        thread::yield_now();
    }
    fn now_ns(&self) -> u64 {
        now_ns()
    }
}

/// Nanoseconds since the first call.
pub fn now_ns() -> u64 {
    static START: spin::LazyLock<std::time::Instant> = spin::LazyLock::new(std::time::Instant::now);
    START.elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_CPUS;

    #[test]
    fn threads_have_tasks_of_their_own() {
        let mine = task::current();
        let other = std::thread::spawn(task::current).join().unwrap();
        assert_ne!(mine, other);
        assert!(mine.index() >= MAX_CPUS && other.index() >= MAX_CPUS);
        assert_eq!(mine, task::current());
    }

    #[test]
    fn token_before_park_returns_at_once() {
        let p = Parker::new();
        p.unpark();
        assert!(p.park(None, || false));
        assert!(!p.park(Some(Duration::from_millis(1)), || false));
        assert!(!p.park(None, || true));
    }
}
