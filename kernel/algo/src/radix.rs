//! A map from page index to a `u32` with three marks per entry: the page cache of a file, the
//! folios in it, and which of them are dirty, under writeback, or chosen for it.
//!
//! A radix tree of 64-slot nodes whose paths are compressed: a node with one child does not exist,
//! so a small file far from index 0 costs one node, an insertion needs at most [`RESERVE`] new
//! nodes however far the index is from all others, and a removal frees as many at most. A mark of
//! an entry is repeated in every slot on the way to it, so that a search for marked entries passes
//! over what has none.
//!
//! Locks: the caller's, around every call. Never sleeps, never allocates: the caller lends the
//! nodes. Every operation but `validate` is O([`DEPTH`]).

use crate::NIL;
use core::sync::atomic::Ordering::Relaxed;

mod check;
mod node;
#[cfg(test)]
mod tests;

use node::{BITS, LAST, assign, bit};
pub use node::{Node, Nodes};

/// Most nodes on the way to an entry.
pub const DEPTH: usize = u32::BITS.div_ceil(BITS) as usize;
/// Most nodes that one insertion takes, or one removal frees.
pub const RESERVE: usize = 2;

/// A mark of an entry. New entries have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// To be written some time.
    Dirty,
    /// Being written.
    Writeback,
    /// To be written by the walk that is under way: what becomes dirty behind it does not prolong
    /// it.
    ToWrite,
}

impl Mark {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dirty, Self::Writeback, Self::ToWrite];
}

/// A few nodes in no tree: reserved for an insertion, or freed by a removal.
///
/// Not `Clone`: two copies would lend the same node twice.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Spare {
    ids: [u32; RESERVE],
    len: usize,
}

impl Spare {
    /// No nodes.
    pub const fn new() -> Self {
        Self {
            ids: [NIL; RESERVE],
            len: 0,
        }
    }

    /// Holds [`RESERVE`] nodes: enough for any insertion.
    pub const fn is_full(&self) -> bool {
        self.len == RESERVE
    }

    /// Number of nodes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Holds no node.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a node.
    ///
    /// # Errors
    /// Gives `id` back when this is full.
    pub fn push(&mut self, id: u32) -> Result<(), u32> {
        let place = self.ids.get_mut(self.len).ok_or(id)?;
        *place = id;
        self.len += 1;
        Ok(())
    }

    /// Takes a node out.
    pub fn pop(&mut self) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        Some(self.ids[self.len])
    }
}

/// Why an insertion was refused. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The index has an entry already: its value.
    Occupied(u32),
    /// More nodes are needed than there were in reserve; never with a full [`Spare`].
    NoNodes,
}

/// What a removal took out.
#[derive(PartialEq, Eq, Debug)]
pub struct Removed {
    /// The entry's value.
    pub value: u32,
    /// Nodes that are no longer in the tree: the caller's again.
    pub freed: Spare,
}

/// The nodes from the root to one index.
struct Path {
    nodes: [u32; DEPTH],
    len: usize,
}

impl Path {
    fn as_slice(&self) -> &[u32] {
        &self.nodes[..self.len]
    }
}

/// One tree. Not `Clone`: two copies would disagree after the first change.
///
/// Invariants: a leaf has an entry and every other node at least two children, each in the slot of
/// its own indices; a slot that is not present has no marks; above the leaves a slot has exactly
/// the marks that any slot of its child has.
#[derive(PartialEq, Eq, Debug)]
pub struct Radix {
    root: u32,
    count: u64,
}

impl Default for Radix {
    fn default() -> Self {
        Self::new()
    }
}

impl Radix {
    /// An empty tree.
    pub const fn new() -> Self {
        Self {
            root: NIL,
            count: 0,
        }
    }

    /// Number of entries.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Has no entry, and so no node.
    pub const fn is_empty(&self) -> bool {
        self.root == NIL
    }

    /// The value at `index`.
    pub fn get<N: Nodes + ?Sized>(&self, n: &N, index: u32) -> Option<u32> {
        let (leaf, slot) = self.find(n, index)?;
        Some(leaf.slot(slot))
    }

    /// Adds an entry without marks; any index and any value will do. Takes as many nodes out of
    /// `spare` as are needed.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn insert<N: Nodes + ?Sized>(
        &mut self,
        n: &N,
        index: u32,
        value: u32,
        spare: &mut Spare,
    ) -> Result<(), Refused> {
        let (mut parent, mut at) = (NIL, self.root);
        while at != NIL && n.node(at).covers(index) {
            let node = n.node(at);
            let slot = node.slot_of(index);
            let full = node.has(slot);
            if node.is_leaf() {
                if full {
                    return Err(Refused::Occupied(node.slot(slot)));
                }
                node.fill(slot, value);
                self.count += 1;
                return Ok(());
            }
            parent = at;
            at = if full { node.slot(slot) } else { NIL };
        }
        // A leaf is missing, and where `at` is a node that belongs beside it, one above the two.
        if spare.len() < if at == NIL { 1 } else { 2 } {
            return Err(Refused::NoNodes);
        }
        let leaf = spare.pop().ok_or(Refused::NoNodes)?;
        n.node(leaf).reset(index, 0);
        n.node(leaf).fill(index & LAST, value);
        let top = if at == NIL {
            leaf
        } else {
            let fork = spare.pop().ok_or(Refused::NoNodes)?;
            join(n, fork, at, leaf);
            fork
        };
        self.hang(n, parent, index, top);
        self.count += 1;
        Ok(())
    }

    /// Gives the entry at `index` another value; its marks stay. The value before, `None` when
    /// there is no entry.
    pub fn replace<N: Nodes + ?Sized>(&mut self, n: &N, index: u32, value: u32) -> Option<u32> {
        let (leaf, slot) = self.find(n, index)?;
        let before = leaf.slot(slot);
        leaf.fill(slot, value);
        Some(before)
    }

    /// Removes the entry at `index` with its marks, `None` when there is none.
    pub fn remove<N: Nodes + ?Sized>(&mut self, n: &N, index: u32) -> Option<Removed> {
        let path = self.path(n, index)?;
        let (&leaf, above) = path.as_slice().split_last()?;
        let node = n.node(leaf);
        let slot = node.slot_of(index);
        let mut removed = Removed {
            value: node.slot(slot),
            freed: Spare::new(),
        };
        node.vacate(slot);
        self.count -= 1;
        if node.present.load(Relaxed) != 0 {
            settle(n, path.as_slice(), index);
            return Some(removed);
        }
        let _ = removed.freed.push(leaf);
        let Some((&parent, above)) = above.split_last() else {
            self.root = NIL;
            return Some(removed);
        };
        let fork = n.node(parent);
        fork.vacate(fork.slot_of(index));
        let left = fork.present.load(Relaxed);
        if left.is_power_of_two() {
            // One child stays: it takes the place of the node above it.
            let grand = above.last().copied().unwrap_or(NIL);
            self.hang(n, grand, index, fork.slot(left.trailing_zeros()));
            let _ = removed.freed.push(parent);
            settle_from(n, fork.summary(), above, index);
        } else {
            settle(n, &path.as_slice()[..path.len - 1], index);
        }
        Some(removed)
    }

    /// Sets a mark of the entry at `index`; `false` when there is no entry.
    pub fn set_mark<N: Nodes + ?Sized>(&mut self, n: &N, index: u32, mark: Mark) -> bool {
        self.change_mark(n, index, mark, true)
    }

    /// Clears a mark of the entry at `index`; `false` when there is no entry.
    pub fn clear_mark<N: Nodes + ?Sized>(&mut self, n: &N, index: u32, mark: Mark) -> bool {
        self.change_mark(n, index, mark, false)
    }

    fn change_mark<N: Nodes + ?Sized>(&mut self, n: &N, index: u32, mark: Mark, on: bool) -> bool {
        let Some(path) = self.path(n, index) else {
            return false;
        };
        if let Some(&leaf) = path.as_slice().last() {
            let leaf = n.node(leaf);
            assign(&leaf.marks[mark as usize], leaf.slot_of(index), on);
        }
        settle(n, path.as_slice(), index);
        true
    }

    /// The entry at `index` exists and has the mark.
    pub fn is_marked<N: Nodes + ?Sized>(&self, n: &N, index: u32, mark: Mark) -> bool {
        self.find(n, index)
            .is_some_and(|(leaf, slot)| leaf.marks[mark as usize].load(Relaxed) & bit(slot) != 0)
    }

    /// Any entry has the mark. O(1).
    pub fn any_marked<N: Nodes + ?Sized>(&self, n: &N, mark: Mark) -> bool {
        !self.is_empty() && n.node(self.root).marks[mark as usize].load(Relaxed) != 0
    }

    /// The first entry at `from` or behind: its index and value.
    pub fn next<N: Nodes + ?Sized>(&self, n: &N, from: u32) -> Option<(u32, u32)> {
        self.search(n, from, |node| node.present.load(Relaxed))
    }

    /// The first entry with the mark at `from` or behind: its index and value.
    pub fn next_marked<N: Nodes + ?Sized>(
        &self,
        n: &N,
        from: u32,
        mark: Mark,
    ) -> Option<(u32, u32)> {
        self.search(n, from, |node| node.marks[mark as usize].load(Relaxed))
    }

    /// The leaf and the slot of the entry at `index`.
    fn find<'a, N: Nodes + ?Sized>(&self, n: &'a N, index: u32) -> Option<(&'a Node, u32)> {
        let mut at = self.root;
        while at != NIL {
            let node = n.node(at);
            let slot = node.slot_of(index);
            if !node.covers(index) || !node.has(slot) {
                return None;
            }
            if node.is_leaf() {
                return Some((node, slot));
            }
            at = node.slot(slot);
        }
        None
    }

    /// The way to the entry at `index`, from the root to the leaf.
    fn path<N: Nodes + ?Sized>(&self, n: &N, index: u32) -> Option<Path> {
        let (mut at, mut len) = (self.root, 0);
        let mut nodes = [NIL; DEPTH];
        while at != NIL {
            let node = n.node(at);
            let slot = node.slot_of(index);
            if !node.covers(index) || !node.has(slot) {
                return None;
            }
            *nodes.get_mut(len)? = at;
            len += 1;
            if node.is_leaf() {
                return Some(Path { nodes, len });
            }
            at = node.slot(slot);
        }
        None
    }

    /// Puts node `id` into the slot of `index` in `parent`, or makes it the root.
    fn hang<N: Nodes + ?Sized>(&mut self, n: &N, parent: u32, index: u32, id: u32) {
        if parent == NIL {
            self.root = id;
        } else {
            let node = n.node(parent);
            node.fill(node.slot_of(index), id);
        }
    }

    /// The first entry at `from` or behind that lies under slots chosen by `bits`.
    fn search<N: Nodes + ?Sized>(
        &self,
        n: &N,
        from: u32,
        bits: impl Fn(&Node) -> u64,
    ) -> Option<(u32, u32)> {
        let mut at = self.root;
        // Where to go on when nothing is found below `at`: the nearest chosen slot behind the way
        // down.
        let mut behind = NIL;
        while at != NIL {
            let node = n.node(at);
            let chosen = match node.base() {
                _ if node.covers(from) => bits(node) & (u64::MAX << node.slot_of(from)),
                base if base > from => bits(node),
                _ => 0,
            };
            if chosen == 0 {
                // Under `behind` there is an entry for certain, and all of it is behind `from`.
                (at, behind) = (behind, NIL);
                continue;
            }
            let slot = chosen.trailing_zeros();
            if node.is_leaf() {
                return Some((node.base() | slot, node.slot(slot)));
            }
            let others = chosen & (chosen - 1);
            if others != 0 {
                behind = node.slot(others.trailing_zeros());
            }
            at = node.slot(slot);
        }
        None
    }
}

/// Makes `fork` a node with the children `a` and `b`, of which neither covers the other.
fn join<N: Nodes + ?Sized>(n: &N, fork: u32, a: u32, b: u32) {
    let differ = n.node(a).base() ^ n.node(b).base();
    let shift = differ.ilog2() / BITS * BITS;
    let node = n.node(fork);
    node.reset(n.node(a).base(), shift);
    for child in [a, b] {
        let slot = node.slot_of(n.node(child).base());
        node.fill(slot, child);
        node.set_summary(slot, n.node(child).summary());
    }
}

/// Carries the marks of the last node of `path` up to the root.
fn settle<N: Nodes + ?Sized>(n: &N, path: &[u32], index: u32) {
    if let Some((&last, above)) = path.split_last() {
        settle_from(n, n.node(last).summary(), above, index);
    }
}

/// Carries `summary`, the marks under `index`, up through `above`, as far as it changes anything.
fn settle_from<N: Nodes + ?Sized>(n: &N, mut summary: u8, above: &[u32], index: u32) {
    for &id in above.iter().rev() {
        let node = n.node(id);
        let slot = node.slot_of(index);
        if node.summary_of(slot) == summary {
            return;
        }
        node.set_summary(slot, summary);
        summary = node.summary();
    }
}
