//! Thread numbers and what `sync` keeps per thread: the link of the one queue it waits in and, in
//! checked builds, the ranks it holds. The table is static and never freed, so a late wake-up of a
//! thread that has ended touches valid memory (and is at worst a spurious wake-up of its
//! successor).

use crate::atomic::{AtomicU8, AtomicU16};
use crate::{MAX_CPUS, cpu};
use core::sync::atomic::{AtomicU64, Ordering};

/// Most threads at a time. Numbers below [`MAX_CPUS`] are the boot and idle threads of the CPUs.
pub const MAX_TASKS: usize = 256;

/// A thread's number, below [`MAX_TASKS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TaskId(pub u16);

impl TaskId {
    /// As an array index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The state of a thread's queue link ([`TaskCtx::wait`]).
pub(crate) mod wait {
    /// In no queue: woken, or granted what it waited for.
    pub(crate) const IDLE: u8 = 0;
    /// In a wait queue.
    pub(crate) const QUEUED: u8 = 1;
    /// Waits to read a semaphore.
    pub(crate) const READER: u8 = 2;
    /// Waits to write a semaphore.
    pub(crate) const WRITER: u8 = 3;
}

/// What `sync` keeps per thread.
pub(crate) struct TaskCtx {
    /// The next task in the queue (written under the queue's lock).
    pub(crate) next: AtomicU16,
    /// One of [`wait`]. Set by the owner under the queue's lock; set to `IDLE` with Release by who
    /// takes it out, which pairs with the owner's Acquire load.
    pub(crate) wait: AtomicU8,
    #[cfg(debug_assertions)]
    pub(crate) held: crate::check::HeldLocks,
}

static TASKS: [TaskCtx; MAX_TASKS] = [const {
    TaskCtx {
        next: AtomicU16::new(0),
        wait: AtomicU8::new(wait::IDLE),
        #[cfg(debug_assertions)]
        held: crate::check::HeldLocks::new(),
    }
}; MAX_TASKS];

/// The running thread.
#[inline]
pub fn current() -> TaskId {
    TaskId(cpu::task() as u16)
}

#[inline]
pub(crate) fn ctx(t: TaskId) -> &'static TaskCtx {
    &TASKS[t.index()]
}

const WORDS: usize = MAX_TASKS / 64;
/// One bit per number in use; the CPUs' own threads always are.
static USED: [AtomicU64; WORDS] = {
    let mut words = [const { AtomicU64::new(0) }; WORDS];
    words[0] = AtomicU64::new((1 << MAX_CPUS) - 1);
    words
};

/// Takes a free thread number (never one of the CPUs' own), or `None` when all are in use.
pub fn alloc() -> Option<TaskId> {
    for (i, word) in USED.iter().enumerate() {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != u64::MAX {
            let bit = (!bits).trailing_zeros();
            // Acquire pairs with the Release in `free`: the former owner is done with the context.
            match word.compare_exchange_weak(
                bits,
                bits | 1 << bit,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(TaskId((i * 64) as u16 + bit as u16)),
                Err(now) => bits = now,
            }
        }
    }
    None
}

/// Gives back a number from [`alloc`].
///
/// # Panics
/// If it is one of the CPUs' own or not in use.
pub fn free(t: TaskId) {
    assert!(
        t.index() >= MAX_CPUS,
        "task {} belongs to a CPU and cannot be freed",
        t.0
    );
    let bit = 1 << (t.0 % 64);
    let old = USED[t.index() / 64].fetch_and(!bit, Ordering::Release);
    assert!(old & bit != 0, "task {} freed twice", t.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct_and_reusable() {
        let a = alloc().unwrap();
        let b = alloc().unwrap();
        assert_ne!(a, b);
        assert!(a.index() >= MAX_CPUS && b.index() < MAX_TASKS);
        free(a);
        free(b);
    }

    #[test]
    #[should_panic(expected = "belongs to a CPU")]
    fn cpu_tasks_stay() {
        free(TaskId(3));
    }
}
