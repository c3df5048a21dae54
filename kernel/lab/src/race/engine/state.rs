//! What the engine knows of a run: where each actor stands, what the step under way has touched,
//! and what was violated.
//!
//! Locks: the engine's own guards all of it, and [`Locked`] is the proof.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use algo::explore::{Access, AccessKind, ActorId, Footprint, Point, Violation};
use arch::actor;
use sync::point::{Aside, Go, PointKind};

use crate::race::scenario::Kinds;
use crate::race::shadow::Shadow;

/// Where an actor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Where {
    /// Between two runs.
    Home,
    /// At a point.
    Stopped,
    /// Past its last step, still in its address space.
    Ended,
}

/// What it waits for there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    Nothing,
    Lock,
    Acks,
    Wake,
}

#[derive(Clone, Copy)]
pub(super) struct Actor {
    pub(super) at: Where,
    pub(super) kind: PointKind,
    pub(super) access: Access,
    pub(super) wait: Wait,
    pub(super) irq_on: bool,
    /// Its CPU has an interrupt to serve.
    pub(super) mail: bool,
    pub(super) go: Go,
    /// Points that it passed since it last stood still, while the run is brought to its end.
    pub(super) passed: u32,
}

pub(super) const AT_HOME: Actor = Actor {
    at: Where::Home,
    kind: PointKind::Start,
    access: Access::new(AccessKind::Read, 0),
    wait: Wait::Nothing,
    irq_on: true,
    mail: false,
    go: Go::Free,
    passed: 0,
};

/// One step of the last run.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// Who.
    pub actor: ActorId,
    /// From which point.
    pub point: Point,
}

pub(super) struct State {
    pub(super) actors: [Actor; actor::MAX_ACTORS],
    pub(super) stops: Kinds,
    /// What the step under way touched so far.
    pub(super) step: Option<Footprint>,
    pub(super) shadow: Shadow,
    pub(super) log: Vec<Logged>,
    pub(super) violation: Option<Violation>,
    /// No address space and no frame is watched: everyone is on the way home.
    pub(super) ending: bool,
}

impl State {
    /// The step under way, if there is one, touches `object`.
    pub(super) fn touch(&mut self, access: AccessKind, object: u32) {
        if let Some(step) = &mut self.step {
            step.add(Access::new(access, object));
        }
    }

    pub(super) fn note_violation(&mut self, oracle: &'static str, detail: String) {
        if !self.ending {
            self.violation.get_or_insert(Violation { oracle, detail });
        }
    }
}

/// The engine's state, locked. While it is, the CPU's actor is at no point.
pub(super) struct Locked {
    pub(super) state: spin::MutexGuard<'static, State>,
    pub(super) _aside: Aside,
}

impl Deref for Locked {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}
