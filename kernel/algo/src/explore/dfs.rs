//! Depth-first search over all schedules, with a preemption bound and partial-order reduction.
//!
//! Stateless: the path of choices is kept, each run repeats all of it but the last choice. A
//! *preemption* is a switch away from an actor that could go on (Musuvathi, Qadeer, PLDI 2007); the
//! actor that ran last is tried first, so that runs come roughly by their preemptions.

use super::dpor::{self, Clock};
use super::sleep::{Cover, Sleeper};
use super::{ActorId, ActorSet, ActorState, Choice, Divergence, Footprint, Next, Strategy, View};
use alloc::vec::Vec;

/// How schedules are left out that are equivalent to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// Not at all.
    None,
    /// Sleep sets: one complete run for each class of equivalent ones (without a bound).
    Sleep,
    /// Dynamic partial-order reduction (Flanagan, Godefroid, POPL 2005) with sleep sets: fewer runs
    /// are given up.
    Dpor,
}

/// One step of the current path.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) enabled: ActorSet,
    pub(super) chosen: ActorId,
    /// What the chosen one touched.
    pub(super) footprint: Footprint,
    /// What happened before the step, and the step (DPOR).
    pub(super) clock: Clock,
    /// Who is to be explored from here (DPOR).
    pub(super) backtrack: ActorSet,
    /// The state that its step left the chosen one in.
    after: ActorState,
    /// Who could have gone on instead, and has nothing to do after the step: it took another way of
    /// the same choice.
    pub(super) withdrawn: ActorSet,
    /// Who has been explored from here, the chosen one excluded.
    explored: ActorSet,
    /// Who may be chosen at all.
    candidates: ActorSet,
    /// Who ran before.
    last: Option<ActorId>,
    /// Preemptions before the step.
    cost: u32,
    sleepers: Vec<Sleeper>,
    /// The chosen one's step is explored only for the runs in which it goes on after it.
    only_going_on: bool,
}

impl Node {
    const fn blank() -> Self {
        let Some(nobody) = ActorId::new(0) else {
            unreachable!()
        };
        Self {
            enabled: ActorSet::EMPTY,
            chosen: nobody,
            footprint: Footprint::EMPTY,
            clock: Clock::START,
            backtrack: ActorSet::EMPTY,
            after: ActorState::Done,
            withdrawn: ActorSet::EMPTY,
            explored: ActorSet::EMPTY,
            candidates: ActorSet::EMPTY,
            last: None,
            cost: 0,
            sleepers: Vec::new(),
            only_going_on: false,
        }
    }

    /// Preemptions up to and including a step of `actor`.
    #[inline]
    fn cost_of(&self, actor: ActorId) -> u32 {
        let preempts = |last: ActorId| last != actor && self.enabled.contains(last);
        self.cost + u32::from(self.last.is_some_and(preempts))
    }

    fn cover(&self, actor: ActorId, bounded: bool) -> Cover {
        let cost = if bounded {
            self.cost_of(actor)
        } else {
            u32::MAX
        };
        self.sleepers
            .iter()
            .find(|s| s.actor == actor)
            .map_or(Cover::No, |s| s.covers(cost))
    }

    /// Goes on to the next choice, if there is one.
    fn choose(&mut self, bound: Option<u32>) -> bool {
        let open = self.candidates.without(self.explored);
        let first = self.last.filter(|a| open.contains(*a));
        let others = first.map_or(open, |a| open.without(ActorSet::single(a)));
        for actor in first.into_iter().chain(others.iter()) {
            if bound.is_some_and(|b| self.cost_of(actor) > b) {
                continue;
            }
            let cover = self.cover(actor, bound.is_some());
            if cover != Cover::Yes {
                self.chosen = actor;
                self.only_going_on = cover == Cover::UnlessGoingOn;
                return true;
            }
        }
        false
    }

    /// The chosen one is done with: it sleeps from now on.
    fn retire(&mut self) {
        self.explored.insert(self.chosen);
        let cost = self.cost_of(self.chosen);
        let new = Sleeper::new(self.chosen, self.footprint, cost, self.after.is_enabled());
        match self.sleepers.iter_mut().find(|s| s.actor == self.chosen) {
            Some(old) if new.beats(old) => *old = new,
            Some(_) => {}
            None => self.sleepers.push(new),
        }
    }
}

/// Depth-first search; exhausted when every schedule within the bound, or one equivalent to it, has
/// been run.
#[derive(Clone, Debug)]
pub struct DepthFirst {
    bound: Option<u32>,
    reduction: Reduction,
    /// The path is the first `used`; the rest is kept for its buffers.
    nodes: Vec<Node>,
    used: usize,
    step: usize,
    /// The first node of the path that the races were not looked for in.
    fresh: usize,
}

impl DepthFirst {
    fn new(bound: Option<u32>, reduction: Reduction) -> Self {
        Self {
            bound,
            reduction,
            nodes: Vec::new(),
            used: 0,
            step: 0,
            fresh: 0,
        }
    }

    /// Every schedule with at most `bound` preemptions.
    pub fn plain(bound: Option<u32>) -> Self {
        Self::new(bound, Reduction::None)
    }

    /// With sleep sets: every final state that a schedule with at most `bound` preemptions leads
    /// to.
    pub fn sleep(bound: Option<u32>) -> Self {
        Self::new(bound, Reduction::Sleep)
    }

    /// With dynamic partial-order reduction, unbounded: every final state and every deadlock.
    pub fn dpor() -> Self {
        Self::new(None, Reduction::Dpor)
    }

    /// How it leaves out.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Choices on the current path that have an alternative left, by step: how far the search still
    /// is from its end.
    pub fn frontier(&self) -> impl Iterator<Item = usize> {
        let open = |n: &Node| {
            !n.candidates
                .without(n.explored)
                .without(ActorSet::single(n.chosen))
                .is_empty()
        };
        let path = self.nodes[..self.used].iter().enumerate();
        path.filter(move |(_, n)| open(n)).map(|(i, _)| i)
    }

    /// Makes the node for a state not on the path; false if nothing new starts from it.
    fn open(&mut self, view: &View<'_>) -> bool {
        if self.used == self.nodes.len() {
            self.nodes.push(Node::blank());
        }
        let (path, rest) = self.nodes.split_at_mut(self.used);
        let node = &mut rest[0];
        node.enabled = view.enabled();
        node.explored = ActorSet::EMPTY;
        node.candidates = node.enabled;
        node.sleepers.clear();
        (node.last, node.cost) = (None, 0);
        if let Some(parent) = path.last() {
            node.last = Some(parent.chosen);
            node.cost = parent.cost_of(parent.chosen);
            let after = |s: &Sleeper| s.after(parent.chosen, &parent.footprint, parent.after);
            node.sleepers
                .extend(parent.sleepers.iter().filter_map(after));
            if parent.only_going_on && node.enabled.contains(parent.chosen) {
                node.candidates = ActorSet::single(parent.chosen);
            }
        }
        if !node.choose(self.bound) {
            return false;
        }
        if self.reduction == Reduction::Dpor {
            node.backtrack = ActorSet::single(node.chosen);
            node.candidates = node.backtrack;
        }
        self.used += 1;
        true
    }

    /// The state that the latest step led to.
    fn note_after(&mut self, view: &View<'_>) {
        if let Some(node) = self.step.checked_sub(1).and_then(|i| self.nodes.get_mut(i)) {
            node.after = view.state(node.chosen);
            let others = node.enabled.without(ActorSet::single(node.chosen));
            let has_nothing = |a: &ActorId| view.state(*a) == ActorState::Idle;
            node.withdrawn = others.iter().filter(has_nothing).collect();
        }
    }

    /// Takes the last choice that has an alternative back; false if there is none.
    fn backtrack(&mut self) -> bool {
        while let Some(top) = self.used.checked_sub(1) {
            let node = &mut self.nodes[top];
            if self.reduction == Reduction::None {
                node.explored.insert(node.chosen);
            } else {
                node.retire();
            }
            if self.reduction == Reduction::Dpor {
                node.candidates = node.backtrack;
            }
            if node.choose(self.bound) {
                self.fresh = top;
                return true;
            }
            self.used = top;
        }
        false
    }
}

impl Strategy for DepthFirst {
    fn next_choice(&mut self, view: &View<'_>) -> Choice {
        self.note_after(view);
        if self.step == self.used {
            if !self.open(view) {
                return Choice::Redundant;
            }
            return Choice::Run(self.nodes[self.step].chosen);
        }
        let node = &self.nodes[self.step];
        if node.enabled == view.enabled() {
            Choice::Run(node.chosen)
        } else {
            Choice::Diverged(Divergence::Enabled {
                step: self.step,
                recorded: node.enabled,
                enabled: view.enabled(),
            })
        }
    }

    fn step_done(&mut self, _actor: ActorId, footprint: &Footprint) {
        self.nodes[self.step].footprint = *footprint;
        self.step += 1;
    }

    fn run_finished(&mut self, end: &View<'_>) -> Next {
        self.note_after(end);
        let left = self.used - self.step;
        self.step = 0;
        if left > 0 {
            return Next::Diverged(Divergence::Ended { left: left as u64 });
        }
        if self.reduction == Reduction::Dpor {
            dpor::races(&mut self.nodes[..self.used], self.fresh, end);
        }
        if self.backtrack() {
            Next::Continue
        } else {
            Next::Exhausted
        }
    }
}
