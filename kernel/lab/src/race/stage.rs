//! What the actors of a scenario share: address spaces, words of their own, and what they say they saw.
//!
//! Locks: spinning leaves of its own that no actor is stopped in. Never sleeps.

use alloc::string::String;
use core::sync::atomic::AtomicU64;

use algo::explore::Violation;
use arch::VirtAddr;
use arch::upcall::FaultError;
use mm::MmRef;

/// Address spaces on a stage.
pub const SPACES: usize = 4;
/// Words that a scenario may use as it likes.
pub const WORDS: usize = 16;

/// See the module text.
pub struct Stage {
    spaces: [spin::Mutex<Option<MmRef>>; SPACES],
    words: [AtomicU64; WORDS],
    violation: spin::Mutex<Option<Violation>>,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            spaces: [const { spin::Mutex::new(None) }; SPACES],
            words: [const { AtomicU64::new(0) }; WORDS],
            violation: spin::Mutex::new(None),
        }
    }

    /// Puts `space` at place `i`; the explorer drops it when the run is over.
    pub fn put(&self, i: usize, space: MmRef) {
        *self.spaces[i].lock() = Some(space);
    }

    /// The address space at place `i`.
    ///
    /// # Panics
    /// If there is none.
    pub fn space(&self, i: usize) -> MmRef {
        self.try_space(i).expect("the scenario put a space here")
    }

    /// The address space at place `i`, if there is one.
    pub fn try_space(&self, i: usize) -> Option<MmRef> {
        self.spaces[i].lock().clone()
    }

    /// A word of the scenario's own; 0 at the start of each run.
    pub fn word(&self, i: usize) -> &AtomicU64 {
        &self.words[i]
    }

    /// Something is wrong: the run ends here, with this verdict. The first one counts.
    pub fn violated(&self, oracle: &'static str, detail: String) {
        self.violation
            .lock()
            .get_or_insert(Violation { oracle, detail });
    }

    /// The running actor loads the word at `va` (8-byte aligned) in its address space: one step, and those of the fault if
    /// there is one.
    ///
    /// # Errors
    /// What the access failed with.
    pub fn load(&self, _va: VirtAddr) -> Result<u64, FaultError> {
        Err(FaultError::Unmapped)
    }

    /// The running actor stores `value` at `va`.
    ///
    /// # Errors
    /// What the access failed with.
    pub fn store(&self, _va: VirtAddr, _value: u64) -> Result<(), FaultError> {
        Err(FaultError::Unmapped)
    }

    /// The run is being given up: an actor that goes round in a loop leaves it.
    pub fn ending(&self) -> bool {
        false
    }
}
