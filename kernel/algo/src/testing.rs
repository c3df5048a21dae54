//! Storage for the tests: plain cells behind the accessor traits. Locks: none, one thread. Does not sleep.

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
