//! The broken twins: rules of the primitives that a model test breaks, one at a time, to see that it would notice.
//!
//! Without the feature `loom` a rule cannot be broken: [`broken`] is the constant `false`. Takes no lock.

use core::sync::atomic::Ordering;

/// One rule, broken.
#[cfg_attr(not(feature = "loom"), expect(unreachable_pub))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Twin {
    /// A spin lock is taken by a load and a store.
    SpinTwoSteps,
    /// A spin lock is given back without Release.
    SpinRelaxed,
    /// A waiter does not ask for the condition again once it is queued.
    WaitOnce,
    /// No fence between a waiter's entry in the queue and its second look at the condition.
    WaitNoFence,
    /// No fence between the waker's store of the condition and its look at the queue.
    WakeNoFence,
    /// Who leaves the queue keeps a wake-up that was meant for any waiter.
    LeaveKeeps,
    /// A thread is marked woken without Release.
    PopRelaxed,
    /// A thread queues for a semaphore without looking once more whether it is free.
    SemQueueBlind,
    /// The last reader does not hand the semaphore over.
    SemLastReader,
    /// The hand-over takes the semaphore without Acquire.
    SemGrantRelaxed,
    /// A hand-over to the head of the queue does not look who is inside.
    SemGrantBlind,
    /// A reader gives the semaphore back without Release.
    SemUpRelaxed,
    /// A downgrade does not let queued readers in.
    DowngradeAlone,
    /// A downgrade gives the semaphore back before it takes it as a reader.
    DowngradeGap,
}

#[cfg(not(feature = "loom"))]
#[inline(always)]
pub(crate) const fn broken(_: Twin) -> bool {
    false
}

#[cfg(feature = "loom")]
pub(crate) use crate::model::broken;

/// `order`, or Relaxed with `twin` broken.
#[inline(always)]
pub(crate) fn order_of(twin: Twin, order: Ordering) -> Ordering {
    if broken(twin) {
        Ordering::Relaxed
    } else {
        order
    }
}
