//! Event counters: one word per CPU, so that counting shares no cache line.

use crate::{MAX_CPUS, cpu};
use core::sync::atomic::{AtomicU64, Ordering};

#[repr(align(64))]
struct Line(AtomicU64);

/// A count of events since boot. Adding is one atomic instruction on the CPU's own line, correct
/// even if the thread migrates in the middle.
pub struct Counter([Line; MAX_CPUS]);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self([const { Line(AtomicU64::new(0)) }; MAX_CPUS])
    }

    /// Counts `n` events.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0[cpu::id() % MAX_CPUS]
            .0
            .fetch_add(n, Ordering::Relaxed);
    }

    /// Counts one event.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes `n` off (a gauge; the per-CPU words may wrap, the sum is right).
    #[inline]
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// All CPUs together; exact when nobody counts meanwhile.
    pub fn sum(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |s, l| s.wrapping_add(l.0.load(Ordering::Relaxed)))
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_threads() {
        let c = Counter::new();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..1000).for_each(|_| c.inc()));
            }
        });
        c.sub(500);
        assert_eq!(c.sum(), 3500);
    }
}
