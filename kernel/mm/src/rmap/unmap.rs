//! Taking every entry of a folio out, for reclaim (Linux: `try_to_unmap`).
//!
//! The folio is locked and the caller holds a reference. Takes the reverse map's lock if it is free, PTLs inside,
//! and under those the swap map's lock. Never sleeps, never allocates. Entries taken out are noted in the
//! batch, whose flush the caller owes before it writes or frees the folio.
//!
//! Rule 7: an entry names a slot only after the folio is in the swap cache for it and the slot's count
//! includes the entry. Rule 2: a dirty entry makes the folio dirty before the PTL is dropped.

use super::batch::Batch;
use super::walk::{Areas, Sync};
use crate::folio::FolioGuard;
use crate::frame::flag;
use crate::mm::{Mm, by_id};
use crate::pagecache;
use crate::pt::PteLocked;
use crate::stats::Use;
use crate::swap::area;
use arch::pte::Entry;

/// What takes the place of the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replace {
    /// Entries that name this slot, where the content is (or will be).
    Slot(u32),
    /// Nothing: the content may be forgotten (MADV_FREE), provided that nobody has written since.
    Nothing,
    /// Nothing: the next access finds the page in its file, which makes up for written ones as well. The folio stays locked
    /// until the batch was flushed, whatever is left of its entries.
    Cached,
}

/// Takes every entry of the folio out. True when nothing maps it any more; otherwise some entries may be left.
pub(crate) fn try_to_unmap(
    folio: &FolioGuard,
    with: Replace,
    sync: Sync,
    batch: &mut Batch,
) -> bool {
    let f = folio.frame();
    let Ok(Some(areas)) = Areas::try_of(folio) else {
        return f.mapcount() == 0;
    };
    areas.for_each_entry(folio, sync, |area, _, pte| {
        let mm = by_id(area.mm());
        let gone = match with {
            Replace::Slot(slot) => to_slot(folio, mm, pte, slot, batch),
            Replace::Nothing => forget(folio, mm, pte, batch),
            Replace::Cached => empty(folio, mm, pte, batch),
        };
        gone && f.mapcount() > 0
    });
    f.mapcount() == 0
}

/// Accounts for an entry that was taken out. The batch must know of it before the PTL goes, also where the MMU
/// could not use it any more: an mprotect that took the rights away may still owe the flush, and keeps no
/// reverse walk out meanwhile.
fn unhook(folio: &FolioGuard, mm: &Mm, old: Entry) {
    let f = folio.frame();
    if old.is_dirty() {
        match f.usage() {
            Use::File => pagecache::set_dirty(folio.pfn()),
            _ => _ = f.set(flag::DIRTY),
        }
    }
    mm.resident(f).add(-1);
    f.map_dec();
    let last = f.put_testzero();
    debug_assert!(!last, "the caller of try_to_unmap holds a reference");
}

/// Puts an entry that names `slot` in. False when forks have made more entries meanwhile than the caller has made room
/// for (`area::make_room_for`).
fn to_slot(folio: &FolioGuard, mm: &Mm, pte: &mut PteLocked, slot: u32, batch: &mut Batch) -> bool {
    if area::dup(slot).is_err() {
        return false;
    }
    folio.frame().clear(flag::EXCLUSIVE);
    // One step: the MMU's last accessed and dirty bits come with the old entry.
    let old = pte.exchange(Entry::swap(slot));
    batch.note(mm);
    mm.swap_entries.add(1);
    unhook(folio, mm, old);
    true
}

/// Takes the entry of a page of a file out.
fn empty(folio: &FolioGuard, mm: &Mm, pte: &mut PteLocked, batch: &mut Batch) -> bool {
    let old = pte.clear();
    batch.note_emptied(mm);
    unhook(folio, mm, old);
    true
}

/// Takes the entry of a lazily freed folio out if it was not written since. False, and the folio is an
/// ordinary one again, if it was, or if somebody else refers to it and may be about to write.
fn forget(folio: &FolioGuard, mm: &Mm, pte: &mut PteLocked, batch: &mut Batch) -> bool {
    let f = folio.frame();
    let old = pte.clear();
    // The entry is gone before the counts are read: a lockless walker that took a reference through it
    // either is counted here or finds the entry changed.
    let ours = 1 + f.mapcount();
    if old.is_dirty() || f.has(flag::DIRTY) || f.refcount() != ours {
        pte.set(old);
        f.set(flag::SWAPBACKED);
        return false;
    }
    batch.note_emptied(mm);
    unhook(folio, mm, old);
    true
}
