//! Waiting for a condition that other threads or interrupt handlers make true.
//!
//! No allocation: a thread waits in one queue at a time and is linked through the static thread
//! table. The queue's lock is taken with interrupts off, so waking is allowed from interrupt
//! handlers.
//!
//! No wake-up is lost: the waiter enqueues itself, then asks the condition again; the waker makes
//! the condition true, then looks at the queue. The `SeqCst` fence on each side makes one of them
//! see the other.

use crate::atomic::fence;
use crate::point::{self, AccessKind, PointKind, class};
use crate::rawspin::{RawIrqGuard, RawSpin};
use crate::task::{TaskId, wait};
use crate::tasklist::{TaskList, is_waiting};
use crate::twin::{Twin, broken};
use crate::{Rank, might_sleep, threads};
use core::sync::atomic::Ordering;

/// Threads woken per turn of the queue's lock.
const BATCH: usize = 16;

/// Threads that wait for something to happen.
pub struct WaitQueue {
    lock: RawSpin,
    list: TaskList,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            lock: RawSpin::new(),
            list: TaskList::new(),
        }
    }

    #[inline]
    fn lock(&self) -> RawIrqGuard<'_> {
        self.lock.lock_irq(Rank::WaitQueue)
    }

    /// Sleeps until `cond` is true. `cond` is asked again after every wake-up, may take spin locks
    /// and must not sleep.
    ///
    /// # Panics
    /// In checked builds, if the caller must not sleep.
    pub fn wait_until(&self, mut cond: impl FnMut() -> bool) {
        might_sleep("WaitQueue::wait_until");
        while !self.wait_turn(&mut cond, |me| {
            if point::sleep(me, || !is_waiting(me)) {
                return;
            }
            while is_waiting(me) {
                threads().park();
            }
        }) {}
    }

    /// As [`WaitQueue::wait_until`], for at most about `ns` nanoseconds. True if `cond` was.
    ///
    /// # Panics
    /// In checked builds, if the caller must not sleep.
    pub fn wait_until_timeout(&self, ns: u64, mut cond: impl FnMut() -> bool) -> bool {
        might_sleep("WaitQueue::wait_until_timeout");
        let end = threads().now_ns().saturating_add(ns);
        let mut timed_out = false;
        loop {
            let done = self.wait_turn(&mut cond, |me| {
                // The explorer has no clock: for an actor the time may be over at once.
                point::at(PointKind::Wake, AccessKind::Write, || {
                    point::object(class::SLEEP, u64::from(me.0))
                });
                timed_out = point::exploring();
                while is_waiting(me) && !timed_out {
                    let now = threads().now_ns();
                    timed_out = now >= end;
                    if !timed_out {
                        threads().park_timeout(end - now);
                    }
                }
            });
            if done || timed_out {
                return done;
            }
        }
    }

    /// One enqueue, `sleep`, dequeue; true when `cond` was true.
    fn wait_turn(&self, cond: &mut impl FnMut() -> bool, sleep: impl FnOnce(TaskId)) -> bool {
        if cond() {
            return true;
        }
        let me = {
            let _g = self.lock();
            self.list.push_current(wait::QUEUED)
        };
        // Pairs with the fence in `wake`.
        if !broken(Twin::WaitNoFence) {
            fence(Ordering::SeqCst);
        }
        if !broken(Twin::WaitOnce) && cond() {
            self.leave();
            return true;
        }
        sleep(me);
        if is_waiting(me) {
            // Timed out.
            self.leave();
        }
        // Out of the queue: the last chance of a timed wait, whichever of wake-up and time-out came
        // first.
        cond()
    }

    /// Leaves the queue without having slept to the end; a wake-up already spent on the caller goes
    /// to the next.
    fn leave(&self) {
        let left = {
            let _g = self.lock();
            self.list.remove_current()
        };
        if !left && !broken(Twin::LeaveKeeps) {
            self.wake(1);
        }
    }

    /// Wakes the longest waiter; true if there was one. Any context.
    pub fn wake_one(&self) -> bool {
        self.wake(1) == 1
    }

    /// Wakes every thread that waits now; returns how many. Any context.
    pub fn wake_all(&self) -> usize {
        self.wake(usize::MAX)
    }

    /// Nobody waits; only a hint.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn wake(&self, most: usize) -> usize {
        // Pairs with the fence in `wait_turn`: the waker's store of the condition is before this
        // load.
        if !broken(Twin::WakeNoFence) {
            fence(Ordering::SeqCst);
        }
        point::touch(AccessKind::Read, || self.lock.object());
        if self.list.is_empty() {
            return 0;
        }
        self.wake_slow(most)
    }

    #[cold]
    fn wake_slow(&self, most: usize) -> usize {
        let mut woken = 0;
        let mut left = most.min(self.lock_len());
        while left > 0 {
            let mut batch = [TaskId(0); BATCH];
            let mut n = 0;
            {
                let _g = self.lock();
                while n < left.min(BATCH) {
                    let Some(t) = self.list.pop() else { break };
                    batch[n] = t;
                    n += 1;
                }
            }
            for &t in &batch[..n] {
                if !point::unpark(t) {
                    threads().unpark(t);
                }
            }
            woken += n;
            left = if n < BATCH { 0 } else { left - n };
        }
        woken
    }

    /// Waiters now: later ones are not woken by a `wake_all` already under way, so that it ends.
    fn lock_len(&self) -> usize {
        let _g = self.lock();
        self.list.len()
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    const ROUNDS: usize = if cfg!(miri) { 5 } else { 500 };

    #[test]
    fn true_condition_returns_at_once() {
        let q = WaitQueue::new();
        q.wait_until(|| true);
        assert!(q.wait_until_timeout(0, || true));
        assert!(q.is_empty() && !q.wake_one());
    }

    #[test]
    fn timeout_leaves_the_queue() {
        let q = WaitQueue::new();
        assert!(!q.wait_until_timeout(1_000_000, || false));
        assert!(q.is_empty());
    }

    #[test]
    fn a_wakeup_at_the_last_moment_is_no_timeout() {
        let q = WaitQueue::new();
        let go = AtomicBool::new(false);
        let woken_at_the_end = |_| {
            go.store(true, Ordering::Release);
            assert!(q.wake_one());
        };
        assert!(q.wait_turn(&mut || go.load(Ordering::Acquire), woken_at_the_end));
        assert!(q.is_empty());
    }

    #[test]
    fn no_wakeup_is_lost_in_ping_pong() {
        let (ping, pong) = (WaitQueue::new(), WaitQueue::new());
        let turn = AtomicUsize::new(0);
        std::thread::scope(|s| {
            s.spawn(|| {
                for i in 0..ROUNDS {
                    ping.wait_until(|| turn.load(Ordering::Acquire) == 2 * i + 1);
                    turn.store(2 * i + 2, Ordering::Release);
                    pong.wake_one();
                }
            });
            for i in 0..ROUNDS {
                turn.store(2 * i + 1, Ordering::Release);
                ping.wake_one();
                pong.wait_until(|| turn.load(Ordering::Acquire) == 2 * i + 2);
            }
        });
        assert!(ping.is_empty() && pong.is_empty());
    }

    #[test]
    fn a_wakeup_that_was_not_needed_goes_to_the_next_waiter() {
        let q = WaitQueue::new();
        let go = AtomicBool::new(false);
        let asked = AtomicUsize::new(0);
        std::thread::scope(|s| {
            let mut first = true;
            // The second look of the first waiter, which is queued by then: another one queues
            // behind it and has found its own condition false twice; then the only wake-up hits the
            // first.
            let cond = || {
                if std::mem::take(&mut first) {
                    return false;
                }
                s.spawn(|| {
                    q.wait_until(|| {
                        asked.fetch_add(1, Ordering::AcqRel);
                        go.load(Ordering::Acquire)
                    });
                });
                while asked.load(Ordering::Acquire) < 2 {
                    std::thread::yield_now();
                }
                go.store(true, Ordering::Release);
                q.wake_one()
            };
            assert!(q.wait_turn(&mut { cond }, |_| unreachable!("the condition was true")));
            let passed_on = q.is_empty();
            // Lets the other thread end in any case.
            q.wake_all();
            assert!(passed_on);
        });
    }

    #[test]
    fn each_token_of_wake_one_reaches_a_taker() {
        // As many wake-ups as tokens: a wake-up spent on a thread that did not need it must travel
        // on.
        let q = WaitQueue::new();
        let tokens = AtomicUsize::new(0);
        let taken = AtomicUsize::new(0);
        let take = || {
            tokens
                .try_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
        };
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for _ in 0..ROUNDS {
                        q.wait_until(take);
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..3 * ROUNDS {
                tokens.fetch_add(1, Ordering::Release);
                q.wake_one();
            }
        });
        assert_eq!(taken.load(Ordering::Relaxed), 3 * ROUNDS);
    }

    #[test]
    fn wake_all_from_a_handler_wakes_more_than_a_batch() {
        const N: usize = BATCH + 4;
        let q = WaitQueue::new();
        let go = AtomicBool::new(false);
        std::thread::scope(|s| {
            for _ in 0..N {
                s.spawn(|| q.wait_until(|| go.load(Ordering::Acquire)));
            }
            while q.lock_len() < N {
                std::thread::yield_now();
            }
            go.store(true, Ordering::Release);
            let _irq = irq::disable();
            let _h = irq::handler();
            // Queued threads that have not slept yet may see the flag by themselves; the others end
            // only if they are woken, every one.
            q.wake_all();
        });
        assert!(q.is_empty());
    }
}
