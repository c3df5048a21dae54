//! Patterned pages: what an actor writes into a page and how it finds one wrong byte.
//!
//! Every word of a page says which page it is: the mark of the address space that wrote it, the
//! page index it was written at, and the version. The running thread must have adopted the address
//! space.

use alloc::format;
use core::sync::atomic::Ordering;

use algo::pattern::{self, Stamp, WORDS};
use arch::upcall::FaultError;
use arch::{VirtAddr, user};

use super::team::{Stop, Team};

/// The address of word `i` of the page at `va`.
pub const fn word_at(va: VirtAddr, i: usize) -> VirtAddr {
    VirtAddr(va.0 + 8 * i as u64)
}

/// What a page may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Never written since it was mapped: zeros.
    Zero,
    /// Words of this stamp.
    Stamped(Stamp),
    /// Given back with MADV_FREE: the old words up to some moment, zeros after it.
    MaybeFreed(Stamp),
}

/// What became of an access that the disk may have spoiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readable {
    /// The page was there.
    Yes,
    /// SIGBUS: the disk could not give it back.
    No,
}

/// Turns a fault that must not happen into a failure.
pub fn fault(va: VirtAddr, what: &str, e: FaultError) -> Stop {
    match e {
        FaultError::Killed => Stop::Killed,
        e => Stop::Wrong(format!(
            "{what} at {va:?} failed with {e:?}, though the page is mapped for it"
        )),
    }
}

/// Writes every word of the page at `va`.
///
/// # Errors
/// When a store fails.
pub fn write(team: &Team, va: VirtAddr, stamp: Stamp) -> Result<Readable, Stop> {
    for i in 0..WORDS {
        match user::store(word_at(va, i), pattern::encode(stamp, i)) {
            Ok(()) => {}
            Err(FaultError::Bus) => return Ok(unreadable(team)),
            Err(e) => return Err(fault(va, "a store", e)),
        }
    }
    team.written.fetch_add(1, Ordering::Relaxed);
    Ok(Readable::Yes)
}

/// Compares every word of the page at `va`.
///
/// # Errors
/// At the first wrong word, or when a load fails.
pub fn verify(team: &Team, va: VirtAddr, content: Content) -> Result<Readable, Stop> {
    let mut freed = false;
    for i in 0..WORDS {
        let at = word_at(va, i);
        let found = match user::load(at) {
            Ok(word) => word,
            Err(FaultError::Bus) => return Ok(unreadable(team)),
            Err(e) => return Err(fault(va, "a load", e)),
        };
        let right = match content {
            Content::Zero => found == 0,
            Content::Stamped(stamp) => found == pattern::encode(stamp, i),
            Content::MaybeFreed(stamp) => {
                freed |= found == 0;
                found == 0 || (!freed && found == pattern::encode(stamp, i))
            }
        };
        if !right {
            return Err(wrong_word(at, i, found, content));
        }
    }
    team.verified.fetch_add(1, Ordering::Relaxed);
    Ok(Readable::Yes)
}

fn unreadable(team: &Team) -> Readable {
    team.unreadable.fetch_add(1, Ordering::Relaxed);
    Readable::No
}

fn wrong_word(at: VirtAddr, i: usize, found: u64, content: Content) -> Stop {
    let what = match content {
        Content::Zero => format!(
            "word {i}: expected zero, read {found:#018x} ({})",
            describe(found, i)
        ),
        Content::Stamped(stamp) | Content::MaybeFreed(stamp) => {
            match pattern::check(found, i, stamp) {
                Err(mismatch) => format!("{mismatch}"),
                Ok(()) => {
                    format!("word {i}: read {stamp} after zeros: the page came back from MADV_FREE")
                }
            }
        }
    };
    Stop::Wrong(format!(
        "wrong data at address {at:?} (CPU {}), {what}",
        sync::cpu::id()
    ))
}

/// Whose word number `i` of a page this would be.
pub fn describe(word: u64, i: usize) -> alloc::string::String {
    if word == 0 {
        return "zero".into();
    }
    if word == mm::buddy::poison::WORD {
        return "the filling of a free frame".into();
    }
    format!("as a stamp: {}", pattern::decode(word, i))
}
