//! Verdicts, replay and shrinking on programs whose faults are known.

use super::toy::{Op, Program, State, Toy};
use crate::explore::{
    Access, AccessKind, ActorId, Choices, DepthFirst, Divergence, Footprint, Limits, Livelock,
    LockTable, Pct, RandomWalk, Strategy, Summary, Trace, Verdict, explore, replay, run_once,
    shrink,
};
use std::ops::ControlFlow::Continue;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

fn search(toy: &mut Toy, strategy: &mut dyn Strategy) -> Summary {
    let limits = Limits {
        runs: 200_000,
        ..Limits::default()
    };
    explore(toy, strategy, &limits, &mut |_, _, _| Continue(()))
}

/// The first failing run of `strategy` and what repeating it comes to.
fn first_failure(
    program: &Program,
    bad: fn(&State) -> bool,
    strategy: &mut dyn Strategy,
) -> (Choices, Verdict) {
    let mut toy = Toy::new(program.clone(), bad);
    let failure = search(&mut toy, strategy).first.expect("a failing run");
    let again = replay(
        &mut toy,
        &failure.choices,
        Some(failure.fingerprint),
        &Limits::default(),
        &mut Trace::new(),
    );
    assert_eq!(again, failure.verdict, "the run repeats");
    (failure.choices, again)
}

fn every_strategy() -> Vec<std::boxed::Box<dyn Strategy>> {
    use std::boxed::Box;
    vec![
        Box::new(DepthFirst::plain(Some(2))),
        Box::new(DepthFirst::sleep(Some(2))),
        Box::new(DepthFirst::sleep(None)),
        Box::new(DepthFirst::dpor()),
        Box::new(Pct::new(7, 3, 4, 12)),
        Box::new(RandomWalk::new(7)),
    ]
}

fn lost_update() -> Program {
    vec![vec![Op::Read(1), Op::Write(1, 1)]; 2]
}
fn lost(s: &State) -> bool {
    s.vars[1] != 2
}

#[test]
fn a_lost_update_is_found_repeated_and_shrunk() {
    for mut strategy in every_strategy() {
        let (choices, verdict) = first_failure(&lost_update(), lost, &mut *strategy);
        assert_eq!(verdict.to_string(), "toy: [0, 1, 0, 0]");
        let small = shrunk(&lost_update(), lost, &choices);
        assert!(
            ["A1.B1", "B1.A1"].contains(&small.to_string().as_str()),
            "{small}"
        );
    }
}

#[test]
fn a_bug_is_found_at_its_bound_and_not_below() {
    for bounded in [DepthFirst::plain, DepthFirst::sleep] {
        let none = search(&mut Toy::new(lost_update(), lost), &mut bounded(Some(0)));
        assert!(none.exhausted && none.first.is_none());
        let one = search(&mut Toy::new(lost_update(), lost), &mut bounded(Some(1)));
        assert_eq!(one.first.expect("one preemption is enough").preemptions, 1);
    }
}

#[test]
fn locks_keep_the_update() {
    let thread = vec![Op::Lock(0), Op::Read(1), Op::Write(1, 1), Op::Unlock(0)];
    let mut toy = Toy::new(vec![thread; 3], |s| s.vars[1] != 3);
    for mut s in [
        DepthFirst::sleep(None),
        DepthFirst::dpor(),
        DepthFirst::sleep(Some(3)),
    ] {
        let done = search(&mut toy, &mut s);
        assert!(done.exhausted && done.first.is_none());
        assert!(done.progress.schedules >= 6, "every order of the three");
    }
}

/// Peterson's lock; `flag_first` is the right way round.
fn peterson(flag_first: bool) -> Program {
    let thread = |me: u8| {
        let other = 1 - me;
        // Variables: 0 and 2 the flags, 3 whose turn it is, 1 what is protected.
        let (mine, theirs) = (2 * me, 2 * other);
        let mut entry = vec![Op::Set(mine, 1), Op::Set(3, other)];
        if !flag_first {
            entry.reverse();
        }
        entry.extend([
            Op::WaitWhileBoth(theirs, 3, other),
            Op::Read(1),
            Op::Write(1, 1),
            Op::Set(mine, 0),
        ]);
        entry
    };
    vec![thread(0), thread(1)]
}

#[test]
fn peterson_excludes_and_its_reversed_entry_does_not() {
    let done = search(&mut Toy::new(peterson(true), lost), &mut DepthFirst::dpor());
    assert!(done.exhausted && done.first.is_none());
    for mut strategy in every_strategy() {
        let (_, verdict) = first_failure(&peterson(false), lost, &mut *strategy);
        assert!(matches!(verdict, Verdict::Violated(_)));
    }
}

#[test]
fn two_locks_in_opposite_order_deadlock() {
    let thread = |l| {
        vec![
            Op::Lock(l),
            Op::Lock(1 - l),
            Op::Unlock(1 - l),
            Op::Unlock(l),
        ]
    };
    for mut strategy in every_strategy() {
        let (_, verdict) = first_failure(&vec![thread(0), thread(1)], |_| false, &mut *strategy);
        assert_eq!(
            verdict.to_string(),
            "deadlock: A waits for lock 0x65 held by B; B waits for lock 0x64 held by A (cycle A -> B -> A)"
        );
    }
}

#[test]
fn an_acknowledgement_from_behind_an_interrupts_off_lock_deadlocks() {
    let p = vec![
        vec![Op::Lock(0), Op::Send(1), Op::Await, Op::Unlock(0)],
        vec![Op::IrqOff, Op::Lock(0), Op::Unlock(0), Op::IrqOn],
    ];
    for mut strategy in every_strategy() {
        let (_, verdict) = first_failure(&p, |_| false, &mut *strategy);
        assert_eq!(
            verdict.to_string(),
            "deadlock: A waits for acknowledgements of J; B waits for lock 0x64 held by A; \
             J waits for interrupts of B, which are off (cycle A -> J -> B -> A)"
        );
    }
}

#[test]
fn a_sleeper_nobody_wakes_is_a_deadlock_without_a_cycle() {
    let p = vec![vec![Op::WaitWhile(1, 0)], vec![Op::Read(1)]];
    let (_, verdict) = first_failure(&p, |_| false, &mut DepthFirst::dpor());
    assert_eq!(
        verdict.to_string(),
        "deadlock: A waits for a wake-up on 0x1"
    );
}

#[test]
fn a_fair_cycle_is_a_livelock_and_an_unfair_one_is_none() {
    let spin = |v| vec![Op::LoopUnless(v, 1, 1)];
    let mut trace = Trace::new();
    let mut run = |toy: &mut Toy, steps| {
        let limits = Limits {
            steps,
            ..Limits::default()
        };
        run_once(toy, &mut RandomWalk::new(3), &limits, &mut trace)
    };
    let both = vec![spin(0), spin(1)];
    let verdict = run(&mut Toy::new(both.clone(), |_| false).with_hashes(), 1000);
    assert!(
        matches!(verdict, Verdict::Livelocked(Livelock::Cycle { .. })),
        "{verdict}"
    );
    // Without hashes only the limit speaks.
    let verdict = run(&mut Toy::new(both, |_| false), 1000);
    assert_eq!(
        verdict,
        Verdict::Livelocked(Livelock::TooLong { limit: 1000 })
    );
    // The spinner's state comes back, but somebody else could run all the time, and then ends the
    // spin.
    let ended = vec![spin(0), vec![Op::Set(0, 1)]];
    assert_eq!(
        run(&mut Toy::new(ended, |_| false).with_hashes(), 1000),
        Verdict::Passed
    );
}

fn shrunk(program: &Program, bad: fn(&State) -> bool, choices: &Choices) -> Choices {
    let mut toy = Toy::new(program.clone(), bad);
    let mut fails =
        |c: &Choices| replay(&mut toy, c, None, &Limits::default(), &mut Trace::new()).is_failure();
    let small = shrink(choices, u64::MAX, &mut fails).choices;
    assert!(fails(&small), "{small} fails");
    assert_minimal(&small, &mut fails);
    small
}

/// Nothing can be left out of `small`.
fn assert_minimal(small: &Choices, fails: &mut dyn FnMut(&Choices) -> bool) {
    for i in 0..small.stretches().len() {
        let mut without = small.stretches().to_vec();
        without.remove(i);
        assert!(
            !fails(&without.into_iter().collect()),
            "{small} without its stretch {i}"
        );
        let mut shorter = small.stretches().to_vec();
        shorter[i].1 -= 1;
        assert!(
            !fails(&shorter.into_iter().collect()),
            "{small} with a shorter stretch {i}"
        );
    }
}

#[test]
fn a_long_random_failure_shrinks_to_the_switches_it_needs() {
    let padded = |core: &[Op]| {
        let mut ops = vec![Op::Read(2); 10];
        ops.extend_from_slice(core);
        ops.extend([Op::Read(3); 10]);
        ops
    };
    // B has to read between the two stores of A, and C after B's store.
    let p = vec![
        padded(&[Op::Set(1, 1), Op::Read(2), Op::Set(1, 0)]),
        padded(&[Op::Read(1), Op::Write(0, 0)]),
        padded(&[Op::Read(0), Op::Write(3, 0)]),
    ];
    let seen: fn(&State) -> bool = |s| s.vars[3] == 1;
    let uninterrupted = search(&mut Toy::new(p.clone(), seen), &mut Pct::new(1, 1, 3, 70));
    assert!(uninterrupted.first.is_none());
    let (choices, _) = first_failure(&p, seen, &mut RandomWalk::new(11));
    assert!(choices.switches() > 20, "{choices}");
    let small = shrunk(&p, seen, &choices);
    // A to its first store, then B; the rest by default, C last.
    assert_eq!(small.to_string(), "A11.B1");
}

#[test]
fn shrinking_stops_at_its_limit() {
    let long: Choices = (0..40)
        .filter_map(|i| Some((ActorId::new(i % 2)?, 3)))
        .collect();
    let mut asked = 0;
    let result = shrink(&long, 5, &mut |_| {
        asked += 1;
        false
    });
    assert_eq!((result.tried, asked), (5, 5));
    assert_eq!(result.choices, long);
}

fn replay_of(text: &str, fingerprint: Option<u32>, toy: &mut Toy) -> Verdict {
    let choices = text.parse().expect("choices");
    replay(
        toy,
        &choices,
        fingerprint,
        &Limits::default(),
        &mut Trace::new(),
    )
}

#[test]
fn replay_reports_what_differs() {
    let mut toy = Toy::new(lost_update(), lost);
    let diverged = |v: Verdict| match v {
        Verdict::Diverged(d) => d,
        other => panic!("{other}"),
    };
    let d = diverged(replay_of("A2.C1", None, &mut toy));
    assert_eq!(d.to_string(), "step 2: C was to run, ready are B");
    let d = diverged(replay_of("A3", None, &mut toy));
    assert_eq!(d.to_string(), "step 2: A was to run, ready are B");
    let d = diverged(replay_of("A2.B5", None, &mut toy));
    assert_eq!(d, Divergence::Ended { left: 3 });

    let mut trace = Trace::new();
    let whole = "A2.B2".parse().expect("choices");
    let verdict = replay(&mut toy, &whole, None, &Limits::default(), &mut trace);
    assert_eq!(verdict, Verdict::Passed);
    let print = trace.fingerprint();
    assert_eq!(replay_of("A2.B2", Some(print), &mut toy), Verdict::Passed);
    // What is left open goes on by default.
    assert_eq!(replay_of("A1", Some(print), &mut toy), Verdict::Passed);
    // As many steps, of other kinds.
    let mut other = Toy::new(vec![vec![Op::Read(1), Op::Read(1)]; 2], |_| false);
    let d = diverged(replay_of("A2.B2", Some(print), &mut other));
    assert!(matches!(d, Divergence::Fingerprint { recorded, .. } if recorded == print));
}

#[test]
fn a_world_that_changes_between_runs_is_reported() {
    let thread = vec![Op::Lock(0), Op::Unlock(0)];
    let stuck = vec![thread.clone(); 2];
    let others_ready = vec![thread.clone(), thread, vec![Op::Read(1)]];
    for strategy in [
        DepthFirst::plain(None),
        DepthFirst::dpor(),
        DepthFirst::sleep(Some(1)),
    ] {
        let diverged = |p: &Program| {
            let mut toy = Toy::new(p.clone(), |_| false);
            toy.drift = 1;
            let limits = Limits {
                failures: u64::MAX,
                ..Limits::default()
            };
            let mut fresh = strategy.clone();
            let done = explore(&mut toy, &mut fresh, &limits, &mut |_, _, _| Continue(()));
            assert!(!done.exhausted);
            done.diverged.expect("a divergence")
        };
        let d = diverged(&others_ready);
        assert_eq!(d.to_string(), "step 0: ready are C, before it was A,B,C");
        assert!(matches!(diverged(&stuck), Divergence::Ended { left: 1.. }));
    }
}

#[test]
fn the_lock_table_follows_hand_overs() {
    let [a, b] = [0, 1].map(|i| ActorId::new(i).expect("an actor"));
    let touch = |kind| Footprint::of(Access::new(kind, 5));
    let mut locks = LockTable::new();
    locks.note(a, &touch(AccessKind::LockShared));
    locks.note(b, &touch(AccessKind::LockShared));
    let lock = crate::explore::ObjectId(5);
    assert_eq!(locks.holders(lock).to_string(), "A,B");
    locks.note(a, &touch(AccessKind::UnlockShared));
    assert_eq!(locks.holders(lock).to_string(), "B");
    // Taken by one thread, released by the next, as a scheduler does.
    locks.note(a, &touch(AccessKind::Unlock));
    assert_eq!(locks.holders(lock).to_string(), "none");
    assert!(locks.held().is_empty());
}

#[test]
fn a_full_footprint_conflicts_with_everything() {
    let mut f = Footprint::EMPTY;
    let other = Footprint::of(Access::new(AccessKind::Read, 1000));
    for i in 0..crate::explore::access::INLINE as u32 {
        f.add(Access::new(AccessKind::Write, i));
        f.add(Access::new(AccessKind::Write, i));
        assert!(!f.conflicts(&other) && !other.conflicts(&f));
    }
    f.add(Access::new(AccessKind::Read, 999));
    assert!(f.conflicts(&other) && other.conflicts(&f));
    let shared = |k| Footprint::of(Access::new(k, 1));
    assert!(!shared(AccessKind::Read).conflicts(&shared(AccessKind::LockShared)));
    assert!(shared(AccessKind::Lock).conflicts(&shared(AccessKind::UnlockShared)));
}
