//! The address space of one process: disjoint ranges `[start, end)` of addresses (VMAs), found by
//! address, and the free gaps between them, found by size.
//!
//! Each subtree knows the addresses it spans and its largest inner gap, so that the lowest or
//! highest gap that is large enough is found in O(log n), and a change touches the path to the root
//! only.
//!
//! Locks: the caller's, around every call (searches: at least shared). Never sleeps.
//!
//! Source: Cormen et al., Introduction to Algorithms, 14.2: a datum that follows from the node and
//! its children; here the two extremes and the largest gap.

use crate::tree::view::{Rules, View};
use crate::tree::{self, Root, TreeLinks};
use crate::{Corrupt, NIL, ensure};

/// What a subtree of ranges looks like from above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The lowest `start` in the subtree.
    pub start: u64,
    /// The highest `end` in the subtree.
    pub end: u64,
    /// The largest gap between two neighbours of the subtree, 0 when there is none.
    pub gap: u64,
}

/// Ranges of addresses, with a cell for the summary of the subtree.
pub trait VmaNodes: TreeLinks {
    /// First address of `i`.
    fn start(&self, i: u32) -> u64;
    /// First address behind `i`; above [`VmaNodes::start`].
    fn end(&self, i: u32) -> u64;
    /// The summary of the subtree of `i`; only the tree sets it.
    fn summary(&self, i: u32) -> Summary;
    /// Sets what [`VmaNodes::summary`] returns.
    fn set_summary(&self, i: u32, to: Summary);
}

/// Orders by start and keeps the summary.
struct ByAddress;

impl<N: VmaNodes + ?Sized> Rules<N> for ByAddress {
    #[inline]
    fn before(n: &N, a: u32, b: u32) -> bool {
        n.start(a) < n.start(b)
    }

    #[inline]
    fn augment(n: &N, i: u32) -> bool {
        let (start, end) = (n.start(i), n.end(i));
        let mut new = Summary { start, end, gap: 0 };
        let left = n.left(i);
        if left != NIL {
            let l = n.summary(left);
            new.start = l.start;
            // Negative for a moment when a boundary between two neighbours moves: one is updated
            // first.
            new.gap = l.gap.max(start.saturating_sub(l.end));
        }
        let right = n.right(i);
        if right != NIL {
            let r = n.summary(right);
            new.end = r.end;
            new.gap = new.gap.max(r.gap).max(r.start.saturating_sub(end));
        }
        let changed = n.summary(i) != new;
        if changed {
            n.set_summary(i, new);
        }
        changed
    }
}

fn view<N: ?Sized>(n: &N) -> View<'_, N, ByAddress> {
    View::new(n)
}

/// The range to be inserted meets one that is there. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overlap {
    /// The lowest range it meets.
    pub with: u32,
}

/// From which end of the window [`VmaTree::find_gap`] looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The lowest address that fits.
    BottomUp,
    /// The highest address that fits.
    TopDown,
}

/// The ranges of one address space.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct VmaTree {
    root: Root,
}

impl VmaTree {
    /// No ranges.
    pub const fn new() -> Self {
        Self { root: Root::new() }
    }

    /// The tree whose root element is `id`, for a root that rests in a cell of a record.
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

    /// The lowest range.
    pub fn first<N: VmaNodes + ?Sized>(&self, n: &N) -> Option<u32> {
        self.root.first(n)
    }

    /// The highest range.
    pub fn last<N: VmaNodes + ?Sized>(&self, n: &N) -> Option<u32> {
        self.root.last(n)
    }

    /// The first range whose end is above `addr`: it contains `addr`, or lies above it.
    #[inline]
    pub fn find<N: VmaNodes + ?Sized>(&self, n: &N, addr: u64) -> Option<u32> {
        self.root.lower_bound(n, |i| n.end(i) <= addr)
    }

    /// The range that contains `addr`.
    #[inline]
    pub fn containing<N: VmaNodes + ?Sized>(&self, n: &N, addr: u64) -> Option<u32> {
        self.find(n, addr).filter(|&i| n.start(i) <= addr)
    }

    /// The last range that ends at or below `addr`, and what [`VmaTree::find`] returns.
    pub fn neighbours<N: VmaNodes + ?Sized>(&self, n: &N, addr: u64) -> (Option<u32>, Option<u32>) {
        let below = self.root.last_before(n, |i| n.end(i) <= addr);
        let above = match below {
            Some(i) => tree::next(n, i),
            None => self.root.first(n),
        };
        (below, above)
    }

    /// The ranges in order.
    pub fn iter<'a, N: VmaNodes + ?Sized>(&'a self, n: &'a N) -> tree::Iter<'a, N> {
        self.root.iter(n)
    }

    /// The ranges that meet `[start, end)`, in order. None when the window is empty.
    pub fn overlapping<'a, N: VmaNodes + ?Sized>(
        &'a self,
        n: &'a N,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = u32> + use<'a, N> {
        let first = self.find(n, start).filter(|_| start < end);
        core::iter::successors(first, |&i| tree::next(n, i)).take_while(move |&i| n.start(i) < end)
    }

    /// Inserts the range of `i`, which is in no tree.
    ///
    /// # Errors
    /// [`Overlap`] when it meets a range of the tree.
    pub fn insert<N: VmaNodes + ?Sized>(&mut self, n: &N, i: u32) -> Result<(), Overlap> {
        debug_assert!(n.start(i) < n.end(i), "empty range");
        if let Some(with) = self.find(n, n.start(i))
            && n.start(with) < n.end(i)
        {
            return Err(Overlap { with });
        }
        self.root.insert(&view(n), i);
        Ok(())
    }

    /// Takes the range of `i`, which is in this tree, out of it.
    pub fn remove<N: VmaNodes + ?Sized>(&mut self, n: &N, i: u32) {
        self.root.remove(&view(n), i);
    }

    /// Makes the tree right again after the start or the end of `i` moved, without meeting a
    /// neighbour.
    pub fn update<N: VmaNodes + ?Sized>(&self, n: &N, i: u32) {
        self.root.update(&view(n), i);
    }

    /// The lowest or highest `address` with `low <= address`, `address + len <= high` such that no
    /// range meets `[address, address + len)`. For an aligned address ask for `len + alignment -
    /// granule` and round inside what is found.
    pub fn find_gap<N: VmaNodes + ?Sized>(
        &self,
        n: &N,
        len: u64,
        low: u64,
        high: u64,
        direction: Direction,
    ) -> Option<u64> {
        if len == 0 || high < low || high - low < len {
            return None;
        }
        match direction {
            Direction::BottomUp => {
                let at = match self.find(n, low) {
                    None => low,
                    Some(i) if n.start(i) > low && n.start(i) - low >= len => low,
                    Some(i) => gap_after(n, i, len),
                };
                (at <= high - len).then_some(at)
            }
            Direction::TopDown => {
                let top = match self.root.last_before(n, |i| n.start(i) < high) {
                    None => high,
                    Some(i) if n.end(i) < high && high - n.end(i) >= len => high,
                    Some(i) => gap_before(n, i, len),
                };
                top.checked_sub(len).filter(|&at| at >= low)
            }
        }
    }

    /// Checks the tree, that ranges are not empty and do not meet, and counts them. O(n).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate<N: VmaNodes + ?Sized>(&self, n: &N) -> Result<u32, Corrupt> {
        let count = self.root.validate(&view(n))?;
        let mut end = 0;
        for i in self.iter(n) {
            ensure(n.start(i) < n.end(i), "vma tree: empty range", i)?;
            ensure(n.start(i) >= end, "vma tree: ranges overlap", i)?;
            end = n.end(i);
        }
        Ok(count)
    }
}

/// The start of the first gap of at least `len` behind the range `i`; the space behind the last
/// range counts as a gap of any size.
fn gap_after<N: VmaNodes + ?Sized>(n: &N, mut i: u32, len: u64) -> u64 {
    loop {
        let right = n.right(i);
        let mut end = n.end(i);
        if right != NIL {
            let r = n.summary(right);
            if r.start - end >= len {
                return end;
            }
            if r.gap >= len {
                return lowest_inner_gap(n, right, len);
            }
            end = r.end;
        }
        // Up to the first ancestor that lies behind everything seen.
        let mut from;
        loop {
            from = i;
            i = n.parent(i);
            if i == NIL {
                return end;
            }
            if n.left(i) == from {
                break;
            }
        }
        if n.start(i) - end >= len {
            return end;
        }
    }
}

/// The start of the lowest gap of at least `len` inside the subtree of `i`, which has one.
fn lowest_inner_gap<N: VmaNodes + ?Sized>(n: &N, mut i: u32, len: u64) -> u64 {
    loop {
        let left = n.left(i);
        if left != NIL {
            let l = n.summary(left);
            if l.gap >= len {
                i = left;
                continue;
            }
            if n.start(i) - l.end >= len {
                return l.end;
            }
        }
        let right = n.right(i);
        if n.summary(right).start - n.end(i) >= len {
            return n.end(i);
        }
        i = right;
    }
}

/// The end of the last gap of at least `len` before the range `i`; the space below the first range
/// counts as a gap of any size.
fn gap_before<N: VmaNodes + ?Sized>(n: &N, mut i: u32, len: u64) -> u64 {
    loop {
        let left = n.left(i);
        let mut start = n.start(i);
        if left != NIL {
            let l = n.summary(left);
            if start - l.end >= len {
                return start;
            }
            if l.gap >= len {
                return highest_inner_gap(n, left, len);
            }
            start = l.start;
        }
        let mut from;
        loop {
            from = i;
            i = n.parent(i);
            if i == NIL {
                return start;
            }
            if n.right(i) == from {
                break;
            }
        }
        if start - n.end(i) >= len {
            return start;
        }
    }
}

/// The end of the highest gap of at least `len` inside the subtree of `i`, which has one.
fn highest_inner_gap<N: VmaNodes + ?Sized>(n: &N, mut i: u32, len: u64) -> u64 {
    loop {
        let right = n.right(i);
        if right != NIL {
            let r = n.summary(right);
            if r.gap >= len {
                i = right;
                continue;
            }
            if r.start - n.end(i) >= len {
                return r.start;
            }
        }
        let left = n.left(i);
        if n.start(i) - n.summary(left).end >= len {
            return n.start(i);
        }
        i = left;
    }
}

#[cfg(test)]
mod tests;
