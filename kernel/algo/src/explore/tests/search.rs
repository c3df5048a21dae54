//! Depth-first search with every reduction finds exactly what plain enumeration finds.

use super::toy::{End, Op, Program, Toy, enumerate};
use crate::explore::{
    ActorId, ActorState, DepthFirst, Footprint, Limits, Progress, View, World, explore,
};
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

/// A toy that keeps what its runs came to.
struct Recorder {
    toy: Toy,
    run: Vec<(ActorId, Footprint)>,
    ends: BTreeSet<End>,
    /// Complete runs in normal form: equivalent runs have the same.
    classes: BTreeMap<Vec<ActorId>, u64>,
}

impl World for Recorder {
    fn reset(&mut self) {
        self.run.clear();
        self.toy.reset();
        self.note();
    }
    fn actors(&self) -> &[ActorState] {
        self.toy.actors()
    }
    fn step(&mut self, actor: ActorId) -> Footprint {
        let footprint = self.toy.step(actor);
        self.run.push((actor, footprint));
        self.note();
        footprint
    }
}

impl Recorder {
    fn note(&mut self) {
        let view = View::new(self.toy.actors());
        if view.enabled().is_empty() {
            self.ends.insert(End {
                state: self.toy.state.clone(),
                stuck: !view.all_ended(),
            });
            *self.classes.entry(normal_form(&self.run)).or_default() += 1;
        }
    }
}

/// The equivalent run that is first in the order of actors: again and again the lowest actor that
/// nothing left over has to precede.
fn normal_form(run: &[(ActorId, Footprint)]) -> Vec<ActorId> {
    let mut left = run.to_vec();
    let mut form = Vec::new();
    while !left.is_empty() {
        let free = |i: &usize| {
            let (actor, footprint) = left[*i];
            left[..*i]
                .iter()
                .all(|(a, f)| *a != actor && !f.conflicts(&footprint))
        };
        let first = (0..left.len()).filter(free).min_by_key(|&i| left[i].0);
        form.push(left.remove(first.expect("the first step is free")).0);
    }
    form
}

struct Found {
    ends: BTreeSet<End>,
    classes: BTreeMap<Vec<ActorId>, u64>,
    progress: Progress,
    most_preemptions: u32,
}

/// What `search` finds, to its end.
fn found(program: &Program, mut search: DepthFirst) -> Found {
    let mut world = Recorder {
        toy: Toy::new(program.clone(), |_| false),
        run: Vec::new(),
        ends: BTreeSet::new(),
        classes: BTreeMap::new(),
    };
    let mut most_preemptions = 0;
    let done = explore(&mut world, &mut search, &ALL, &mut |_, trace, _| {
        most_preemptions = most_preemptions.max(trace.preemptions());
        Continue(())
    });
    assert!(done.exhausted && done.diverged.is_none());
    Found {
        ends: world.ends,
        classes: world.classes,
        progress: done.progress,
        most_preemptions,
    }
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
        // May wait for ever.
        1 => (0..3u8, 0..2u8).prop_map(|(v, n)| vec![Op::WaitWhile(v, n)]),
    ]
}

/// Requests, which are answered in one of several ways, and little else.
fn asking() -> impl Strategy<Value = Vec<Op>> {
    prop_oneof![
        2 => prop::collection::vec(plain_op(), 1..2),
        1 => (0..2u8).prop_map(|v| vec![Op::Ask(v), Op::AwaitAnswer]),
        1 => (0..2u8).prop_map(|v| vec![Op::Ask(v)]),
        1 => (0..2u8, 0..2u8).prop_map(|(l, v)| vec![Op::Lock(l), Op::Ask(v), Op::Unlock(l)]),
    ]
}

fn thread(most: usize) -> impl Strategy<Value = Vec<Op>> {
    thread_of(block(), most)
}

fn thread_of(block: impl Strategy<Value = Vec<Op>>, most: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(block, 1..3).prop_map(move |blocks| {
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
        let seen = found(&p, DepthFirst::plain(bound));
        prop_assert_eq!(seen.progress.schedules, runs);
        prop_assert_eq!(seen.progress.redundant, 0);
        prop_assert_eq!(seen.ends, ends);
        prop_assert!(seen.most_preemptions <= bound.unwrap_or(u32::MAX));
    }

    #[test]
    fn sleep_sets_run_one_schedule_of_each_class(p in program()) {
        let all = found(&p, DepthFirst::plain(None));
        let seen = found(&p, DepthFirst::sleep(None));
        prop_assert_eq!(seen.ends, all.ends);
        prop_assert!(seen.classes.values().all(|&n| n == 1));
        prop_assert!(seen.classes.keys().eq(all.classes.keys()));
    }

    #[test]
    fn dpor_runs_one_schedule_of_each_class(p in program()) {
        let all = found(&p, DepthFirst::plain(None));
        let seen = found(&p, DepthFirst::dpor());
        prop_assert_eq!(seen.ends, all.ends);
        prop_assert!(seen.classes.values().all(|&n| n == 1));
        prop_assert!(seen.classes.keys().eq(all.classes.keys()));
    }

    #[test]
    fn bounded_sleep_sets_lose_no_state_within_the_bound(p in program(), bound in 0..4u32) {
        let (ends, runs) = enumerate(&p, Some(bound));
        let seen = found(&p, DepthFirst::sleep(Some(bound)));
        prop_assert!(seen.progress.schedules + seen.progress.redundant <= runs);
        prop_assert!(seen.most_preemptions <= bound);
        prop_assert_eq!(seen.ends, ends);
    }
}

proptest! {
    #![proptest_config(config(100))]

    /// Where the step of one actor takes away what another one could have done, that is tried as
    /// well.
    #[test]
    fn reductions_take_every_way_of_a_choice(
        p in prop::collection::vec(thread_of(asking(), 4), 2),
        bound in 0..3u32,
    ) {
        let (all, _) = enumerate(&p, None);
        for search in [DepthFirst::sleep(None), DepthFirst::dpor()] {
            let seen = found(&p, search);
            prop_assert_eq!(&seen.ends, &all);
            prop_assert!(seen.classes.values().all(|&n| n == 1));
        }
        let (within, _) = enumerate(&p, Some(bound));
        let seen = found(&p, DepthFirst::sleep(Some(bound)));
        prop_assert_eq!(seen.ends, within);
    }
}

/// Threads that touch nothing in common have one class of schedules, whatever the bound.
#[test]
fn independent_threads_need_one_schedule() {
    let thread = |v: u8| vec![Op::Read(v), Op::Write(v, 1), Op::Read(v), Op::Write(v, 1)];
    let p = vec![thread(0), thread(1), thread(2)];
    assert_eq!(
        found(&p, DepthFirst::plain(None)).progress.schedules,
        34_650
    );
    let dpor = found(&p, DepthFirst::dpor()).progress;
    assert_eq!((dpor.schedules, dpor.redundant), (1, 0));
    assert_eq!(found(&p, DepthFirst::sleep(None)).progress.schedules, 1);
    let plain = found(&p, DepthFirst::plain(Some(2))).progress;
    let sleep = found(&p, DepthFirst::sleep(Some(2))).progress;
    assert!(
        10 * sleep.schedules < plain.schedules,
        "{sleep:?} {plain:?}"
    );
}

/// B blocks on the lock that A's sleeping step gives back: in the equivalent run B would not block,
/// and A could not go on without another preemption.
#[test]
fn a_free_switch_that_the_equivalent_run_pays_for_is_not_left_out() {
    let a = vec![
        Op::Lock(0),
        Op::Set(0, 1),
        Op::Unlock(0),
        Op::Read(1),
        Op::Write(3, 0),
        Op::Read(2),
    ];
    let b = vec![
        Op::WaitWhile(0, 0),
        Op::Set(1, 1),
        Op::Lock(0),
        Op::Set(2, 1),
        Op::Unlock(0),
    ];
    let p = vec![a, b];
    // A saw the first store and not the second.
    let between = |e: &End| e.state.vars[3] == 1 && e.state.regs[0] == 0;
    let (ends, _) = enumerate(&p, Some(1));
    assert!(ends.iter().any(between));
    assert_eq!(found(&p, DepthFirst::sleep(Some(1))).ends, ends);
}

/// C can go first only before B's store. Where the search gives a run up because A is covered, C's
/// wait has to count all the same.
#[test]
fn dpor_counts_the_waits_of_runs_it_gives_up() {
    let p = vec![
        vec![Op::Read(0)],
        vec![Op::Lock(0), Op::Write(2, 1), Op::Unlock(0)],
        vec![Op::WaitWhile(2, 1), Op::Write(0, 1)],
    ];
    let (ends, _) = enumerate(&p, None);
    assert_eq!(found(&p, DepthFirst::dpor()).ends, ends);
}

/// A way that is never taken in a run, because another one was, is tried all the same; and so is
/// each order of it and what came before.
#[test]
fn dpor_tries_the_ways_that_a_run_withdrew() {
    let p = vec![vec![Op::Ask(0)], vec![Op::Read(0), Op::Write(1, 0)]];
    let (ends, _) = enumerate(&p, None);
    let answers = |n| ends.iter().any(|e| e.state.vars[0] == n);
    assert!(answers(0) && answers(3), "it fails, or not");
    assert_eq!(found(&p, DepthFirst::dpor()).ends, ends);
}
