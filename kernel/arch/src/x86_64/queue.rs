//! A CPU's run queue and its timers: lists of threads linked through the thread table.
//!
//! Locks: rank RunQueue, one per CPU, irq-safe, never two at a time. Never sleeps. What a queue
//! holds is ready to run and on no CPU, except a thread that is just being switched away from
//! (`on_cpu`), which only its own CPU may take.

use core::sync::atomic::{AtomicUsize, Ordering};

use sync::{IrqSpinLock, Rank};

use super::thread::{NIL, thread};
use super::{MAX_X86_CPUS, apic, time};

/// How long a thread runs while others wait for its CPU.
pub(super) const SLICE_NS: u64 = 4_000_000;
/// No event is due.
pub(super) const NEVER: u64 = u64::MAX;
/// The timer is never set further ahead than this.
const FAR_NS: u64 = 1_000_000_000;

/// One CPU's queue.
pub(super) struct Queue {
    cpu: usize,
    head: u16,
    tail: u16,
    len: usize,
    /// The thread that runs here.
    pub(super) current: u16,
    /// Sleeping threads by deadline.
    timers: u16,
    /// When the running thread's slice ends; [`NEVER`] while nobody waits.
    pub(super) slice_end: u64,
    /// When the timer is set to go off.
    programmed: u64,
}

static QUEUES: [IrqSpinLock<Queue>; MAX_X86_CPUS] = {
    let mut queues = [const { IrqSpinLock::new(Rank::RunQueue, Queue::new(0)) }; MAX_X86_CPUS];
    let mut cpu = 0;
    while cpu < MAX_X86_CPUS {
        queues[cpu] = IrqSpinLock::new(Rank::RunQueue, Queue::new(cpu));
        cpu += 1;
    }
    queues
};

/// Lengths, to be looked at without the lock.
static LEN: [AtomicUsize; MAX_X86_CPUS] = [const { AtomicUsize::new(0) }; MAX_X86_CPUS];

/// The queue of `cpu`.
pub(super) fn queue(cpu: usize) -> &'static IrqSpinLock<Queue> {
    &QUEUES[cpu]
}

/// Threads waiting for `cpu`, as of some moment.
pub(super) fn waiting(cpu: usize) -> usize {
    LEN[cpu].load(Ordering::Relaxed)
}

impl Queue {
    const fn new(cpu: usize) -> Self {
        Self {
            cpu,
            head: NIL,
            tail: NIL,
            len: 0,
            current: cpu as u16,
            timers: NIL,
            slice_end: NEVER,
            programmed: NEVER,
        }
    }

    fn set_len(&mut self, len: usize) {
        self.len = len;
        LEN[self.cpu].store(len, Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The idle thread runs here.
    pub(super) fn is_idle(&self) -> bool {
        self.current as usize == self.cpu
    }

    pub(super) fn push(&mut self, t: u16) {
        thread(t).next.store(NIL, Ordering::Relaxed);
        match self.tail {
            NIL => self.head = t,
            last => thread(last).next.store(t, Ordering::Relaxed),
        }
        self.tail = t;
        self.set_len(self.len + 1);
    }

    pub(super) fn pop(&mut self) -> Option<u16> {
        self.take(|_| true)
    }

    /// Takes the first thread that `wanted` accepts.
    pub(super) fn take(&mut self, wanted: impl Fn(u16) -> bool) -> Option<u16> {
        let (mut before, mut at) = (NIL, self.head);
        while at != NIL && !wanted(at) {
            before = at;
            at = thread(at).next.load(Ordering::Relaxed);
        }
        if at == NIL {
            return None;
        }
        let next = thread(at).next.load(Ordering::Relaxed);
        match before {
            NIL => self.head = next,
            b => thread(b).next.store(next, Ordering::Relaxed),
        }
        if next == NIL {
            self.tail = before;
        }
        self.set_len(self.len - 1);
        Some(at)
    }

    /// Puts `t` among the sleepers.
    pub(super) fn add_timer(&mut self, t: u16, deadline: u64) {
        thread(t).deadline.store(deadline, Ordering::Relaxed);
        let (mut before, mut at) = (NIL, self.timers);
        while at != NIL && thread(at).deadline.load(Ordering::Relaxed) <= deadline {
            before = at;
            at = thread(at).timer_next.load(Ordering::Relaxed);
        }
        thread(t).timer_next.store(at, Ordering::Relaxed);
        match before {
            NIL => self.timers = t,
            b => thread(b).timer_next.store(t, Ordering::Relaxed),
        }
        self.program(deadline);
    }

    /// Takes `t` out of the sleepers, if it still is among them.
    pub(super) fn remove_timer(&mut self, t: u16) {
        let (mut before, mut at) = (NIL, self.timers);
        while at != NIL && at != t {
            before = at;
            at = thread(at).timer_next.load(Ordering::Relaxed);
        }
        if at == NIL {
            return;
        }
        let next = thread(t).timer_next.load(Ordering::Relaxed);
        match before {
            NIL => self.timers = next,
            b => thread(b).timer_next.store(next, Ordering::Relaxed),
        }
    }

    /// Takes a sleeper whose time has come.
    pub(super) fn pop_timer(&mut self, now: u64) -> Option<u16> {
        let first = self.timers;
        if first == NIL || thread(first).deadline.load(Ordering::Relaxed) > now {
            return None;
        }
        self.timers = thread(first).timer_next.load(Ordering::Relaxed);
        Some(first)
    }

    /// Starts the running thread's slice if somebody waits and none runs; ends it if nobody does.
    /// On this queue's CPU.
    pub(super) fn update_slice(&mut self) {
        if self.is_empty() || self.is_idle() {
            self.slice_end = NEVER;
        } else if self.slice_end == NEVER {
            self.slice_end = time::now_ns() + SLICE_NS;
            self.program(self.slice_end);
        }
    }

    /// Sets this CPU's timer to go off at `at`, unless it will earlier. On this queue's CPU.
    fn program(&mut self, at: u64) {
        if at >= self.programmed {
            return;
        }
        self.programmed = at;
        let ahead = at.saturating_sub(time::now_ns()).min(FAR_NS);
        apic::start_timer(time::timer_ticks(ahead));
    }

    /// The timer went off: set it for what comes next.
    pub(super) fn reprogram(&mut self) {
        self.programmed = NEVER;
        let sleeper = match self.timers {
            NIL => NEVER,
            t => thread(t).deadline.load(Ordering::Relaxed),
        };
        let next = sleeper.min(self.slice_end);
        if next != NEVER {
            self.program(next);
        }
    }
}
