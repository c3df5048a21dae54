//! A failing run made short, and schedules run again.

use alloc::format;
use alloc::string::String;

use algo::explore::{Choices, Failure, Schedule, Trace, Verdict, World, replay, shrink};

use super::run::LIMITS;
use super::subject::Subject;
use crate::cancel::Cancel;

/// Candidates that shrinking tries.
const MOST: u64 = 2_000;

/// The same oracle spoke, or both are deadlocks, or both livelocks.
pub fn same_kind(a: &Verdict, b: &Verdict) -> bool {
    match (a, b) {
        (Verdict::Violated(a), Verdict::Violated(b)) => a.oracle == b.oracle,
        _ => core::mem::discriminant(a) == core::mem::discriminant(b),
    }
}

/// A failing run, as short as it could be made.
pub struct Case {
    /// What it ends with.
    pub verdict: Verdict,
    /// What repeats it.
    pub schedule: Schedule,
    /// Why it may not repeat after all.
    pub wrong: Option<String>,
}

impl Case {
    /// Shrinks `failure` of `subject` and runs the result again.
    pub fn of(world: &mut dyn World, subject: &Subject, failure: Failure, cancel: &Cancel) -> Self {
        let mut trace = Trace::new();
        let mut again = |choices: &Choices, print| {
            let verdict = replay(world, choices, print, &LIMITS, &mut trace);
            (verdict, trace.fingerprint())
        };
        let case = |choices, print, verdict, wrong| {
            let mut schedule = subject.schedule().with_choices(choices);
            schedule.fingerprint = Some(print);
            Self {
                verdict,
                schedule,
                wrong,
            }
        };
        let (seen, _) = again(&failure.choices, Some(failure.fingerprint));
        if !same_kind(&seen, &failure.verdict) {
            let wrong = Some(format!("the run that failed, again: {seen}"));
            return case(failure.choices, failure.fingerprint, failure.verdict, wrong);
        }
        let shrunk = shrink(&failure.choices, MOST, &mut |candidate| {
            !cancel.requested() && same_kind(&again(candidate, None).0, &failure.verdict)
        });
        let (verdict, print) = again(&shrunk.choices, None);
        let (confirmed, _) = again(&shrunk.choices, Some(print));
        let wrong = [&verdict, &confirmed]
            .into_iter()
            .find(|v| !same_kind(v, &failure.verdict))
            .map(|v| format!("the shortened run: {v}"));
        let verdict = if wrong.is_none() {
            verdict
        } else {
            failure.verdict
        };
        case(shrunk.choices, print, verdict, wrong)
    }
}

/// What came of running a schedule several times.
pub struct Repeats {
    /// Runs made.
    pub times: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Runs that were not as the schedule says, or not as the first.
    pub diverged: u64,
    /// The verdict of the first run that diverged, else of the last.
    pub verdict: Verdict,
}

/// Runs `schedule` `times` times, at least once. Its fingerprint, or else that of the first run,
/// must come each time, and the same kind of verdict.
pub fn repeat(world: &mut dyn World, schedule: &Schedule, times: u64, cancel: &Cancel) -> Repeats {
    let mut trace = Trace::new();
    let mut print = schedule.fingerprint;
    let mut run = |print: &mut Option<u32>| {
        let verdict = replay(world, &schedule.choices, *print, &LIMITS, &mut trace);
        print.get_or_insert(trace.fingerprint());
        verdict
    };
    let first = run(&mut print);
    let mut done = Repeats {
        times: 1,
        failed: u64::from(first.is_failure()),
        diverged: u64::from(matches!(first, Verdict::Diverged(_))),
        verdict: first.clone(),
    };
    while done.times < times && !cancel.requested() {
        let verdict = run(&mut print);
        done.times += 1;
        done.failed += u64::from(verdict.is_failure());
        if matches!(verdict, Verdict::Diverged(_)) || !same_kind(&verdict, &first) {
            if done.diverged == 0 {
                done.verdict = verdict;
            }
            done.diverged += 1;
        }
    }
    done
}
