//! Bugs that are there on purpose, so that the explorer can be seen to find each kind: a wrong result, a deadlock, a
//! livelock, an actor that is starved. They use no memory management, only words of the stage and two locks.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering::Relaxed;

use mm::MmError;
use mm::knobs::Knob;
use sync::point::{self, AccessKind, PointKind, class};
use sync::{Rank, RawSpin};

use crate::race::scenario::Scenario;
use crate::race::stage::Stage;

/// A point before the running actor touches word `i` of the stage.
fn mark(access: AccessKind, i: usize) {
    point::at(PointKind::Mark, access, || {
        point::object(class::OWN, i as u64)
    });
}

/// The smallest race: read, then write what was read and one.
pub(super) struct LostUpdate;

impl Scenario for LostUpdate {
    fn name(&self) -> &'static str {
        "planted-lost-update"
    }
    fn about(&self) -> &'static str {
        "A and B each read a word, then write one more than they read"
    }
    fn fixes(&self) -> &'static [Knob] {
        &[]
    }
    fn actors(&self) -> usize {
        2
    }
    fn setup(&self, _: &'static Stage) -> Result<(), MmError> {
        Ok(())
    }
    fn space_of(&self, _: usize) -> Option<usize> {
        None
    }
    fn run(&self, stage: &'static Stage, _: usize) {
        mark(AccessKind::Read, 0);
        let seen = stage.word(0).load(Relaxed);
        mark(AccessKind::Write, 0);
        stage.word(0).store(seen + 1, Relaxed);
    }
    fn check(&self, stage: &'static Stage) -> Result<(), String> {
        match stage.word(0).load(Relaxed) {
            2 => Ok(()),
            n => Err(format!("an update was lost: the word is {n}, not 2")),
        }
    }
}

/// Two locks in either order. They are of one rank, whose order is left to the callers, so only a run in which
/// the two meet shows it.
pub(super) struct Deadlock;

static LEFT: RawSpin = RawSpin::new();
static RIGHT: RawSpin = RawSpin::new();

impl Scenario for Deadlock {
    fn name(&self) -> &'static str {
        "planted-deadlock"
    }
    fn about(&self) -> &'static str {
        "A takes two locks of one rank, B takes them in the other order"
    }
    fn fixes(&self) -> &'static [Knob] {
        &[]
    }
    fn actors(&self) -> usize {
        2
    }
    fn setup(&self, _: &'static Stage) -> Result<(), MmError> {
        Ok(())
    }
    fn space_of(&self, _: usize) -> Option<usize> {
        None
    }
    fn run(&self, _: &'static Stage, me: usize) {
        let (first, second) = if me == 0 {
            (&LEFT, &RIGHT)
        } else {
            (&RIGHT, &LEFT)
        };
        let _first = first.lock(Rank::Ptl);
        let _second = second.lock_nested(Rank::Ptl);
    }
}

/// Each waits for the other's word before it writes its own, and asks for it again and again.
pub(super) struct Livelock;

impl Scenario for Livelock {
    fn name(&self) -> &'static str {
        "planted-livelock"
    }
    fn about(&self) -> &'static str {
        "A and B poll each other's word, and each sets its own only then"
    }
    fn fixes(&self) -> &'static [Knob] {
        &[]
    }
    fn actors(&self) -> usize {
        2
    }
    fn setup(&self, _: &'static Stage) -> Result<(), MmError> {
        Ok(())
    }
    fn space_of(&self, _: usize) -> Option<usize> {
        None
    }
    fn run(&self, stage: &'static Stage, me: usize) {
        let other = 1 - me;
        while !stage.ending() {
            mark(AccessKind::Read, other);
            if stage.word(other).load(Relaxed) != 0 {
                break;
            }
        }
        mark(AccessKind::Write, me);
        stage.word(me).store(1, Relaxed);
    }
}

/// A polls until B has set a word, however long B is not let on. It does not ask whether the run is given up: the explorer has
/// to let B on then.
pub(super) struct Starved;

impl Scenario for Starved {
    fn name(&self) -> &'static str {
        "planted-starvation"
    }
    fn about(&self) -> &'static str {
        "A polls a word that B sets, and never sleeps"
    }
    fn fixes(&self) -> &'static [Knob] {
        &[]
    }
    fn actors(&self) -> usize {
        2
    }
    fn setup(&self, _: &'static Stage) -> Result<(), MmError> {
        Ok(())
    }
    fn space_of(&self, _: usize) -> Option<usize> {
        None
    }
    fn run(&self, stage: &'static Stage, me: usize) {
        if me == 1 {
            mark(AccessKind::Write, 0);
            stage.word(0).store(1, Relaxed);
            return;
        }
        while stage.word(0).load(Relaxed) == 0 {
            mark(AccessKind::Read, 0);
        }
    }
}
