//! The broken twins: rules of the primitives that a model test breaks, one at a time, to see that
//! it would notice.
//!
//! Without the feature `loom` a rule cannot be broken: [`broken`] is the constant `false`. Takes no
//! lock.

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
    /// A flusher bumps the generation without Release.
    BumpRelaxed,
    /// No fence between a flusher's bump and its look at who is to be asked.
    BumpNoFence,
    /// A flusher looks at the mask without Acquire.
    MaskRelaxed,
    /// A CPU enters the mask when it has the root loaded.
    EnterLate,
    /// No fence between a CPU's entry in the mask and its first walk.
    EnterNoFence,
    /// A CPU looks at the generation without Acquire.
    SeenRelaxed,
    /// No fence between the end of a CPU's laziness and its look at the generation.
    AwakeNoFence,
    /// A CPU that is not lazy any more does not look at the generation.
    AwakeBlind,
    /// A CPU leaves the mask without Release.
    LeaveRelaxed,
    /// A CPU leaves the mask before it has another root.
    LeaveEarly,
    /// A CPU turns lazy without Release.
    LazyRelaxed,
    /// A flusher looks without Acquire whether a CPU is lazy.
    SpareRelaxed,
    /// Lazy CPUs are spared also when tables are freed.
    SpareWalkers,
    /// A CPU flushes no more than a request asks for, though it has missed earlier ones.
    MissedBefore,
    /// The same, though there are later ones.
    MissedAfter,
    /// A request is posted without Release.
    PostRelaxed,
    /// A mailbox is emptied without Acquire.
    TakeRelaxed,
    /// A request is acknowledged without Release.
    AcknowledgeRelaxed,
    /// A sender waits for the acknowledgements without Acquire.
    AcknowledgedRelaxed,
    /// A flusher tells without Release that reclaim's flush is not owed any more.
    FlushedRelaxed,
    /// Whoever asks whether it is owed looks without Acquire.
    OwesRelaxed,
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
