//! Searches of toy worlds.

use super::*;
use crate::race::repeat::repeat;
use crate::race::scenarios;
use crate::race::subject::{Fixes, parse};
use crate::race::toy::{DEADLOCK, LIVELOCK, LOST_UPDATE, SAFE_UPDATE, Toy};
use algo::explore::Verdict;
use mm::knobs::Knob;
use std::sync::Mutex;

/// Any scenario: only its name matters here.
fn subject() -> Subject {
    Subject {
        scenario: scenarios::PLANTED[0].0,
        fixes: Fixes::ALL.with(Knob::TlbFlush, false),
        seed: 5,
    }
}

fn plan(method: Method, runs: u64) -> Plan {
    Plan {
        method,
        runs,
        secs: None,
    }
}

fn searched(world: &mut Toy, plan: &Plan) -> Outcome {
    let cancel = Cancel::new();
    let watch = Watch {
        cancel: &cancel,
        tell: &|_| {},
    };
    search(world, &subject(), plan, &watch)
}

const ALL: Plan = Plan {
    method: Method::Bound(Some(2)),
    runs: u64::MAX,
    secs: None,
};

fn line_begins(outcome: &Outcome, begin: &str) {
    let line = outcome.to_string();
    assert!(line.starts_with(begin), "{line}");
}

#[test]
fn a_correct_world_is_exhausted() {
    let outcome = searched(&mut Toy::new(SAFE_UPDATE, 2), &ALL);
    assert!(outcome.is_clean() && outcome.exhausted && !outcome.is_found());
    line_begins(
        &outcome,
        "race: planted-lost-update fix=tlb_flush=off bound=2 schedules=2 exhausted=yes violations=0 first=- redundant=",
    );
}

/// What is printed is what was run, is minimal, and is repeated as often as one likes.
#[track_caller]
fn found_and_repeats(mut toy: Toy, verdict: &str, choices: &str) {
    let outcome = searched(&mut toy, &ALL);
    assert!(outcome.is_found() && !outcome.is_clean());
    let case = outcome.case.as_ref().expect("a failure");
    assert!(
        case.verdict.to_string().contains(verdict),
        "{}",
        case.verdict
    );
    assert_eq!(case.schedule.choices.to_string(), choices);
    let text = case.schedule.to_string();
    line_begins(
        &outcome,
        &format!(
            "race: planted-lost-update fix=tlb_flush=off bound=2 schedules={} exhausted=no violations=1 first={text} replayed=yes ",
            outcome.progress.schedules
        ),
    );
    let (back, schedule) = parse(&text).expect("the string is understood");
    assert_eq!((back.fixes, back.seed), (subject().fixes, 5));
    let again = repeat(&mut toy, &schedule, 10, &Cancel::new());
    assert_eq!((again.times, again.failed, again.diverged), (10, 10, 0));
    assert_eq!(again.verdict, case.verdict);
}

#[test]
fn a_violation_is_shrunk_and_replayed() {
    found_and_repeats(
        Toy::new(LOST_UPDATE, 2),
        "sum: an update was lost: 1",
        "A2.B1",
    );
}

#[test]
fn a_deadlock_comes_with_its_graph() {
    let graph =
        "A waits for lock 0x65 held by B; B waits for lock 0x64 held by A (cycle A -> B -> A)";
    found_and_repeats(Toy::new(DEADLOCK, 0), graph, "A1.B1");
}

#[test]
fn a_livelock_is_the_limit_of_steps() {
    found_and_repeats(
        Toy::new(LIVELOCK, 0),
        "livelock: no end after 10000 steps",
        "-",
    );
}

/// The update is lost with one preemption: not below, and the search ends there.
#[test]
fn bounds_go_up_until_it_fails() {
    let none = searched(
        &mut Toy::new(LOST_UPDATE, 2),
        &plan(Method::UpTo(Some(0)), 100),
    );
    assert!(none.is_clean() && none.exhausted);
    let runs_without = none.progress.schedules;
    let one = searched(
        &mut Toy::new(LOST_UPDATE, 2),
        &plan(Method::UpTo(Some(3)), 100),
    );
    assert!(one.is_found());
    assert_eq!(one.method, Method::Bound(Some(1)));
    assert!(one.progress.schedules > runs_without);
}

#[test]
fn bounds_that_find_nothing_are_all_tried() {
    let mut toy = Toy::new(SAFE_UPDATE, 2);
    let outcome = searched(&mut toy, &plan(Method::UpTo(None), 100));
    assert_eq!(outcome.method, Method::Bound(None));
    assert!(outcome.exhausted && outcome.is_clean());
    // Two orders of the critical sections, under each of five bounds.
    assert_eq!(outcome.progress.schedules, 10);
    let outcome = searched(&mut toy, &plan(Method::UpTo(None), 3));
    assert!(!outcome.exhausted && outcome.is_clean());
    let made = outcome.progress.schedules + outcome.progress.redundant;
    assert_eq!(made, 3, "the limit is on all bounds together");
}

#[test]
fn random_searches_end_at_their_limit_and_find_what_is_common() {
    for (method, name) in [(Method::Pct(2), "pct2"), (Method::Random, "random")] {
        let outcome = searched(&mut Toy::new(SAFE_UPDATE, 2), &plan(method, 50));
        line_begins(
            &outcome,
            &format!(
                "race: planted-lost-update fix=tlb_flush=off bound={name} schedules=50 exhausted=no violations=0 first=- "
            ),
        );
        let outcome = searched(&mut Toy::new(LOST_UPDATE, 2), &plan(method, 10_000));
        assert!(outcome.is_found(), "{name}");
    }
}

#[test]
fn a_world_that_drifts_is_a_failure_that_says_where() {
    let mut toy = Toy::new(SAFE_UPDATE, 2);
    // The reset of the search's beginning counts.
    toy.drifts_after = 2;
    let outcome = searched(&mut toy, &ALL);
    assert!(!outcome.is_clean() && !outcome.is_found());
    let text = Mutex::new(String::new());
    outcome.remarks(&|line| text.lock().unwrap().push_str(&line.to_string()));
    let text = text.into_inner().unwrap();
    assert!(text.contains("diverged: the run ended with "), "{text}");
    assert!(outcome.to_string().contains(" first=- diverged=yes "));
}

/// A failure that does not come back is reported as such, wherever it stays away.
#[test]
fn a_failure_that_heals_is_not_repeated() {
    let mut toy = Toy::new(LOST_UPDATE, 2);
    let runs = {
        let outcome = searched(&mut toy, &ALL);
        outcome.progress.schedules + outcome.progress.redundant
    };
    let last = toy.runs;
    // The search's first reset, its runs, the failing one again; then what shrinking needs; the
    // last one confirms.
    for (heals_after, part) in [
        (1 + runs as usize, "the run that failed, again: passed"),
        (last - 1, "the shortened run: passed"),
    ] {
        let mut toy = Toy::new(LOST_UPDATE, 2);
        toy.heals_after = heals_after;
        let outcome = searched(&mut toy, &ALL);
        assert!(!outcome.is_found() && !outcome.is_clean());
        assert!(outcome.to_string().contains(" replayed=no "));
        let case = outcome.case.expect("a failure");
        assert!(matches!(case.verdict, Verdict::Violated(_)));
        let wrong = case.wrong.expect("a reason");
        assert!(wrong.contains(part), "{wrong}");
    }
}

#[test]
fn replay_notices_other_runs() {
    let mut toy = Toy::new(LOST_UPDATE, 2);
    let schedule = searched(&mut toy, &ALL).case.expect("a failure").schedule;
    let mut other = schedule.clone();
    other.fingerprint = Some(0xbad);
    let done = repeat(&mut toy, &other, 1, &Cancel::new());
    assert_eq!((done.failed, done.diverged), (0, 1));
    assert!(
        done.verdict.to_string().contains("00000bad"),
        "{}",
        done.verdict
    );

    // Not in the string: the world changes under it, from failing to passing.
    toy.heals_after = toy.runs + 1;
    let done = repeat(&mut toy, &schedule, 3, &Cancel::new());
    assert_eq!((done.times, done.failed, done.diverged), (3, 1, 2));

    // A step that nobody can take.
    let mut toy = Toy::new(SAFE_UPDATE, 2);
    let impossible = subject().schedule();
    let impossible = impossible.with_choices("A1.B1".parse().unwrap());
    let done = repeat(&mut toy, &impossible, 1, &Cancel::new());
    assert_eq!(done.diverged, 1);
    assert!(done.verdict.to_string().contains("step 1: B was to run"));
}

#[test]
fn a_search_without_time_or_cancelled_ends_after_a_run() {
    let cancelled = Cancel::new();
    cancelled.request();
    let late = Plan {
        secs: Some(0),
        ..ALL
    };
    for (cancel, plan) in [(&cancelled, &ALL), (&Cancel::new(), &late)] {
        let watch = Watch {
            cancel,
            tell: &|_| {},
        };
        let outcome = search(&mut Toy::new(SAFE_UPDATE, 2), &subject(), plan, &watch);
        assert_eq!(outcome.progress.schedules, 1);
        assert!(!outcome.exhausted);
    }
}

/// Stopping to show progress and going on changes nothing of what is searched.
#[test]
fn a_search_goes_on_where_it_was_interrupted() {
    let whole = searched(&mut Toy::new(SAFE_UPDATE, 2), &ALL).progress;
    let cancel = Cancel::new();
    let shown = Mutex::new(0);
    let watch = Watch {
        cancel: &cancel,
        tell: &|_| *shown.lock().unwrap() += 1,
    };
    let mut search = Search::new(&subject(), &ALL, &watch);
    search.next = 0;
    let mut searcher = ALL.method.searcher(1, 2);
    search.stage(&mut Toy::new(SAFE_UPDATE, 2), &mut searcher);
    let sliced = search.done.progress;
    assert!(search.done.exhausted);
    assert_eq!(*shown.lock().unwrap(), 1);
    let counts = |p: &Progress| (p.schedules, p.redundant, p.steps, p.longest);
    assert_eq!(counts(&sliced), counts(&whole));
}

#[test]
fn progress_is_a_comment_with_counts() {
    let cancel = Cancel::new();
    let said = Mutex::new(String::new());
    let tell = |line: fmt::Arguments<'_>| said.lock().unwrap().push_str(&line.to_string());
    let watch = Watch {
        cancel: &cancel,
        tell: &tell,
    };
    let plan = plan(Method::Bound(Some(1)), 10);
    let mut search = Search::new(&subject(), &plan, &watch);
    search.done.method = plan.method;
    search.done.progress.schedules = 7;
    search.show(&plan.method.searcher(1, 2));
    let said = said.lock().unwrap();
    assert!(
        said.starts_with("race: planted-lost-update bound=1 schedules=7 redundant=0 rate="),
        "{said}"
    );
    assert!(said.ends_with("/s depth=0/0"), "{said}");
}
