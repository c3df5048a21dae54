//! What the page allocator knows of kswapd: where it sleeps, and whether it is worth waking.
//!
//! No lock. How often it ran in vain is one word, which says whether it rests as well: with two,
//! hope that came between the change of one and of the other would be lost, and nobody would wake
//! it any more.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sync::WaitQueue;

/// Where kswapd sleeps.
pub(crate) static KSWAPD: WaitQueue = WaitQueue::new();
/// Its thread was started.
pub(crate) static RUNNING: AtomicBool = AtomicBool::new(false);
/// How it has fared.
pub(crate) static RUNS: Runs = Runs::new();

/// There is somebody to wake.
pub(crate) fn is_running() -> bool {
    RUNNING.load(Ordering::Acquire)
}

/// From so many runs in vain on it rests (Linux: `MAX_RECLAIM_RETRIES`).
const ENOUGH: u32 = 16;

/// Its runs in a row that found nothing to reclaim.
pub(crate) struct Runs {
    in_vain: AtomicU32,
}

/// A run that is under way.
pub(crate) struct Run<'a> {
    runs: &'a Runs,
    before: u32,
}

impl Runs {
    const fn new() -> Self {
        Self {
            in_vain: AtomicU32::new(0),
        }
    }

    /// It has tried in vain often enough: do not wake it for nothing.
    #[inline]
    pub(crate) fn are_enough(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed) >= ENOUGH
    }

    /// Reclaim was of use to somebody, or may be again: it is to be woken as usual.
    pub(crate) fn hope(&self) {
        self.in_vain.store(0, Ordering::Relaxed);
    }

    /// A run begins.
    pub(crate) fn begin(&self) -> Run<'_> {
        Run {
            runs: self,
            before: self.in_vain.load(Ordering::Relaxed),
        }
    }
}

impl Run<'_> {
    /// It ends, and was of use or not. What others hoped meanwhile stands.
    pub(crate) fn end(self, useful: bool) {
        if useful {
            self.runs.hope();
            return;
        }
        let (old, new) = (self.before, self.before + 1);
        let word = &self.runs.in_vain;
        let _ = word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hope_during_the_last_run_is_not_lost() {
        let runs = Runs::new();
        for n in 0..ENOUGH {
            assert!(!runs.are_enough(), "after {n} runs");
            runs.begin().end(false);
        }
        assert!(runs.are_enough());
        runs.hope();
        for _ in 1..ENOUGH {
            runs.begin().end(false);
        }
        let last = runs.begin();
        runs.hope();
        last.end(false);
        assert!(!runs.are_enough());
    }

    #[test]
    fn success_counts() {
        let runs = Runs::new();
        for n in 0..4 * ENOUGH {
            runs.begin().end(n % ENOUGH == 0);
            assert!(!runs.are_enough(), "after {n} runs");
        }
    }
}
