//! Interval tree over closed ranges `[start, last]` of page indexes: which VMAs map a page (rmap).
//!
//! Ranges may overlap and share a start, as the VMAs of one anonymous page do. A search costs O(log
//! n) for each element found.
//!
//! Locks: the caller's, around every call (searches: at least shared). Never sleeps.
//!
//! Source: Cormen et al., Introduction to Algorithms, 14.3: a tree by start, augmented with the
//! largest end of each subtree.

use crate::tree::view::{Rules, View};
use crate::tree::{Root, TreeLinks};
use crate::{Corrupt, NIL, ensure};

/// Elements with a range and a cell for the subtree's largest `last`.
pub trait IntervalNodes: TreeLinks {
    /// First page index of the range of `i`. Must not change while `i` is in a tree.
    fn start(&self, i: u32) -> u32;
    /// Last page index of the range of `i`; not below [`IntervalNodes::start`]. It may change in a
    /// tree under the lock that excludes searches, if [`IntervalTree::update`] follows.
    fn last(&self, i: u32) -> u32;
    /// The largest `last` in the subtree of `i`; only the tree sets it.
    fn max_last(&self, i: u32) -> u32;
    /// Sets what [`IntervalNodes::max_last`] returns.
    fn set_max_last(&self, i: u32, to: u32);
}

/// Orders by start and keeps `max_last`.
struct ByStart;

impl<N: IntervalNodes + ?Sized> Rules<N> for ByStart {
    #[inline]
    fn before(n: &N, a: u32, b: u32) -> bool {
        n.start(a) < n.start(b)
    }

    #[inline]
    fn augment(n: &N, i: u32) -> bool {
        let mut max = n.last(i);
        for c in [n.left(i), n.right(i)] {
            if c != NIL {
                max = max.max(n.max_last(c));
            }
        }
        let changed = n.max_last(i) != max;
        if changed {
            n.set_max_last(i, max);
        }
        changed
    }
}

fn view<N: ?Sized>(n: &N) -> View<'_, N, ByStart> {
    View::new(n)
}

/// One set of ranges.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct IntervalTree {
    root: Root,
}

impl IntervalTree {
    /// An empty set.
    pub const fn new() -> Self {
        Self { root: Root::new() }
    }

    /// The set whose root element is `id`, for a root that rests in a cell of a record.
    pub const fn from_id(id: u32) -> Self {
        Self {
            root: Root::from_id(id),
        }
    }

    /// The root element, [`NIL`] when empty.
    #[inline]
    pub const fn id(&self) -> u32 {
        self.root.id()
    }

    /// Holds no range.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Inserts `i`, which is in no set, behind the ranges with the same start.
    pub fn insert<N: IntervalNodes + ?Sized>(&mut self, n: &N, i: u32) {
        debug_assert!(n.start(i) <= n.last(i), "range ends before it starts");
        self.root.insert(&view(n), i);
    }

    /// Takes `i`, which is in this set, out of it.
    pub fn remove<N: IntervalNodes + ?Sized>(&mut self, n: &N, i: u32) {
        self.root.remove(&view(n), i);
    }

    /// Makes the set right again after the `last` of `i` changed.
    pub fn update<N: IntervalNodes + ?Sized>(&self, n: &N, i: u32) {
        self.root.update(&view(n), i);
    }

    /// The elements by start.
    pub fn iter<'a, N: IntervalNodes + ?Sized>(
        &'a self,
        n: &'a N,
    ) -> impl Iterator<Item = u32> + use<'a, N> {
        self.root.iter(n)
    }

    /// The elements whose range meets `[first, last]`, by start. None when `first > last`.
    pub fn overlapping<'a, N: IntervalNodes + ?Sized>(
        &'a self,
        n: &'a N,
        first: u32,
        last: u32,
    ) -> Overlapping<'a, N> {
        let id = self.root.id();
        let found = id != NIL && first <= last && n.max_last(id) >= first;
        Overlapping {
            nodes: n,
            first,
            last,
            at: if found {
                search(n, id, first, last)
            } else {
                NIL
            },
        }
    }

    /// Checks the tree and every range, and counts the elements. O(n).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate<N: IntervalNodes + ?Sized>(&self, n: &N) -> Result<u32, Corrupt> {
        let count = self.root.validate(&view(n))?;
        for i in self.iter(n) {
            let ordered = n.start(i) <= n.last(i);
            ensure(ordered, "interval: ends before it starts", i)?;
        }
        Ok(count)
    }
}

/// The first element in the subtree of `i` that meets `[first, last]`, given that `max_last(i) >=
/// first`.
///
/// The first element with an end at or past `first` is the answer or proves that there is none: if
/// it starts past `last`, so does everything behind it.
fn search<N: IntervalNodes + ?Sized>(n: &N, mut i: u32, first: u32, last: u32) -> u32 {
    loop {
        let left = n.left(i);
        if left != NIL && n.max_last(left) >= first {
            i = left;
            continue;
        }
        if n.start(i) > last {
            return NIL;
        }
        if n.last(i) >= first {
            return i;
        }
        // The largest end is neither on the left nor here.
        i = n.right(i);
    }
}

/// The first element behind `i` that meets `[first, last]`.
fn search_after<N: IntervalNodes + ?Sized>(n: &N, mut i: u32, first: u32, last: u32) -> u32 {
    loop {
        let right = n.right(i);
        if right != NIL && n.max_last(right) >= first {
            return search(n, right, first, last);
        }
        let mut from;
        loop {
            from = i;
            i = n.parent(i);
            if i == NIL {
                return NIL;
            }
            if n.left(i) == from {
                break;
            }
        }
        if n.start(i) > last {
            return NIL;
        }
        if n.last(i) >= first {
            return i;
        }
    }
}

/// Elements that meet a range, by start: see [`IntervalTree::overlapping`].
#[derive(Debug)]
pub struct Overlapping<'a, N: ?Sized> {
    nodes: &'a N,
    first: u32,
    last: u32,
    at: u32,
}

impl<N: IntervalNodes + ?Sized> Iterator for Overlapping<'_, N> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.at == NIL {
            return None;
        }
        let i = self.at;
        self.at = search_after(self.nodes, i, self.first, self.last);
        Some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TreeCells, config, steps};
    use core::cell::Cell;
    use proptest::prelude::*;
    use std::vec::Vec;

    struct Ranges {
        links: TreeCells,
        range: Vec<Cell<(u32, u32)>>,
        max: Vec<Cell<u32>>,
    }

    crate::testing::forward_tree_links!(Ranges, links);

    impl IntervalNodes for Ranges {
        fn start(&self, i: u32) -> u32 {
            self.range[i as usize].get().0
        }
        fn last(&self, i: u32) -> u32 {
            self.range[i as usize].get().1
        }
        fn max_last(&self, i: u32) -> u32 {
            self.max[i as usize].get()
        }
        fn set_max_last(&self, i: u32, to: u32) {
            self.max[i as usize].set(to);
        }
    }

    fn ranges(n: usize) -> Ranges {
        Ranges {
            links: TreeCells::new(n),
            range: (0..n).map(|_| Cell::new((0, 0))).collect(),
            max: (0..n).map(|_| Cell::new(12345)).collect(),
        }
    }

    #[test]
    fn same_start_and_extremes() {
        let n = ranges(4);
        let mut t = IntervalTree::new();
        let given = [(5, 5), (5, u32::MAX), (0, 5), (5, 6)];
        for (i, r) in (0..).zip(given) {
            n.range[i as usize].set(r);
            t.insert(&n, i);
        }
        assert_eq!(t.validate(&n), Ok(4));
        let meet = |a, b| t.overlapping(&n, a, b).collect::<Vec<_>>();
        assert_eq!(meet(0, u32::MAX), [2, 0, 1, 3]);
        assert_eq!(meet(0, 4), [2]);
        assert_eq!(meet(6, 6), [1, 3]);
        assert_eq!(meet(u32::MAX, u32::MAX), [1]);
        assert_eq!(meet(6, 5), []);
        assert_eq!(IntervalTree::new().overlapping(&n, 0, u32::MAX).count(), 0);
    }

    #[test]
    fn validate_sees_a_wrong_range_and_a_wrong_maximum() {
        let n = ranges(3);
        let mut t = IntervalTree::new();
        for i in 0..3 {
            n.range[i as usize].set((i, i + 2));
            t.insert(&n, i);
        }
        n.set_max_last(t.id(), 9);
        assert!(t.validate(&n).unwrap_err().what.contains("datum"));
        assert_eq!(t.validate(&n), Ok(3));
        n.range[0].set((0, 7));
        t.update(&n, 0);
        assert_eq!((t.validate(&n), n.max_last(t.id())), (Ok(3), 7));
        n.range[1].set((1, 0));
        t.update(&n, 1);
        assert_eq!(t.validate(&n).unwrap_err().at, 1);
    }

    proptest! {
        #![proptest_config(config(300))]
        #[test]
        fn agrees_with_a_scan(ops in prop::collection::vec((0u8..6, 0u32..40, 0u32..60, 0u32..12), 0..steps(200))) {
            let n = ranges(40);
            let mut t = IntervalTree::new();
            // In the order of the tree: by start, then by time of insertion.
            let mut model: Vec<u32> = Vec::new();
            for (op, i, start, len) in ops {
                let at = model.iter().position(|&x| x == i);
                match (op, at) {
                    (0..=2, None) => {
                        n.range[i as usize].set((start, start + len));
                        t.insert(&n, i);
                        model.insert(model.partition_point(|&x| n.start(x) <= start), i);
                    }
                    (3, Some(at)) => {
                        t.remove(&n, i);
                        model.remove(at);
                    }
                    (4, Some(_)) => {
                        n.range[i as usize].set((n.start(i), n.start(i) + len));
                        t.update(&n, i);
                    }
                    _ => {
                        let (a, b) = (start, start + len);
                        let meets = |&x: &u32| n.start(x) <= b && n.last(x) >= a;
                        prop_assert!(t.overlapping(&n, a, b).eq(model.iter().copied().filter(meets)));
                    }
                }
                prop_assert_eq!(t.validate(&n), Ok(model.len() as u32));
                prop_assert!(t.iter(&n).eq(model.iter().copied()));
            }
        }
    }
}
