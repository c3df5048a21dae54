//! One node of a radix tree: slots for the values of 64 consecutive indices, or for nodes that each
//! stand for more of them, and the bits that say what is in the slots.
//!
//! Locks: the lock of the tree that has the node. Does not sleep. Relaxed cells: the lock orders
//! them.

use super::Mark;
use crate::NIL;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Bits of the index that one node resolves.
pub(super) const BITS: u32 = 6;
/// Slots of a node.
const SLOTS: usize = 1 << BITS;
/// The last slot, and the mask of a slot number.
pub(super) const LAST: u32 = SLOTS as u32 - 1;

/// One node, 312 bytes, lent to a tree. What it holds while it is in no tree does not matter.
#[derive(Debug)]
pub struct Node {
    /// Values in a leaf (`shift` 0), ids of nodes above. Those outside `present` mean nothing.
    pub(super) slots: [AtomicU32; SLOTS],
    pub(super) present: AtomicU64,
    /// For each mark the slots that have it, or above a leaf: under which an entry has it.
    pub(super) marks: [AtomicU64; Mark::ALL.len()],
    /// The first index that could lie in this node.
    pub(super) base: AtomicU32,
    link: AtomicU32,
    /// The lowest bit of the index that chooses the slot.
    pub(super) shift: AtomicU8,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A node in no tree.
    pub const fn new() -> Self {
        Self {
            slots: [const { AtomicU32::new(NIL) }; SLOTS],
            present: AtomicU64::new(0),
            marks: [const { AtomicU64::new(0) }; Mark::ALL.len()],
            base: AtomicU32::new(0),
            link: AtomicU32::new(NIL),
            shift: AtomicU8::new(0),
        }
    }

    /// A word for the caller, such as the link of a free list. The tree does not touch it.
    pub const fn link(&self) -> &AtomicU32 {
        &self.link
    }

    /// Makes this an empty node for the indices around `index`.
    pub(super) fn reset(&self, index: u32, shift: u32) {
        let span = u64::MAX << (shift + BITS);
        self.base.store(index & span as u32, Relaxed);
        self.shift.store(shift as u8, Relaxed);
        self.present.store(0, Relaxed);
        self.marks.iter().for_each(|bits| bits.store(0, Relaxed));
    }

    pub(super) fn base(&self) -> u32 {
        self.base.load(Relaxed)
    }

    pub(super) fn shift(&self) -> u32 {
        u32::from(self.shift.load(Relaxed))
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.shift() == 0
    }

    pub(super) fn covers(&self, index: u32) -> bool {
        u64::from(self.base() ^ index) >> (self.shift() + BITS) == 0
    }

    /// The slot of an index that this node covers.
    pub(super) fn slot_of(&self, index: u32) -> u32 {
        (index >> self.shift()) & LAST
    }

    pub(super) fn slot(&self, slot: u32) -> u32 {
        self.slots[slot as usize].load(Relaxed)
    }

    pub(super) fn has(&self, slot: u32) -> bool {
        self.present.load(Relaxed) & bit(slot) != 0
    }

    pub(super) fn fill(&self, slot: u32, with: u32) {
        self.slots[slot as usize].store(with, Relaxed);
        assign(&self.present, slot, true);
    }

    pub(super) fn vacate(&self, slot: u32) {
        assign(&self.present, slot, false);
        self.set_summary(slot, 0);
    }

    /// The marks of `slot`, one bit for each.
    pub(super) fn summary_of(&self, slot: u32) -> u8 {
        self.collect(|bits| bits & bit(slot) != 0)
    }

    /// The marks that any slot has.
    pub(super) fn summary(&self) -> u8 {
        self.collect(|bits| bits != 0)
    }

    fn collect(&self, test: impl Fn(u64) -> bool) -> u8 {
        (0..).zip(&self.marks).fold(0, |all, (m, bits)| {
            all | u8::from(test(bits.load(Relaxed))) << m
        })
    }

    pub(super) fn set_summary(&self, slot: u32, to: u8) {
        for (m, bits) in (0..).zip(&self.marks) {
            assign(bits, slot, (to >> m) & 1 != 0);
        }
    }
}

pub(super) const fn bit(slot: u32) -> u64 {
    1 << slot
}

pub(super) fn assign(bits: &AtomicU64, slot: u32, on: bool) {
    let rest = bits.load(Relaxed) & !bit(slot);
    bits.store(rest | u64::from(on) << slot, Relaxed);
}

/// Finds nodes by id.
pub trait Nodes {
    /// The node `id`, which the caller has lent to a tree.
    fn node(&self, id: u32) -> &Node;
}

impl Nodes for [Node] {
    fn node(&self, id: u32) -> &Node {
        &self[id as usize]
    }
}
