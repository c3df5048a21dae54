//! Runs: a world, a strategy and the judgement of what happened.
//!
//! The oracles run after every step and at the end; a run ends at the first verdict. Everything a
//! run allocates is kept for the next one.

use super::stuck::CycleWatch;
use super::{
    ActorId, ActorState, Choice, Choices, Deadlock, Divergence, Footprint, Livelock, LockTable,
    Next, Strategy, View,
};
use alloc::string::String;
use core::fmt;
use core::ops::ControlFlow;

/// What is explored: actors that take one step at a time, deterministically.
pub trait World {
    /// Back to the start, whatever the state (actors in the middle of a run included).
    fn reset(&mut self);
    /// The state of every actor; nobody runs.
    fn actors(&self) -> &[ActorState];
    /// `actor`, which is ready, runs to its next point. Returns all that it touched on the way.
    fn step(&mut self, actor: ActorId) -> Footprint;
    /// The oracles that hold after every step.
    fn check_step(&mut self) -> Option<Violation> {
        None
    }
    /// The oracles that hold when every actor has ended.
    fn check_end(&mut self) -> Option<Violation> {
        None
    }
    /// A hash of the whole state (of the actors, too), if the world can tell when a state comes
    /// back.
    fn state_hash(&self) -> Option<u64> {
        None
    }
}

/// An oracle found the damage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The oracle's name.
    pub oracle: &'static str,
    /// What it saw, one line.
    pub detail: String,
}

/// How one run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everyone ended, all oracles content.
    Passed,
    /// The strategy gave it up; the oracles were content so far.
    Redundant,
    /// An oracle spoke.
    Violated(Violation),
    /// Nobody can go on.
    Deadlocked(Deadlock),
    /// It goes on for ever.
    Livelocked(Livelock),
    /// The world did not repeat what it did before: it is not deterministic, or not the one of the
    /// schedule.
    Diverged(Divergence),
}

impl Verdict {
    /// The run shows a bug (a divergence is none: it makes the run worthless).
    pub const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Violated(_) | Self::Deadlocked(_) | Self::Livelocked(_)
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Redundant => f.write_str("redundant"),
            Self::Violated(v) => write!(f, "{}: {}", v.oracle, v.detail),
            Self::Deadlocked(d) => d.fmt(f),
            Self::Livelocked(l) => l.fmt(f),
            Self::Diverged(d) => write!(f, "diverged: {d}"),
        }
    }
}

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Steps of one run; one that has more is a livelock.
    pub steps: usize,
    /// Runs, the redundant ones included.
    pub runs: u64,
    /// Failing runs after which the search stops.
    pub failures: u64,
}

impl Default for Limits {
    /// 10,000 steps, no limit on runs, the first failure.
    fn default() -> Self {
        Self {
            steps: 10_000,
            runs: u64::MAX,
            failures: 1,
        }
    }
}

/// What was done in one run. Made once and used for run after run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    choices: Choices,
    print: u32,
    steps: usize,
    preemptions: u32,
    last: Option<ActorId>,
    locks: LockTable,
    cycles: CycleWatch,
}

impl Trace {
    /// Of no run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who ran when.
    pub fn choices(&self) -> &Choices {
        &self.choices
    }
    /// A number that two runs share only if the same actors passed the same kinds of points in the
    /// same order (and by a chance of 2^-32). Objects do not count: their numbers differ from
    /// machine to machine.
    pub fn fingerprint(&self) -> u32 {
        self.print
    }
    /// Steps taken.
    pub fn steps(&self) -> usize {
        self.steps
    }
    /// Switches away from an actor that could have gone on.
    pub fn preemptions(&self) -> u32 {
        self.preemptions
    }
    /// Locks that are held.
    pub fn locks(&self) -> &LockTable {
        &self.locks
    }

    fn clear(&mut self) {
        self.choices.clear();
        self.locks.clear();
        (self.print, self.steps, self.preemptions, self.last) = (0x811c_9dc5, 0, 0, None);
    }

    /// `actor` is about to go on from where `view` shows it.
    fn chosen(&mut self, actor: ActorId, view: &View<'_>) {
        if let ActorState::Ready(point) = view.state(actor) {
            for byte in [actor.index() as u8, point.kind as u8] {
                // FNV-1a.
                self.print = (self.print ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            }
        }
        if let Some(last) = self.last
            && last != actor
            && view.enabled().contains(last)
        {
            self.preemptions += 1;
        }
        self.last = Some(actor);
        self.choices.push(actor);
        self.steps += 1;
    }
}

/// Resets `world` and makes one run under `strategy`; `trace` then tells what was done. The
/// strategy is told that the run has finished by the caller.
pub fn run_once(
    world: &mut dyn World,
    strategy: &mut dyn Strategy,
    limits: &Limits,
    trace: &mut Trace,
) -> Verdict {
    world.reset();
    trace.clear();
    if let Some(hash) = world.state_hash() {
        trace.cycles.start(hash);
    }
    loop {
        let view = View::new(world.actors());
        let enabled = view.enabled();
        if enabled.is_empty() {
            return ended(world, trace);
        }
        if trace.steps == limits.steps {
            return Verdict::Livelocked(Livelock::TooLong {
                limit: limits.steps,
            });
        }
        let actor = match strategy.next_choice(&view) {
            Choice::Run(actor) => actor,
            Choice::Redundant => return Verdict::Redundant,
            Choice::Diverged(d) => return Verdict::Diverged(d),
        };
        assert!(enabled.contains(actor), "a strategy chose who cannot run");
        trace.chosen(actor, &view);
        let footprint = world.step(actor);
        trace.locks.note(actor, &footprint);
        strategy.step_done(actor, &footprint);
        if let Some(v) = world.check_step() {
            return Verdict::Violated(v);
        }
        if let Some(hash) = world.state_hash()
            && let Some(livelock) = trace.cycles.step(actor, enabled, hash)
        {
            return Verdict::Livelocked(livelock);
        }
    }
}

fn ended(world: &mut dyn World, trace: &Trace) -> Verdict {
    if let Some(deadlock) = Deadlock::of(&View::new(world.actors()), &trace.locks) {
        return Verdict::Deadlocked(deadlock);
    }
    match world.check_end() {
        Some(v) => Verdict::Violated(v),
        None => Verdict::Passed,
    }
}

/// A failing run.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was wrong.
    pub verdict: Verdict,
    /// How to repeat it.
    pub choices: Choices,
    /// The run's fingerprint.
    pub fingerprint: u32,
    /// Its preemptions.
    pub preemptions: u32,
    /// Runs made up to and including it.
    pub run: u64,
}

/// How far a search has come, for whoever shows progress or wants to stop.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Runs that were made to their end.
    pub schedules: u64,
    /// Runs given up as equivalent to others.
    pub redundant: u64,
    /// Failing runs (counted among the schedules).
    pub failures: u64,
    /// Steps of the longest run.
    pub longest: usize,
    /// Steps of all runs.
    pub steps: u64,
}

/// The result of a search.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The counts.
    pub progress: Progress,
    /// The strategy had no more runs to make.
    pub exhausted: bool,
    /// The first failing run.
    pub first: Option<Failure>,
    /// Set when a run could not be repeated; nothing that the search says is then worth anything.
    pub diverged: Option<Divergence>,
}

/// Runs `world` under `strategy` until it is exhausted, a limit is reached, a run diverges or
/// `watch` (called after every run) breaks.
pub fn explore(
    world: &mut dyn World,
    strategy: &mut dyn Strategy,
    limits: &Limits,
    watch: &mut dyn FnMut(&Progress, &Trace, &Verdict) -> ControlFlow<()>,
) -> Summary {
    let mut trace = Trace::new();
    let mut done = Summary {
        progress: Progress::default(),
        exhausted: false,
        first: None,
        diverged: None,
    };
    let mut runs = 0;
    while runs < limits.runs && done.progress.failures < limits.failures {
        runs += 1;
        let verdict = run_once(world, strategy, limits, &mut trace);
        count(&mut done.progress, &trace, &verdict);
        if let Verdict::Diverged(d) = verdict {
            done.diverged = Some(d);
            break;
        }
        if verdict.is_failure() && done.first.is_none() {
            done.first = Some(Failure {
                verdict: verdict.clone(),
                choices: trace.choices.clone(),
                fingerprint: trace.print,
                preemptions: trace.preemptions,
                run: runs,
            });
        }
        let next = strategy.run_finished(&View::new(world.actors()));
        let stop = watch(&done.progress, &trace, &verdict).is_break();
        match next {
            Next::Continue if !stop => {}
            Next::Continue => break,
            Next::Exhausted => {
                done.exhausted = true;
                break;
            }
            Next::Diverged(d) => {
                done.diverged = Some(d);
                break;
            }
        }
    }
    done
}

fn count(progress: &mut Progress, trace: &Trace, verdict: &Verdict) {
    match verdict {
        Verdict::Redundant => progress.redundant += 1,
        _ => progress.schedules += 1,
    }
    progress.failures += u64::from(verdict.is_failure());
    progress.longest = progress.longest.max(trace.steps);
    progress.steps += trace.steps as u64;
}
