//! Which first touch gets a huge page (Linux: `transparent_hugepage/enabled`).
//!
//! One policy for the machine, and what was advised for an area. Takes no lock, never sleeps.

use crate::vma::vm;
use core::sync::atomic::{AtomicU8, Ordering};

/// Where huge pages are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Policy {
    /// Wherever one fits, but for areas that were advised otherwise.
    Always = 0,
    /// In areas for which they were advised.
    Madvise = 1,
    /// Nowhere.
    Never = 2,
}

impl Policy {
    /// Each with its name.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Always, "always"),
        (Self::Madvise, "madvise"),
        (Self::Never, "never"),
    ];
}

static POLICY: AtomicU8 = AtomicU8::new(Policy::Madvise as u8);

/// The machine's policy; at boot [`Policy::Madvise`].
pub fn policy() -> Policy {
    Policy::ALL[usize::from(POLICY.load(Ordering::Relaxed))].0
}

/// Changes it. Huge pages that are mapped stay.
pub fn set_policy(to: Policy) {
    POLICY.store(to as u8, Ordering::Relaxed);
}

/// An area with these flags may have huge pages.
pub(crate) fn allows(vm_flags: u32) -> bool {
    match policy() {
        Policy::Always => vm_flags & vm::NOHUGEPAGE == 0,
        Policy::Madvise => vm_flags & vm::HUGEPAGE != 0,
        Policy::Never => false,
    }
}
