//! Damage done on purpose at the end of a run, one kind for each oracle that no missing fix makes speak, and undone
//! before the next.

use mm::MmError;
use mm::knobs::Knob;
use sync::Rank;

use super::play::one_space;
use crate::race::scenario::Scenario;
use crate::race::stage::Stage;

/// What is broken.
#[derive(Clone, Copy)]
pub(super) enum Damage {
    /// A handle that nobody gives back.
    Leak,
    /// A lock that an actor ends with.
    Lock,
    /// A page that is counted and not there.
    Miscount,
}

/// See the module text: A does it, B looks on.
pub(super) struct Damaged(pub(super) Damage);

impl Scenario for Damaged {
    fn name(&self) -> &'static str {
        match self.0 {
            Damage::Leak => "planted-leak",
            Damage::Lock => "planted-lock",
            Damage::Miscount => "planted-miscount",
        }
    }
    fn about(&self) -> &'static str {
        match self.0 {
            Damage::Leak => "A forgets a handle on its address space",
            Damage::Lock => "A ends with a lock held",
            Damage::Miscount => "A counts a page too many",
        }
    }
    fn fixes(&self) -> &'static [Knob] {
        &[]
    }
    fn actors(&self) -> usize {
        2
    }
    fn setup(&self, stage: &'static Stage) -> Result<(), MmError> {
        one_space(stage, 1)
    }
    fn space_of(&self, _: usize) -> Option<usize> {
        Some(0)
    }
    fn run(&self, stage: &'static Stage, me: usize) {
        if me != 0 {
            return;
        }
        match self.0 {
            Damage::Leak => core::mem::forget(mm::MmRef::clone(&stage.space(0))),
            // As a bit lock outside of `sync` does it.
            Damage::Lock => sync::lock_acquired(Rank::FolioLock, true),
            Damage::Miscount => stage.space(0).anon_pages.add(1),
        }
    }
    fn leave(&self, stage: &'static Stage, me: usize) {
        match self.0 {
            Damage::Lock if me == 0 => sync::lock_released(Rank::FolioLock),
            Damage::Miscount if me == 0 => stage.space(0).anon_pages.add(-1),
            _ => {}
        }
    }
}
