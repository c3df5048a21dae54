//! One search: schedules of a world are tried until one fails, none is left, or a limit is reached.
//!
//! Knows the world only as steps and verdicts. Sleeps if the world's steps do. Ctrl-C and the time
//! limit end it after the run that is under way.

use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;

use algo::explore::{
    DepthFirst, Divergence, Failure, Limits, Pct, Progress, RandomWalk, Strategy, Summary, World,
    explore,
};

use super::repeat::Case;
use super::subject::Subject;
use crate::cancel::Cancel;

/// Limits of a single run; the first failure ends a search.
pub const LIMITS: Limits = Limits {
    steps: 10_000,
    runs: u64::MAX,
    failures: 1,
};

const SECOND: u64 = 1_000_000_000;

/// Which schedules are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// All with at most so many preemptions, without those equivalent to others.
    Bound(Option<u32>),
    /// All with at most so many preemptions, one by one: what the others are compared with.
    Plain(Option<u32>),
    /// Without a bound, only those that reverse a race of an earlier run.
    Dpor,
    /// As [`Method::Bound`] for every bound from 0 to this one in turn (without a bound: 0 to 3,
    /// then without).
    UpTo(Option<u32>),
    /// Random priorities that change at fewer than so many places.
    Pct(u32),
    /// Random ones.
    Random,
}

impl Method {
    /// Bounds after which an unbounded search begins.
    const LAST_BOUND: u32 = 3;

    /// What it does one after the other.
    fn stages(self) -> Vec<Self> {
        let Self::UpTo(last) = self else {
            return alloc::vec![self];
        };
        let bounds = (0..=last.unwrap_or(Self::LAST_BOUND)).map(Some);
        let unbounded = last.is_none().then_some(None);
        bounds.chain(unbounded).map(Self::Bound).collect()
    }

    fn searcher(self, seed: u64, actors: usize) -> Searcher {
        match self {
            Self::Bound(bound) | Self::UpTo(bound) => Searcher::Tree(DepthFirst::sleep(bound)),
            Self::Plain(bound) => Searcher::Tree(DepthFirst::plain(bound)),
            Self::Dpor => Searcher::Tree(DepthFirst::dpor()),
            // The estimate of a run's length grows with the first runs.
            Self::Pct(depth) => Searcher::Pct(Pct::new(seed, depth, actors, 1)),
            Self::Random => Searcher::Walk(RandomWalk::new(seed)),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(Some(n)) | Self::UpTo(Some(n)) => write!(f, "{n}"),
            Self::Bound(None) | Self::UpTo(None) => f.write_str("none"),
            Self::Plain(Some(n)) => write!(f, "plain{n}"),
            Self::Plain(None) => f.write_str("plain"),
            Self::Dpor => f.write_str("dpor"),
            Self::Pct(depth) => write!(f, "pct{depth}"),
            Self::Random => f.write_str("random"),
        }
    }
}

enum Searcher {
    Tree(DepthFirst),
    Pct(Pct),
    Walk(RandomWalk),
}

impl Searcher {
    fn strategy(&mut self) -> &mut dyn Strategy {
        match self {
            Self::Tree(s) => s,
            Self::Pct(s) => s,
            Self::Walk(s) => s,
        }
    }

    /// The first step of the current path at which something is left to try: near its length, the
    /// end is near.
    fn depth(&self) -> usize {
        match self {
            Self::Tree(s) => s.frontier().next().unwrap_or(0),
            Self::Pct(_) | Self::Walk(_) => 0,
        }
    }
}

/// How to search, and how far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Which schedules.
    pub method: Method,
    /// Most runs, those given up included.
    pub runs: u64,
    /// Most seconds.
    pub secs: Option<u64>,
}

/// Who asks for a search.
pub struct Watch<'a> {
    /// Ends it.
    pub cancel: &'a Cancel,
    /// Prints a comment: progress, each second.
    pub tell: &'a dyn Fn(fmt::Arguments<'_>),
}

/// What came of a search.
pub struct Outcome {
    /// What was searched.
    pub subject: Subject,
    /// The last stage that was begun.
    pub method: Method,
    /// Counts of all stages.
    pub progress: Progress,
    /// Nothing was left to try.
    pub exhausted: bool,
    /// The failure that ended it.
    pub case: Option<Case>,
    /// Set if a run could not be repeated: the search is worth nothing.
    pub diverged: Option<Divergence>,
    /// How long it took.
    pub ms: u64,
}

impl Outcome {
    /// No run failed and none diverged.
    pub fn is_clean(&self) -> bool {
        self.case.is_none() && self.diverged.is_none()
    }

    /// A run failed, and its shortened schedule fails in the same way.
    pub fn is_found(&self) -> bool {
        self.diverged.is_none() && self.case.as_ref().is_some_and(|c| c.wrong.is_none())
    }

    /// What a reader needs to know beside the line: the verdict and whatever is odd, one line each.
    pub fn remarks(&self, tell: &dyn Fn(fmt::Arguments<'_>)) {
        let name = self.subject.scenario.name();
        if let Some(d) = &self.diverged {
            tell(format_args!("{name}: diverged: {d}"));
        }
        if let Some(case) = &self.case {
            tell(format_args!("{name}: {}", case.verdict));
            tell(format_args!("schedule: {}", case.schedule));
            if let Some(wrong) = &case.wrong {
                tell(format_args!("{name}: not repeated: {wrong}"));
            }
        }
    }
}

impl fmt::Display for Outcome {
    /// The result line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.progress;
        write!(
            f,
            "race: {} fix={} bound={} schedules={} exhausted={} violations={} first=",
            self.subject.scenario.name(),
            self.subject.fixes,
            self.method,
            p.schedules,
            yes(self.exhausted),
            p.failures
        )?;
        match &self.case {
            Some(case) => write!(
                f,
                "{} replayed={}",
                case.schedule,
                yes(case.wrong.is_none())
            )?,
            None => f.write_str("-")?,
        }
        if self.diverged.is_some() {
            f.write_str(" diverged=yes")?;
        }
        write!(
            f,
            " redundant={} steps={} longest={} ms={}",
            p.redundant, p.steps, p.longest, self.ms
        )
    }
}

const fn yes(b: bool) -> &'static str {
    if b { "yes" } else { "no" }
}

/// Searches `world`, which is that of `subject`; shrinks and repeats the failure if there is one.
pub fn search(world: &mut dyn World, subject: &Subject, plan: &Plan, watch: &Watch<'_>) -> Outcome {
    let mut search = Search::new(subject, plan, watch);
    world.reset();
    for method in plan.method.stages() {
        search.done.method = method;
        let actors = world.actors().len();
        search.stage(world, &mut method.searcher(subject.seed, actors));
        if !search.done.exhausted || search.first.is_some() {
            break;
        }
    }
    let mut done = search.done;
    if let (Some(first), None) = (search.first, &done.diverged) {
        done.case = Some(Case::of(world, subject, first, watch.cancel));
    }
    done.ms = (arch::now_ns() - search.started) / 1_000_000;
    done
}

struct Search<'a> {
    plan: &'a Plan,
    watch: &'a Watch<'a>,
    done: Outcome,
    first: Option<Failure>,
    started: u64,
    /// When progress is shown next.
    next: u64,
}

impl<'a> Search<'a> {
    fn new(subject: &Subject, plan: &'a Plan, watch: &'a Watch<'a>) -> Self {
        let started = arch::now_ns();
        Self {
            plan,
            watch,
            done: Outcome {
                subject: *subject,
                method: plan.method,
                progress: Progress::default(),
                exhausted: false,
                case: None,
                diverged: None,
                ms: 0,
            },
            first: None,
            started,
            next: started + SECOND,
        }
    }

    /// Cancelled, or out of time.
    fn is_over(&self) -> bool {
        let elapsed = arch::now_ns() - self.started;
        let late = self
            .plan
            .secs
            .is_some_and(|s| elapsed >= s.saturating_mul(SECOND));
        late || self.watch.cancel.requested()
    }

    /// Runs `searcher` to its end or that of the search. The search is interrupted each second,
    /// between two runs, to show progress.
    fn stage(&mut self, world: &mut dyn World, searcher: &mut Searcher) {
        self.done.exhausted = false;
        loop {
            let made = self.done.progress.schedules + self.done.progress.redundant;
            let limits = Limits {
                runs: self.plan.runs.saturating_sub(made),
                ..LIMITS
            };
            let part = explore(world, searcher.strategy(), &limits, &mut |_, _, _| {
                if self.is_over() || arch::now_ns() >= self.next {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            let runs = part.progress.schedules + part.progress.redundant;
            self.add(part);
            let ended = self.done.exhausted || self.done.diverged.is_some() || self.first.is_some();
            if ended || runs >= limits.runs || self.is_over() {
                return;
            }
            self.show(searcher);
        }
    }

    fn add(&mut self, part: Summary) {
        let (sum, p) = (&mut self.done.progress, &part.progress);
        sum.schedules += p.schedules;
        sum.redundant += p.redundant;
        sum.failures += p.failures;
        sum.steps += p.steps;
        sum.longest = sum.longest.max(p.longest);
        self.done.exhausted = part.exhausted;
        self.done.diverged = part.diverged;
        self.first = part.first;
    }

    fn show(&mut self, searcher: &Searcher) {
        let now = arch::now_ns();
        let p = &self.done.progress;
        let runs = u128::from(p.schedules + p.redundant);
        let rate = runs * u128::from(SECOND) / u128::from((now - self.started).max(1));
        (self.watch.tell)(format_args!(
            "race: {} bound={} schedules={} redundant={} rate={rate}/s depth={}/{}",
            self.done.subject.scenario.name(),
            self.done.method,
            p.schedules,
            p.redundant,
            searcher.depth(),
            p.longest
        ));
        self.next = now + SECOND;
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
