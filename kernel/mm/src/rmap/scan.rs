//! Has a folio been used? Test and clear the accessed bit of every entry that maps it.
//!
//! The folio is locked. Takes the anon_vma lock if it is free, and PTLs inside; never sleeps. No flush follows
//! (rule 3): a CPU that keeps the translation does not set the bit again until it forgets it, so a page
//! in use may look unused for a while, which costs a fault and no data.

use super::walk::{self, Sync};
use crate::folio::FolioGuard;
use crate::mm::by_id;
use crate::vma::anon;
use arch::pte;

/// How many entries were used since the last look; `None` when the reverse map is busy.
pub(crate) fn referenced(folio: &FolioGuard) -> Option<u32> {
    let Some(family) = anon::try_lock_folio(folio.frame()).ok()? else {
        return Some(0);
    };
    let mut left = folio.frame().mapcount();
    let mut used = 0;
    let index = folio.frame().index();
    family.for_each_vma(index, |area| {
        let Some(va) = area.address_of(index) else {
            return true;
        };
        if let Some(mut pte) = walk::find(by_id(area.mm()), va, folio.pfn(), Sync::Hint) {
            left = left.saturating_sub(1);
            if pte.get().is_accessed() {
                pte.clear_bits(pte::ACCESSED);
                used += 1;
            }
        }
        left > 0
    });
    Some(used)
}
