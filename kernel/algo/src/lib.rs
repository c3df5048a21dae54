//! L0: pure algorithms of the memory manager. No `unsafe`, no allocation, no clock, no CPU: every
//! structure lives in memory that the caller lends, so each can be tested on the host alone.
//! (`explore`, the schedule search of the lab, allocates; it exists only with the feature of that
//! name.)
//!
//! Elements are named by `u32` ids (a page frame number, an index into an arena) and reached
//! through accessor traits whose methods take `&self`: the caller keeps links in cells of its own
//! records. Nothing here takes a lock, sleeps or orders memory: the caller holds the lock that
//! guards the whole structure, and relaxed cells are enough under it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "explore"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod buddy;
pub mod errseq;
#[cfg(any(test, feature = "explore"))]
pub mod explore;
pub mod gap;
pub mod interval;
pub mod list;
pub mod merge;
pub mod nonresident;
pub mod ondemand;
pub mod pattern;
pub mod point;
pub mod progress;
pub mod radix;
pub mod readahead;
pub mod swapmap;
pub mod tree;

#[cfg(test)]
mod testing;

pub use list::{Links, List};

/// "No element": the id that every empty link holds. Never the id of an element.
pub const NIL: u32 = u32::MAX;

/// What a `validate` found broken. Such a state cannot come about through this crate's methods
/// alone: it means that an element was shared between structures, or a lock was not held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt {
    /// The rule that does not hold.
    pub what: &'static str,
    /// The element at which it was noticed, [`NIL`] for the structure as a whole.
    pub at: u32,
}

impl core::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.at == NIL {
            f.write_str(self.what)
        } else {
            write!(f, "{} (at {:#x})", self.what, self.at)
        }
    }
}

/// `Err(Corrupt)` unless `holds`.
fn ensure(holds: bool, what: &'static str, at: u32) -> Result<(), Corrupt> {
    if holds {
        Ok(())
    } else {
        Err(Corrupt { what, at })
    }
}
