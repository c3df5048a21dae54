//! Folios on their way out: unmapped, in the swap cache or a file's, their write under way or done.
//!
//! They are on no LRU list; the list here has reclaim's reference on each. Whoever reclaims takes
//! finished ones from the front and frees those that are still clean, unmapped and unreferenced; a
//! folio that somebody took back into use meanwhile, or whose write failed, returns to the LRU. A
//! frame is freed only after its write has succeeded (rule 7).
//!
//! Locks: the list's (`Rank::LruLock`), alone; then the folio lock of one folio. Sleeps.

#![expect(unsafe_code, reason = "the reference that the list keeps")]

use super::let_go::{free_frozen, leave_file, put_back};
use super::scan::Scan;
use crate::file::Removal;
use crate::folio::{self, Folio, FolioGuard};
use crate::frame::{FrameLinks, flag};
use crate::knobs::{self, Knob};
use crate::swap::{area, cache, io};
use algo::list::List;
use arch::Pfn;
use arch::block::Op;
use core::sync::atomic::{AtomicUsize, Ordering};
use sync::point::{self, AccessKind, class};
use sync::{Rank, SpinLock};

static LIST: SpinLock<List> = SpinLock::new(Rank::LruLock, List::new());
/// Its length, readable without the lock.
static LEN: AtomicUsize = AtomicUsize::new(0);

/// More folios than this are not sent before others have come back.
const ENOUGH: usize = 256;

/// Folios in the list.
pub(super) fn len() -> usize {
    point::touch(AccessKind::Read, || point::object_at(class::SWAP, &LEN));
    LEN.load(Ordering::Relaxed)
}

fn set_len(list: &List) {
    point::touch(AccessKind::Write, || point::object_at(class::SWAP, &LEN));
    LEN.store(list.len() as usize, Ordering::Relaxed);
}

/// So many writes are under way that it is better to wait for one.
pub(super) fn is_full() -> bool {
    len() >= ENOUGH
}

/// Takes folios whose writes were submitted, with the caller's reference on each.
pub(super) fn add(folios: impl Iterator<Item = Folio>) {
    let mut list = LIST.lock();
    for folio in folios {
        list.push_back(&FrameLinks, folio.pfn().0);
    }
    set_len(&list);
}

fn pop() -> Option<folio::Ref> {
    let mut list = LIST.lock();
    let pfn = list.pop_front(&FrameLinks)?;
    set_len(&list);
    // SAFETY: the reference that `push_front` put away with the number.
    Some(unsafe { folio::Ref::new(Folio::of(Pfn(pfn))) })
}

fn push_front(folio: folio::Ref) {
    let mut list = LIST.lock();
    list.push_front(&FrameLinks, folio.into_folio().pfn().0);
    set_len(&list);
}

/// Frees what has been written, from the oldest on, up to the first whose write is still under way.
pub(super) fn collect(scan: &mut Scan) {
    while let Some(folio) = pop() {
        if folio.has(flag::WRITEBACK) && knobs::on(Knob::FreeAfterWrite) {
            push_front(folio);
            return;
        }
        finish(folio, scan);
    }
}

/// Waits for the oldest write and frees what has been written. False when there is none.
pub(super) fn wait_one(scan: &mut Scan) -> bool {
    let Some(folio) = pop() else { return false };
    folio.wait_writeback();
    finish(folio, scan);
    collect(scan);
    true
}

/// Waits for all writes and frees what has been written.
pub(super) fn drain(scan: &mut Scan) {
    while wait_one(scan) {}
}

/// For the explorer: the folio is in the list. O(n).
#[cfg(feature = "lab")]
pub(super) fn has(folio: Folio) -> bool {
    let number = folio.pfn().0;
    LIST.lock().iter(&FrameLinks).any(|i| i == number)
}

/// For the explorer: lets go of all folios, and keeps their references. How many.
#[cfg(feature = "lab")]
pub(super) fn forget() -> usize {
    core::iter::from_fn(pop).map(folio::Ref::into_folio).count()
}

/// The write of `folio` has ended: free it, or put it back into use.
fn finish(folio: folio::Ref, scan: &mut Scan) {
    let guard = folio.lock();
    // From here on the reference counts like any other.
    guard.clear(flag::LAUNDRY);
    let of_file = guard.is_file();
    if !of_file && guard.has(flag::SUSPECT) {
        write_alone(&guard);
    }
    // The reference goes over to who frees the frame or keeps it listed.
    let _ = folio.into_folio();
    let gone = if of_file {
        leave_file(&guard) == Removal::Free
    } else {
        may_free(&guard) && cache::remove_frozen(&guard, 1)
    };
    if gone {
        free_frozen(guard);
        scan.freed(1);
        return;
    }
    // Somebody uses it again, or it could not be written: it is as good as used. (Files' pages have
    // the flusher, too, who looks at each for a moment.)
    put_back(guard, !of_file);
    if !of_file {
        area::note_change();
    }
}

/// The folio's write failed in a request together with others: finds out whether its own slot is
/// bad.
fn write_alone(guard: &FolioGuard) {
    let Some(slot) = cache::slot_of(guard) else {
        return;
    };
    let f = guard.folio();
    if f.mapcount() > 0 {
        // In use again, and dirty: it will be written when its turn comes.
        f.clear(flag::SUSPECT | flag::ERROR);
        return;
    }
    f.clear(flag::SUSPECT | flag::ERROR | flag::DIRTY);
    f.set(flag::WRITEBACK);
    io::start(Op::Write, &[(slot, guard.pfn().0)]);
    guard.wait_writeback();
}

/// Unmapped, and its content is on disk.
fn may_free(guard: &FolioGuard) -> bool {
    let f = guard.folio();
    f.mapcount() == 0 && !f.has(flag::ERROR)
}
