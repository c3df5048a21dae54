//! PCT finds a bug of depth d at least as often as it promises; both random searches repeat
//! themselves.

use super::toy::{Op, Program, State, Toy};
use crate::explore::{Limits, Pct, RandomWalk, Strategy, explore};
use std::ops::ControlFlow::Continue;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

const RUNS: u64 = if cfg!(miri) { 200 } else { 20_000 };

/// Failing runs among RUNS.
fn failures(program: &Program, bad: fn(&State) -> bool, strategy: &mut dyn Strategy) -> u64 {
    let limits = Limits {
        runs: RUNS,
        failures: u64::MAX,
        ..Limits::default()
    };
    let mut toy = Toy::new(program.clone(), bad);
    let done = explore(&mut toy, strategy, &limits, &mut |_, _, _| Continue(()));
    assert_eq!(done.progress.schedules, RUNS);
    done.progress.failures
}

/// A stores 1, 2, 3; B stores what it sees, twice.
fn watched() -> Program {
    vec![
        vec![Op::Set(0, 1), Op::Set(0, 2), Op::Set(0, 3)],
        vec![Op::Read(0), Op::Write(1, 0), Op::Read(0), Op::Write(2, 0)],
    ]
}

/// Hit often enough at its depth, for every seed, and never below.
fn assert_depth(depth: u32, bad: fn(&State) -> bool) {
    for seed in 0..3 {
        let mut pct = Pct::new(seed, depth, 2, 7);
        let promised = pct.bound() * RUNS as f64;
        let hits = failures(&watched(), bad, &mut pct);
        // Three standard deviations of a count around the promise.
        let least = promised - 3.0 * promised.sqrt();
        assert!(
            hits as f64 >= least.max(1.0),
            "depth {depth}: {hits} of {promised}"
        );
        if depth > 1 {
            let mut shallow = Pct::new(seed, depth - 1, 2, 7);
            assert_eq!(failures(&watched(), bad, &mut shallow), 0, "depth {depth}");
        }
    }
}

#[test]
fn depth_1_orders_the_threads() {
    assert_depth(1, |s| s.vars[1] == 3);
}

#[test]
fn depth_2_interrupts_once() {
    assert_depth(2, |s| s.vars[1] == 1 && s.vars[2] == 1);
}

#[test]
fn depth_3_interrupts_twice() {
    assert_depth(3, |s| s.vars[1] == 1 && s.vars[2] == 3);
}

#[test]
fn depth_4_interrupts_three_times() {
    assert_depth(4, |s| s.vars[1] == 1 && s.vars[2] == 2);
}

#[test]
fn a_longer_run_raises_the_estimate() {
    let mut pct = Pct::new(0, 2, 2, 1);
    assert_eq!(pct.bound(), 0.5);
    failures(&watched(), |_| false, &mut pct);
    assert_eq!(pct.bound(), 1.0 / 14.0);
}

/// The first 50 schedules.
fn schedules(strategy: &mut dyn Strategy) -> Vec<String> {
    let mut all = Vec::new();
    let limits = Limits {
        runs: 50,
        ..Limits::default()
    };
    let mut toy = Toy::new(watched(), |_| false);
    explore(&mut toy, strategy, &limits, &mut |_, trace, _| {
        all.push(trace.choices().to_string());
        Continue(())
    });
    all
}

#[test]
fn the_seed_decides() {
    assert_eq!(
        schedules(&mut RandomWalk::new(5)),
        schedules(&mut RandomWalk::new(5))
    );
    assert_ne!(
        schedules(&mut RandomWalk::new(5)),
        schedules(&mut RandomWalk::new(6))
    );
    let pct = |seed| schedules(&mut Pct::new(seed, 3, 2, 7));
    assert_eq!(pct(5), pct(5));
    assert_ne!(pct(5), pct(6));
    // Runs under one seed differ from each other.
    let mut different = pct(5);
    different.sort();
    different.dedup();
    assert!(different.len() > 5);
}

#[test]
fn the_walk_reaches_every_schedule_of_a_small_program() {
    let p = vec![vec![Op::Read(0), Op::Read(0)]; 2];
    let mut toy = Toy::new(p, |_| false);
    let mut all = Vec::new();
    let limits = Limits {
        runs: 200,
        ..Limits::default()
    };
    explore(
        &mut toy,
        &mut RandomWalk::new(1),
        &limits,
        &mut |_, trace, _| {
            all.push(trace.choices().to_string());
            Continue(())
        },
    );
    all.sort();
    all.dedup();
    assert_eq!(
        all,
        [
            "A1.B1.A1.B1",
            "A1.B2.A1",
            "A2.B2",
            "B1.A1.B1.A1",
            "B1.A2.B1",
            "B2.A2"
        ]
    );
}
