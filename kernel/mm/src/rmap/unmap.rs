//! Taking every entry of a folio out, for reclaim (Linux: `try_to_unmap`).
//!
//! The folio is locked and the caller holds a reference. Takes the reverse map's lock if it is
//! free, PTLs inside, and under those the swap map's lock. Never sleeps, never allocates. Entries
//! taken out are noted in the batch, and the folio's lock goes with them: it comes back when the
//! batch was flushed (rule 13).
//!
//! Rule 7: an entry names a slot only after the folio is in the swap cache for it and the slot's
//! count includes the entry. Rule 2: a dirty entry makes the folio dirty before the PTL is dropped.

use super::batch::{Batch, Owing};
use super::sole;
use super::walk::{Areas, Sync};
use crate::folio::FolioGuard;
use crate::frame::flag;
use crate::mm::Mm;
use crate::pagecache;
use crate::pt::PteLocked;
use crate::stats::Use;
use crate::swap::{self, area};
use arch::pte::Entry;

/// What takes the place of the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replace {
    /// Entries that name this slot, where the content is (or will be).
    Slot(u32),
    /// Nothing: the content may be forgotten (MADV_FREE), provided that nobody has written since.
    Nothing,
    /// Nothing: the next access finds the page in its file, which makes up for written ones as
    /// well. The folio stays locked until the batch was flushed, whatever is left of its entries.
    Cached,
}

/// Takes every entry of the folio out, or as many as can be had.
pub(crate) fn try_to_unmap<T: Copy>(
    folio: FolioGuard,
    with: Replace,
    sync: Sync,
    batch: &mut Batch<T>,
) -> Owing {
    if folio.mapcount() > 0
        && let Ok(Some(areas)) = Areas::try_of(&folio)
    {
        areas.invalidate_each(&folio, sync, |within, _, pte| {
            let mm = within.mm();
            let gone = match with {
                Replace::Slot(slot) => to_slot(&folio, mm, pte, slot, batch),
                Replace::Nothing => forget(&folio, mm, pte, batch),
                Replace::Cached => empty(&folio, mm, pte, batch),
            };
            gone && folio.mapcount() > 0
        });
    }
    let is_gone = folio.mapcount() == 0;
    Owing::new(folio, is_gone)
}

/// Accounts for an entry that was taken out. The batch must know of it before the PTL goes, also
/// where the MMU could not use it any more: an mprotect that took the rights away may still owe the
/// flush, and keeps no reverse walk out meanwhile.
fn account(folio: &FolioGuard, mm: &Mm, old: Entry) {
    if old.is_dirty() {
        match folio.usage() {
            Use::File => pagecache::set_dirty(folio.folio()),
            _ => _ = folio.set(flag::DIRTY),
        }
    }
    mm.resident(folio.folio()).add(-1);
    folio.map_dec();
    let last = folio.put_testzero();
    debug_assert!(!last, "the caller of try_to_unmap holds a reference");
}

/// Puts an entry that names `slot` in. False when forks have made more entries meanwhile than the
/// caller has made room for (`area::make_room_for`).
fn to_slot<T: Copy>(
    folio: &FolioGuard,
    mm: &Mm,
    pte: &mut PteLocked,
    slot: u32,
    batch: &mut Batch<T>,
) -> bool {
    if area::dup(slot).is_err() {
        return false;
    }
    folio.clear(flag::EXCLUSIVE);
    // One step: the MMU's last accessed and dirty bits come with the old entry.
    let old = batch.note(mm, pte.unhook(Entry::swap(slot)));
    swap::add_entries(mm, 1);
    account(folio, mm, old);
    true
}

/// Takes the entry of a page of a file out.
fn empty<T: Copy>(folio: &FolioGuard, mm: &Mm, pte: &mut PteLocked, batch: &mut Batch<T>) -> bool {
    let old = batch.note_emptied(mm, pte.unhook(Entry::NONE));
    account(folio, mm, old);
    true
}

/// Takes the entry of a lazily freed folio out if it was not written since. False, and the folio is
/// an ordinary one again, if it was, or if somebody else refers to it and may be about to write.
fn forget<T: Copy>(folio: &FolioGuard, mm: &Mm, pte: &mut PteLocked, batch: &mut Batch<T>) -> bool {
    let old = pte.unhook(Entry::NONE);
    // The entry is gone before the counts are read: a lockless walker that took a reference through
    // it either is counted here or finds the entry changed. The counts are read before DIRTY: a
    // walker that wrote sets that before it gives its reference up.
    let ours = sole::is_ours(folio, folio.mapcount(), 1);
    if !ours || old.entry().is_dirty() || folio.has(flag::DIRTY) {
        pte.put_back(old);
        folio.set(flag::SWAPBACKED);
        return false;
    }
    let old = batch.note_emptied(mm, old);
    account(folio, mm, old);
    true
}
