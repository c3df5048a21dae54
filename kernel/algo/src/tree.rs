//! A balanced search tree of ids whose links live in the caller's records, with a datum per subtree
//! ("augmentation"): the base of [`crate::interval`] and [`crate::gap`].
//!
//! Locks: the caller's, around every call. Never sleeps, never recurses. Insertion and removal are
//! O(log n) in the worst case with at most two rotations each.
//!
//! Source: Haeupler, Sen, Tarjan, "Rank-balanced trees" (ACM Trans. Algorithms 11(4), 2015): the
//! weak AVL tree. Augmentation: Cormen et al., Introduction to Algorithms, chapter 14.

use crate::{Corrupt, NIL, ensure};

pub(crate) mod view;

/// The link cells of the elements.
pub trait TreeLinks {
    /// The left child of `i`, or [`NIL`].
    fn left(&self, i: u32) -> u32;
    /// Sets what [`TreeLinks::left`] returns.
    fn set_left(&self, i: u32, to: u32);
    /// The right child of `i`, or [`NIL`].
    fn right(&self, i: u32) -> u32;
    /// Sets what [`TreeLinks::right`] returns.
    fn set_right(&self, i: u32, to: u32);
    /// The parent of `i`, or [`NIL`].
    fn parent(&self, i: u32) -> u32;
    /// Sets what [`TreeLinks::parent`] returns.
    fn set_parent(&self, i: u32, to: u32);
    /// The rank of `i`: a number below 70 that only the tree interprets (7 bits are enough).
    fn rank(&self, i: u32) -> u8;
    /// Sets what [`TreeLinks::rank`] returns.
    fn set_rank(&self, i: u32, to: u8);
}

/// Elements that have an order and a subtree datum.
pub trait Nodes: TreeLinks {
    /// The key of `a` is less than the key of `b`. Elements with equal keys stay in insertion
    /// order.
    fn before(&self, a: u32, b: u32) -> bool;
    /// Recomputes the subtree datum of `i` from `i` itself and its children's data, and says
    /// whether it changed. Must depend on nothing else: an unchanged datum ends the way up.
    fn augment(&self, i: u32) -> bool;
}

/// Which child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Left,
    Right,
}

impl Side {
    #[inline]
    const fn other(self) -> Self {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }
}

#[inline]
fn child<N: TreeLinks + ?Sized>(n: &N, i: u32, side: Side) -> u32 {
    match side {
        Side::Left => n.left(i),
        Side::Right => n.right(i),
    }
}

#[inline]
fn set_child<N: TreeLinks + ?Sized>(n: &N, i: u32, side: Side, to: u32) {
    match side {
        Side::Left => n.set_left(i, to),
        Side::Right => n.set_right(i, to),
    }
}

/// The side of `p` on which `x` hangs.
#[inline]
fn side_of<N: TreeLinks + ?Sized>(n: &N, p: u32, x: u32) -> Side {
    if n.left(p) == x {
        Side::Left
    } else {
        Side::Right
    }
}

/// Ranks are stored one higher than in the paper, so that a missing child has rank 0, a leaf 1.
#[inline]
fn rank<N: TreeLinks + ?Sized>(n: &N, i: u32) -> u8 {
    if i == NIL { 0 } else { n.rank(i) }
}

#[inline]
fn is_leaf<N: TreeLinks + ?Sized>(n: &N, i: u32) -> bool {
    n.left(i) == NIL && n.right(i) == NIL
}

#[inline]
fn some(i: u32) -> Option<u32> {
    if i == NIL { None } else { Some(i) }
}

/// The outermost element of the subtree of `i` on `side`.
#[inline]
fn outermost<N: TreeLinks + ?Sized>(n: &N, mut i: u32, side: Side) -> u32 {
    loop {
        match child(n, i, side) {
            NIL => return i,
            c => i = c,
        }
    }
}

#[inline]
fn step<N: TreeLinks + ?Sized>(n: &N, i: u32, side: Side) -> Option<u32> {
    let c = child(n, i, side);
    if c != NIL {
        return Some(outermost(n, c, side.other()));
    }
    let mut from = i;
    loop {
        let p = n.parent(from);
        if p == NIL || child(n, p, side) != from {
            return some(p);
        }
        from = p;
    }
}

/// The element after `i` in order.
#[inline]
pub fn next<N: TreeLinks + ?Sized>(n: &N, i: u32) -> Option<u32> {
    step(n, i, Side::Right)
}

/// The element before `i` in order.
#[inline]
pub fn prev<N: TreeLinks + ?Sized>(n: &N, i: u32) -> Option<u32> {
    step(n, i, Side::Left)
}

/// One tree: the id of its root. Not `Clone`: two copies would disagree after the first change.
///
/// Invariants: each child's rank is 1 or 2 below its parent's, a leaf's rank is 1, in-order keys do
/// not decrease, every subtree datum is what [`Nodes::augment`] computes.
#[derive(PartialEq, Eq, Debug)]
pub struct Root {
    id: u32,
}

impl Default for Root {
    fn default() -> Self {
        Self::new()
    }
}

impl Root {
    /// An empty tree.
    pub const fn new() -> Self {
        Self { id: NIL }
    }

    /// The tree whose root is `id`, for a root that rests in a cell of a record.
    pub const fn from_id(id: u32) -> Self {
        Self { id }
    }

    /// The root element, [`NIL`] when empty.
    #[inline]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Holds no element.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.id == NIL
    }

    /// The least element.
    pub fn first<N: TreeLinks + ?Sized>(&self, n: &N) -> Option<u32> {
        some(self.id).map(|i| outermost(n, i, Side::Left))
    }

    /// The greatest element.
    pub fn last<N: TreeLinks + ?Sized>(&self, n: &N) -> Option<u32> {
        some(self.id).map(|i| outermost(n, i, Side::Right))
    }

    /// The first element for which `is_before` is false, given that it is true for all elements up
    /// to some place in the order and false from there on.
    #[inline]
    pub fn lower_bound<N: TreeLinks + ?Sized>(
        &self,
        n: &N,
        mut is_before: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let (mut at, mut best) = (self.id, NIL);
        while at != NIL {
            if is_before(at) {
                at = n.right(at);
            } else {
                best = at;
                at = n.left(at);
            }
        }
        some(best)
    }

    /// The last element for which `is_before` is true (see [`Root::lower_bound`]).
    #[inline]
    pub fn last_before<N: TreeLinks + ?Sized>(
        &self,
        n: &N,
        mut is_before: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let (mut at, mut best) = (self.id, NIL);
        while at != NIL {
            if is_before(at) {
                best = at;
                at = n.right(at);
            } else {
                at = n.left(at);
            }
        }
        some(best)
    }

    /// The elements in order.
    pub fn iter<'a, N: TreeLinks + ?Sized>(&'a self, n: &'a N) -> Iter<'a, N> {
        Iter {
            nodes: n,
            at: self.first(n),
        }
    }

    /// Inserts `i`, which is in no tree, behind the elements with an equal key.
    pub fn insert<N: Nodes + ?Sized>(&mut self, n: &N, i: u32) {
        debug_assert!(i != NIL);
        let (mut parent, mut side, mut at) = (NIL, Side::Left, self.id);
        while at != NIL {
            parent = at;
            side = if n.before(i, at) {
                Side::Left
            } else {
                Side::Right
            };
            at = child(n, at, side);
        }
        n.set_left(i, NIL);
        n.set_right(i, NIL);
        n.set_parent(i, parent);
        n.set_rank(i, 1);
        n.augment(i);
        if parent == NIL {
            self.id = i;
            return;
        }
        set_child(n, parent, side, i);
        update_through(n, parent, NIL);
        self.fix_insert(n, i);
    }

    /// Takes `i`, which is in this tree, out of it.
    pub fn remove<N: Nodes + ?Sized>(&mut self, n: &N, i: u32) {
        let (left, right) = (n.left(i), n.right(i));
        // `hole` lost a child; `x` (perhaps none) now hangs where that child was.
        let (hole, x);
        if left == NIL || right == NIL {
            x = if left == NIL { right } else { left };
            hole = n.parent(i);
            self.replace(n, hole, i, x);
            update_through(n, hole, NIL);
        } else {
            let heir = outermost(n, right, Side::Left);
            x = n.right(heir);
            if heir == right {
                hole = heir;
            } else {
                hole = n.parent(heir);
                n.set_left(hole, x);
                if x != NIL {
                    n.set_parent(x, hole);
                }
                n.set_right(heir, right);
                n.set_parent(right, heir);
            }
            n.set_left(heir, left);
            n.set_parent(left, heir);
            n.set_rank(heir, n.rank(i));
            self.replace(n, n.parent(i), i, heir);
            // The heir's own datum was that of its old place: it says nothing about a change.
            update_through(n, hole, heir);
        }
        self.fix_remove(n, hole, x);
    }

    /// Recomputes the subtree data on the way up after `i`'s own part of its datum changed. The key
    /// must not have moved past a neighbour.
    pub fn update<N: Nodes + ?Sized>(&self, n: &N, i: u32) {
        update_through(n, i, NIL);
    }

    /// Hangs `new` (perhaps none) where `old` hung below `parent`.
    fn replace<N: Nodes + ?Sized>(&mut self, n: &N, parent: u32, old: u32, new: u32) {
        if parent == NIL {
            self.id = new;
        } else {
            set_child(n, parent, side_of(n, parent, old), new);
        }
        if new != NIL {
            n.set_parent(new, parent);
        }
    }

    /// Rotates so that `x` takes its parent's place and the parent becomes its child.
    fn rotate_up<N: Nodes + ?Sized>(&mut self, n: &N, x: u32) {
        let p = n.parent(x);
        let side = side_of(n, p, x);
        let inner = child(n, x, side.other());
        self.replace(n, n.parent(p), p, x);
        set_child(n, p, side, inner);
        if inner != NIL {
            n.set_parent(inner, p);
        }
        set_child(n, x, side.other(), p);
        n.set_parent(p, x);
        n.augment(p);
        n.augment(x);
    }

    /// Restores the rank rule after `x` became a child of equal rank.
    fn fix_insert<N: Nodes + ?Sized>(&mut self, n: &N, mut x: u32) {
        loop {
            let p = n.parent(x);
            if p == NIL || n.rank(p) != n.rank(x) {
                return;
            }
            let side = side_of(n, p, x);
            if rank(n, child(n, p, side.other())) + 1 == n.rank(p) {
                n.set_rank(p, n.rank(p) + 1);
                x = p;
                continue;
            }
            let inner = child(n, x, side.other());
            if rank(n, inner) + 2 == n.rank(x) {
                self.rotate_up(n, x);
            } else {
                self.rotate_up(n, inner);
                self.rotate_up(n, inner);
                n.set_rank(inner, n.rank(inner) + 1);
                n.set_rank(x, n.rank(x) - 1);
            }
            n.set_rank(p, n.rank(p) - 1);
            return;
        }
    }

    /// Restores the rank rule after `x` (perhaps none) came to hang below `p`, too low by one.
    fn fix_remove<N: Nodes + ?Sized>(&mut self, n: &N, mut p: u32, mut x: u32) {
        if p != NIL && n.rank(p) == 2 && is_leaf(n, p) {
            n.set_rank(p, 1);
            x = p;
            p = n.parent(x);
        }
        while p != NIL && n.rank(p) == rank(n, x) + 3 {
            let side = side_of(n, p, x);
            let sibling = child(n, p, side.other());
            n.set_rank(p, n.rank(p) - 1);
            // From here on `p` is lower by one already.
            if rank(n, sibling) == n.rank(p) {
                let outer = child(n, sibling, side.other());
                let inner = child(n, sibling, side);
                let r = n.rank(sibling);
                if rank(n, outer) + 1 == r {
                    self.rotate_up(n, sibling);
                    n.set_rank(sibling, r + 1);
                    if is_leaf(n, p) {
                        n.set_rank(p, 1);
                    }
                    return;
                }
                n.set_rank(sibling, r - 1);
                if rank(n, inner) + 1 == r {
                    self.rotate_up(n, inner);
                    self.rotate_up(n, inner);
                    n.set_rank(inner, r + 1);
                    n.set_rank(p, n.rank(p) - 1);
                    return;
                }
            }
            x = p;
            p = n.parent(x);
        }
    }

    /// Checks links, ranks, order and subtree data, and counts the elements. O(n), and terminates
    /// whatever the links hold. (A wrong datum is reported once: checking it recomputes it.)
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate<N: Nodes + ?Sized>(&self, n: &N) -> Result<u32, Corrupt> {
        let mut at = self.id;
        if at != NIL {
            ensure(n.parent(at) == NIL, "tree: the root has a parent", at)?;
        }
        let mut count = 0;
        // Pre-order. Every child is checked to name its parent before it is entered, so no element
        // can be entered twice.
        while at != NIL {
            count += 1;
            for c in [n.left(at), n.right(at)] {
                if c != NIL {
                    ensure(n.parent(c) == at, "tree: child names another parent", c)?;
                }
                let down = i16::from(n.rank(at)) - i16::from(rank(n, c));
                ensure(down == 1 || down == 2, "tree: rank rule broken", at)?;
            }
            ensure(
                n.rank(at) == 1 || !is_leaf(n, at),
                "tree: leaf with a high rank",
                at,
            )?;
            at = preorder_next(n, at);
        }
        let mut before = None;
        for i in self.iter(n) {
            let sorted = before.is_none_or(|b| !n.before(i, b));
            ensure(sorted, "tree: out of order", i)?;
            ensure(!n.augment(i), "tree: stale subtree datum", i)?;
            before = Some(i);
        }
        Ok(count)
    }
}

fn preorder_next<N: TreeLinks + ?Sized>(n: &N, i: u32) -> u32 {
    if n.left(i) != NIL {
        return n.left(i);
    }
    if n.right(i) != NIL {
        return n.right(i);
    }
    let mut from = i;
    loop {
        let p = n.parent(from);
        if p == NIL {
            return NIL;
        }
        let right = n.right(p);
        if right != NIL && right != from {
            return right;
        }
        from = p;
    }
}

/// Recomputes data from `i` up to and past `through` (unless it is [`NIL`]), then on until one does
/// not change.
#[inline]
fn update_through<N: Nodes + ?Sized>(n: &N, mut i: u32, through: u32) {
    let mut forced = through != NIL;
    while i != NIL {
        if !n.augment(i) && !forced {
            return;
        }
        if i == through {
            forced = false;
        }
        i = n.parent(i);
    }
}

/// Elements of a [`Root`] in order.
#[derive(Debug)]
pub struct Iter<'a, N: ?Sized> {
    nodes: &'a N,
    at: Option<u32>,
}

impl<N: TreeLinks + ?Sized> Iterator for Iter<'_, N> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let i = self.at?;
        self.at = next(self.nodes, i);
        Some(i)
    }
}

#[cfg(test)]
mod tests;
