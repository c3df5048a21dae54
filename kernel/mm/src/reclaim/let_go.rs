//! Letting go of one folio that reclaim has in hand: it is freed, or goes back to the LRU.
//!
//! The folio is locked (the guard is dropped here) and off the LRU; the caller's reference goes
//! with it. Takes the file's tree lock, the swap cache's and the LRU's, one after the other. Never
//! sleeps.

#![expect(unsafe_code, reason = "a folio whose count is frozen is freed")]

use crate::buddy::Page;
use crate::file::{self, Removal};
use crate::folio::{Folio, FolioGuard};
use crate::frame::flag;
use crate::lru;
use crate::stats::{Event, count_n};
use crate::swap::{area, cache};
use crate::workingset;

/// Takes a locked folio out of its file's cache if it can go. When it did, the caller frees it.
pub(super) fn leave_file(guard: &FolioGuard) -> Removal {
    let f = guard.folio();
    let (mapping, index) = (f.mapping(), f.index());
    let removal = file::remove_mapping(guard);
    if removal == Removal::Free {
        workingset::file_eviction(mapping - 1, index, f.flags());
    }
    removal
}

/// Frees the frame of a folio whose references the caller has frozen.
pub(super) fn free_frozen(guard: FolioGuard) {
    let pfn = guard.pfn();
    drop(guard);
    // SAFETY: the caller has frozen the count, unmapped the folio, flushed, and isolated it.
    drop(unsafe { Page::take_back(pfn, 0) });
}

/// To the active list, with the caller's reference. A folio in use does without its copy on disk
/// when slots are scarce, or the copy is bad.
pub(super) fn activate(guard: FolioGuard) {
    if area::nearly_full() || guard.has(flag::ERROR) {
        cache::try_drop(&guard);
    }
    put_back(guard, true);
}

/// Back to the LRU, with the caller's reference.
pub(super) fn put_back(guard: FolioGuard, active: bool) {
    let folio = guard.folio();
    drop(guard);
    if active {
        count_n(Event::PgActivate, 1);
        lru::grow_old(1);
    }
    put_back_unlocked(folio, active);
}

pub(super) fn put_back_unlocked(folio: Folio, active: bool) {
    lru::add(folio, active);
    // SAFETY: the reference of who isolated the folio.
    unsafe { folio.put() };
}
