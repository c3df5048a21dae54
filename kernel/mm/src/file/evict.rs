//! Dropping folios from the page cache: what reclaim does, and `drop_caches`.
//!
//! Only what is clean, idle and known to nobody else goes. Locks: the folio's, then the file's
//! `Rank::FileTree`. Reclaim's part never sleeps.

#![expect(unsafe_code, reason = "a folio whose count is frozen is freed")]

use super::writeback;
use crate::folio::{self, FolioGuard};
use crate::frame::flag;
#[cfg(feature = "lab")]
use crate::pagecache::File;
use crate::pagecache::layout::Kind;
use crate::pagecache::{each, file_of, forget_unused};

/// What came of taking a folio out of its cache, and what reclaim is to do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    /// It is out of the cache and its count is frozen: free it.
    Free,
    /// Its content is not on the disk: the flusher's turn.
    Dirty,
    /// In somebody's use.
    Keep,
}

/// Tries to take a locked folio out of its file's cache (Linux: `remove_mapping`); reclaim has one
/// reference on it.
pub(crate) fn remove_mapping(guard: &FolioGuard) -> Removal {
    let folio = guard.folio();
    if writeback::is_unwritten(folio) {
        // What only swap can take is no business of the flusher's.
        return if folio.has(flag::SWAPBACKED) {
            Removal::Keep
        } else {
            Removal::Dirty
        };
    }
    // In a cache: nobody but who holds the folio lock takes it out of there.
    let Some(file) = file_of(folio) else {
        return Removal::Keep;
    };
    if file.tree.remove_frozen(folio, 1) {
        Removal::Free
    } else {
        Removal::Keep
    }
}

/// Drops every folio of every file on a disk that is clean and in nobody's use; how many. What is
/// dirty stays. Sleeps.
pub fn drop_caches() -> u64 {
    let mut dropped = 0;
    for pin in each() {
        let f = pin.file();
        if f.layout.kind() == Kind::Memory {
            continue;
        }
        let mut from = Some(0);
        while let Some(at) = from {
            let found = f.tree.collect(at, u32::MAX, None);
            from = found.last().and_then(|last| last.checked_add(1));
            for (_, folio) in found.into_iter() {
                dropped += u64::from(drop_one(folio));
            }
        }
    }
    forget_unused();
    dropped
}

/// For the explorer: drops every folio of one file that nobody else has, written or not. Sleeps.
#[cfg(feature = "lab")]
pub(crate) fn discard(f: &File) {
    let mut from = Some(0);
    while let Some(at) = from {
        let found = f.tree.collect(at, u32::MAX, None);
        from = found.last().and_then(|last| last.checked_add(1));
        for (_, folio) in found.into_iter() {
            let guard = folio.lock();
            folio.wait_writeback();
            f.tree.clean(*folio);
            drop(guard);
            drop_one(folio);
        }
    }
}

fn drop_one(folio: folio::Ref) -> bool {
    if folio.has(flag::READING) {
        folio.wait_read();
    }
    let guard = folio.lock();
    if remove_mapping(&guard) != Removal::Free {
        return false;
    }
    // Frozen: the reference is no more.
    let folio = folio.into_folio();
    drop(guard);
    // SAFETY: `evict` has frozen the count, unmapped the folio and flushed.
    unsafe { folio.release() };
    true
}
