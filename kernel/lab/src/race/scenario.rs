//! What a scenario is: two to four actors, what they do, and what must hold afterwards.

use alloc::string::String;

use mm::MmError;
use mm::knobs::Knob;
use sync::point::PointKind;

use super::stage::Stage;

/// Kinds of points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u32);

impl Kinds {
    /// Where actors usually stop: before every lock, before page-table cells are read without a
    /// lock or changed, before counts change, around interrupts, sleeps, disk requests and user
    /// accesses. (Giving a lock back need not be one: what can be seen of it is seen at the next
    /// point.)
    pub const USUAL: Self = Self::ALL.without(PointKind::Unlock);
    /// Every kind.
    pub const ALL: Self = Self(u32::MAX);

    /// All but `kind`: there an actor goes on, and what it touches belongs to the step before.
    #[must_use]
    pub const fn without(self, kind: PointKind) -> Self {
        Self(self.0 & !(1 << kind as u8))
    }

    /// `kind` is one of them.
    pub const fn contains(self, kind: PointKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

/// What the disks of a scenario do that good ones do not, each time that the search chooses so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disks {
    /// Requests that fail in a run, at most.
    pub failures: u8,
    /// A request may be served before one that came earlier.
    pub overtake: bool,
    /// A request moves its data in two steps.
    pub halves: bool,
}

impl Disks {
    /// Nothing of that.
    pub const TAME: Self = Self {
        failures: 0,
        overtake: false,
        halves: false,
    };

    /// What a seed says of them; of one in four nothing.
    pub(super) fn of_seed(seed: u64) -> Self {
        if seed % 8 >= 6 {
            return Self::TAME;
        }
        let mut dice = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 99);
        Self {
            failures: dice.u8(0..3),
            overtake: dice.bool(),
            halves: dice.bool(),
        }
    }
}

/// A race to be explored. Its methods run with the explorer's rules: `setup` on the controller and
/// `enter` on the actor's CPU are not explored (nobody is stopped in them), `run` is.
pub trait Scenario: Sync {
    /// Letters, digits and `-`.
    fn name(&self) -> &'static str;
    /// One line: who does what.
    fn about(&self) -> &'static str;
    /// The fixes that it shows the absence of, and the variants that break it, one at a time.
    fn fixes(&self) -> &'static [Knob];
    /// The variants (switches that usually are off) with which it holds as well, one at a time.
    fn variants(&self) -> &'static [Knob] {
        &[]
    }
    /// It has so few schedules that do not come to the same that all of them can be tried.
    fn is_small(&self) -> bool {
        false
    }
    /// A step that leaves a page of a file without a count of its mappings, though a CPU can still
    /// write it, is a failure by itself. (Otherwise only what comes of it is.)
    fn watches_rmap(&self) -> bool {
        false
    }
    /// Blocks that it has for huge pages: one at most, where these have 512 pages.
    fn huge_pages(&self) -> u32 {
        0
    }
    /// How many actors, 1 to 4.
    fn actors(&self) -> usize;
    /// Where they stop.
    fn stops(&self) -> Kinds {
        Kinds::USUAL
    }
    /// What the disks may do.
    fn disks(&self, _stage: &'static Stage) -> Disks {
        Disks::TAME
    }
    /// Makes the address spaces and what they map.
    ///
    /// # Errors
    /// What an operation failed with.
    fn setup(&self, stage: &'static Stage) -> Result<(), MmError>;
    /// The address space (a place on the stage) that actor `me` runs in, if it has one.
    fn space_of(&self, me: usize) -> Option<usize>;
    /// Actor `me` prepares itself, in its address space: touches what shall be in memory or in its
    /// TLB.
    fn enter(&self, _stage: &'static Stage, _me: usize) {}
    /// What actor `me` does.
    fn run(&self, stage: &'static Stage, me: usize);
    /// Actor `me`, whose run is over and judged, is about to leave its address space.
    fn leave(&self, _stage: &'static Stage, _me: usize) {}
    /// What must hold when everyone has ended, beside what the oracles see.
    ///
    /// # Errors
    /// A sentence saying what does not.
    fn check(&self, _stage: &'static Stage) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_the_same_again_and_others_something_else() {
        let all = || (0..100).map(Disks::of_seed);
        assert!(all().eq(all()));
        for part in [
            |d: Disks| d == Disks::TAME,
            |d: Disks| d.failures == 2,
            |d: Disks| d.overtake && d.failures == 0,
            |d: Disks| d.halves && !d.overtake,
        ] {
            assert!(all().any(part));
        }
    }
}
