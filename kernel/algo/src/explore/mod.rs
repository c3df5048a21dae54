//! Search over schedules: which of a few actors takes the next step, over and over, run after run.
//!
//! A *world* runs actors one step at a time ([`World`]); a *strategy* chooses who goes next
//! ([`Strategy`]); [`explore`] brings the two together, judges each run and keeps the first failing
//! one as [`Choices`], which [`Replay`] repeats and [`shrink()`] makes shorter. Nothing here knows
//! what a step does: only its [`Footprint`], from which follows which steps commute.
//!
//! Pure: no lock, no clock, never sleeps. Allocates from the heap (buffers are kept from run to
//! run).

mod access;
mod actor;
mod dfs;
mod dpor;
mod drive;
mod pct;
mod replay;
mod rng;
mod schedule;
mod shrink;
mod sleep;
mod stuck;
mod walk;

#[cfg(test)]
mod tests;

pub use access::{Access, AccessKind, Footprint, ObjectId, Point, PointKind};
pub use actor::{ActorId, ActorSet, ActorState, MAX_ACTORS, View};
pub use dfs::{DepthFirst, Reduction};
pub use drive::{
    Failure, Limits, Progress, Summary, Trace, Verdict, Violation, World, explore, run_once,
};
pub use pct::Pct;
pub use replay::{Replay, replay};
pub use schedule::{Choices, Schedule, ScheduleError};
pub use shrink::{Shrunk, shrink};
pub use stuck::{Deadlock, Livelock, LockTable, WaitFor};
pub use walk::RandomWalk;

/// What a strategy wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// This actor takes a step. It is enabled in the view that was asked about.
    Run(ActorId),
    /// Every way to go on is equivalent to one explored already, or beyond the bound: give this run
    /// up.
    Redundant,
    /// The run is not the one that was to be repeated.
    Diverged(Divergence),
}

/// What a repeated run did differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Divergence {
    /// The actor that was to take a step cannot.
    NotReady {
        /// The step, from 0.
        step: usize,
        /// Who was to take it.
        wanted: ActorId,
        /// Who could.
        enabled: ActorSet,
    },
    /// Others can go on than in the recorded run.
    Enabled {
        /// The step, from 0.
        step: usize,
        /// Who could take it then.
        recorded: ActorSet,
        /// Who could take it now.
        enabled: ActorSet,
    },
    /// The run ended before the schedule did.
    Ended {
        /// Steps of the schedule that were not taken.
        left: u64,
    },
    /// The steps were of other kinds.
    Fingerprint {
        /// Of the recorded run.
        recorded: u32,
        /// Of this one.
        found: u32,
    },
}

impl core::fmt::Display for Divergence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotReady {
                step,
                wanted,
                enabled,
            } => {
                write!(f, "step {step}: {wanted} was to run, ready are {enabled}")
            }
            Self::Enabled {
                step,
                recorded,
                enabled,
            } => {
                write!(
                    f,
                    "step {step}: ready are {enabled}, before it was {recorded}"
                )
            }
            Self::Ended { left } => {
                write!(f, "the run ended with {left} steps of the schedule left")
            }
            Self::Fingerprint { recorded, found } => {
                write!(
                    f,
                    "the run's fingerprint is {found:08x}, the schedule's {recorded:08x}"
                )
            }
        }
    }
}

/// Whether there is another run to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Reset the world and run again.
    Continue,
    /// The strategy has made every run it wants to make.
    Exhausted,
    /// The run ended before the choices that were to be repeated did.
    Diverged(Divergence),
}

/// Chooses who goes next.
///
/// For each run the caller alternates [`Strategy::next_choice`] and [`Strategy::step_done`], then
/// calls [`Strategy::run_finished`] once, whatever ended the run.
pub trait Strategy {
    /// Who takes the next step. At least one actor of `view` is enabled.
    fn next_choice(&mut self, view: &View<'_>) -> Choice;
    /// The chosen actor took its step and touched `footprint`.
    fn step_done(&mut self, _actor: ActorId, _footprint: &Footprint) {}
    /// The run ended in the state `end`; the next one starts from the reset world.
    fn run_finished(&mut self, end: &View<'_>) -> Next;
}
