//! A first-in first-out list of threads, linked through the static thread table: no allocation. All
//! methods are called with the lock of the owning queue held, so Relaxed suffices throughout; only
//! the hand-over through [`TaskCtx::wait`](crate::task::TaskCtx) has an ordering of its own.

use crate::atomic::AtomicU16;
use crate::task::{TaskId, ctx, current, wait};
use crate::twin::{Twin, order_of};
use core::sync::atomic::Ordering;

const NIL: u16 = u16::MAX;

pub(crate) struct TaskList {
    head: AtomicU16,
    tail: AtomicU16,
}

impl TaskList {
    pub(crate) const fn new() -> Self {
        Self {
            head: AtomicU16::new(NIL),
            tail: AtomicU16::new(NIL),
        }
    }

    /// Callable without the lock, as a hint.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == NIL
    }

    /// Appends the running thread, waiting as `kind`.
    pub(crate) fn push_current(&self, kind: u8) -> TaskId {
        let me = current();
        let c = ctx(me);
        debug_assert!(
            c.wait.load(Ordering::Relaxed) == wait::IDLE,
            "task {} waits in two queues: the condition of a wait slept",
            me.0
        );
        c.next.store(NIL, Ordering::Relaxed);
        c.wait.store(kind, Ordering::Relaxed);
        let last = self.tail.swap(me.0, Ordering::Relaxed);
        match last {
            NIL => self.head.store(me.0, Ordering::Relaxed),
            last => ctx(TaskId(last)).next.store(me.0, Ordering::Relaxed),
        }
        me
    }

    /// The first thread and what it waits as.
    pub(crate) fn first(&self) -> Option<(TaskId, u8)> {
        match self.head.load(Ordering::Relaxed) {
            NIL => None,
            t => Some((TaskId(t), ctx(TaskId(t)).wait.load(Ordering::Relaxed))),
        }
    }

    /// Takes the first thread out and marks it woken; the caller unparks it after dropping the
    /// lock.
    pub(crate) fn pop(&self) -> Option<TaskId> {
        let (t, _) = self.first()?;
        let next = ctx(t).next.load(Ordering::Relaxed);
        self.head.store(next, Ordering::Relaxed);
        if next == NIL {
            self.tail.store(NIL, Ordering::Relaxed);
        }
        // Release pairs with the Acquire in `is_waiting`: what was done for the thread is visible
        // to it.
        let order = order_of(Twin::PopRelaxed, Ordering::Release);
        ctx(t).wait.store(wait::IDLE, order);
        Some(t)
    }

    /// Takes the running thread out if it is still here; false if it was popped already.
    pub(crate) fn remove_current(&self) -> bool {
        let me = current();
        if ctx(me).wait.load(Ordering::Acquire) == wait::IDLE {
            return false;
        }
        let mut before = NIL;
        let mut at = self.head.load(Ordering::Relaxed);
        while at != me.0 {
            debug_assert!(at != NIL, "task {} is marked queued but not here", me.0);
            before = at;
            at = ctx(TaskId(at)).next.load(Ordering::Relaxed);
        }
        let next = ctx(me).next.load(Ordering::Relaxed);
        match before {
            NIL => self.head.store(next, Ordering::Relaxed),
            b => ctx(TaskId(b)).next.store(next, Ordering::Relaxed),
        }
        if next == NIL {
            self.tail.store(before, Ordering::Relaxed);
        }
        ctx(me).wait.store(wait::IDLE, Ordering::Relaxed);
        true
    }

    pub(crate) fn len(&self) -> usize {
        let mut n = 0;
        let mut at = self.head.load(Ordering::Relaxed);
        while at != NIL {
            n += 1;
            at = ctx(TaskId(at)).next.load(Ordering::Relaxed);
        }
        n
    }
}

/// The thread `t` is still in the queue it entered. The Acquire pairs with the Release in `pop`.
pub(crate) fn is_waiting(t: TaskId) -> bool {
    ctx(t).wait.load(Ordering::Acquire) != wait::IDLE
}
