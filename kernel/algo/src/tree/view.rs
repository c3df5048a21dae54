//! How a tree that fixes its own order and datum sees the caller's elements: the links are theirs,
//! the rules are the tree's. Locks: none of its own. Does not sleep.

use super::{Nodes, TreeLinks};
use core::marker::PhantomData;

/// The order and the subtree datum that a kind of tree prescribes for elements of type `N`.
pub(crate) trait Rules<N: ?Sized> {
    /// See [`Nodes::before`].
    fn before(n: &N, a: u32, b: u32) -> bool;
    /// See [`Nodes::augment`].
    fn augment(n: &N, i: u32) -> bool;
}

/// The elements `N` under the rules `R`.
pub(crate) struct View<'a, N: ?Sized, R>(&'a N, PhantomData<R>);

impl<'a, N: ?Sized, R> View<'a, N, R> {
    #[inline]
    pub(crate) fn new(n: &'a N) -> Self {
        Self(n, PhantomData)
    }
}

impl<N: TreeLinks + ?Sized, R> TreeLinks for View<'_, N, R> {
    #[inline]
    fn left(&self, i: u32) -> u32 {
        self.0.left(i)
    }
    #[inline]
    fn set_left(&self, i: u32, to: u32) {
        self.0.set_left(i, to);
    }
    #[inline]
    fn right(&self, i: u32) -> u32 {
        self.0.right(i)
    }
    #[inline]
    fn set_right(&self, i: u32, to: u32) {
        self.0.set_right(i, to);
    }
    #[inline]
    fn parent(&self, i: u32) -> u32 {
        self.0.parent(i)
    }
    #[inline]
    fn set_parent(&self, i: u32, to: u32) {
        self.0.set_parent(i, to);
    }
    #[inline]
    fn rank(&self, i: u32) -> u8 {
        self.0.rank(i)
    }
    #[inline]
    fn set_rank(&self, i: u32, to: u8) {
        self.0.set_rank(i, to);
    }
}

impl<N: TreeLinks + ?Sized, R: Rules<N>> Nodes for View<'_, N, R> {
    #[inline]
    fn before(&self, a: u32, b: u32) -> bool {
        R::before(self.0, a, b)
    }
    #[inline]
    fn augment(&self, i: u32) -> bool {
        R::augment(self.0, i)
    }
}
