//! Storage for the tests: plain cells behind the accessor traits. Locks: none, one thread. Does not
//! sleep.

use crate::{Links, NIL};
use core::cell::Cell;
use proptest::test_runner::Config;
use std::vec::Vec;

/// A bounded run: few cases under Miri (a thousand times slower), no regression files anywhere.
pub(crate) fn config(cases: u32) -> Config {
    Config {
        cases: if cfg!(miri) { 2 } else { cases },
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    }
}

/// The most steps in one run of a model test.
pub(crate) fn steps(most: usize) -> usize {
    if cfg!(miri) { most / 10 } else { most }
}

/// Link cells for ids `0..n`, holding nonsense at first: nothing may depend on what an element off
/// every list holds.
pub(crate) struct Cells {
    next: Vec<Cell<u32>>,
    prev: Vec<Cell<u32>>,
    order: Vec<Cell<Option<u8>>>,
}

impl Cells {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            next: (0..n).map(|i| Cell::new(i as u32 ^ 0x55)).collect(),
            prev: (0..n).map(|i| Cell::new(i as u32 ^ 0xaa)).collect(),
            order: (0..n).map(|_| Cell::new(None)).collect(),
        }
    }
}

impl Links for Cells {
    fn next(&self, i: u32) -> u32 {
        self.next[i as usize].get()
    }
    fn set_next(&self, i: u32, to: u32) {
        assert!(to == NIL || (to as usize) < self.next.len());
        self.next[i as usize].set(to);
    }
    fn prev(&self, i: u32) -> u32 {
        self.prev[i as usize].get()
    }
    fn set_prev(&self, i: u32, to: u32) {
        assert!(to == NIL || (to as usize) < self.prev.len());
        self.prev[i as usize].set(to);
    }
}

impl crate::buddy::Frames for Cells {
    fn free_order(&self, pfn: u32) -> Option<u8> {
        self.order[pfn as usize].get()
    }
    fn set_free(&self, pfn: u32, order: u8) {
        self.order[pfn as usize].set(Some(order));
    }
    fn clear_free(&self, pfn: u32) {
        self.order[pfn as usize].set(None);
    }
}

/// Tree link cells for ids `0..n`, holding nonsense at first.
pub(crate) struct TreeCells {
    left: Vec<Cell<u32>>,
    right: Vec<Cell<u32>>,
    parent: Vec<Cell<u32>>,
    rank: Vec<Cell<u8>>,
}

impl TreeCells {
    pub(crate) fn new(n: usize) -> Self {
        let junk = |x: u32| (0..n).map(|i| Cell::new(i as u32 ^ x)).collect();
        Self {
            left: junk(1),
            right: junk(2),
            parent: junk(3),
            rank: (0..n).map(|_| Cell::new(77)).collect(),
        }
    }
}

impl crate::tree::TreeLinks for TreeCells {
    fn left(&self, i: u32) -> u32 {
        self.left[i as usize].get()
    }
    fn set_left(&self, i: u32, to: u32) {
        self.left[i as usize].set(to);
    }
    fn right(&self, i: u32) -> u32 {
        self.right[i as usize].get()
    }
    fn set_right(&self, i: u32, to: u32) {
        self.right[i as usize].set(to);
    }
    fn parent(&self, i: u32) -> u32 {
        self.parent[i as usize].get()
    }
    fn set_parent(&self, i: u32, to: u32) {
        self.parent[i as usize].set(to);
    }
    fn rank(&self, i: u32) -> u8 {
        self.rank[i as usize].get()
    }
    fn set_rank(&self, i: u32, to: u8) {
        self.rank[i as usize].set(to);
    }
}

/// `TreeLinks` for a test type by way of one of its fields.
macro_rules! forward_tree_links {
    ($type:ty, $field:ident) => {
        impl $crate::tree::TreeLinks for $type {
            fn left(&self, i: u32) -> u32 {
                self.$field.left(i)
            }
            fn set_left(&self, i: u32, to: u32) {
                self.$field.set_left(i, to);
            }
            fn right(&self, i: u32) -> u32 {
                self.$field.right(i)
            }
            fn set_right(&self, i: u32, to: u32) {
                self.$field.set_right(i, to);
            }
            fn parent(&self, i: u32) -> u32 {
                self.$field.parent(i)
            }
            fn set_parent(&self, i: u32, to: u32) {
                self.$field.set_parent(i, to);
            }
            fn rank(&self, i: u32) -> u8 {
                self.$field.rank(i)
            }
            fn set_rank(&self, i: u32, to: u8) {
                self.$field.set_rank(i, to);
            }
        }
    };
}
pub(crate) use forward_tree_links;
