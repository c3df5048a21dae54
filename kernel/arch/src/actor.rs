//! Actors: what the explorer's threads run on, the same on both machines.
//!
//! Each actor has a CPU of its own. There is one token: the controller (who started the actors) has
//! it, or one actor between [`Actors::resume`] and its next [`suspend`]; everybody else stands
//! still. A CPU whose actor stands still serves the interrupts that come from outside, whatever the
//! actor's own interrupt state is, and what [`interrupt`] asks of it.
//!
//! Locks: none across a hand-over. Preemption is off while an actor stands still.

use alloc::string::String;
use core::fmt;

pub use crate::machine::actor::{Actors, interrupt, suspend};

/// Most actors at a time.
pub const MAX_ACTORS: usize = 4;

/// How an actor gave the token back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resumed {
    /// It called [`suspend`].
    Stopped,
    /// It panicked with this message and was unwound. Its CPU is as at the start of a thread; its
    /// next resume runs `main` from the beginning. On the host only: a panic of the kernel ends the
    /// machine.
    Panicked(String),
}

/// Why actors were not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActorError {
    /// There are not so many CPUs that nobody else uses.
    TooFewCpus {
        /// How many actors were asked for.
        wanted: usize,
        /// How many CPUs there are for them.
        found: usize,
    },
    /// No thread, or no stack, for an actor.
    NoThread,
}

impl fmt::Display for ActorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewCpus { wanted, found } => write!(
                f,
                "{wanted} actors want a CPU each beside the caller's, and {found} are free (see --cpus)"
            ),
            Self::NoThread => f.write_str("there is no thread or no stack for an actor"),
        }
    }
}
