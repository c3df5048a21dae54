//! Tests of `swapmap`. Locks: none, one thread. Does not sleep.

use super::*;
use crate::testing::{config, steps};
use core::cell::RefCell;
use core::sync::atomic::AtomicU64;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

type Lent<'a> = SwapMap<&'a [AtomicU8], &'a [Cluster]>;

struct Storage(Vec<AtomicU8>, Vec<Cluster>);

/// Pages to count on in, full of nonsense, and which of them are not lent.
struct Lender {
    pages: Vec<[AtomicU64; CLUSTER_SLOTS as usize]>,
    left: RefCell<Vec<u32>>,
}

impl Lender {
    fn new(n: u32) -> Self {
        let page = |_| core::array::from_fn(|i| AtomicU64::new(!(i as u64)));
        Self {
            pages: (0..n).map(page).collect(),
            left: RefCell::new((0..n).collect()),
        }
    }

    fn left(&self) -> usize {
        self.left.borrow().len()
    }

    fn make_room(&self, m: &mut Lent<'_>, slot: u32) -> Result<(), SwapError> {
        let mut page = self.left.borrow_mut().pop();
        let result = m.make_room(slot, &mut page, self);
        self.left.borrow_mut().extend(page);
        result
    }
}

impl Pages for Lender {
    fn cell(&self, page: u32, i: u32) -> &AtomicU64 {
        assert!(
            !self.left.borrow().contains(&page),
            "a page that is not lent"
        );
        &self.pages[page as usize][i as usize]
    }
    fn release(&self, page: u32) {
        assert!(!self.left.borrow().contains(&page), "released twice");
        self.left.borrow_mut().push(page);
    }
}

/// A lender with nothing to lend.
struct Nothing;

impl Pages for Nothing {
    fn cell(&self, page: u32, _: u32) -> &AtomicU64 {
        panic!("page {page} was never lent")
    }
    fn release(&self, page: u32) {
        panic!("page {page} was never lent")
    }
}

/// Storage full of nonsense: `new` must not depend on it.
fn storage(slots: u32) -> Storage {
    let map = (0..slots).map(|i| AtomicU8::new(i as u8)).collect();
    let clusters = (0..clusters_for(slots)).map(|_| Cluster::new());
    Storage(map, clusters.collect())
}

impl Storage {
    fn map(&self) -> Lent<'_> {
        self.map_without([])
    }

    fn map_without(&self, bad: impl IntoIterator<Item = u32>) -> Lent<'_> {
        let m = SwapMap::new(&self.0[..], &self.1[..], bad).unwrap();
        m.validate(&Nothing).unwrap();
        m
    }
}

fn take(m: &mut Lent<'_>, cursor: &mut Cursor, n: usize) -> Vec<u32> {
    let mut out = std::vec![NIL; n];
    let got = m.alloc(cursor, &mut out);
    out.truncate(got);
    out
}

#[test]
fn storage_must_fit() {
    let s = storage(600);
    assert_eq!(
        SwapMap::new(&s.0[..], &s.1[..2], []).unwrap_err(),
        BadStorage::Clusters { needed: 3 }
    );
    assert_eq!(
        SwapMap::new(&s.0[..], &s.1[..], [0, 600]).unwrap_err(),
        BadStorage::NoSuchSlot(600)
    );
    let none = SwapMap::new(&[][..], &[][..], []).unwrap();
    assert_eq!(
        (none.slots(), none.free(), none.next_in_use(0)),
        (0, 0, None)
    );
    assert_eq!(none.validate(&Nothing), Ok(()));
}

#[test]
fn a_bad_slot_is_never_handed_out() {
    let s = storage(600);
    let bad = [0, 7, 255, 256, 599, 7];
    let mut m = s.map_without(bad);
    for _ in 0..2 {
        assert_eq!((m.free(), m.bad()), (595, 5));
        let all = take(&mut m, &mut Cursor::new(), 600);
        assert_eq!(all.len(), 595);
        assert!(bad.iter().all(|slot| !all.contains(slot)));
        m.reset(bad, &Nothing);
        m.validate(&Nothing).unwrap();
    }
}

#[test]
fn each_cursor_gets_consecutive_slots_of_its_own() {
    let s = storage(1024);
    let mut m = s.map_without([0]);
    let (mut a, mut b) = (Cursor::new(), Cursor::new());
    assert_eq!(take(&mut m, &mut a, 3), [256, 257, 258]);
    assert_eq!(take(&mut m, &mut b, 2), [512, 513]);
    assert_eq!(take(&mut m, &mut a, 2), [259, 260]);
    assert_eq!((m.free(), m.bad(), m.used()), (1024 - 8, 1, 7));
    // Freed slots behind the cursor wait until the cluster is claimed anew.
    m.clear_cache(256, &Nothing).unwrap();
    assert_eq!(take(&mut m, &mut a, 1), [261]);
    assert_eq!(take(&mut m, &mut a, 250).last(), Some(&511));
    assert_eq!(take(&mut m, &mut a, 1), [768]);
}

#[test]
fn partly_used_clusters_when_none_is_free_then_those_of_other_cpus() {
    let s = storage(512);
    let mut m = s.map();
    let (mut a, mut b, mut c) = (Cursor::new(), Cursor::new(), Cursor::new());
    assert_eq!(take(&mut m, &mut a, 256).len(), 256);
    assert_eq!(take(&mut m, &mut b, 255), (256..511).collect::<Vec<_>>());
    for slot in [7, 9] {
        assert_eq!(m.clear_cache(slot, &Nothing), Ok(Left::Free));
    }
    assert_eq!(take(&mut m, &mut c, 1), [7]);
    assert_eq!(take(&mut m, &mut c, 3), [9, 511]);
    assert_eq!((take(&mut m, &mut b, 1).len(), m.free()), (0, 0));
    // A cursor whose cluster was filled by another still works.
    m.clear_cache(510, &Nothing).unwrap();
    assert_eq!(take(&mut m, &mut b, 2), [510]);
}

#[test]
fn released_and_emptied_clusters_are_free_again() {
    let s = storage(512);
    let mut m = s.map();
    let (mut a, mut b) = (Cursor::new(), Cursor::new());
    assert_eq!(take(&mut m, &mut a, 1), [0]);
    m.release(&mut a);
    assert_eq!(a, Cursor::new());
    m.clear_cache(0, &Nothing).unwrap();
    m.validate(&Nothing).unwrap();
    assert_eq!(take(&mut m, &mut b, 256), (256..512).collect::<Vec<_>>());
    assert_eq!(take(&mut m, &mut b, 256), (0..256).collect::<Vec<_>>());
    // A cursor of another, larger area is only a hint.
    let mut stale = Cursor::from_raw(70_000);
    m.clear_cache(3, &Nothing).unwrap();
    assert_eq!(take(&mut m, &mut stale, 9), [3]);
    m.release(&mut Cursor::from_raw(70_000));
    m.validate(&Nothing).unwrap();
}

#[test]
fn life_of_a_slot() {
    let s = storage(10);
    let mut m = s.map();
    let slot = take(&mut m, &mut Cursor::new(), 1)[0];
    assert_eq!(m.set_cache(slot), Err(SwapError::AlreadyCached));
    assert_eq!(m.put(slot, &Nothing), Err(SwapError::NoReference));
    m.dup(slot, &Nothing).unwrap();
    m.dup(slot, &Nothing).unwrap();
    assert_eq!(m.clear_cache(slot, &Nothing), Ok(Left::Referenced));
    assert_eq!(m.clear_cache(slot, &Nothing), Err(SwapError::NotCached));
    assert_eq!(m.put(slot, &Nothing), Ok(Left::Referenced));
    m.set_cache(slot).unwrap();
    assert_eq!(m.put(slot, &Nothing), Ok(Left::CacheOnly));
    assert_eq!(
        (m.next_in_use(0), m.next_in_use(slot + 1)),
        (Some(slot), None)
    );
    assert_eq!(m.clear_cache(slot, &Nothing), Ok(Left::Free));
    assert_eq!(
        (m.dup(slot, &Nothing), m.put(slot, &Nothing)),
        (Err(SwapError::Free), Err(SwapError::Free))
    );
    assert_eq!(m.set_cache(slot), Err(SwapError::Free));
    assert_eq!(m.dup(10, &Nothing), Err(SwapError::OutOfRange));
    assert_eq!(m.mark_bad(10), Err(SwapError::OutOfRange));
    m.validate(&Nothing).unwrap();
}

#[test]
fn a_count_at_its_limit_goes_on_in_a_page() {
    let s = storage(300);
    // The whole map is looked at now and then under Miri, which is a thousand times slower.
    let now_and_then = |n: u64| !cfg!(miri) || n.is_multiple_of(250);
    let mut m = s.map();
    let pages = Lender::new(2);
    let slots = take(&mut m, &mut Cursor::new(), 257);
    for _ in 0..MAX_COUNT {
        m.dup(0, &pages).unwrap();
    }
    assert_eq!(m.dup(0, &pages), Err(SwapError::NoRoom));
    assert_eq!(m.make_room(0, &mut None, &pages), Err(SwapError::NoRoom));
    assert_eq!(pages.make_room(&mut m, 0), Ok(()));
    assert_eq!(pages.make_room(&mut m, 7), Ok(()), "the same page");
    assert_eq!(pages.left(), 1);
    for n in u64::from(MAX_COUNT)..1000 {
        m.dup(0, &pages).unwrap();
        // A cluster with a page has room for each of its slots.
        m.dup(9, &pages).unwrap();
        if now_and_then(n) {
            m.validate(&pages).unwrap();
        }
    }
    assert_eq!(
        (m.references(0, &pages), m.references(9, &pages)),
        (1000, 938)
    );
    assert_eq!(slots[256], 256);
    for _ in 0..MAX_COUNT {
        m.dup(256, &pages).unwrap();
    }
    assert_eq!(
        m.dup(256, &pages),
        Err(SwapError::NoRoom),
        "another cluster"
    );
    assert_eq!(m.make_room(299, &mut None, &pages), Err(SwapError::Free));
    assert_eq!(
        m.make_room(300, &mut None, &pages),
        Err(SwapError::OutOfRange)
    );

    m.mark_bad(0).unwrap();
    for left in (0..1000).rev() {
        let expected = if left > 0 {
            Left::Referenced
        } else {
            Left::CacheOnly
        };
        assert_eq!(m.put(0, &pages), Ok(expected));
        assert_eq!(m.references(0, &pages), left);
        if now_and_then(left) {
            m.validate(&pages).unwrap();
        }
    }
    assert_eq!(m.put(0, &pages), Err(SwapError::NoReference));
    assert_eq!(m.clear_cache(0, &pages), Ok(Left::Retired));
    assert_eq!(m.clear_cache(7, &pages), Ok(Left::Free));
    assert_eq!(pages.left(), 1, "slot 9 counts in it");
    assert_eq!(m.clear_cache(9, &pages), Ok(Left::Referenced));
    while m.put(9, &pages) == Ok(Left::Referenced) {}
    assert_eq!((pages.left(), m.references(9, &pages)), (2, 0));
    m.validate(&pages).unwrap();

    pages.make_room(&mut m, 1).unwrap();
    m.reset([], &pages);
    assert_eq!((pages.left(), m.free()), (2, 300));
    m.validate(&pages).unwrap();
}

#[test]
fn a_failed_write_retires_the_slot() {
    let s = storage(300);
    let mut m = s.map();
    let mut cursor = Cursor::new();
    let slot = take(&mut m, &mut cursor, 1)[0];
    m.dup(slot, &Nothing).unwrap();
    m.mark_bad(slot).unwrap();
    m.mark_bad(slot).unwrap();
    let state = m.state(slot).unwrap();
    assert_eq!(
        (state.is_failing(), state.is_bad(), state.count(), m.bad()),
        (true, false, 1, 0)
    );
    assert_eq!(m.put(slot, &Nothing), Ok(Left::CacheOnly));
    assert_eq!(m.clear_cache(slot, &Nothing), Ok(Left::Retired));
    let state = m.state(slot).unwrap();
    assert_eq!(
        (state.is_bad(), state.count(), m.bad(), m.free()),
        (true, 0, 1, 299)
    );
    m.mark_bad(slot).unwrap();
    assert_eq!(
        (m.bad(), m.dup(slot, &Nothing), m.next_in_use(0)),
        (1, Err(SwapError::Bad), None)
    );
    assert!(!take(&mut m, &mut cursor, 300).contains(&slot));
    assert_eq!(m.free(), 0);
}

#[test]
fn validate_sees_each_kind_of_damage() {
    let damaged = |harm: &dyn Fn(&mut Lent<'_>)| {
        let s = storage(700);
        let mut m = s.map();
        take(&mut m, &mut Cursor::new(), 3);
        harm(&mut m);
        m.validate(&Nothing).expect_err("unnoticed").what
    };
    assert!(damaged(&|m| m.map[1].store(FAILING, Relaxed)).contains("impossible"));
    assert!(damaged(&|m| m.map[1].store(BAD | HAS_CACHE, Relaxed)).contains("impossible"));
    assert!(damaged(&|m| m.map[1].store(0, Relaxed)).contains("use count"));
    assert!(damaged(&|m| m.map[9].store(1, Relaxed)).contains("use count"));
    assert!(damaged(&|m| m.clusters[0].state.store(FULL, Relaxed)).contains("wrong state"));
    assert!(damaged(&|m| m.clusters[1].state.store(ON_CURRENT, Relaxed)).contains("wrong list"));
    assert!(damaged(&|m| m.lists[0].remove(m.clusters, 1)).contains("no list"));
    assert!(damaged(&|m| m.free += 1).contains("free count"));
    assert!(damaged(&|m| m.map[1].store(BAD, Relaxed)).contains("bad count"));
}

/// The model of a slot in use.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Used {
    count: u64,
    cached: bool,
    failing: bool,
    /// It has been made room for, or has needed some.
    room: bool,
}

/// The model of a slot.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Slot {
    Free,
    Used(Used),
    Bad,
}

impl Slot {
    fn leave(&mut self, cache: bool) -> Result<Left, SwapError> {
        let mut used = match *self {
            Slot::Free => return Err(SwapError::Free),
            Slot::Bad => return Err(SwapError::Bad),
            Slot::Used(used) => used,
        };
        match (cache, used.cached, used.count) {
            (true, false, _) => return Err(SwapError::NotCached),
            (false, _, 0) => return Err(SwapError::NoReference),
            (true, ..) => used.cached = false,
            (false, ..) => used.count -= 1,
        }
        let (slot, left) = match (used.count, used.cached) {
            (0, false) if used.failing => (Slot::Bad, Left::Retired),
            (0, false) => (Slot::Free, Left::Free),
            (0, true) => (Slot::Used(used), Left::CacheOnly),
            _ => (Slot::Used(used), Left::Referenced),
        };
        *self = slot;
        Ok(left)
    }

    /// `page`: its cluster has one.
    fn join(&mut self, cache: bool, page: bool) -> Result<(), SwapError> {
        let used = self.used()?;
        if cache {
            let before = core::mem::replace(&mut used.cached, true);
            return if before {
                Err(SwapError::AlreadyCached)
            } else {
                Ok(())
            };
        }
        if used.count == u64::from(MAX_COUNT) && !used.room {
            if !page {
                return Err(SwapError::NoRoom);
            }
            used.room = true;
        }
        used.count += 1;
        Ok(())
    }

    fn used(&mut self) -> Result<&mut Used, SwapError> {
        match self {
            Slot::Free => Err(SwapError::Free),
            Slot::Bad => Err(SwapError::Bad),
            Slot::Used(used) => Ok(used),
        }
    }

    fn has_room(&self) -> bool {
        matches!(self, Slot::Used(Used { room: true, .. }))
    }
}

/// The cluster of slot `at` has a page.
fn has_page(model: &[Slot], at: usize) -> bool {
    let cluster = at - at % CLUSTER_SLOTS as usize;
    let slots = model.iter().skip(cluster).take(CLUSTER_SLOTS as usize);
    slots.clone().any(Slot::has_room)
}

/// Two whole clusters and a piece: small enough to run full often.
const SLOTS: u32 = 600;

proptest! {
    #![proptest_config(config(150))]
    #[test]
    fn agrees_with_an_array(ops in prop::collection::vec((0u8..18, 0..SLOTS + 2, 1usize..120, 0usize..3), 1..steps(150))) {
        let s = storage(SLOTS);
        let mut m = s.map();
        let pages = Lender::new(clusters_for(SLOTS) as u32);
        let mut cursors = [Cursor::new(); 3];
        let mut model = std::vec![Slot::Free; SLOTS as usize];
        for (op, slot, n, cpu) in ops {
            let at = slot as usize;
            match op {
                0..=4 => {
                    let free = model.iter().filter(|&&x| x == Slot::Free).count();
                    let got = take(&mut m, &mut cursors[cpu], n);
                    prop_assert_eq!(got.len(), n.min(free));
                    prop_assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), got.len());
                    for s in got {
                        let old = core::mem::replace(&mut model[s as usize],
                            Slot::Used(Used { cached: true, ..Used::default() }));
                        prop_assert_eq!(old, Slot::Free);
                    }
                }
                5 => m.release(&mut cursors[cpu]),
                // A run of slots is freed at once, so that clusters empty as well as fill.
                6 | 7 => for (slot, model) in (0..).zip(&mut model).skip(at).take(4 * n) {
                    while let Ok(left) = model.leave(false) {
                        prop_assert_eq!(m.put(slot, &pages), Ok(left));
                    }
                    prop_assert_eq!(m.clear_cache(slot, &pages), model.leave(true));
                },
                _ if slot >= SLOTS => {
                    prop_assert_eq!(m.put(slot, &pages), Err(SwapError::OutOfRange));
                    prop_assert_eq!(m.set_cache(slot), Err(SwapError::OutOfRange));
                    prop_assert_eq!(m.clear_cache(slot, &pages), Err(SwapError::OutOfRange));
                    prop_assert_eq!(m.state(slot), None);
                }
                8 | 9 => {
                    let page = has_page(&model, at);
                    prop_assert_eq!(m.dup(slot, &pages), model[at].join(false, page));
                }
                10 => for _ in 0..n {
                    let page = has_page(&model, at);
                    prop_assert_eq!(m.dup(slot, &pages), model[at].join(false, page));
                },
                16 => for _ in 0..n {
                    prop_assert_eq!(m.put(slot, &pages), model[at].leave(false));
                },
                17 => prop_assert_eq!(pages.make_room(&mut m, slot),
                    model[at].used().map(|used| used.room = true)),
                11 | 12 => prop_assert_eq!(m.put(slot, &pages), model[at].leave(false)),
                13 => prop_assert_eq!(m.set_cache(slot), model[at].join(true, false)),
                14 => prop_assert_eq!(m.clear_cache(slot, &pages), model[at].leave(true)),
                _ => {
                    m.mark_bad(slot).unwrap();
                    match &mut model[at] {
                        Slot::Used(used) => used.failing = true,
                        other => *other = Slot::Bad,
                    }
                }
            }
            prop_assert_eq!(m.validate(&pages), Ok(()));
            let with_page = (0..clusters_for(SLOTS)).filter(|c| has_page(&model, c * CLUSTER_SLOTS as usize));
            prop_assert_eq!(pages.left(), clusters_for(SLOTS) - with_page.count());
        }
        for (slot, expected) in (0..).zip(&model) {
            let found = m.state(slot).unwrap();
            let found = match (found.is_free(), found.is_bad()) {
                (true, _) => Slot::Free,
                (_, true) => Slot::Bad,
                _ => Slot::Used(Used {
                    count: m.references(slot, &pages),
                    cached: found.is_cached(),
                    failing: found.is_failing(),
                    room: expected.has_room(),
                }),
            };
            prop_assert_eq!(found, *expected);
        }
        let count = |wanted: Slot| model.iter().filter(|&&x| x == wanted).count() as u32;
        prop_assert_eq!((m.free(), m.bad()), (count(Slot::Free), count(Slot::Bad)));
        let first_used = model.iter().position(|x| matches!(x, Slot::Used(_)));
        prop_assert_eq!(m.next_in_use(0), first_used.map(|x| x as u32));
    }
}
