//! What was evicted, and when: a table of fixed size that remembers about as many evictions as it
//! has cells.
//!
//! An entry is the key of a page, the age at its eviction, and one bit. Keys are hashed to buckets
//! of [`WAYS`] cells; a new entry takes the place of the same key's, of none, or of the bucket's
//! oldest. So it can forget, and it can take one page for another (about once in 2²⁹): good enough
//! for a guess.
//!
//! No lock: every cell is one atomic word. Two that write one bucket at a time may lose one of the
//! entries. Never sleeps, never allocates: the caller lends the cells.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Cells of a bucket.
pub const WAYS: usize = 4;

/// What is remembered of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shadow {
    /// The age at its eviction; the two highest bits are not kept.
    pub age: u32,
    /// The caller's.
    pub bit: bool,
}

const AGE_MASK: u32 = (1 << 30) - 1;
/// Set in the tag of every entry: an empty cell is 0.
const TAGGED: u32 = 1 << 31;

/// How much `now` is later than `then`, two ages that wrap.
#[inline]
pub const fn distance(now: u32, then: u32) -> u32 {
    now.wrapping_sub(then) & AGE_MASK
}

impl Shadow {
    /// Reads what [`Shadow::to_bits`] made.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self {
            age: (bits >> 1) & AGE_MASK,
            bit: bits & 1 != 0,
        }
    }
    /// As 31 bits.
    #[inline]
    pub const fn to_bits(self) -> u32 {
        ((self.age & AGE_MASK) << 1) | self.bit as u32
    }
}

/// The bucket of a key, and what marks its entry there; `None` when there are no cells.
#[inline]
fn place(cells: &[AtomicU64], key: u64) -> Option<(&[AtomicU64], u64)> {
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The upper half decides on the bucket; the lower one, mixed, is the tag.
    let buckets = (cells.len() / WAYS) as u64;
    let first = (((hash >> 32) * buckets) >> 32) as usize * WAYS;
    let tag = ((hash ^ (hash >> 29)) as u32 | TAGGED).into();
    Some((cells.get(first..first + WAYS)?, tag))
}

/// Remembers an eviction that happens now, at the age of `shadow`.
#[inline]
pub fn remember(cells: &[AtomicU64], key: u64, shadow: Shadow) {
    let Some((bucket, tag)) = place(cells, key) else {
        return;
    };
    // An empty cell counts as older than any entry.
    let rank = |cell: u64| match cell {
        0 => u32::MAX - 1,
        _ if cell >> 32 == tag => u32::MAX,
        _ => distance(shadow.age, Shadow::from_bits(cell as u32).age),
    };
    if let Some(cell) = bucket.iter().max_by_key(|c| rank(c.load(Relaxed))) {
        cell.store((tag << 32) | u64::from(shadow.to_bits()), Relaxed);
    }
}

/// What is remembered of the last eviction of `key`, which is forgotten by that.
#[inline]
pub fn recall(cells: &[AtomicU64], key: u64) -> Option<Shadow> {
    let (bucket, tag) = place(cells, key)?;
    for cell in bucket {
        let found = cell.load(Relaxed);
        if found >> 32 == tag {
            cell.store(0, Relaxed);
            return Some(Shadow::from_bits(found as u32));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, steps};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn table(cells: usize) -> Vec<AtomicU64> {
        (0..cells).map(|_| AtomicU64::new(0)).collect()
    }

    fn at(age: u32) -> Shadow {
        Shadow { age, bit: false }
    }

    #[test]
    fn without_cells_nothing_is_remembered() {
        for cells in 0..WAYS {
            let t = table(cells);
            remember(&t, 7, at(1));
            assert_eq!(recall(&t, 7), None);
        }
    }

    #[test]
    fn ages_wrap() {
        assert_eq!(distance(3, 1), 2);
        assert_eq!(distance(1, AGE_MASK), 2);
        assert_eq!(distance(1 << 30 | 5, 5), 0);
        let t = table(WAYS);
        let shadow = Shadow {
            age: AGE_MASK,
            bit: true,
        };
        remember(&t, 0, shadow);
        assert_eq!(recall(&t, 0), Some(shadow));
    }

    #[test]
    fn the_oldest_of_a_bucket_goes_first() {
        let t = table(WAYS);
        // Across the wrap.
        let age = |key: u64| (AGE_MASK - 3).wrapping_add(key as u32) & AGE_MASK;
        for key in 0..=WAYS as u64 {
            remember(&t, key, at(age(key)));
        }
        assert_eq!(recall(&t, 0), None);
        for key in 1..=WAYS as u64 {
            assert_eq!(recall(&t, key), Some(at(age(key))));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "statistics of 20,000 evictions")]
    fn most_of_the_last_evictions_are_remembered() {
        let t = table(4096);
        // Two files, read through alternately, as pages of two address ranges.
        let key = |i: u32| u64::from(i % 2 + 1) << 32 | u64::from(i / 2);
        for i in 0..20_000 {
            remember(&t, key(i), at(i));
        }
        let known = |ages: core::ops::Range<u32>| {
            let n = ages.len();
            let known = ages.filter(|&i| recall(&t, key(i)) == Some(at(i))).count();
            known * 100 / n
        };
        assert!(known(18_000..20_000) >= 85, "half a table back");
        assert!(known(0..8_000) <= 5, "three tables back");
    }

    proptest! {
        #![proptest_config(config(200))]
        #[test]
        fn an_entry_is_what_was_remembered_last(
            ops in prop::collection::vec((any::<bool>(), 0u64..40, any::<bool>()), 1..steps(300)),
        ) {
            let t = table(64);
            let mut model = BTreeMap::new();
            for (age, (add, key, bit)) in (0u32..).zip(ops) {
                if add {
                    let shadow = Shadow { age, bit };
                    remember(&t, key, shadow);
                    model.insert(key, shadow);
                } else {
                    let expected = model.remove(&key);
                    let found = recall(&t, key);
                    prop_assert!(found.is_none() || found == expected, "{found:?}, not {expected:?}");
                }
            }
        }
    }
}
