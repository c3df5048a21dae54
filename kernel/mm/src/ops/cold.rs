//! MADV_COLD and MADV_PAGEOUT: pages that reclaim shall take first, or now.
//!
//! Runs with `mmap_lock` held shared; takes one PTL at a time, the LRU lock inside. Only folios
//! that no other entry maps are touched, so that one program cannot push out another's pages. A
//! cleared accessed bit needs no flush. [`page_out`] sleeps for the disk with no PTL held.

use super::args::Range;
use crate::folio::Folio;
use crate::frame::flag;
use crate::handle::MmRef;
use crate::lru;
use crate::pt::PteLocked;
use crate::pt::gather::Room;
use crate::pt::range::{self, Leaf};
use crate::reclaim::advice::{self, Pages};
use arch::addr::PAGE_SIZE;
use arch::pte::Entry;
use core::ops::ControlFlow::{Break, Continue};

/// Puts the range's pages where reclaim looks next.
pub(super) fn deactivate(mm: &MmRef, range: Range) {
    range::locked(
        mm.id(),
        mm,
        range.start,
        range.end,
        |mut pte, start, end| {
            range::every_entry(&mut pte, start, end, |pte, _, entry| {
                if let Some(folio) = make_old(pte, entry) {
                    lru::deactivate(folio);
                }
            });
            end
        },
    );
}

/// The folio at the cursor, if this is its only entry, with its signs of use cleared.
fn make_old(pte: &mut PteLocked, entry: Entry) -> Option<Folio> {
    let Leaf::Page(pfn) = Leaf::of(entry) else {
        return None;
    };
    let folio = Folio::of(pfn);
    if folio.mapcount() != 1 {
        return None;
    }
    if entry.is_accessed() {
        pte.clear_accessed();
    }
    folio.clear(flag::SIGNS);
    Some(folio)
}

/// Reclaims the range's pages; those that stay are in use otherwise. Waits for the disk.
pub(super) fn page_out(mm: &MmRef, range: Range) {
    let mut pages = Pages::new();
    range::locked(mm.id(), mm, range.start, range.end, |pte, start, end| {
        let va = collect(pte, start, end, &mut pages);
        pages.evict();
        va
    });
    advice::finish();
}

/// Isolates pages of `start..end` until the batch is full; returns how far it came.
fn collect(mut pte: PteLocked, start: u64, end: u64, pages: &mut Pages) -> u64 {
    let full = range::entries(&mut pte, start, end, |pte, _, entry| {
        match make_old(pte, entry).map(|folio| pages.isolate(folio)) {
            Some(Room::Full) => Break(()),
            Some(Room::Left) | None => Continue(()),
        }
    });
    full.break_value().map_or(end, |(va, ())| va + PAGE_SIZE)
}
