//! Tests of `gap`. Locks: none, one thread. Does not sleep.

use super::*;
use crate::testing::{TreeCells, config, steps};
use core::cell::Cell;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

struct Vmas {
    links: TreeCells,
    range: Vec<Cell<(u64, u64)>>,
    summary: Vec<Cell<Summary>>,
}

crate::testing::forward_tree_links!(Vmas, links);

impl VmaNodes for Vmas {
    fn start(&self, i: u32) -> u64 {
        self.range[i as usize].get().0
    }
    fn end(&self, i: u32) -> u64 {
        self.range[i as usize].get().1
    }
    fn summary(&self, i: u32) -> Summary {
        self.summary[i as usize].get()
    }
    fn set_summary(&self, i: u32, to: Summary) {
        self.summary[i as usize].set(to);
    }
}

fn vmas(ranges: &[(u64, u64)]) -> (Vmas, VmaTree) {
    let n = Vmas {
        links: TreeCells::new(ranges.len()),
        range: ranges.iter().map(|&r| Cell::new(r)).collect(),
        summary: ranges.iter().map(|_| Cell::default()).collect(),
    };
    let mut t = VmaTree::new();
    for (i, &(start, _)) in (0..).zip(ranges) {
        if start != 0 {
            t.insert(&n, i).unwrap();
        }
    }
    (n, t)
}

use Direction::{BottomUp, TopDown};

#[test]
fn lookups() {
    let (n, t) = vmas(&[(30, 40), (10, 20), (40, 50)]);
    assert_eq!(t.validate(&n), Ok(3));
    assert_eq!(
        [9, 10, 19, 20, 39, 40, 50].map(|a| t.find(&n, a)),
        [Some(1), Some(1), Some(1), Some(0), Some(0), Some(2), None]
    );
    assert_eq!(
        [9, 10, 20, 49].map(|a| t.containing(&n, a)),
        [None, Some(1), None, Some(2)]
    );
    assert_eq!(t.neighbours(&n, 9), (None, Some(1)));
    assert_eq!(t.neighbours(&n, 20), (Some(1), Some(0)));
    assert_eq!(t.neighbours(&n, 45), (Some(0), Some(2)));
    assert_eq!(t.neighbours(&n, 50), (Some(2), None));
    assert_eq!(t.overlapping(&n, 19, 41).collect::<Vec<_>>(), [1, 0, 2]);
    assert_eq!(t.overlapping(&n, 20, 30).count(), 0);
    assert_eq!(t.overlapping(&n, 15, 15).count(), 0);
    assert_eq!((t.first(&n), t.last(&n)), (Some(1), Some(2)));
}

#[test]
fn gaps_at_the_edges() {
    let (n, t) = vmas(&[(10, 20), (30, 40), (45, 50)]);
    let gap = |len, low, high| [BottomUp, TopDown].map(|d| t.find_gap(&n, len, low, high, d));
    assert_eq!(gap(10, 0, 60), [Some(0), Some(50)]);
    assert_eq!(gap(10, 1, 59), [Some(20), Some(20)]);
    assert_eq!(gap(5, 12, 50), [Some(20), Some(40)]);
    assert_eq!(gap(5, 22, 47), [Some(22), Some(40)]);
    assert_eq!(gap(5, 26, 45), [Some(40), Some(40)]);
    assert_eq!(gap(5, 26, 44), [None, None]);
    assert_eq!(gap(11, 10, 50), [None, None]);
    assert_eq!(gap(0, 0, 60), [None, None], "an empty mapping has no place");
    assert_eq!(gap(1, 60, 0), [None, None]);
    assert_eq!(gap(u64::MAX - 50, 0, u64::MAX), [Some(50), Some(50)]);
    let (n, t) = vmas(&[]);
    assert_eq!(t.find_gap(&n, 3, 5, 8, BottomUp), Some(5));
    assert_eq!(t.find_gap(&n, 3, 5, 9, TopDown), Some(6));
    assert_eq!(t.find_gap(&n, 4, 5, 8, TopDown), None);
}

#[test]
fn overlap_is_refused_and_damage_seen() {
    let (n, mut t) = vmas(&[(10, 20), (30, 40), (0, 1)]);
    for (range, with) in [
        ((19, 21), 0),
        ((5, 11), 0),
        ((5, 50), 0),
        ((39, 60), 1),
        ((32, 33), 1),
    ] {
        n.range[2].set(range);
        assert_eq!(t.insert(&n, 2), Err(Overlap { with }));
    }
    assert_eq!(t.validate(&n), Ok(2));
    n.range[0].set((10, 31));
    t.update(&n, 0);
    assert!(t.validate(&n).unwrap_err().what.contains("overlap"));
    n.range[0].set((10, 10));
    t.update(&n, 0);
    assert!(t.validate(&n).unwrap_err().what.contains("empty"));
    n.range[0].set((10, 12));
    assert!(t.validate(&n).unwrap_err().what.contains("datum"));
}

const TOP: u64 = 120;

/// Tries every address.
fn naive_gap(
    model: &BTreeMap<u64, (u64, u32)>,
    len: u64,
    low: u64,
    high: u64,
    d: Direction,
) -> Option<u64> {
    let free = |&a: &u64| model.iter().all(|(&s, &(e, _))| a + len <= s || e <= a);
    let mut fits = (low..high).filter(|a| a + len <= high);
    match d {
        BottomUp => fits.find(free),
        TopDown => fits.rfind(free),
    }
}

proptest! {
    #![proptest_config(config(300))]
    #[test]
    fn agrees_with_a_map(ops in prop::collection::vec((0u8..8, 0u32..32, 0..TOP, 1u64..14), 0..steps(150))) {
        let (n, mut t) = vmas(&[(0, 0); 32]);
        let mut model: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
        for (op, i, start, len) in ops {
            let end = start + len;
            let on = model.values().any(|e| e.1 == i);
            let others_meet = |model: &BTreeMap<u64, (u64, u32)>| {
                model.iter().find(|&(&s, &(e, x))| x != i && s < end && start < e).map(|e| e.1.1)
            };
            match op {
                0..=3 if !on => {
                    n.range[i as usize].set((start, end));
                    match others_meet(&model) {
                        Some(with) => prop_assert_eq!(t.insert(&n, i), Err(Overlap { with })),
                        None => {
                            prop_assert_eq!(t.insert(&n, i), Ok(()));
                            model.insert(start, (end, i));
                        }
                    }
                }
                4 if on => {
                    t.remove(&n, i);
                    model.remove(&n.start(i));
                }
                5 if on => {
                    // Grow or shrink at either end, as far as the neighbours allow.
                    let s = n.start(i);
                    let (lo, _) = model.range(..s).next_back().map_or((0, 0), |(_, &(e, _))| (e, 0));
                    let hi = model.range(s + 1..).next().map_or(TOP + 20, |(&x, _)| x);
                    let new = (start.clamp(lo, hi - 1), end.clamp(lo + 1, hi));
                    if new.0 < new.1 {
                        n.range[i as usize].set(new);
                        t.update(&n, i);
                        model.remove(&s);
                        model.insert(new.0, (new.1, i));
                    }
                }
                _ => {
                    prop_assert_eq!(t.find(&n, start), model.values().find(|e| e.0 > start).map(|e| e.1));
                    let below = model.values().rfind(|e| e.0 <= start).map(|e| e.1);
                    prop_assert_eq!(t.neighbours(&n, start), (below, t.find(&n, start)));
                    let meet = model.iter().filter(|&(&s, &(e, _))| s < end && e > start).map(|e| e.1.1);
                    prop_assert!(t.overlapping(&n, start, end).eq(meet));
                }
            }
            prop_assert_eq!(t.validate(&n), Ok(model.len() as u32));
            prop_assert!(t.iter(&n).eq(model.values().map(|e| e.1)));
            for d in [BottomUp, TopDown] {
                for (low, high) in [(0, TOP + 14), (start, TOP), (0, end), (start / 2, start / 2 + 3 * len)] {
                    let found = t.find_gap(&n, len, low, high, d);
                    prop_assert_eq!(found, naive_gap(&model, len, low, high, d));
                }
            }
        }
    }
}
