//! Where a run's races say that it should also have gone another way: the backtrack points of
//! dynamic partial-order reduction (Flanagan, Godefroid, POPL 2005).
//!
//! Two steps race if they are dependent, nothing else orders them, and both could have been next at
//! the same time. For the latest step of each other actor that a step races with, the search has to
//! try a run that has the later one first. Order is kept in vector clocks.
//!
//! A step that leaves another actor without anything to do, which could have gone on instead, races
//! with what that one would have done, though it never does: from the same state it goes first,
//! too. The races of its step with earlier ones are those of that run.

use super::dfs::Node;
use super::{Access, AccessKind, ActorId, ActorSet, ActorState, Footprint, MAX_ACTORS, View};

/// By actor: the number of path steps up to and including its latest that happened before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Clock([u32; MAX_ACTORS]);

impl Clock {
    /// Nothing happened before.
    pub(super) const START: Self = Self([0; MAX_ACTORS]);

    /// Step `i`, taken by `actor`, is in it.
    #[inline]
    fn has(&self, actor: ActorId, i: usize) -> bool {
        self.0[actor.index()] as usize > i
    }

    fn join(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = (*a).max(b);
        }
    }
}

/// How many of the steps that a step races with count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Of each actor the latest that surely is one, and those after it that may be.
    Latest,
    All,
}

/// Looks for the races of the steps from `fresh` on with all before them, and of the steps that
/// `end` shows pending, and adds the backtrack points.
pub(super) fn races(path: &mut [Node], fresh: usize, end: &View<'_>) {
    for k in fresh..path.len() {
        let (before, now) = path.split_at_mut(k);
        let (actor, footprint) = (now[0].chosen, now[0].footprint);
        now[0].backtrack = now[0].backtrack.union(now[0].withdrawn);
        now[0].clock = race(before, actor, &footprint, Which::Latest);
        now[0].clock.0[actor.index()] = k as u32 + 1;
    }
    for (actor, state) in end.iter() {
        match state {
            ActorState::LockBlocked { lock } => {
                let pending = Footprint::of(Access {
                    object: lock,
                    kind: AccessKind::Lock,
                });
                race(path, actor, &pending, Which::Latest);
            }
            // What it would have done is not known, so any step may have kept it from that.
            ActorState::IpiWait { .. } | ActorState::Masked { .. } | ActorState::Asleep { .. } => {
                race(path, actor, &Footprint::EVERYTHING, Which::All);
            }
            _ => {}
        }
    }
}

/// Adds the backtrack points for a step of `actor` after `path`; returns what happens before it.
fn race(path: &mut [Node], actor: ActorId, step: &Footprint, which: Which) -> Clock {
    let last_own = path.iter().rposition(|n| n.chosen == actor);
    let before = last_own.map_or(Clock::START, |i| path[i].clock);
    let mut clock = before;
    let mut raced = ActorSet::EMPTY;
    for i in (0..path.len()).rev() {
        let node = &path[i];
        let other = node.chosen;
        if other == actor || before.has(other, i) || !node.footprint.conflicts(step) {
            continue;
        }
        clock.join(&node.clock);
        let counts = which == Which::All || !raced.contains(other);
        if counts && !node.footprint.hands_over_to(step) {
            // Was the later step next, too, and ready? If not it may be that the earlier one let it
            // happen (as turning interrupts on does), and the race is with one before it.
            if last_own < Some(i) && node.enabled.contains(actor) {
                raced.insert(other);
            }
            reverse(path, i, actor, step);
        }
    }
    clock
}

/// Makes sure that the search will try, before step `i` of `path`, a run in which the racing `step`
/// of `actor` comes first: it must begin with one of the actors that may begin such a run without
/// changing it (the source set of Abdulla, Aronis, Jonsson, Sagonas, POPL 2014). With the racing
/// actor alone, a sleeping one would hide the others.
fn reverse(path: &mut [Node], i: usize, actor: ActorId, step: &Footprint) {
    let (before, after) = path.split_at_mut(i + 1);
    let node = &mut before[i];
    let begins = initials(node.chosen, i, after, actor, step);
    if node.backtrack.both(begins).is_empty() {
        let can = begins.both(node.enabled);
        let preferred = if can.contains(actor) {
            Some(actor)
        } else {
            can.first()
        };
        node.backtrack = match preferred {
            Some(first) => node.backtrack.union(ActorSet::single(first)),
            None => node.enabled,
        };
    }
}

/// The run without step `i` of `skipped` and all that it happens before, then `step` of `actor`:
/// whose first step in it has nothing before it? `after` is the path after step `i`.
fn initials(
    skipped: ActorId,
    i: usize,
    after: &[Node],
    actor: ActorId,
    step: &Footprint,
) -> ActorSet {
    let mut begins = ActorSet::EMPTY;
    let mut seen = ActorSet::EMPTY;
    let kept = |j: usize| !after[j].clock.has(skipped, i);
    for (j, node) in after.iter().enumerate().filter(|&(j, _)| kept(j)) {
        if !seen.contains(node.chosen) {
            seen.insert(node.chosen);
            let ordered = |e: usize| kept(e) && node.clock.has(after[e].chosen, i + 1 + e);
            if !(0..j).any(ordered) {
                begins.insert(node.chosen);
            }
        }
    }
    let free = |j: usize| !kept(j) || !after[j].footprint.conflicts(step);
    if !seen.contains(actor) && (0..after.len()).all(free) {
        begins.insert(actor);
    }
    begins
}
