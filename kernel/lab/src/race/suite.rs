//! The self-tests of the explorer: each scenario holds with few preemptions, the absence of each of
//! its fixes is found, and so is each planted bug. What is found is shrunk, and its schedule string
//! replayed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use algo::explore::World;
use mm::knobs::Knob;

use super::repeat::repeat;
use super::run::{Method, Outcome, Plan, Watch, search};
use super::scenario::Scenario;
use super::scenarios;
use super::subject::{Fixes, Subject, parse};
use super::theatre::Theatre;
use crate::selftest::{Failure, Suite, Test, TestCtx};

/// What a scenario is held against.
#[derive(Clone, Copy)]
enum Aim {
    /// It holds, in as many schedules as the machine can try: see [`most`]. Which those were, a
    /// note says.
    Holds,
    /// So it does with this variant.
    With(Knob),
    /// It does not without this fix, or with this variant.
    Broken(Knob),
    /// It never does, and the verdict has these words.
    Planted(&'static str),
    /// This schedule passes.
    Passes(&'static str),
    /// Programs made up from the first so many seeds hold.
    MadeUp(u64),
}

const IN_KERNEL: bool = cfg!(target_os = "none");

/// Programs made up, and schedules of each.
const PROGRAMS: u64 = if IN_KERNEL { 5 } else { 100 };
const SCHEDULES: u64 = 20;

/// Runs of a string that was found; a hand-over costs far more on the real machine.
const REPLAYS: u64 = if IN_KERNEL { 20 } else { 100 };

struct Case {
    name: String,
    scenario: &'static dyn Scenario,
    aim: Aim,
}

fn cases() -> Vec<Case> {
    let case = |scenario: &'static dyn Scenario, what: &str, aim| Case {
        name: format!("{}-{what}", scenario.name()),
        scenario,
        aim,
    };
    let mut all = Vec::new();
    for (s, words) in scenarios::PLANTED {
        all.push(case(*s, "found", Aim::Planted(words)));
    }
    for s in scenarios::all() {
        all.push(case(s, "holds", Aim::Holds));
        for knob in s.variants() {
            all.push(case(s, &format!("with-{}", knob.name()), Aim::With(*knob)));
        }
        for knob in s.fixes() {
            let what = format!("broken-{}", knob.name());
            all.push(case(s, &what, Aim::Broken(*knob)));
        }
    }
    for s in scenarios::RANDOM {
        all.push(case(s, "fuzz", Aim::MadeUp(PROGRAMS)));
    }
    for (name, schedule) in scenarios::REGRESSIONS {
        // What the string names is asked when it is run.
        let what = format!("regression-{name}");
        all.push(case(scenarios::RANDOM[0], &what, Aim::Passes(schedule)));
    }
    all
}

/// The suite `race`. It is made once, for good, because tests are known by names that live as long.
pub fn suite() -> &'static Suite {
    static SUITE: spin::Once<Suite> = spin::Once::new();
    SUITE.call_once(|| {
        let test = |case: Case| Test {
            name: case.name.leak(),
            run,
        };
        let tests: Vec<Test> = cases().into_iter().map(test).collect();
        Suite {
            name: "race",
            tests: tests.leak(),
        }
    })
}

fn run(t: &mut TestCtx<'_>) -> Result<(), Failure> {
    let Some(case) = cases().into_iter().find(|c| c.name == t.name) else {
        return Err(Failure::new("no such case"));
    };
    // One is the explorer's own.
    let needs = case.scenario.actors() + 1;
    if arch::nr_cpus() < needs {
        return Err(Failure::Skip(format!("needs {needs} CPUs")));
    }
    if let Aim::Passes(schedule) = case.aim {
        return passes(schedule, t);
    }
    let fixes = match case.aim {
        Aim::Broken(knob) | Aim::With(knob) => Fixes::ALL.against(knob),
        _ => Fixes::ALL,
    };
    let subject = Subject {
        scenario: case.scenario,
        fixes,
        seed: t.seed,
    };
    subject
        .perform(|world| {
            let tell = |text: core::fmt::Arguments<'_>| t.note(text);
            let watch = Watch {
                cancel: t.cancel,
                tell: &tell,
            };
            if let Aim::MadeUp(programs) = case.aim {
                return made_up(world, subject, programs, &watch);
            }
            let outcome = pursue(world, &subject, case.aim, &watch);
            if t.cancel.requested() {
                return Err(Failure::Skip("interrupted".into()));
            }
            judge(&outcome, case.aim).map_err(|what| explain(&outcome, &what))?;
            if !outcome.is_found() {
                t.note(format_args!("{outcome}"));
            }
            replayed(world, &outcome, t)
        })
        .unwrap_or_else(|e| Err(Failure::Wrong(e)))
}

/// The search that `aim` asks for.
fn pursue(world: &mut dyn World, subject: &Subject, aim: Aim, watch: &Watch<'_>) -> Outcome {
    if let Some(plan) = most(aim, subject.scenario.is_small()) {
        let outcome = search(world, subject, &plan, watch);
        if outcome.exhausted || !outcome.is_clean() {
            return outcome;
        }
    }
    search(world, subject, &plan(aim), watch)
}

/// What is tried before [`plan`]: all schedules of a small scenario, those with one preemption of
/// another. A hand-over costs far more on the real machine: there only of the usual order, and only
/// so many.
fn most(aim: Aim, small: bool) -> Option<Plan> {
    let usual = matches!(aim, Aim::Holds);
    if !usual && (IN_KERNEL || !matches!(aim, Aim::With(_))) {
        return None;
    }
    let (method, in_kernel) = match small {
        true => (Method::Dpor, 800),
        false => (Method::Bound(Some(1)), 400),
    };
    Some(Plan {
        method,
        runs: if IN_KERNEL { in_kernel } else { 20_000 },
        secs: None,
    })
}

/// Each of the first `programs` seeds holds.
fn made_up(
    world: &mut Theatre,
    mut subject: Subject,
    programs: u64,
    watch: &Watch<'_>,
) -> Result<(), Failure> {
    let plan = Plan {
        method: Method::Pct(3),
        runs: SCHEDULES,
        secs: None,
    };
    for seed in 0..programs {
        subject.seed = seed;
        world.set_seed(seed);
        let outcome = search(world, &subject, &plan, watch);
        if watch.cancel.requested() {
            return Err(Failure::Skip("interrupted".into()));
        }
        if !outcome.is_clean() {
            return Err(explain(&outcome, "it does not hold"));
        }
    }
    Ok(())
}

/// A schedule that once failed does not.
fn passes(schedule: &str, t: &TestCtx<'_>) -> Result<(), Failure> {
    let (subject, schedule) = parse(schedule).map_err(|e| Failure::Wrong(e.0))?;
    let once = subject
        .perform(|world| repeat(world, &schedule, 1, t.cancel))
        .map_err(Failure::Wrong)?;
    if once.failed + once.diverged == 0 {
        return Ok(());
    }
    Err(Failure::Wrong(format!(
        "{}\nschedule: {schedule}",
        once.verdict
    )))
}

const fn plan(aim: Aim) -> Plan {
    let (method, runs) = match aim {
        Aim::Holds | Aim::With(_) => (Method::Bound(Some(0)), 20_000),
        _ => (Method::UpTo(Some(3)), 10_000),
    };
    Plan {
        method,
        runs,
        secs: None,
    }
}

fn judge(outcome: &Outcome, aim: Aim) -> Result<(), String> {
    match aim {
        Aim::Holds | Aim::With(_) if !outcome.is_clean() => Err("it does not hold".into()),
        Aim::Holds | Aim::With(_) if !outcome.exhausted => Err("it was not exhausted".into()),
        Aim::Holds | Aim::With(_) => Ok(()),
        _ if !outcome.is_found() => Err("it was not found, shrunk and replayed".into()),
        Aim::Planted(words) => match &outcome.case {
            Some(case) if !case.verdict.to_string().contains(words) => {
                Err(format!("the verdict lacks '{words}'"))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn explain(outcome: &Outcome, what: &str) -> Failure {
    let text = spin::Mutex::new(format!("{what}\n{outcome}"));
    outcome.remarks(&|line| text.lock().push_str(&format!("\n{line}")));
    Failure::Wrong(text.into_inner())
}

/// The string of what was found, read back, fails in the same way every time.
fn replayed(world: &mut dyn World, outcome: &Outcome, t: &TestCtx<'_>) -> Result<(), Failure> {
    let Some(case) = &outcome.case else {
        return Ok(());
    };
    let (_, schedule) = parse(&case.schedule.to_string()).map_err(|e| Failure::Wrong(e.0))?;
    let again = repeat(world, &schedule, REPLAYS, t.cancel);
    if (again.failed, again.diverged) == (again.times, 0) {
        return Ok(());
    }
    Err(explain(
        outcome,
        &format!("replayed from its string: {}", again.verdict),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::race::toy::{LOST_UPDATE, SAFE_UPDATE, Toy};

    fn outcome(toy: &mut Toy, aim: Aim) -> Outcome {
        let subject = Subject {
            scenario: scenarios::PLANTED[0].0,
            fixes: Fixes::ALL,
            seed: 1,
        };
        let cancel = Cancel::new();
        let watch = Watch {
            cancel: &cancel,
            tell: &|_| {},
        };
        pursue(toy, &subject, aim, &watch)
    }

    #[test]
    fn names_are_those_of_tests() {
        let suite = suite();
        assert!(suite.tests.len() >= scenarios::PLANTED.len());
        for (i, test) in suite.tests.iter().enumerate() {
            assert!(!test.name.contains(['.', ' ']), "{}", test.name);
            assert!(suite.tests[..i].iter().all(|o| o.name != test.name));
        }
    }

    #[test]
    fn each_aim_is_missed_by_the_other_kind_of_world() {
        let broken = Aim::Broken(Knob::TlbFlush);
        let planted = Aim::Planted("an update was lost: 1");
        for (aim, safe, lossy) in [
            (Aim::Holds, true, false),
            (broken, false, true),
            (planted, false, true),
            (Aim::Planted("something else"), false, false),
        ] {
            let of = |programs| judge(&outcome(&mut Toy::new(programs, 2), aim), aim).is_ok();
            assert_eq!((of(SAFE_UPDATE), of(LOST_UPDATE)), (safe, lossy));
        }
    }

    #[test]
    fn a_failed_test_says_what_replays_it() {
        let outcome = outcome(&mut Toy::new(LOST_UPDATE, 2), Aim::Holds);
        let Failure::Wrong(text) = explain(&outcome, "it does not hold") else {
            panic!("a failure");
        };
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "it does not hold");
        assert!(lines[1].starts_with("race: "), "{text}");
        assert!(lines[2].ends_with("sum: an update was lost: 1"), "{text}");
        let schedule = "schedule: v1:planted-lost-update:-:1:A2.B1:";
        assert!(lines[3].starts_with(schedule), "{text}");
    }
}
