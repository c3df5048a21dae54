//! The `race` command: list scenarios, search their schedules, repeat one.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use algo::explore::{ActorId, Point};
use mm::knobs::Knob;

use super::repeat::{Repeats, repeat};
use super::run::{Method, Outcome, Plan, Watch, search};
use super::spent::{RUNS_OF_ONE, Spent};
use super::subject::{Fixes, Subject, parse, scenario};
use super::{scenario::Scenario, scenarios};
use crate::args::{Args, UsageError, number};
use crate::out::Out;
use crate::shell::{Command, Ctx, Status};

/// Runs of a search that has no end of its own, and of one for an absent fix.
const RUNS: u64 = 10_000;
/// Preemptions of a usual run, and of the last search for an absent fix.
const BOUND: u32 = 2;
const BROKEN_BOUND: u32 = 3;

/// The `race` command.
pub const COMMANDS: &[Command] = &[Command {
    name: "race",
    help: "run threads through every interleaving of their steps",
    usage: "list | run NAME|all [OPTIONS] | replay SCHEDULE [--times N] | fuzz [--family|--files|--all|--wide] [--secs N] [--programs N] [--seed S] [--max N]\n\
            list        the scenarios, and the fixes whose absence each shows\n\
            run         tries schedules until one fails or none is left; a failure is shrunk and replayed\n\
            --broken    switch off each fix in turn; succeeds when every one was found and replayed\n\
            --fix K=on|off ...  switches for these runs\n\
            --bound N   at most N preemptions (2, or all schedules of a small scenario; with --broken 0, 1, ... to 3), or none\n\
            --plain     leave out no schedule within the bound, to compare\n\
            --dpor      instead: no bound, only schedules that reverse a race\n\
            --pct N     instead: random priorities, for bugs of depth N, up to --max or --secs\n\
            --random    instead: random schedules, up to --max or --secs\n\
            --max N     most runs a line (200000; 10000 with --broken, --pct and --random)\n\
            --full      no limit of runs, and all is every scenario, those too that are left out else\n\
            --secs N    most seconds a line\n\
            --seed S    of --pct, of --random and of the scenario (1)\n\
            replay      runs SCHEDULE and prints its steps; --times N: N times, without steps. Status 1\n\
            \x20           when a run was not the one of the schedule\n\
            fuzz        a program made up from each seed in turn (from 1), in N schedules (200) each, for\n\
            \x20           so many seconds (10), or --programs N of them; ends at the first failure. --files: of mapped files;\n\
            \x20           --family: with threads, a child, and pages that kswapd finds unused;\n\
            \x20           --all: of everything, in several spaces; --wide: the same with four actors",
    run: command,
    words: || {
        let options = [
            "list",
            "run",
            "replay",
            "fuzz",
            "all",
            "--all",
            "--broken",
            "--family",
            "--files",
            "--full",
            "--fix",
            "--bound",
            "--dpor",
            "--max",
            "--pct",
            "--plain",
            "--random",
            "--secs",
            "--programs",
            "--seed",
            "--times",
            "--wide",
        ];
        let names = scenarios::every().map(|s| s.name());
        options.into_iter().chain(names).collect()
    },
}];

fn command(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let (verb, rest) = match ctx.words.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => return Err(UsageError::new("want a verb: list, run, replay or fuzz")),
    };
    let args = Args::new(rest);
    match verb {
        "list" => {
            args.done()?;
            list(ctx.out);
            Ok(Status::Ok)
        }
        "run" => Ok(run(&order(args, Fixes::current())?, ctx)),
        "replay" => replay(args, ctx),
        "fuzz" => super::fuzz::command(args, ctx),
        other => Err(UsageError(format!(
            "unknown verb '{other}'; accepted: list, run, replay, fuzz"
        ))),
    }
}

fn list(out: &dyn Out) {
    for s in scenarios::every() {
        let planted = scenarios::PLANTED.iter().any(|p| p.0.name() == s.name());
        let names: Vec<&str> = s.fixes().iter().map(|k| k.name()).collect();
        let fixes = match names.as_slice() {
            _ if planted => "planted: it always fails".into(),
            [] => "no fixes".into(),
            some => format!("fixes: {}", some.join(", ")),
        };
        writeln!(out, "{:<28} {}", s.name(), s.about());
        writeln!(out, "{:<28} {} actors; {fixes}", "", s.actors());
    }
}

/// What `race run` is to do.
struct Order {
    scenarios: Vec<&'static dyn Scenario>,
    broken: bool,
    fixes: Fixes,
    seed: u64,
    plan: Plan,
    /// No method was asked for: a small scenario is searched as a whole.
    free: bool,
}

/// Parses the words after `race run`; `fixes` are the switches as they are now.
fn order(mut args: Args, mut fixes: Fixes) -> Result<Order, UsageError> {
    let broken = args.flag("--broken");
    let full = args.flag("--full");
    let settings = args.values("--fix")?;
    let asked = method(&mut args, broken)?;
    let method = asked.unwrap_or(match broken {
        true => Method::UpTo(Some(BROKEN_BOUND)),
        false => Method::Bound(Some(BOUND)),
    });
    let secs = match args.number("--secs", 0, 1..=1_000_000)? {
        0 => None,
        secs => Some(secs),
    };
    let endless = secs.is_none() && matches!(method, Method::Pct(_) | Method::Random);
    let most = args.number("--max", 0, 1..=u64::MAX)?;
    let runs = match (most, full) {
        (0, true) if endless => {
            return Err(UsageError::new(
                "--pct and --random with --full want --secs",
            ));
        }
        (0, true) => u64::MAX,
        (0, false) if broken || endless => RUNS,
        (0, false) if secs.is_some() => u64::MAX,
        (0, false) => RUNS_OF_ONE,
        (most, false) => most,
        (_, true) => return Err(UsageError::new("--full and --max exclude each other")),
    };
    let plan = Plan { method, runs, secs };
    let seed = args.number("--seed", 1, 0..=u64::MAX)?;
    let (more, mut names): (Vec<_>, Vec<_>) =
        core::iter::from_fn(|| args.word()).partition(|w| !settings.is_empty() && w.contains('='));
    for words in settings.iter().chain(&more) {
        fixes = fixes.with_words(words)?;
    }
    if names.len() > 1 {
        return Err(UsageError(format!("unexpected word '{}'", names[1])));
    }
    let name = match names.pop() {
        Some(name) => name,
        None => args.want("a name, or all")?,
    };
    args.done()?;
    let scenarios = match name.as_str() {
        "all" if full => scenarios::full().collect(),
        "all" => scenarios::all().collect(),
        name => alloc::vec![scenario(name)?],
    };
    if broken && scenarios.iter().all(|s| s.fixes().is_empty()) {
        return Err(UsageError(format!("{name} has no fix to switch off")));
    }
    Ok(Order {
        scenarios,
        broken,
        fixes,
        seed,
        plan,
        free: asked.is_none() && !broken,
    })
}

/// The method that is asked for, if one is.
fn method(args: &mut Args, broken: bool) -> Result<Option<Method>, UsageError> {
    let bound = args.value("--bound")?;
    let depth = args.number("--pct", 0, 1..=100)?;
    let random = args.flag("--random");
    let (plain, dpor) = (args.flag("--plain"), args.flag("--dpor"));
    let given = [bound.is_some() || plain, depth > 0, random, dpor];
    if given.iter().filter(|g| **g).count() > 1 {
        return Err(UsageError::new(
            "--bound (with or without --plain), --dpor, --pct and --random exclude each other",
        ));
    }
    if !given.contains(&true) {
        return Ok(None);
    }
    if dpor {
        return Ok(Some(Method::Dpor));
    }
    if depth > 0 {
        return Ok(Some(Method::Pct(depth as u32)));
    }
    if random {
        return Ok(Some(Method::Random));
    }
    let bound = match bound.as_deref() {
        None => Some(if broken { BROKEN_BOUND } else { BOUND }),
        Some("none") => None,
        Some(word) => match number(word) {
            Ok(n @ 0..=100) => Some(n as u32),
            _ => {
                return Err(UsageError(format!(
                    "--bound: bad number '{word}': want 0 to 100, or none"
                )));
            }
        },
    };
    Ok(Some(match (plain, broken) {
        (true, _) => Method::Plain(bound),
        (false, true) => Method::UpTo(bound),
        (false, false) => Method::Bound(bound),
    }))
}

fn run(order: &Order, ctx: &Ctx<'_>) -> Status {
    let mut fine = true;
    let mut spent = Spent::default();
    for scenario in &order.scenarios {
        let absent: Vec<Option<Knob>> = match order.broken {
            true => scenario.fixes().iter().copied().map(Some).collect(),
            false => alloc::vec![None],
        };
        for knob in absent {
            if ctx.cancel.requested() {
                return Status::Failed;
            }
            let subject = Subject {
                scenario: *scenario,
                fixes: knob.map_or(order.fixes, |k| order.fixes.against(k)),
                seed: order.seed,
            };
            fine &= run_one(&subject, order, &mut spent, ctx);
        }
    }
    if order.scenarios.len() > 1 {
        spent.show(order.plan.runs, ctx.out);
    }
    Status::from_success(fine && !ctx.cancel.requested())
}

/// One line; true if it is as it should be.
fn run_one(subject: &Subject, order: &Order, spent: &mut Spent, ctx: &Ctx<'_>) -> bool {
    let tell = |text: fmt::Arguments<'_>| writeln!(ctx.out, "# {text}");
    let watch = Watch {
        cancel: ctx.cancel,
        tell: &tell,
    };
    let mut plan = order.plan;
    if order.free && subject.scenario.is_small() {
        plan.method = Method::Dpor;
    }
    let outcome = subject.perform(|world| {
        let outcome = search(world, subject, &plan, &watch);
        (outcome, world.confirmed())
    });
    match outcome {
        Ok((outcome, confirmed)) => {
            spent.add(&outcome);
            outcome.remarks(&tell);
            writeln!(ctx.out, "{outcome}{}", Mmu(confirmed));
            judge(&outcome, order.broken)
        }
        Err(e) => {
            writeln!(ctx.out, "race: {} cannot run: {e}", subject.scenario.name());
            false
        }
    }
}

/// Of how many user accesses the real MMU made as well, and in how many it agreed; nothing on the
/// simulator.
struct Mmu((u64, u64));

impl fmt::Display for Mmu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            (_, 0) => Ok(()),
            (agreed, asked) => write!(f, " mmu={agreed}/{asked}"),
        }
    }
}

fn judge(outcome: &Outcome, broken: bool) -> bool {
    if broken {
        outcome.is_found()
    } else {
        outcome.is_clean()
    }
}

fn replay(mut args: Args, ctx: &Ctx<'_>) -> Result<Status, UsageError> {
    let times = args.number("--times", 0, 1..=u64::MAX)?;
    let text = args.want("a schedule")?;
    args.done()?;
    let (subject, schedule) = parse(&text)?;
    let played = subject.perform(|world| {
        let done = repeat(world, &schedule, times.max(1), ctx.cancel);
        if times == 0 {
            let log = world.log();
            print_steps(ctx.out, log.iter().map(|l| (l.actor, l.point)));
        }
        done
    });
    Ok(match played {
        Ok(done) => conclude(ctx.out, &subject, &done),
        Err(e) => {
            writeln!(ctx.out, "race: {} cannot run: {e}", subject.scenario.name());
            Status::Failed
        }
    })
}

fn print_steps(out: &dyn Out, steps: impl Iterator<Item = (ActorId, Point)>) {
    for (i, (actor, point)) in steps.enumerate() {
        let (kind, object) = (point.kind.name(), point.object.0);
        writeln!(out, "{i:>5} {actor} {kind:<10} {object:#010x}");
    }
}

fn conclude(out: &dyn Out, subject: &Subject, done: &Repeats) -> Status {
    let name = subject.scenario.name();
    writeln!(out, "# {name}: {}", done.verdict);
    writeln!(
        out,
        "race replay: {name} times={} failed={} diverged={}",
        done.times, done.failed, done.diverged
    );
    Status::from_success(done.diverged == 0)
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
