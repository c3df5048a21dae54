//! Files in memory (Linux: shmem). A page that nobody has written is a hole and reads as zeroes;
//! where memory is short, reclaim sends pages to swap and leaves their slots in the tree
//! ([`swap_out`]), and whoever needs one brings it back ([`bring_in`]).
//!
//! A folio is in the tree or in the swap cache, never in both, but for moments under its lock. On
//! the way out: the slot is allocated and the folio is in the swap cache before the tree names the
//! slot (rule 7); back: the folio is in the tree before the slot is let go. So a look at the
//! tree finds the page, now here, now there, and is repeated when the page has moved. Nothing
//! writes these pages back, so they have no marks: a dirty one is reclaim's business alone.
//!
//! Locks: folio lock, then the tree's, the swap cache's, the swap map's, one after the other.
//! Sleeps for memory and for the swap disk.

use crate::buddy::{self, Gfp};
use crate::content::HasContent;
use crate::error::MmError;
use crate::folio::{self, FolioGuard};
use crate::frame::flag;
use crate::pagecache::layout::Kind;
use crate::pagecache::tree::{Cache, Held, Inserted, Reserve, Within};
use crate::pagecache::{File, each, file, file_of};
use crate::stats::Use;
use crate::swap::readahead::{self, Neighbours};
use crate::swap::{self, area, cache};

/// The folio of page `index` of a file in memory, with its content, and whether it had to be read
/// for that. `None` beyond what `within` allows.
///
/// # Errors
/// [`MmError::NoMemory`]; [`MmError::Io`] when the swap disk cannot read the page.
pub(super) fn bring_in(
    id: u32,
    index: u32,
    within: Within,
    gfp: Gfp,
) -> Result<Option<(folio::Ref, bool)>, MmError> {
    let f = file(id);
    let mut read = false;
    loop {
        if within == Within::Size && index >= f.pages() {
            return Ok(None);
        }
        match f.tree.look(index) {
            Some(Held::Folio(folio)) => return Ok(Some((folio, read))),
            Some(Held::Slot(slot)) => read |= swap_in(id, index, slot, gfp)?,
            None => {
                if let Inserted::Fresh(folio) = fill_hole(id, index, within, gfp)? {
                    return Ok(Some((folio, false)));
                }
            }
        }
    }
}

/// Puts a page of zeroes into a hole.
fn fill_hole(id: u32, index: u32, within: Within, gfp: Gfp) -> Result<Inserted, MmError> {
    let page = buddy::alloc(0, Use::File, gfp)?;
    page.zero();
    let mut reserve = Reserve::new();
    reserve.fill()?;
    let state = flag::UPTODATE | flag::SWAPBACKED;
    Ok(Cache::insert(id, index, page, state, &mut reserve, within)?)
}

/// Brings page `index` back, which was on `slot` a moment ago; whether it was read from the disk
/// for that. The caller looks again: somebody else may have been faster.
fn swap_in(id: u32, index: u32, slot: u32, gfp: Gfp) -> Result<bool, MmError> {
    let mut neighbours = Neighbours::Too;
    loop {
        let Some((folio, own)) = readahead::bring_in(slot, gfp, neighbours)? else {
            return Ok(false);
        };
        folio.wait_read();
        let guard = folio.lock();
        if cache::slot_of(&guard) != Some(slot) {
            return Ok(false);
        }
        if guard.has(flag::UPTODATE) {
            install(id, index, slot, &guard);
            return Ok(own);
        }
        cache::drop_failed(&guard);
        drop(guard);
        // A page that shared the request may be to blame, or a read of somebody else's: this page
        // fails only if a read for it alone does.
        if own && neighbours == Neighbours::Never {
            return match file(id).tree.look(index) {
                Some(Held::Slot(now)) if now == slot => Err(MmError::Io),
                _ => Ok(false),
            };
        }
        neighbours = Neighbours::Never;
    }
}

/// The locked folio from the swap cache becomes the page again, if its slot is still in the tree.
fn install(id: u32, index: u32, slot: u32, guard: &FolioGuard) {
    // Its way out may not have ended: the slot cannot be given up while it is written.
    guard.wait_writeback();
    let installed = file(id).tree.swap_in(id, index, slot, guard.folio());
    if installed {
        area::put(slot);
    }
    // Also when the page was punched out meanwhile: nobody wants it any more.
    let dropped = cache::try_drop(guard);
    debug_assert!(
        dropped || !installed,
        "slot {slot:#x} has other users than its file"
    );
}

/// Moves the locked folio of a file in memory, which nothing maps, to the swap cache as the content
/// of `slot`, which was allocated for it; the caller writes it. It is dirty then. False, and the
/// slot is unused still, when it is in no file any more.
pub(crate) fn swap_out(guard: &FolioGuard, slot: u32) -> bool {
    let Some(f) = file_of(guard.folio()) else {
        return false;
    };
    guard.set(flag::DIRTY);
    cache::add(guard.folio(), slot);
    // A fresh slot has no other user, so one more is not too many.
    if area::dup(slot).is_err() {
        unreachable!("a fresh slot with many users");
    }
    f.tree.swap_out(guard.folio(), slot);
    area::note_change();
    true
}

/// Gives the slot of page `index` up, which leaves a hole; false when it is not there any more.
pub(super) fn drop_slot(f: &File, index: u32, slot: u32) -> bool {
    let removed = f.tree.remove_slot(index, slot);
    if removed {
        swap::free_entry(slot);
    }
    removed
}

/// Brings the pages of all files in memory back from swap, for swapoff. `go_on` is asked before
/// each.
///
/// # Errors
/// [`MmError::NoMemory`] (also when told not to go on); [`MmError::Io`].
pub(crate) fn bring_all_back(gfp: Gfp, go_on: impl Fn() -> bool) -> Result<(), MmError> {
    for pin in each() {
        let f = pin.file();
        if f.layout.kind() != Kind::Memory {
            continue;
        }
        let mut from = Some(0);
        while let Some(at) = from
            && let Some((index, held)) = f.tree.next(at, u32::MAX)
        {
            if !go_on() {
                return Err(MmError::NoMemory);
            }
            match held {
                // Looked at once more: it may not have been the last try.
                Held::Slot(slot) => {
                    swap_in(pin.id(), index, slot, gfp)?;
                    from = Some(index);
                }
                Held::Folio(_) => from = index.checked_add(1),
            }
        }
    }
    Ok(())
}
