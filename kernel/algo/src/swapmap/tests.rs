//! Tests of `swapmap`. Locks: none, one thread. Does not sleep.

use super::*;
use crate::testing::{config, steps};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

struct Storage(Vec<AtomicU8>, Vec<Cluster>);

/// Storage full of nonsense: `new` must not depend on it.
fn storage(slots: u32) -> Storage {
    let map = (0..slots).map(|i| AtomicU8::new(i as u8)).collect();
    let clusters = (0..clusters_for(slots)).map(|_| Cluster::new());
    Storage(map, clusters.collect())
}

impl Storage {
    fn map(&self) -> SwapMap<'_> {
        self.map_without([])
    }

    fn map_without(&self, bad: impl IntoIterator<Item = u32>) -> SwapMap<'_> {
        let m = SwapMap::new(&self.0, &self.1, bad).unwrap();
        m.validate().unwrap();
        m
    }
}

fn take(m: &mut SwapMap<'_>, cursor: &mut Cursor, n: usize) -> Vec<u32> {
    let mut out = std::vec![NIL; n];
    let got = m.alloc(cursor, &mut out);
    out.truncate(got);
    m.validate().unwrap();
    out
}

#[test]
fn storage_must_fit() {
    let s = storage(600);
    assert_eq!(
        SwapMap::new(&s.0, &s.1[..2], []).unwrap_err(),
        BadStorage::TooFewClusters { needed: 3 }
    );
    assert_eq!(
        SwapMap::new(&s.0, &s.1, [0, 600]).unwrap_err(),
        BadStorage::NoSuchSlot(600)
    );
    let none = SwapMap::new(&[], &[], []).unwrap();
    assert_eq!(
        (none.slots(), none.free(), none.next_in_use(0)),
        (0, 0, None)
    );
    assert_eq!(none.validate(), Ok(()));
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
        m.reset(bad);
        m.validate().unwrap();
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
    m.clear_cache(256).unwrap();
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
        assert_eq!(m.clear_cache(slot), Ok(Left::Free));
    }
    assert_eq!(take(&mut m, &mut c, 1), [7]);
    assert_eq!(take(&mut m, &mut c, 3), [9, 511]);
    assert_eq!((take(&mut m, &mut b, 1).len(), m.free()), (0, 0));
    // A cursor whose cluster was filled by another still works.
    m.clear_cache(510).unwrap();
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
    m.clear_cache(0).unwrap();
    m.validate().unwrap();
    assert_eq!(take(&mut m, &mut b, 256), (256..512).collect::<Vec<_>>());
    assert_eq!(take(&mut m, &mut b, 256), (0..256).collect::<Vec<_>>());
    // A cursor of another, larger area is only a hint.
    let mut stale = Cursor::from_raw(70_000);
    m.clear_cache(3).unwrap();
    assert_eq!(take(&mut m, &mut stale, 9), [3]);
    m.release(&mut Cursor::from_raw(70_000));
    m.validate().unwrap();
}

#[test]
fn life_of_a_slot() {
    let s = storage(10);
    let mut m = s.map();
    let slot = take(&mut m, &mut Cursor::new(), 1)[0];
    assert_eq!(m.set_cache(slot), Err(SwapError::AlreadyCached));
    assert_eq!(m.put(slot), Err(SwapError::NoReference));
    m.dup(slot).unwrap();
    m.dup(slot).unwrap();
    assert_eq!(m.clear_cache(slot), Ok(Left::Referenced));
    assert_eq!(m.clear_cache(slot), Err(SwapError::NotCached));
    assert_eq!(m.put(slot), Ok(Left::Referenced));
    m.set_cache(slot).unwrap();
    assert_eq!(m.put(slot), Ok(Left::CacheOnly));
    assert_eq!(
        (m.next_in_use(0), m.next_in_use(slot + 1)),
        (Some(slot), None)
    );
    assert_eq!(m.clear_cache(slot), Ok(Left::Free));
    assert_eq!(
        (m.dup(slot), m.put(slot)),
        (Err(SwapError::Free), Err(SwapError::Free))
    );
    assert_eq!(m.set_cache(slot), Err(SwapError::Free));
    assert_eq!(m.dup(10), Err(SwapError::OutOfRange));
    assert_eq!(m.mark_bad(10), Err(SwapError::OutOfRange));
    m.validate().unwrap();
}

#[test]
fn references_are_bounded() {
    let s = storage(1);
    let mut m = s.map();
    take(&mut m, &mut Cursor::new(), 1);
    for _ in 0..MAX_COUNT {
        m.dup(0).unwrap();
    }
    assert_eq!(m.dup(0), Err(SwapError::TooManyReferences));
    let full = m.state(0).unwrap();
    assert_eq!(
        (full.count(), full.is_cached(), full.is_bad()),
        (MAX_COUNT, true, false)
    );
    assert_eq!(m.clear_cache(0), Ok(Left::Referenced));
    m.validate().unwrap();
}

#[test]
fn a_failed_write_retires_the_slot() {
    let s = storage(300);
    let mut m = s.map();
    let mut cursor = Cursor::new();
    let slot = take(&mut m, &mut cursor, 1)[0];
    m.dup(slot).unwrap();
    m.mark_bad(slot).unwrap();
    m.mark_bad(slot).unwrap();
    let state = m.state(slot).unwrap();
    assert_eq!(
        (state.is_failing(), state.is_bad(), state.count(), m.bad()),
        (true, false, 1, 0)
    );
    assert_eq!(m.put(slot), Ok(Left::CacheOnly));
    assert_eq!(m.clear_cache(slot), Ok(Left::Retired));
    let state = m.state(slot).unwrap();
    assert_eq!(
        (state.is_bad(), state.count(), m.bad(), m.free()),
        (true, 0, 1, 299)
    );
    m.mark_bad(slot).unwrap();
    assert_eq!(
        (m.bad(), m.dup(slot), m.next_in_use(0)),
        (1, Err(SwapError::Bad), None)
    );
    assert!(!take(&mut m, &mut cursor, 300).contains(&slot));
    assert_eq!(m.free(), 0);
}

#[test]
fn validate_sees_each_kind_of_damage() {
    let damaged = |harm: &dyn Fn(&mut SwapMap<'_>)| {
        let s = storage(700);
        let mut m = s.map();
        take(&mut m, &mut Cursor::new(), 3);
        harm(&mut m);
        m.validate().expect_err("unnoticed").what
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

/// The model: (references, cached, failing) of a slot in use.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Slot {
    Free,
    Used {
        count: u8,
        cached: bool,
        failing: bool,
    },
    Bad,
}

impl Slot {
    fn settled(count: u8, cached: bool, failing: bool) -> (Self, Left) {
        match (count, cached) {
            (0, false) if failing => (Slot::Bad, Left::Retired),
            (0, false) => (Slot::Free, Left::Free),
            (0, true) => (
                Slot::Used {
                    count,
                    cached,
                    failing,
                },
                Left::CacheOnly,
            ),
            _ => (
                Slot::Used {
                    count,
                    cached,
                    failing,
                },
                Left::Referenced,
            ),
        }
    }

    fn leave(&mut self, cache: bool) -> Result<Left, SwapError> {
        match *self {
            Slot::Free => Err(SwapError::Free),
            Slot::Bad => Err(SwapError::Bad),
            Slot::Used { cached: false, .. } if cache => Err(SwapError::NotCached),
            Slot::Used { count: 0, .. } if !cache => Err(SwapError::NoReference),
            Slot::Used {
                count,
                cached,
                failing,
            } => {
                let (slot, left) = if cache {
                    Slot::settled(count, false, failing)
                } else {
                    Slot::settled(count - 1, cached, failing)
                };
                *self = slot;
                Ok(left)
            }
        }
    }

    fn join(&mut self, cache: bool) -> Result<(), SwapError> {
        match self {
            Slot::Free => Err(SwapError::Free),
            Slot::Bad => Err(SwapError::Bad),
            Slot::Used { cached: true, .. } if cache => Err(SwapError::AlreadyCached),
            Slot::Used { cached, .. } if cache => {
                *cached = true;
                Ok(())
            }
            Slot::Used {
                count: MAX_COUNT, ..
            } => Err(SwapError::TooManyReferences),
            Slot::Used { count, .. } => {
                *count += 1;
                Ok(())
            }
        }
    }
}

/// Two whole clusters and a piece: small enough to run full often.
const SLOTS: u32 = 600;

proptest! {
    #![proptest_config(config(150))]
    #[test]
    fn agrees_with_an_array(ops in prop::collection::vec((0u8..16, 0..SLOTS + 2, 1usize..120, 0usize..3), 1..steps(150))) {
        let s = storage(SLOTS);
        let mut m = s.map();
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
                            Slot::Used { count: 0, cached: true, failing: false });
                        prop_assert_eq!(old, Slot::Free);
                    }
                }
                5 => m.release(&mut cursors[cpu]),
                // A run of slots is freed at once, so that clusters empty as well as fill.
                6 | 7 => for (slot, model) in (0..).zip(&mut model).skip(at).take(4 * n) {
                    while let Ok(left) = model.leave(false) {
                        prop_assert_eq!(m.put(slot), Ok(left));
                    }
                    prop_assert_eq!(m.clear_cache(slot), model.leave(true));
                },
                _ if slot >= SLOTS => {
                    prop_assert_eq!(m.put(slot), Err(SwapError::OutOfRange));
                    prop_assert_eq!(m.set_cache(slot), Err(SwapError::OutOfRange));
                    prop_assert_eq!(m.clear_cache(slot), Err(SwapError::OutOfRange));
                    prop_assert_eq!(m.state(slot), None);
                }
                8 | 9 => prop_assert_eq!(m.dup(slot), model[at].join(false)),
                10 => for _ in 0..n {
                    prop_assert_eq!(m.dup(slot), model[at].join(false));
                },
                11 | 12 => prop_assert_eq!(m.put(slot), model[at].leave(false)),
                13 => prop_assert_eq!(m.set_cache(slot), model[at].join(true)),
                14 => prop_assert_eq!(m.clear_cache(slot), model[at].leave(true)),
                _ => {
                    m.mark_bad(slot).unwrap();
                    match &mut model[at] {
                        Slot::Used { failing, .. } => *failing = true,
                        other => *other = Slot::Bad,
                    }
                }
            }
            prop_assert_eq!(m.validate(), Ok(()));
        }
        for (slot, expected) in (0..).zip(&model) {
            let found = m.state(slot).unwrap();
            let found = match (found.is_free(), found.is_bad()) {
                (true, _) => Slot::Free,
                (_, true) => Slot::Bad,
                _ => Slot::Used { count: found.count(), cached: found.is_cached(), failing: found.is_failing() },
            };
            prop_assert_eq!(found, *expected);
        }
        let count = |wanted: Slot| model.iter().filter(|&&x| x == wanted).count() as u32;
        prop_assert_eq!((m.free(), m.bad()), (count(Slot::Free), count(Slot::Bad)));
        let first_used = model.iter().position(|x| matches!(x, Slot::Used { .. }));
        prop_assert_eq!(m.next_in_use(0), first_used.map(|x| x as u32));
    }
}
