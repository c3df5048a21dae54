//! Is a folio mine alone? (Rule 14.)
//!
//! Whoever takes a folio over, or gives its content up, must be the only one to reach it. A
//! mapcount does not say so. A zapper drops it before its flush, so a CPU may still read through
//! the entry that is gone; a lockless walker and a reclaimer never had one. All of them hold a
//! reference, so references are what is counted: those that the caller can account for, and not one
//! more.
//!
//! The answer `yes` stays true while the folio is locked and nothing that the caller accounts for
//! changes. A walker that takes a reference later finds its entry changed, or came through an entry
//! of the caller's own. Takes no lock; never sleeps.

use crate::folio::{Folio, FolioGuard};
use crate::frame::flag;
use crate::knobs::{self, Knob};
use core::sync::atomic::{Ordering, fence};

/// Nobody has a reference on the anonymous folio but `entries` page-table entries and `held`
/// holders, all of which the caller accounts for, the swap cache, and the laundry, which looks at
/// nothing while the folio is locked.
#[inline]
pub(crate) fn is_ours(folio: &FolioGuard, entries: u32, held: u32) -> bool {
    if !knobs::on(Knob::SoleByRefs) {
        return folio.mapcount() == entries;
    }
    debug_assert!(!folio.is_file(), "a file's page is the file's");
    if folio.refcount() != folio.expected_refs(entries) + held {
        return false;
    }
    // Pairs with the Release in `put_testzero` of each one that had a reference: its reads and
    // writes are over.
    fence(Ordering::Acquire);
    true
}

/// The folio that the caller's locked entry maps belongs to that address space: it was found to be
/// so once, and was not shared since (Linux: `PageAnonExclusive`).
#[inline]
pub(crate) fn is_exclusive(folio: Folio) -> bool {
    folio.has(flag::EXCLUSIVE)
        || (!knobs::on(Knob::SoleByRefs) && !folio.is_file() && folio.mapcount() == 1)
}
