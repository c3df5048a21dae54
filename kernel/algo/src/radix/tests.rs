//! Tests of `radix`. Locks: none, one thread. Does not sleep.

use super::*;
use crate::Corrupt;
use crate::testing::{config, steps};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

/// Nodes full of nonsense, and which of them are in no tree.
struct Pool {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

impl Pool {
    fn new(n: u32) -> Self {
        let junk = |i: u32| {
            let node = Node::new();
            node.slots.iter().for_each(|s| s.store(i ^ 0x55, Relaxed));
            node.present.store(u64::MAX / 3, Relaxed);
            node.marks.iter().for_each(|m| m.store(!0, Relaxed));
            node.base.store(i * 7, Relaxed);
            node.shift.store(77, Relaxed);
            node
        };
        Self {
            nodes: (0..n).map(junk).collect(),
            free: (0..n).rev().collect(),
        }
    }

    /// As the page cache does it: reserve, insert, give back what was not needed.
    fn insert(&mut self, t: &mut Radix, index: u32, value: u32) -> Result<(), Refused> {
        let mut spare = Spare::new();
        while !spare.is_full() {
            spare.push(self.free.pop().unwrap()).unwrap();
        }
        let result = t.insert(&*self.nodes, index, value, &mut spare);
        self.take_back(spare);
        result
    }

    fn remove(&mut self, t: &mut Radix, index: u32) -> Option<u32> {
        let removed = t.remove(&*self.nodes, index)?;
        self.take_back(removed.freed);
        Some(removed.value)
    }

    fn take_back(&mut self, mut spare: Spare) {
        while let Some(id) = spare.pop() {
            assert!(!self.free.contains(&id), "freed twice");
            self.free.push(id);
        }
    }

    fn used(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    fn tree(&mut self, indices: &[u32]) -> Radix {
        let mut t = Radix::new();
        for &i in indices {
            assert_eq!(self.insert(&mut t, i, !i), Ok(()));
            assert_eq!(t.validate(&*self.nodes), Ok(()));
        }
        t
    }
}

#[test]
fn an_empty_tree_has_nothing() {
    let (n, mut t) = (&[][..], Radix::new());
    assert_eq!((t.get(n, 0), t.next(n, 0), t.count()), (None, None, 0));
    assert_eq!(t.next_marked(n, 0, Mark::Dirty), None);
    assert_eq!(t.remove(n, 3), None);
    assert!(!t.set_mark(n, 3, Mark::Dirty) && !t.is_marked(n, 3, Mark::Dirty));
    assert!(!t.any_marked(n, Mark::Dirty));
    assert_eq!(t.validate(n), Ok(()));
}

#[test]
fn paths_are_compressed() {
    let mut p = Pool::new(16);
    let mut t = p.tree(&[u32::MAX]);
    assert_eq!(p.used(), 1, "one leaf, whatever the index");
    p.insert(&mut t, 0, 5).unwrap();
    assert_eq!(p.used(), 3);
    p.insert(&mut t, 64, 6).unwrap();
    assert_eq!(p.used(), 5);
    p.insert(&mut t, 128, 7).unwrap();
    assert_eq!(p.used(), 6, "beside them there is a node above already");
    assert_eq!(p.remove(&mut t, u32::MAX), Some(5 ^ 5));
    assert_eq!(p.used(), 4, "the root with one child goes too");
    assert_eq!(t.validate(&*p.nodes), Ok(()));
    assert_eq!(t.next(&*p.nodes, 1), Some((64, 6)));
}

#[test]
fn a_value_is_replaced_and_the_marks_stay() {
    let mut p = Pool::new(8);
    let mut t = p.tree(&[3, 700]);
    assert!(t.set_mark(&*p.nodes, 700, Mark::Dirty));
    assert_eq!(t.replace(&*p.nodes, 700, 5), Some(!700));
    assert_eq!(t.replace(&*p.nodes, 701, 5), None);
    assert_eq!(t.next_marked(&*p.nodes, 0, Mark::Dirty), Some((700, 5)));
    assert_eq!((t.get(&*p.nodes, 3), t.count()), (Some(!3), 2));
    assert_eq!(t.validate(&*p.nodes), Ok(()));
}

#[test]
fn the_deepest_path_has_depth_nodes() {
    let mut p = Pool::new(20);
    // Each differs from index 0 in one level more.
    let t = p.tree(&[0, 1 << 6, 1 << 12, 1 << 18, 1 << 24, 1 << 30]);
    assert_eq!(t.path(&*p.nodes, 0).unwrap().len, DEPTH);
    assert_eq!(p.used(), 2 * DEPTH - 1);
}

#[test]
fn any_value_and_the_last_index_will_do() {
    let mut p = Pool::new(4);
    let mut t = p.tree(&[]);
    p.insert(&mut t, u32::MAX, NIL).unwrap();
    assert_eq!(
        p.insert(&mut t, u32::MAX, 1),
        Err(Refused::Occupied(NIL)),
        "the old value stays"
    );
    let n = &*p.nodes;
    assert_eq!(t.get(n, u32::MAX), Some(NIL));
    assert_eq!(t.next(n, u32::MAX), Some((u32::MAX, NIL)));
    assert_eq!(t.count(), 1);
}

#[test]
fn an_insertion_without_nodes_changes_nothing() {
    let mut p = Pool::new(8);
    let mut t = p.tree(&[0]);
    let mut spare = Spare::new();
    let n = &*p.nodes;
    assert_eq!(t.insert(n, 1, 1, &mut spare), Ok(()), "needs none");
    spare.push(7).unwrap();
    assert_eq!(t.insert(n, 64, 1, &mut spare), Err(Refused::NoNodes));
    assert_eq!((spare.len(), t.count(), t.get(n, 64)), (1, 2, None));
    assert_eq!(t.validate(n), Ok(()));
    spare.push(6).unwrap();
    assert_eq!(spare.push(5), Err(5));
    assert_eq!(t.insert(n, 64, 1, &mut spare), Ok(()));
    assert!(spare.is_empty());
    assert_eq!(t.insert(n, 128, 1, &mut spare), Err(Refused::NoNodes));
    spare.push(5).unwrap();
    assert_eq!(t.insert(n, 128, 1, &mut spare), Ok(()));
    assert_eq!(t.validate(n), Ok(()));
}

#[test]
fn marks_are_carried_up_and_down() {
    let mut p = Pool::new(16);
    let mut t = p.tree(&[3, 70, 5000, 1 << 31]);
    let n = &*p.nodes;
    assert!(!t.set_mark(n, 4, Mark::Dirty), "no entry");
    assert!(t.set_mark(n, 5000, Mark::Dirty) && t.set_mark(n, 70, Mark::Dirty));
    assert!(t.set_mark(n, 1 << 31, Mark::Writeback));
    assert_eq!(t.validate(n), Ok(()));
    assert_eq!(t.next_marked(n, 0, Mark::Dirty), Some((70, !70)));
    assert_eq!(t.next_marked(n, 71, Mark::Dirty), Some((5000, !5000)));
    assert_eq!(t.next_marked(n, 5001, Mark::Dirty), None);
    assert!(t.clear_mark(n, 70, Mark::Dirty) && t.clear_mark(n, 5000, Mark::Dirty));
    assert!(!t.any_marked(n, Mark::Dirty) && t.any_marked(n, Mark::Writeback));
    assert_eq!(p.remove(&mut t, 1 << 31), Some(!(1 << 31)));
    let n = &*p.nodes;
    assert!(!t.any_marked(n, Mark::Writeback), "a removal takes them");
    assert_eq!(t.validate(n), Ok(()));
    p.insert(&mut t, 1 << 31, 1).unwrap();
    assert!(!t.is_marked(&*p.nodes, 1 << 31, Mark::Writeback));
}

#[test]
fn a_new_fork_shows_the_marks_below_it() {
    let mut p = Pool::new(8);
    let mut t = p.tree(&[3]);
    t.set_mark(&*p.nodes, 3, Mark::ToWrite);
    p.insert(&mut t, 9000, 1).unwrap();
    p.insert(&mut t, 100, 1).unwrap();
    assert_eq!(t.validate(&*p.nodes), Ok(()));
    assert_eq!(t.next_marked(&*p.nodes, 0, Mark::ToWrite), Some((3, !3)));
}

/// `damage` to the tree of four leaves under two forks is noticed.
fn noticed(damage: impl Fn(&mut Radix, &[Node])) -> Corrupt {
    let mut p = Pool::new(8);
    let mut t = p.tree(&[3, 70, 5000, 5100]);
    t.set_mark(&*p.nodes, 3, Mark::Dirty);
    assert_eq!(t.validate(&*p.nodes), Ok(()));
    damage(&mut t, &p.nodes);
    t.validate(&*p.nodes).unwrap_err()
}

#[test]
fn validate_sees_each_kind_of_damage() {
    fn leaf(t: &Radix, n: &[Node], index: u32) -> u32 {
        *t.path(n, index).unwrap().as_slice().last().unwrap()
    }
    noticed(|t, _| t.count += 1);
    noticed(|t, n| n.node(leaf(t, n, 3)).vacate(3));
    noticed(|t, n| n.node(leaf(t, n, 3)).base.store(64, Relaxed));
    noticed(|t, n| n.node(leaf(t, n, 3)).base.store(1, Relaxed));
    noticed(|t, n| n.node(leaf(t, n, 3)).shift.store(1, Relaxed));
    noticed(|t, n| n.node(leaf(t, n, 3)).shift.store(200, Relaxed));
    noticed(|t, n| n.node(leaf(t, n, 3)).set_summary(3, 0));
    noticed(|t, n| n.node(leaf(t, n, 3)).set_summary(4, 1));
    noticed(|t, n| n.node(leaf(t, n, 70)).set_summary(70 & LAST, 4));
    noticed(|t, n| n.node(t.root).set_summary(0, 0));
    noticed(|t, n| n.node(t.root).fill(0, t.root));
    noticed(|t, n| n.node(t.root).fill(0, NIL));
    noticed(|t, n| n.node(t.root).vacate(1));
    noticed(|t, n| n.node(t.root).fill(2, leaf(t, n, 5000)));
    let c = noticed(|t, n| t.root = leaf(t, n, 70));
    assert_eq!(c.at, NIL, "the count");
}

/// Indices that share leaves, and ones that share only some of the levels.
fn indices() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..150,
        2 => (0u32..6, 0u32..3, 0u32..4).prop_map(|(level, a, b)| (a << (level * BITS)) | b),
        1 => (0u32..100).prop_map(|i| u32::MAX - i),
        1 => any::<u32>(),
    ]
}

type Model = BTreeMap<u32, (u32, u8)>;

fn agree(t: &Radix, n: &[Node], model: &Model, at: u32) -> Result<(), TestCaseError> {
    prop_assert_eq!(t.validate(n), Ok(()));
    prop_assert_eq!(t.count(), model.len() as u64);
    prop_assert_eq!(t.is_empty(), model.is_empty());
    prop_assert_eq!(t.get(n, at), model.get(&at).map(|e| e.0));
    let first = model.range(at..).next().map(|(&i, e)| (i, e.0));
    prop_assert_eq!(t.next(n, at), first);
    for m in Mark::ALL {
        let has = |e: &(u32, u8)| e.1 & 1 << m as u8 != 0;
        prop_assert_eq!(t.is_marked(n, at, m), model.get(&at).is_some_and(has));
        prop_assert_eq!(t.any_marked(n, m), model.values().any(has));
        let first = model.range(at..).find(|(_, e)| has(e));
        prop_assert_eq!(t.next_marked(n, at, m), first.map(|(&i, e)| (i, e.0)));
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(150))]
    #[test]
    fn behaves_like_a_map(
        ops in prop::collection::vec((0u8..10, indices(), any::<u32>(), 0usize..3, indices()), 0..steps(150)),
    ) {
        let mut p = Pool::new(2 * 150 + 2);
        let mut t = Radix::new();
        let mut model = Model::new();
        for (op, index, value, m, look) in ops {
            // Half of what asks for an entry asks for one that there is.
            let old = if value & 1 == 0 { model.range(index..).next().map(|(&i, _)| i) } else { None };
            let there = old.unwrap_or(index);
            match op {
                0..=3 => match model.get(&index) {
                    Some(e) => prop_assert_eq!(p.insert(&mut t, index, value), Err(Refused::Occupied(e.0))),
                    None => {
                        prop_assert_eq!(p.insert(&mut t, index, value), Ok(()));
                        model.insert(index, (value, 0));
                    }
                },
                4 | 5 => prop_assert_eq!(p.remove(&mut t, there), model.remove(&there).map(|e| e.0)),
                6..=8 => {
                    let entry = model.get_mut(&there).map(|e| e.1 |= 1 << m);
                    prop_assert_eq!(t.set_mark(&*p.nodes, there, Mark::ALL[m]), entry.is_some());
                }
                _ => {
                    let entry = model.get_mut(&there).map(|e| e.1 &= !(1 << m));
                    prop_assert_eq!(t.clear_mark(&*p.nodes, there, Mark::ALL[m]), entry.is_some());
                }
            }
            agree(&t, &p.nodes, &model, look)?;
            agree(&t, &p.nodes, &model, there)?;
            prop_assert!(p.used() <= 2 * model.len(), "at most one fork for each leaf");
        }
        for &i in model.keys() {
            prop_assert!(p.remove(&mut t, i).is_some());
            prop_assert_eq!(t.validate(&*p.nodes), Ok(()));
        }
        prop_assert_eq!(p.used(), 0);
    }

    #[test]
    fn walks_in_order(set in prop::collection::btree_set(indices(), 0..steps(200)), odd: bool) {
        let mut p = Pool::new(2 * 200 + 2);
        let mut t = p.tree(&set.iter().copied().collect::<Vec<_>>());
        for &i in set.iter().filter(|&&i| (i & 1 == 1) == odd) {
            t.set_mark(&*p.nodes, i, Mark::Dirty);
        }
        let walk = |step: &dyn Fn(u32) -> Option<(u32, u32)>| {
            let mut seen = Vec::new();
            let mut from = Some(0);
            while let Some((i, _)) = from.and_then(step) {
                seen.push(i);
                from = i.checked_add(1);
            }
            seen
        };
        let all = walk(&|from| t.next(&*p.nodes, from));
        prop_assert!(all.iter().eq(set.iter()));
        let dirty = walk(&|from| t.next_marked(&*p.nodes, from, Mark::Dirty));
        prop_assert!(dirty.iter().eq(set.iter().filter(|&&i| (i & 1 == 1) == odd)));
    }
}
