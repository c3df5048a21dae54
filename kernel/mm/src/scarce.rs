//! For the explorer: an allocation of an actor, of a frame or of an object, that is refused, as if
//! memory were out and nothing could be done about it.
//!
//! Without the `lab` feature nothing is. No lock: an actor has a CPU of its own, and its countdown
//! is that CPU's word.

#[cfg(feature = "lab")]
mod lab {
    use core::sync::atomic::{AtomicU32, Ordering};
    use sync::{MAX_CPUS, cpu, point};

    /// Allocations that are still granted to the actor on each CPU, plus 1; 0: all of them.
    static LEFT: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

    /// Of the running actor's allocations in this run, one is refused, after `granted` that are
    /// not.
    pub fn refuse_after(granted: u32) {
        LEFT[cpu::id()].store(granted + 1, Ordering::Relaxed);
    }

    /// The run is over.
    pub(crate) fn forget() {
        LEFT.iter().for_each(|n| n.store(0, Ordering::Relaxed));
    }

    /// This allocation of the running thread is the one.
    #[inline]
    pub(crate) fn is_refused() -> bool {
        point::exploring() && count_down()
    }

    #[cold]
    fn count_down() -> bool {
        let word = &LEFT[cpu::id()];
        let left = word.load(Ordering::Relaxed);
        word.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 1
    }
}

#[cfg(feature = "lab")]
pub use lab::refuse_after;
#[cfg(feature = "lab")]
pub(crate) use lab::{forget, is_refused};

/// This allocation of the running thread is the one.
#[cfg(not(feature = "lab"))]
#[inline(always)]
pub(crate) const fn is_refused() -> bool {
    false
}
