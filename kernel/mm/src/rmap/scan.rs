//! Has a folio been used? Test and clear the accessed bit of every entry that maps it.
//!
//! The folio is locked. Takes the reverse map's lock if it is free, and PTLs inside; never sleeps.
//! No flush follows (rule 3): a CPU that keeps the translation does not set the bit again until it
//! forgets it, so a page in use may look unused for a while, which costs a fault and no data.

use super::walk::{Areas, Sync};
use crate::folio::FolioGuard;

/// How many entries were used since the last look; `None` when the reverse map is busy.
pub(crate) fn referenced(folio: &FolioGuard) -> Option<u32> {
    let Some(areas) = Areas::try_of(folio).ok()? else {
        return Some(0);
    };
    let mut left = folio.mapcount();
    let mut used = 0;
    areas.for_each_entry(folio, Sync::Hint, |entry| {
        left = left.saturating_sub(1);
        if entry.get().is_accessed() {
            entry.clear_accessed();
            used += 1;
        }
        left > 0
    });
    Some(used)
}
