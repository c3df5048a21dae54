//! Does this area's entry for the page map the folio? (Linux: `page_vma_mapped_walk`.)
//!
//! The caller holds the anon_vma's or file's lock shared. Takes the PTL and hands it out with the answer; never sleeps.
//!
//! Without [`Sync::Always`] the entry is first looked at without the lock, and a miss is believed. That look
//! may fall between "cleared" and "set again" of another CPU's change: whoever must not miss an entry for that
//! reason asks for the lock always.

use crate::mm::Mm;
use crate::pt::{PmdRef, PteLocked};
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};

/// Whether a look without the lock may answer "not mapped".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// It may.
    Hint,
    /// Only the locked entry answers (Linux: `PVMW_SYNC`).
    Always,
}

/// One step of the walk.
pub(crate) enum Step {
    /// The entry maps something else, or nothing.
    NotMapped,
    /// The cursor's entry maps the folio, and its table is locked.
    Mapped(PteLocked),
    /// The PMD changed between the look and the lock: look again.
    Again,
}

/// The entry maps `pfn`, whether the MMU may use it or not.
#[inline]
pub(crate) fn maps(entry: Entry, pfn: Pfn) -> bool {
    entry.is_mapped() && !entry.is_special() && entry.pfn() == pfn
}

/// One attempt.
fn step(mm: &Mm, va: VirtAddr, pfn: Pfn, sync: Sync) -> Step {
    let Some(pmd) = PmdRef::lookup(mm, va) else {
        return Step::NotMapped;
    };
    let Some(seen) = pmd.peek(va) else {
        return Step::NotMapped;
    };
    if sync == Sync::Hint && !maps(seen, pfn) {
        return Step::NotMapped;
    }
    match pmd.lock(va) {
        None => Step::Again,
        Some(pte) if maps(pte.get(), pfn) => Step::Mapped(pte),
        Some(_) => Step::NotMapped,
    }
}

/// The locked entry of `va` in `mm`, if it maps `pfn`.
pub(crate) fn find(mm: &Mm, va: VirtAddr, pfn: Pfn, sync: Sync) -> Option<PteLocked> {
    loop {
        match step(mm, va, pfn, sync) {
            Step::NotMapped => return None,
            Step::Mapped(pte) => return Some(pte),
            Step::Again => {}
        }
    }
}
