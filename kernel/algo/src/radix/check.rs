//! The invariants of a radix tree, checked. Locks: as for the tree. Does not sleep.

use super::node::{BITS, Node, Nodes};
use super::{DEPTH, Radix};
use crate::{Corrupt, NIL, ensure};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

impl Radix {
    /// Walks the whole tree and checks every invariant and the count. Terminates whatever the nodes
    /// hold, as long as every id in them is one that `n` knows.
    ///
    /// # Errors
    /// The first rule that does not hold; `at` is the node.
    pub fn validate<N: Nodes + ?Sized>(&self, n: &N) -> Result<(), Corrupt> {
        let mut entries = 0u64;
        // The way down, and which slots of each node on it are still to be walked.
        let mut way = [(NIL, 0u64); DEPTH];
        let mut len = 0;
        let mut next = self.root;
        loop {
            if next != NIL {
                let node = n.node(next);
                validate_node(node, next)?;
                let present = node.present.load(Relaxed);
                let todo = if node.is_leaf() { 0 } else { present };
                if node.is_leaf() {
                    entries += u64::from(present.count_ones());
                }
                // Shifts fall from node to child, so the way is never longer.
                way[len] = (next, todo);
                len += 1;
            }
            let Some((at, todo)) = way[..len].last_mut() else {
                break;
            };
            next = NIL;
            if *todo == 0 {
                len -= 1;
                continue;
            }
            let slot = todo.trailing_zeros();
            *todo &= *todo - 1;
            next = n.node(*at).slot(slot);
            validate_child(n, *at, slot)?;
        }
        ensure(
            entries == self.count,
            "radix: count is not the number of entries",
            NIL,
        )
    }
}

/// The rules about one node by itself.
fn validate_node(node: &Node, at: u32) -> Result<(), Corrupt> {
    let (shift, present) = (node.shift(), node.present.load(Relaxed));
    ensure(
        shift.is_multiple_of(BITS) && shift < u32::BITS,
        "radix: no such level",
        at,
    )?;
    let inside = !(u64::MAX << (shift + BITS)) as u32;
    ensure(node.base() & inside == 0, "radix: base not aligned", at)?;
    let least = if shift == 0 { 1 } else { 2 };
    ensure(
        present.count_ones() >= least,
        "radix: a node that should be gone",
        at,
    )?;
    let stray = |bits: &AtomicU64| bits.load(Relaxed) & !present != 0;
    ensure(
        !node.marks.iter().any(stray),
        "radix: marks on a slot without entry",
        at,
    )
}

/// The rules about a node and the child in its `slot`.
fn validate_child<N: Nodes + ?Sized>(n: &N, at: u32, slot: u32) -> Result<(), Corrupt> {
    let (node, id) = (n.node(at), n.node(at).slot(slot));
    ensure(id != NIL, "radix: a slot without its child", at)?;
    let child = n.node(id);
    ensure(
        child.shift() < node.shift(),
        "radix: a child not below its parent",
        id,
    )?;
    ensure(
        node.covers(child.base()) && node.slot_of(child.base()) == slot,
        "radix: a child in the wrong slot",
        id,
    )?;
    ensure(
        node.summary_of(slot) == child.summary(),
        "radix: marks not carried up",
        id,
    )
}
