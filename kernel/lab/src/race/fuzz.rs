//! `race fuzz`: one made-up program after the other, each in some schedules by PCT, until one fails
//! or time is over.

use core::fmt;

use super::run::{Method, Plan, Watch, search};
use super::scenarios::RANDOM;
use super::subject::{Fixes, Subject};
use super::theatre::Theatre;
use crate::args::{Args, UsageError};
use crate::shell::{Ctx, Status};

/// Bugs of this depth are looked for.
const DEPTH: u32 = 3;

/// What came of the programs.
#[derive(Default)]
struct Totals {
    programs: u64,
    schedules: u64,
    longest: usize,
    failed: bool,
}

/// Runs the command; `args` are the words after `race fuzz`.
///
/// # Errors
/// Wrong usage.
pub(super) fn command(mut args: Args, ctx: &Ctx<'_>) -> Result<Status, UsageError> {
    let programs = args.number("--programs", u64::MAX, 1..=u64::MAX)?;
    // As many programs as are asked for, however long that takes.
    let usual = if programs == u64::MAX { 10 } else { u64::MAX };
    let secs = args.number("--secs", usual, 1..=u64::MAX)?;
    let first = args.number("--seed", 1, 0..=u64::MAX)?;
    let plan = Plan {
        method: Method::Pct(DEPTH),
        runs: args.number("--max", 200, 1..=u64::MAX)?,
        secs: None,
    };
    // In the order of the scenarios, after the first, which needs none.
    let asked = ["--family", "--files", "--all", "--wide"].map(|flag| args.flag(flag));
    if asked.iter().filter(|a| **a).count() > 1 {
        return Err(UsageError::new(
            "--family, --files, --all and --wide exclude each other",
        ));
    }
    let which = asked.iter().position(|a| *a).map_or(0, |i| i + 1);
    let subject = Subject {
        scenario: RANDOM[which],
        fixes: Fixes::current(),
        seed: first,
    };
    args.done()?;
    let end = arch::now_ns().saturating_add(secs.saturating_mul(1_000_000_000));
    Ok(
        match subject.perform(|t| fuzz(t, subject, &plan, (programs, end), ctx)) {
            Ok(totals) => {
                writeln!(
                    ctx.out,
                    "race fuzz: seeds={first}..{} schedules={} longest={} violations={}",
                    first.wrapping_add(totals.programs),
                    totals.schedules,
                    totals.longest,
                    u32::from(totals.failed)
                );
                Status::from_success(!totals.failed)
            }
            Err(e) => {
                writeln!(ctx.out, "race: {} cannot run: {e}", subject.scenario.name());
                Status::Failed
            }
        },
    )
}

fn fuzz(
    theatre: &mut Theatre,
    mut subject: Subject,
    plan: &Plan,
    (programs, end): (u64, u64),
    ctx: &Ctx<'_>,
) -> Totals {
    let tell = |text: fmt::Arguments<'_>| writeln!(ctx.out, "# {text}");
    let watch = Watch {
        cancel: ctx.cancel,
        tell: &tell,
    };
    let mut totals = Totals::default();
    let on = |t: &Totals| !t.failed && t.programs < programs && arch::now_ns() < end;
    while on(&totals) && !ctx.cancel.requested() {
        theatre.set_seed(subject.seed);
        let outcome = search(theatre, &subject, plan, &watch);
        totals.programs += 1;
        totals.schedules += outcome.progress.schedules;
        totals.longest = totals.longest.max(outcome.progress.longest);
        totals.failed = !outcome.is_clean();
        if totals.failed {
            outcome.remarks(&tell);
            writeln!(ctx.out, "{outcome}");
        }
        subject.seed = subject.seed.wrapping_add(1);
    }
    totals
}
