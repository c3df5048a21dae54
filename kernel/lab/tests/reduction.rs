//! Reduction leaves nothing out: of every scenario, with every fix on and with each one off, the
//! search with sleep sets comes to the same verdicts as the search of all schedules, and DPOR finds
//! a failure where there is one.
//!
//! A shared access that is in no footprint makes steps commute that do not; this is where it shows.
//! One simulated machine per process, so one test, which runs itself in as many processes as there
//! are cores.
#![cfg(feature = "lab")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::process::Command;

use algo::explore::{DepthFirst, Limits, Strategy, Verdict, explore};
use lab::host::{self, Machine};
use lab::out::Out;
use lab::race::run::LIMITS;
use lab::race::scenario::Scenario;
use lab::race::scenarios;
use lab::race::subject::{Fixes, Subject};
use lab::race::theatre::Theatre;

/// Of the plain search with two preemptions; where it has more schedules, one or none has to do.
const MOST: u64 = 8_000;

/// Two have runs that go on until they are given up, two more than [`MOST`] without a preemption,
/// five are others with each seed.
const LEFT_OUT: [&str; 9] = [
    "planted-livelock",
    "planted-starvation",
    "mkwrite-failing",
    "swapout-overtaking",
    "random",
    "random-family",
    "random-files",
    "random-all",
    "random-wide",
];

/// Which oracle spoke, and of contents what it said: the runs that a reduction keeps end in the
/// same state.
fn kind(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Passed => Some("passed".into()),
        Verdict::Redundant => None,
        Verdict::Violated(v) if v.oracle == "content" => Some(format!("content: {}", v.detail)),
        Verdict::Violated(v) => Some(v.oracle.into()),
        Verdict::Deadlocked(_) => Some("deadlock".into()),
        Verdict::Livelocked(_) => Some("livelock".into()),
        Verdict::Diverged(d) => panic!("{d}"),
    }
}

/// What a search came to.
struct Found {
    verdicts: BTreeSet<String>,
    schedules: u64,
    given_up: u64,
    exhausted: bool,
}

fn search(world: &mut Theatre, mut strategy: DepthFirst, runs: u64) -> Found {
    let limits = Limits {
        runs,
        failures: u64::MAX,
        ..LIMITS
    };
    let mut verdicts = BTreeSet::new();
    let strategy: &mut dyn Strategy = &mut strategy;
    let done = explore(world, strategy, &limits, &mut |_, _, verdict| {
        verdicts.extend(kind(verdict));
        ControlFlow::Continue(())
    });
    assert!(done.diverged.is_none(), "{:?}", done.diverged);
    Found {
        verdicts,
        schedules: done.progress.schedules,
        given_up: done.progress.redundant,
        exhausted: done.exhausted,
    }
}

/// Compares the searches of one world; returns what differs.
fn compare(world: &mut Theatre, name: &str, wrong: &mut Vec<String>) {
    let mut row = format!("| `{name}`");
    let mut plain = None;
    for bound in [0, 1, 2] {
        let all = search(world, DepthFirst::plain(Some(bound)), MOST);
        if !all.exhausted {
            row += " | more | |";
            break;
        }
        let kept = search(world, DepthFirst::sleep(Some(bound)), u64::MAX);
        row += &format!(
            " | {} | {} + {}",
            all.schedules, kept.schedules, kept.given_up
        );
        if all.verdicts != kept.verdicts {
            let (all, kept) = (&all.verdicts, &kept.verdicts);
            wrong.push(format!(
                "{name} bound {bound}: {all:?}, with sleep sets {kept:?}"
            ));
        }
        plain = Some(all);
    }
    let kept = search(world, DepthFirst::dpor(), MOST);
    row += &format!(" | {} + {} |", kept.schedules, kept.given_up);
    let plain = plain.expect("without preemptions there are few");
    // A run that fails ends before the races that its rest would have shown: of the failures only
    // one is certain.
    let fails = |found: &Found| found.verdicts.iter().any(|v| v != "passed");
    let lost = fails(&plain) && !fails(&kept);
    if kept.exhausted && (lost || !fails(&kept) && plain.verdicts != kept.verdicts) {
        let (all, kept) = (&plain.verdicts, &kept.verdicts);
        wrong.push(format!("{name}: {all:?}, with DPOR {kept:?}"));
    }
    println!("{row} {}", if kept.exhausted { "" } else { "more" });
}

fn one(scenario: &'static dyn Scenario, wrong: &mut Vec<String>) {
    let each = scenario.fixes().iter().map(|k| Fixes::ALL.against(*k));
    for fixes in core::iter::once(Fixes::ALL).chain(each) {
        let subject = Subject {
            scenario,
            fixes,
            seed: 1,
        };
        let name = match fixes == Fixes::ALL {
            true => String::from(scenario.name()),
            false => format!("{} {fixes}", scenario.name()),
        };
        let played = subject.perform(|world| compare(world, &name, wrong));
        played.expect("the simulator has what a scenario needs");
    }
}

struct Silent;
impl Out for Silent {
    fn put(&self, _: &str) {}
}

/// The part of the scenarios that this process compares: every `.1`th from the `.0`th on.
fn part() -> Option<(usize, usize)> {
    let part = std::env::var(PART).ok()?;
    let (first, step) = part.split_once('/').expect("as `run_parts` says it");
    Some((first.parse().ok()?, step.parse().ok()?))
}

const PART: &str = "QUIRE_REDUCTION_PART";

/// This test again, in a process for each of `n` parts; whether all hold.
fn run_parts(n: usize) -> bool {
    let run = |i| {
        Command::new(std::env::current_exe().expect("it runs"))
            .args(["reduction_leaves_no_verdict_out", "--exact", "--nocapture"])
            .env(PART, format!("{i}/{n}"))
            .spawn()
            .expect("a process more")
    };
    let parts: Vec<_> = (0..n).map(run).collect();
    // Each is waited for, also after one that failed.
    let ended: Vec<_> = parts.into_iter().map(|mut part| part.wait()).collect();
    ended
        .into_iter()
        .all(|status| status.is_ok_and(|s| s.success()))
}

#[test]
fn reduction_leaves_no_verdict_out() {
    let Some((first, step)) = part() else {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        assert!(run_parts(cores), "see above");
        return;
    };
    lab::race::hide_verdicts();
    let machine = Machine {
        cpus: 5,
        ram: 64 << 20,
        swap: 0,
        data: 0,
        seed: 1,
        evict: 0,
    };
    let wrong = host::run(&machine, &Silent, move || {
        let mut wrong = Vec::new();
        let finite = scenarios::every().filter(|s| !LEFT_OUT.contains(&s.name()));
        let mine = finite.skip(first).step_by(step);
        mine.for_each(|s| one(s, &mut wrong));
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
