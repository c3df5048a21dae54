//! Tests of `tree`. Locks: none, one thread. Does not sleep.

use super::*;
use crate::testing::{TreeCells, config, steps};
use core::cell::Cell;
use proptest::prelude::*;
use std::vec::Vec;

/// Elements with a key, a weight, and the weight of the subtree as their datum.
struct Weighted {
    links: TreeCells,
    key: Vec<Cell<u32>>,
    weight: Vec<Cell<u32>>,
    sum: Vec<Cell<u32>>,
}

crate::testing::forward_tree_links!(Weighted, links);

impl Weighted {
    fn new(n: usize) -> Self {
        let cells = || (0..n).map(|_| Cell::new(0)).collect();
        let (key, weight, sum) = (cells(), cells(), cells());
        let links = TreeCells::new(n);
        Self {
            links,
            key,
            weight,
            sum,
        }
    }
    fn sum(&self, i: u32) -> u32 {
        if i == NIL {
            0
        } else {
            self.sum[i as usize].get()
        }
    }
}

impl Nodes for Weighted {
    fn before(&self, a: u32, b: u32) -> bool {
        self.key[a as usize].get() < self.key[b as usize].get()
    }
    fn augment(&self, i: u32) -> bool {
        let at = i as usize;
        let new = self.weight[at].get() + self.sum(self.left(i)) + self.sum(self.right(i));
        self.sum[at].replace(new) != new
    }
}

fn depth(t: &Root, n: &Weighted) -> u32 {
    let up = |mut i| {
        let mut d = 0;
        while i != NIL {
            i = n.parent(i);
            d += 1;
        }
        d
    };
    t.iter(n).map(up).max().unwrap_or(0)
}

#[test]
fn ascending_insertion_is_balanced() {
    let size = if cfg!(miri) { 60 } else { 3000 };
    let n = Weighted::new(size as usize);
    let mut t = Root::new();
    for i in 0..size {
        n.key[i as usize].set(i);
        n.weight[i as usize].set(1);
        t.insert(&n, i);
    }
    assert_eq!(t.validate(&n), Ok(size));
    assert_eq!(n.sum(t.id()), size);
    assert!(t.iter(&n).eq(0..size));
    // Insertions alone make an AVL tree: 1.44 log2 n.
    assert!(depth(&t, &n) <= size.ilog2() * 3 / 2 + 1);
    for i in 0..size * 7 / 8 {
        t.remove(&n, i);
    }
    assert_eq!(t.validate(&n), Ok(size / 8 + u32::from(size % 8 != 0)));
    assert!(depth(&t, &n) <= 2 * (size / 8).ilog2() + 2);
}

#[test]
fn validate_sees_each_kind_of_damage() {
    let damaged = |harm: &dyn Fn(&Weighted, u32)| {
        let n = Weighted::new(16);
        let mut t = Root::new();
        for i in 0..15 {
            n.key[i as usize].set(i);
            t.insert(&n, i);
        }
        assert_eq!(t.validate(&n), Ok(15));
        harm(&n, t.id());
        t.validate(&n).expect_err("unnoticed").what
    };
    assert!(damaged(&|n, _| n.key[3].set(9)).contains("order"));
    assert!(damaged(&|n, _| n.weight[3].set(9)).contains("datum"));
    assert!(damaged(&|n, r| n.set_rank(r, 9)).contains("rank rule"));
    let raise = |n: &Weighted, i: u32| n.set_rank(i, n.rank(i) + 1);
    assert!(damaged(&|n, _| [0, 1, 3, 7].into_iter().for_each(|i| raise(n, i))).contains("leaf"));
    assert!(damaged(&|n, r| n.set_parent(r, 3)).contains("root"));
    assert!(damaged(&|n, r| n.set_left(0, r)).contains("another parent"));
    assert!(damaged(&|n, r| n.set_parent(n.left(r), 0)).contains("another parent"));
}

proptest! {
    #![proptest_config(config(300))]
    #[test]
    fn behaves_like_a_sorted_vector(ops in prop::collection::vec((0u8..8, 0u32..48, 0u32..20, 0u32..9), 0..steps(250))) {
        let n = Weighted::new(48);
        let mut t = Root::new();
        let mut model: Vec<(u32, u32)> = Vec::new();
        for (op, i, key, weight) in ops {
            let on = model.iter().position(|&(_, x)| x == i);
            match (op, on) {
                (0..=3, None) => {
                    n.key[i as usize].set(key);
                    n.weight[i as usize].set(weight);
                    t.insert(&n, i);
                    model.insert(model.partition_point(|&(k, _)| k <= key), (key, i));
                }
                (4..=6, Some(at)) => {
                    t.remove(&n, i);
                    model.remove(at);
                }
                (7, Some(_)) => {
                    n.weight[i as usize].set(weight);
                    t.update(&n, i);
                }
                _ => {
                    let cut = model.partition_point(|&(k, _)| k < key);
                    let less = |x: u32| n.key[x as usize].get() < key;
                    prop_assert_eq!(t.lower_bound(&n, less), model.get(cut).map(|e| e.1));
                    prop_assert_eq!(t.last_before(&n, less), model[..cut].last().map(|e| e.1));
                }
            }
            prop_assert_eq!(t.validate(&n), Ok(model.len() as u32));
            prop_assert_eq!(t.first(&n), model.first().map(|e| e.1));
            prop_assert_eq!(t.last(&n), model.last().map(|e| e.1));
            prop_assert!(t.iter(&n).eq(model.iter().map(|e| e.1)));
            prop_assert_eq!(n.sum(t.id()), model.iter().map(|e| n.weight[e.1 as usize].get()).sum());
        }
        for pair in model.windows(2) {
            prop_assert_eq!(prev(&n, pair[1].1), Some(pair[0].1));
        }
        if let Some(first) = model.first() {
            prop_assert_eq!(prev(&n, first.1), None);
        }
    }
}
