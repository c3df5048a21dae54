//! The self-test registry and the `selftest` command.
//!
//! A test body is a plain function, so the same bodies run in QEMU, from `quire-host` and under
//! `cargo test`. A body runs in the calling thread, may sleep and may spawn actors; it gets its
//! randomness from its context only, so that the printed seed replays it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::args::UsageError;
use crate::cancel::Cancel;
use crate::ktap::{Document, Tally, Verdict};
use crate::out::Out;
use crate::replay;
use crate::shell::{Command, Ctx, Status};

/// Why a test did not pass.
#[derive(Debug)]
pub enum Failure {
    /// Something was wrong: what was found and what was expected, one line or several.
    Wrong(String),
    /// This machine cannot run the test: why.
    Skip(String),
}

impl Failure {
    /// A failure with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Wrong(message.into())
    }
}

/// What a test body is given.
pub struct TestCtx<'a> {
    /// The test's name: one body may serve several tests.
    pub name: &'static str,
    /// Seeds every random choice of the test.
    pub seed: u64,
    /// Long tests look at it between steps.
    pub cancel: &'a Cancel,
    notes: &'a dyn Fn(core::fmt::Arguments<'_>),
}

impl TestCtx<'_> {
    /// A diagnostic line before the result.
    pub fn note(&self, text: core::fmt::Arguments<'_>) {
        (self.notes)(text);
    }
}

/// A self-test.
pub struct Test {
    /// Its name, unique in its suite: lower case, no spaces, no dots.
    pub name: &'static str,
    /// Its body.
    pub run: fn(&mut TestCtx<'_>) -> Result<(), Failure>,
}

/// Tests about one subject; a test's full name is `suite.test`.
pub struct Suite {
    /// The subject: lower case, no spaces, no dots.
    pub name: &'static str,
    /// The tests, in the order they run.
    pub tests: &'static [Test],
}

/// Builds a [`Test`] from a function of the same name.
#[macro_export]
macro_rules! tests {
    ($($(#[$only:meta])* $name:ident),* $(,)?) => {
        &[$($(#[$only])* $crate::selftest::Test { name: stringify!($name), run: $name }),*]
    };
}

/// Returns a [`Failure`] from the test body unless the condition holds.
#[macro_export]
macro_rules! check {
    ($cond:expr) => {
        $crate::check!($cond, "{}", stringify!($cond))
    };
    ($cond:expr, $($arg:tt)+) => {
        if !$cond {
            return Err($crate::selftest::Failure::Wrong(alloc::format!($($arg)+)));
        }
    };
}

/// Returns a [`Failure`] from the test body unless both sides are equal.
#[macro_export]
macro_rules! check_eq {
    ($found:expr, $expected:expr) => {
        match (&$found, &$expected) {
            (found, expected) => $crate::check!(
                *found == *expected,
                "{}: found {:?}, expected {:?}",
                stringify!($found),
                found,
                expected
            ),
        }
    };
}

/// Which tests to run and how.
pub struct Plan<'a> {
    /// Full names must contain it; empty: all.
    pub pattern: &'a str,
    /// Rounds; each has its own seed.
    pub repeat: u32,
    /// Seed of the first round.
    pub seed: u64,
    /// Asked after each test: what the machine itself saw go wrong.
    pub oracle: fn() -> Option<String>,
}

/// Runs the tests of `suites` that `plan` selects, prints KTAP and the summary line.
///
/// # Errors
/// When the pattern selects nothing.
pub fn run(
    suites: &[&Suite],
    plan: &Plan<'_>,
    out: &dyn Out,
    cancel: &Cancel,
) -> Result<Tally, UsageError> {
    let selected: Vec<(&Suite, Vec<&Test>)> = select(suites, plan.pattern);
    if selected.is_empty() {
        return Err(UsageError(format!(
            "no test's name contains '{}'; 'selftest list' prints the names",
            plan.pattern
        )));
    }
    let mut total = Tally::default();
    let mut document = Document::new(out, selected.len() * plan.repeat as usize);
    let tests: usize = selected.iter().map(|(_, tests)| tests.len()).sum();
    let mut left = tests * plan.repeat as usize;
    'all: for round in 0..plan.repeat {
        let seed = plan.seed.wrapping_add(u64::from(round));
        for (suite, tests) in &selected {
            let mut nested = document.nested(suite.name, tests.len());
            let mut tally = Tally::default();
            for test in tests {
                if cancel.requested() {
                    // What ran counts.
                    total.add(tally);
                    break 'all;
                }
                left -= 1;
                tally.count(run_one(
                    suite,
                    test,
                    (seed, plan.oracle),
                    &mut nested,
                    cancel,
                ));
            }
            document.result(tally.verdict(), suite.name, "every test was skipped");
            total.add(tally);
        }
    }
    if left > 0 {
        writeln!(out, "Bail out! interrupted: {left} tests did not run");
    }
    if total.skipped > 0 {
        writeln!(out, "# {} skipped", total.skipped);
    }
    writeln!(out, "{} passed, {} failed", total.passed, total.failed);
    Ok(total)
}

fn select<'a>(suites: &[&'a Suite], pattern: &str) -> Vec<(&'a Suite, Vec<&'a Test>)> {
    let full = |s: &Suite, t: &Test| format!("{}.{}", s.name, t.name);
    let chosen = suites.iter().map(|s| {
        let tests = s.tests.iter().filter(|t| full(s, t).contains(pattern));
        (*s, tests.collect::<Vec<_>>())
    });
    chosen.filter(|(_, tests)| !tests.is_empty()).collect()
}

fn run_one(
    suite: &Suite,
    test: &Test,
    (seed, oracle): (u64, fn() -> Option<String>),
    document: &mut Document<'_>,
    cancel: &Cancel,
) -> Verdict {
    let mut result = (test.run)(&mut TestCtx {
        name: test.name,
        seed,
        cancel,
        notes: &|text| document.diagnostic(text),
    });
    if let (Ok(()), Some(seen)) = (&result, oracle()) {
        result = Err(Failure::Wrong(seen));
    }
    match result {
        Ok(()) => {
            document.result(Verdict::Passed, test.name, "");
            Verdict::Passed
        }
        Err(Failure::Skip(reason)) => {
            document.result(Verdict::Skipped, test.name, &reason);
            Verdict::Skipped
        }
        Err(Failure::Wrong(message)) => {
            for line in message.lines() {
                document.diagnostic(format_args!("{line}"));
            }
            let command =
                format_args!("selftest run {}.{} --seed {seed:#x}", suite.name, test.name);
            replay::tell(seed, command, &|text| document.diagnostic(text));
            document.result(Verdict::Failed, test.name, "");
            Verdict::Failed
        }
    }
}

/// The `selftest` command.
pub const COMMANDS: &[Command] = &[Command {
    name: "selftest",
    help: "list or run the self-tests",
    usage: "list | run [PATTERN] [--repeat N] [--seed S]\n\
            Runs the tests whose SUITE.TEST name contains PATTERN and prints KTAP version 1. Each round of\n\
            --repeat uses the next seed. Status 1 if a test failed.",
    run: command,
    words: || alloc::vec!["list", "run", "--repeat", "--seed"],
}];

fn command(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let repeat = args.number("--repeat", 1, 1..=100_000)?;
    let seed = args.number("--seed", 1, 0..=u64::MAX)?;
    let verb = args.want("a verb: list or run")?;
    let pattern = args.word().unwrap_or_default();
    args.done()?;
    let suites = crate::suites();
    match verb.as_str() {
        "list" => {
            for (suite, tests) in select(&suites, &pattern) {
                for test in tests {
                    writeln!(ctx.out, "{}.{}", suite.name, test.name);
                }
            }
            Ok(Status::Ok)
        }
        "run" => {
            let plan = Plan {
                pattern: &pattern,
                repeat: repeat as u32,
                seed,
                oracle: crate::oracle::take,
            };
            let tally = run(&suites, &plan, ctx.out, ctx.cancel)?;
            Ok(Status::from_success(
                tally.failed == 0 && !ctx.cancel.requested(),
            ))
        }
        other => Err(UsageError(format!(
            "unknown verb '{other}'; accepted: list, run"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::Buffer;

    fn good(_: &mut TestCtx<'_>) -> Result<(), Failure> {
        Ok(())
    }
    fn odd_seed(t: &mut TestCtx<'_>) -> Result<(), Failure> {
        t.note(format_args!("hello"));
        check_eq!(t.seed % 2, 1);
        Ok(())
    }
    fn skipped(_: &mut TestCtx<'_>) -> Result<(), Failure> {
        Err(Failure::Skip("no swap".into()))
    }
    static ONE: Suite = Suite {
        name: "one",
        tests: tests![good, odd_seed],
    };
    static TWO: Suite = Suite {
        name: "two",
        tests: tests![skipped],
    };

    fn run_with(pattern: &str, repeat: u32, cancel: &Cancel) -> (Option<Tally>, String) {
        let buffer = Buffer::new();
        let plan = Plan {
            pattern,
            repeat,
            seed: 1,
            oracle: || None,
        };
        let tally = run(&[&ONE, &TWO], &plan, &buffer, cancel).ok();
        (tally, buffer.take())
    }

    #[test]
    fn a_failure_is_reported_with_what_replays_it() {
        let (tally, text) = run_with("odd", 2, &Cancel::new());
        let tally = tally.unwrap();
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert!(text.contains(
            "  # hello\n  # t.seed % 2: found 0, expected 1\n  # seed: 0x2\n  \
             # replay: selftest run one.odd_seed --seed 0x2\n  not ok 1 odd_seed\nnot ok 2 one\n1 passed, 1 failed\n"
        ), "{text}");
    }

    #[test]
    fn skips_are_not_passes() {
        let (tally, text) = run_with("", 1, &Cancel::new());
        assert_eq!(tally.unwrap().skipped, 1);
        assert!(
            text.contains(
                "  ok 1 skipped # SKIP no swap\nok 2 two # SKIP every test was skipped\n"
            )
        );
        assert!(text.ends_with("# 1 skipped\n2 passed, 0 failed\n"));
    }

    #[test]
    fn a_pattern_without_a_match_is_wrong_usage() {
        assert!(run_with("nothing", 1, &Cancel::new()).0.is_none());
    }

    #[test]
    fn a_cancelled_run_says_once_what_did_not_run() {
        fn interrupt(t: &mut TestCtx<'_>) -> Result<(), Failure> {
            t.cancel.request();
            Ok(())
        }
        static THREE: Suite = Suite {
            name: "three",
            tests: tests![interrupt, good, skipped],
        };
        let (buffer, cancel) = (Buffer::new(), Cancel::new());
        let plan = Plan {
            pattern: "",
            repeat: 2,
            seed: 1,
            oracle: || None,
        };
        let tally = run(&[&THREE, &ONE], &plan, &buffer, &cancel).unwrap();
        assert_eq!((tally.passed, tally.failed, tally.skipped), (1, 0, 0));
        assert_eq!(
            buffer.take(),
            "KTAP version 1\n1..4\n  KTAP version 1\n  # Subtest: three\n  1..3\n  ok 1 interrupt\n\
             Bail out! interrupted: 9 tests did not run\n1 passed, 0 failed\n"
        );
    }
}
