//! The set against a map of ranges: lookups, gaps, cuts and joins.

use super::*;
use crate::error::MmError;
use crate::vma::edit::{self, Taken};
use proptest::prelude::*;
use std::collections::BTreeMap;

const BASE: u64 = USER_MIN;
/// Pages in the window that the tests use.
const PAGES: u64 = 64;

fn at(page: u64) -> u64 {
    BASE + page * PAGE_SIZE
}

/// A set with one family of areas, as cuts leave them; gives everything back at the end.
struct Fixture(VmaSet);

impl Fixture {
    fn add(&mut self, start: u64, end: u64, flags: u32) -> u32 {
        let pgoff = VirtAddr(start).page_index();
        let id = edit::create(&self.0, 0, start, end, pgoff, flags).unwrap();
        edit::attach(&self.0, id).unwrap();
        self.0.insert(id);
        id
    }
    fn ranges(&self) -> Vec<(u64, u64, u32)> {
        self.0
            .iter()
            .map(|(_, v)| (v.start(), v.end(), v.flags()))
            .collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let mut taken = Taken::new();
        while let Some(id) = self.0.first() {
            taken.take(&mut self.0, id);
        }
        taken.discard();
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Maps the pages, if they are free, with these flags.
    Add(u64, u64, u32),
    /// Takes the area at this page out.
    Remove(u64),
    Cut(u64),
    Heal(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..PAGES, 1..9u64, 0..4u32).prop_map(|(p, n, f)| Op::Add(p, n, f)),
        (0..PAGES).prop_map(Op::Remove),
        (0..PAGES).prop_map(Op::Cut),
        (0..PAGES).prop_map(Op::Heal),
    ];
    prop::collection::vec(op, 1..80)
}

/// Page → flags of its area. Cuts and joins change no page.
type Model = BTreeMap<u64, u32>;

fn apply(set: &mut Fixture, model: &mut Model, op: &Op) {
    match *op {
        Op::Add(page, n, flags) => {
            let (start, end) = (at(page), at((page + n).min(PAGES)));
            let free = (start..end)
                .step_by(PAGE_SIZE as usize)
                .all(|va| !model.contains_key(&va));
            assert_eq!(set.0.is_free(start, end), free);
            if free {
                set.add(start, end, flags);
                model.extend(
                    (start..end)
                        .step_by(PAGE_SIZE as usize)
                        .map(|va| (va, flags)),
                );
            }
        }
        Op::Remove(page) => {
            if let Some(id) = set.0.find_exact(VirtAddr(at(page))) {
                let v = vma(id);
                model.retain(|&va, _| !v.contains(VirtAddr(va)));
                set.0.remove(id);
                edit::discard(id);
            }
        }
        Op::Cut(page) => {
            edit::cut(&mut set.0, at(page)).unwrap();
            if let Some(id) = set.0.find_exact(VirtAddr(at(page))) {
                assert_eq!(vma(id).start(), at(page));
            }
        }
        Op::Heal(page) => edit::heal(&mut set.0, at(page)),
    }
}

fn check(set: &Fixture, model: &Model) {
    set.0.validate().unwrap();
    let pages: Model = set
        .ranges()
        .into_iter()
        .flat_map(|(s, e, f)| (s..e).step_by(PAGE_SIZE as usize).map(move |va| (va, f)))
        .collect();
    assert_eq!(&pages, model);
    for (_, v) in set.0.iter() {
        // Nothing here moves an area, so page indexes still follow addresses.
        assert_eq!(v.pgoff(), VirtAddr(v.start()).page_index());
    }
    for page in 0..PAGES {
        let va = at(page);
        let above = model.range(va..).next().map(|(&a, _)| a);
        let found = set.0.find(VirtAddr(va));
        assert_eq!(found.map(|v| v.start().max(va)), above);
        assert_eq!(
            set.0.find_exact(VirtAddr(va)).is_some(),
            model.contains_key(&va)
        );
    }
}

/// The highest free run of `n` pages, page by page.
fn highest_run(model: &Model, n: u64) -> Option<u64> {
    (0..=PAGES - n)
        .rev()
        .find(|&p| (p..p + n).all(|q| !model.contains_key(&at(q))))
        .map(at)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn against_a_map_of_pages(ops in ops()) {
        let mut set = Fixture(VmaSet::new());
        let mut model = Model::new();
        for op in &ops {
            apply(&mut set, &mut model, op);
            check(&set, &model);
            for n in [1, 2, 7, PAGES] {
                prop_assert_eq!(
                    set.0.find_gap(n * PAGE_SIZE, BASE, at(PAGES)),
                    highest_run(&model, n)
                );
            }
        }
    }
}

#[test]
fn a_gap_keeps_its_distance_to_a_stack() {
    let mut set = Fixture(VmaSet::new());
    let top = BASE + 4 * STACK_GUARD_GAP;
    set.add(top - PAGE_SIZE, top, super::super::vm::GROWSDOWN);
    let expect = top - PAGE_SIZE - STACK_GUARD_GAP - PAGE_SIZE;
    assert_eq!(set.0.find_gap(PAGE_SIZE, BASE, top), Some(expect));
    assert!(set.0.is_free(expect, expect + PAGE_SIZE));
    assert!(!set.0.is_free(expect, expect + 2 * PAGE_SIZE));
    let whole = expect + PAGE_SIZE - BASE;
    assert_eq!(set.0.find_gap(whole, BASE, top), Some(BASE));
    assert_eq!(set.0.find_gap(whole + PAGE_SIZE, BASE, top), None);
}

#[test]
fn neighbours_take_in_what_continues_them() {
    let mut set = Fixture(VmaSet::new());
    let (flags, index) = (super::super::vm::READ, |p| VirtAddr(at(p)).page_index());
    set.add(at(10), at(12), flags);
    assert!(edit::absorb(&mut set.0, at(12), at(14), index(12), flags));
    assert!(edit::absorb(&mut set.0, at(8), at(10), index(8), flags));
    assert_eq!(set.ranges(), [(at(8), at(14), flags)]);
    // Other flags, other indexes, a gap: a new area.
    assert!(!edit::absorb(&mut set.0, at(14), at(15), index(14), 0));
    assert!(!edit::absorb(&mut set.0, at(14), at(15), index(15), flags));
    assert!(!edit::absorb(&mut set.0, at(15), at(16), index(15), flags));
    set.0.validate().unwrap();
}

#[test]
fn areas_that_mprotect_could_join_share_their_anon_vma() {
    let mut set = Fixture(VmaSet::new());
    let low = set.add(at(10), at(12), super::super::vm::READ);
    let high = set.add(at(12), at(14), 0);
    let stack = set.add(at(14), at(16), super::super::vm::GROWSDOWN);
    assert_eq!(vma(low).anon(), vma(high).anon());
    assert_ne!(vma(high).anon(), vma(stack).anon());
    vma(high).set_flags(super::super::vm::READ);
    edit::heal(&mut set.0, at(12));
    assert_eq!(set.0.count(), 2);
    assert_eq!(set.0.find_exact(VirtAddr(at(13))), Some(low));
}

#[test]
fn cuts_can_be_healed() -> Result<(), MmError> {
    let mut set = Fixture(VmaSet::new());
    set.add(at(10), at(20), 0);
    edit::cut_all(&mut set.0, &[at(12), at(14), at(12), at(30)])?;
    assert_eq!(
        set.ranges(),
        [
            (at(10), at(12), 0),
            (at(12), at(14), 0),
            (at(14), at(20), 0)
        ]
    );
    for point in [at(14), at(12), at(11), at(40)] {
        edit::heal(&mut set.0, point);
    }
    assert_eq!(set.ranges(), [(at(10), at(20), 0)]);
    Ok(())
}
