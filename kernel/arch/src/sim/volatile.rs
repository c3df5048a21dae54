//! The volatile cache of a simulated disk: what was written and not flushed may be lost when the
//! power fails.
//!
//! The disk's words always hold the newest data; this remembers, for each sector written since the
//! last flush, what was there at that flush. No locks: the disk's mutex guards it. Never sleeps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::disk::WORDS_PER_SECTOR;

/// The sectors written since the last flush, with their durable content.
#[derive(Default)]
pub(super) struct Volatile(BTreeMap<usize, [u64; WORDS_PER_SECTOR]>);

impl Volatile {
    /// The sectors of `disk` from word `at` on, `words` long, are about to be written.
    pub(super) fn before_write(&mut self, disk: &[AtomicU64], at: usize, words: usize) {
        for first in (at..at + words).step_by(WORDS_PER_SECTOR) {
            let durable = || core::array::from_fn(|i| disk[first + i].load(Relaxed));
            self.0.entry(first).or_insert_with(durable);
        }
    }

    /// Everything written is durable.
    pub(super) fn flush(&mut self) {
        self.0.clear();
    }

    /// The power fails: some sectors lose what was written since the last flush. `seed` says which,
    /// and how many: from none to all.
    pub(super) fn cut(&mut self, disk: &[AtomicU64], seed: u64) {
        let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            // xorshift64
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            rng >> 32
        };
        let lost_of_8 = next() % 9;
        for (first, durable) in core::mem::take(&mut self.0) {
            if next() % 8 < lost_of_8 {
                for (word, old) in disk[first..].iter().zip(durable) {
                    word.store(old, Relaxed);
                }
            }
        }
    }
}
