//! Taking the right to write from every entry of a file folio, before its content goes to the disk
//! (Linux: `folio_mkclean`).
//!
//! The folio is locked, so no fault makes an entry for it, or one writable, meanwhile. Takes the
//! file's `Rank::IMmap` lock shared (nobody waits for a write to the disk who holds that), PTLs
//! inside, and flushes under them. Sleeps; allocates nothing.
//!
//! Rule 2: afterwards nobody can store to the folio without a fault, and it is dirty if anybody did
//! before. An entry that is gone already still counts, for as long as some CPU may store through
//! it: who took it out keeps the folio mapped under the PTL until the flush, and here that lock is
//! taken whatever a look without it says.

use super::walk::{Areas, Sync};
use crate::folio::{Folio, FolioGuard};
use crate::knobs::{self, Knob};
use crate::pagecache;
use crate::pt::{Invalidation, PteLocked};
use crate::stats::{Event, count};
use arch::{VirtAddr, pte};
use core::sync::atomic::{Ordering, fence};

/// See the module text.
pub(crate) fn mkclean(folio: &FolioGuard) {
    let Some(file) = folio.mapping().checked_sub(1) else {
        return;
    };
    if folio.mapcount() == 0 {
        // Pairs with the Release of `map_dec`: every CPU was flushed before the last entry stopped
        // counting. (Reclaim flushes after that, but before it unlocks the folio.)
        fence(Ordering::Acquire);
        return;
    }
    let sync = if knobs::on(Knob::MkcleanSync) {
        Sync::Always
    } else {
        Sync::Hint
    };
    Areas::of_file(file).invalidate_each(folio, sync, |within, va, entry| {
        clean(within, va, entry, folio.folio());
        true
    });
    if knobs::on(Knob::LateDirtyPending) {
        folio.wait_pending();
    }
}

fn clean(within: &Invalidation<'_>, va: VirtAddr, entry: &mut PteLocked, folio: Folio) {
    let old = entry.get();
    if !old.is_write() && !old.is_dirty() {
        return;
    }
    let old = entry.weaken(pte::WRITE | pte::DIRTY);
    if old.before().is_dirty() {
        pagecache::set_dirty(folio);
    }
    // Also where the entry was read-only: whoever took the write bit away may still owe the flush.
    old.flush_at_once(within, va, Knob::CleanFlush);
    count(Event::FileCleaned);
}
