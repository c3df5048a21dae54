//! Runs that do not end: who waits for whom, and states that come back.

use super::{AccessKind, ActorId, ActorSet, ActorState, Footprint, ObjectId, View};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

/// Who holds which lock, from what the steps touched.
#[derive(Clone, Debug, Default)]
pub struct LockTable(Vec<(ObjectId, ActorId)>);

impl LockTable {
    /// Nothing is held.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// `actor` took a step.
    #[inline]
    pub fn note(&mut self, actor: ActorId, footprint: &Footprint) {
        for a in footprint.accesses() {
            match a.kind {
                AccessKind::Lock | AccessKind::LockShared => self.0.push((a.object, actor)),
                AccessKind::Unlock | AccessKind::UnlockShared => self.release(a.object, actor),
                AccessKind::Read | AccessKind::Write => {}
            }
        }
    }

    /// The last hold of the lock by `actor` goes; of a lock taken by one actor and released by
    /// another, the last hold of all.
    fn release(&mut self, lock: ObjectId, actor: ActorId) {
        let mine = self.0.iter().rposition(|h| *h == (lock, actor));
        if let Some(i) = mine.or_else(|| self.0.iter().rposition(|h| h.0 == lock)) {
            self.0.swap_remove(i);
        }
    }

    /// Who holds `lock`.
    pub fn holders(&self, lock: ObjectId) -> ActorSet {
        self.0.iter().filter(|h| h.0 == lock).map(|h| h.1).collect()
    }

    /// Every lock that is held, with its holder.
    pub fn held(&self) -> &[(ObjectId, ActorId)] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// One edge of the wait-for graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitFor {
    /// Who cannot go on.
    pub actor: ActorId,
    /// Why: anything but ready, idle or done.
    pub state: ActorState,
    /// Whoever could end the wait; empty if nobody is known to.
    pub on: ActorSet,
}

/// Nobody can take a step and not everyone has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deadlock {
    /// Who waits for whom.
    pub graph: Vec<WaitFor>,
}

impl Deadlock {
    /// The graph of the state `view` with `locks` held; `None` if it is no deadlock.
    pub fn of(view: &View<'_>, locks: &LockTable) -> Option<Self> {
        if !view.enabled().is_empty() || view.all_ended() {
            return None;
        }
        let edge = |(actor, state): (ActorId, ActorState)| {
            let on = match state {
                ActorState::LockBlocked { lock } => locks.holders(lock),
                ActorState::IpiWait { missing } => missing,
                ActorState::Masked { by } => ActorSet::single(by),
                ActorState::Asleep { .. } => ActorSet::EMPTY,
                ActorState::Ready(_) | ActorState::Idle | ActorState::Done => return None,
            };
            Some(WaitFor { actor, state, on })
        };
        Some(Self {
            graph: view.iter().filter_map(edge).collect(),
        })
    }

    /// Actors on a cycle of the graph, in order; empty when the wait ends at somebody who sleeps or
    /// has ended.
    pub fn cycle(&self) -> Vec<ActorId> {
        for start in &self.graph {
            let mut path = Vec::new();
            if self.follow(start.actor, &mut path) {
                return path;
            }
        }
        Vec::new()
    }

    /// Extends `path` by `actor`; true when it has become a cycle (what led to it is cut off).
    fn follow(&self, actor: ActorId, path: &mut Vec<ActorId>) -> bool {
        if let Some(i) = path.iter().position(|a| *a == actor) {
            path.drain(..i);
            return true;
        }
        path.push(actor);
        let edge = self.graph.iter().find(|e| e.actor == actor);
        let on = edge.map_or(ActorSet::EMPTY, |e| e.on);
        if on.iter().any(|next| self.follow(next, path)) {
            return true;
        }
        path.pop();
        false
    }
}

impl fmt::Display for Deadlock {
    /// One line: the edges, then the cycle if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadlock: ")?;
        for (i, e) in self.graph.iter().enumerate() {
            write!(
                f,
                "{}{} waits for ",
                if i == 0 { "" } else { "; " },
                e.actor
            )?;
            match e.state {
                ActorState::LockBlocked { lock } => {
                    write!(f, "lock {:#x} held by {}", lock.0, e.on)?
                }
                ActorState::IpiWait { .. } => write!(f, "acknowledgements of {}", e.on)?,
                ActorState::Masked { .. } => write!(f, "interrupts of {}, which are off", e.on)?,
                ActorState::Asleep { on } => write!(f, "a wake-up on {:#x}", on.0)?,
                ActorState::Ready(_) | ActorState::Idle | ActorState::Done => {}
            }
        }
        let cycle = self.cycle();
        if let Some(first) = cycle.first() {
            f.write_str(" (cycle ")?;
            cycle.iter().try_for_each(|a| write!(f, "{a} -> "))?;
            write!(f, "{first})")?;
        }
        Ok(())
    }
}

/// The run goes on without getting anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Livelock {
    /// The whole state after step `again` is that after step `first`, and everyone who could run in
    /// between did: this may go round for ever though nobody is kept from running.
    Cycle {
        /// Steps taken when the state was first seen.
        first: usize,
        /// Steps taken when it came back.
        again: usize,
    },
    /// More steps than the limit.
    TooLong {
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for Livelock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle { first, again } => {
                write!(
                    f,
                    "livelock: the state after step {again} is that after step {first}"
                )
            }
            Self::TooLong { limit } => write!(f, "livelock: no end after {limit} steps"),
        }
    }
}

/// Watches the hashes of the states of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct CycleWatch {
    seen: BTreeSet<u64>,
    /// The state before each step, who took it, who could have.
    steps: Vec<(u64, ActorId, ActorSet)>,
    now: u64,
}

impl CycleWatch {
    /// A run starts in a state with this hash.
    pub(super) fn start(&mut self, hash: u64) {
        self.seen.clear();
        self.steps.clear();
        self.seen.insert(hash);
        self.now = hash;
    }

    /// `actor`, one of `enabled`, took a step to a state with this hash.
    pub(super) fn step(
        &mut self,
        actor: ActorId,
        enabled: ActorSet,
        hash: u64,
    ) -> Option<Livelock> {
        self.steps.push((self.now, actor, enabled));
        self.now = hash;
        if self.seen.insert(hash) {
            return None;
        }
        // Any of the times it was seen will do.
        let (mut ran, mut could) = (ActorSet::EMPTY, ActorSet::EMPTY);
        for (first, &(before, actor, enabled)) in self.steps.iter().enumerate().rev() {
            ran.insert(actor);
            could = could.union(enabled);
            if before == hash && could.without(ran).is_empty() {
                let again = self.steps.len();
                return Some(Livelock::Cycle { first, again });
            }
        }
        None
    }
}
