//! Sleep sets (Godefroid, 1996) that know what a preemption costs.
//!
//! After actor `q` has been explored from a state, it sleeps while its siblings are explored: as
//! long as they only take steps that commute with its next one, running it later leads to states
//! already seen. Under a preemption bound that is not enough, as Coons, Musuvathi and McKinley note
//! (OOPSLA 2013): the equivalent run `E q t1…tn w` may cost more preemptions than `E t1…tn q w`,
//! and so may not have been explored. A [`Sleeper`] therefore carries an upper bound of the cost of
//! `E q t1…tn`, and is obeyed only where the equivalent run is no more expensive, whatever `w` is.
//!
//! Why nothing is lost: let R be a run within the bound that is left out because of a sleeper. Then
//! R' = `E q t1…tn w` ends in the same state, costs no more than R, and comes before R in the order
//! of the search (at `E` the choice `q` came before `t1`). Either R' was explored or it was left
//! out for a run before it; there are finitely many.

use super::{ActorId, ActorState, Footprint};

/// An actor that was explored from an earlier state of the run, and what has happened since
/// commutes with its next step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sleeper {
    pub(super) actor: ActorId,
    /// What its next step touches.
    footprint: Footprint,
    /// Preemptions, at most, of the equivalent run up to here.
    cost: u32,
    /// Who ran last in the equivalent run, and whether going on from it to someone else may cost a
    /// preemption.
    tail: ActorId,
    tail_ready: bool,
}

/// What the equivalent runs cover of an actor's next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cover {
    /// Nothing: explore it.
    No,
    /// Every continuation but those in which the actor goes on after the step.
    UnlessGoingOn,
    /// Every continuation.
    Yes,
}

impl Sleeper {
    /// `actor` was explored: `cost` preemptions with its step, after which it is ready or not.
    pub(super) fn new(actor: ActorId, footprint: Footprint, cost: u32, ready: bool) -> Self {
        Self {
            actor,
            footprint,
            cost,
            tail: actor,
            tail_ready: ready,
        }
    }

    /// Still asleep after `actor` took a step and came to be in state `after`? Then with what cost.
    #[inline]
    pub(super) fn after(
        &self,
        actor: ActorId,
        step: &Footprint,
        after: ActorState,
    ) -> Option<Self> {
        if actor == self.actor || self.footprint.conflicts(step) {
            return None;
        }
        let switch = self.tail != actor && self.tail_ready;
        // In the equivalent run the sleeper's step has happened too, which may have woken `actor`.
        let tail_ready = match after {
            ActorState::Done => false,
            ActorState::LockBlocked { lock } => self.footprint.touches(lock),
            _ => true,
        };
        Some(Self {
            cost: self.cost + u32::from(switch),
            tail: actor,
            tail_ready,
            ..*self
        })
    }

    /// What is covered of the sleeper's step here, where taking it makes `cost` preemptions.
    #[inline]
    pub(super) fn covers(&self, cost: u32) -> Cover {
        // The first step after it may cost one more in the equivalent run, whose last actor is
        // another. It does not if it is a preemption in both.
        if self.cost + u32::from(self.tail_ready) <= cost {
            Cover::Yes
        } else if self.cost <= cost {
            Cover::UnlessGoingOn
        } else {
            Cover::No
        }
    }

    /// Whatever `other`, of the same actor, covers, this one does too, here and later.
    pub(super) fn beats(&self, other: &Self) -> bool {
        (self.cost, self.tail_ready) <= (other.cost, other.tail_ready)
    }
}
