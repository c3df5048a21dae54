//! Depth-first search with every reduction finds exactly what plain enumeration finds.

use super::toy::{End, Op, Program, Toy, enumerate};
use crate::explore::{DepthFirst, Limits, Progress, Verdict, explore};
use crate::testing::config;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow::Continue;
use std::vec;
use std::vec::Vec;

const ALL: Limits = Limits {
    steps: 200,
    runs: 3_000_000,
    failures: u64::MAX,
};

/// The final states that `search` finds, and its counts.
fn found(program: &Program, mut search: DepthFirst) -> (BTreeSet<End>, Progress) {
    let mut toy = Toy::new(program.clone(), |_| false);
    let seen = std::cell::RefCell::new(BTreeMap::new());
    // The world's state at the end of a run is only reachable from inside of it.
    struct Recorder<'a>(&'a mut Toy, &'a std::cell::RefCell<BTreeMap<End, u64>>);
    impl crate::explore::World for Recorder<'_> {
        fn reset(&mut self) {
            self.0.reset();
        }
        fn actors(&self) -> &[crate::explore::ActorState] {
            self.0.actors()
        }
        fn step(&mut self, a: crate::explore::ActorId) -> crate::explore::Footprint {
            let f = self.0.step(a);
            let view = crate::explore::View::new(self.0.actors());
            if view.enabled().is_empty() {
                let end = End {
                    state: self.0.state.clone(),
                    stuck: !view.all_ended(),
                };
                *self.1.borrow_mut().entry(end).or_default() += 1;
            }
            f
        }
    }
    let done = explore(
        &mut Recorder(&mut toy, &seen),
        &mut search,
        &ALL,
        &mut |_, _, _| Continue(()),
    );
    assert!(done.exhausted && done.diverged.is_none());
    let ends = seen.into_inner().into_keys().collect();
    (ends, done.progress)
}

/// Steps without locks: they do not have to be paired.
fn plain_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..3u8).prop_map(Op::Read),
        3 => (0..3u8, 1..3u8).prop_map(|(v, n)| Op::Write(v, n)),
        1 => (0..3u8, 0..3u8).prop_map(|(v, n)| Op::Set(v, n)),
    ]
}

/// A few steps, perhaps inside of a pair.
fn block() -> impl Strategy<Value = Vec<Op>> {
    let few = || prop::collection::vec(plain_op(), 1..3);
    let around = |open: Op, close: Op| {
        move |inner: Vec<Op>| {
            let mut ops = vec![open];
            ops.extend(inner);
            ops.push(close);
            ops
        }
    };
    prop_oneof![
        4 => few(),
        2 => (0..2u8, few()).prop_map(move |(l, ops)| around(Op::Lock(l), Op::Unlock(l))(ops)),
        // Two locks, in either order: deadlocks.
        1 => (0..2u8).prop_map(|l| vec![Op::Lock(l), Op::Lock(1 - l), Op::Unlock(1 - l), Op::Unlock(l)]),
        1 => few().prop_map(around(Op::IrqOff, Op::IrqOn)),
        // Not to be waited for with interrupts off; here nobody forbids it.
        1 => (0..2u8).prop_map(|c| vec![Op::Send(c), Op::Await]),
    ]
}

fn thread(most: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(block(), 1..3).prop_map(move |blocks| {
        let mut ops: Vec<Op> = Vec::new();
        for b in blocks {
            // Whole blocks only, so that pairs stay pairs.
            if ops.len() + b.len() <= most {
                ops.extend(b);
            }
        }
        ops
    })
}

fn program() -> impl Strategy<Value = Program> {
    prop_oneof![
        prop::collection::vec(thread(6), 2),
        prop::collection::vec(thread(4), 3),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn plain_search_is_the_enumeration(p in program(), bound in prop::option::of(0..3u32)) {
        let (ends, runs) = enumerate(&p, bound);
        let (seen, progress) = found(&p, DepthFirst::plain(bound));
        prop_assert_eq!(progress.schedules, runs);
        prop_assert_eq!(progress.redundant, 0);
        prop_assert_eq!(seen, ends);
    }

    #[test]
    fn sleep_sets_lose_no_state(p in program()) {
        let (ends, runs) = enumerate(&p, None);
        let (seen, progress) = found(&p, DepthFirst::sleep(None));
        prop_assert!(progress.schedules <= runs);
        prop_assert_eq!(seen, ends);
    }

    #[test]
    fn dpor_loses_no_state(p in program()) {
        let (ends, _) = enumerate(&p, None);
        let (seen, progress) = found(&p, DepthFirst::dpor());
        let (_, sleep) = found(&p, DepthFirst::sleep(None));
        prop_assert_eq!(seen, ends);
        // Both run one schedule of each class; DPOR gives up no more than the other.
        prop_assert_eq!(progress.schedules, sleep.schedules);
        prop_assert!(progress.redundant <= sleep.redundant);
    }

    #[test]
    fn bounded_sleep_sets_lose_no_state_within_the_bound(p in program(), bound in 0..4u32) {
        let (ends, runs) = enumerate(&p, Some(bound));
        let (seen, progress) = found(&p, DepthFirst::sleep(Some(bound)));
        prop_assert!(progress.schedules + progress.redundant <= runs);
        prop_assert_eq!(seen, ends);
    }
}
