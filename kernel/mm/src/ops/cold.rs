//! MADV_COLD and MADV_PAGEOUT: pages that reclaim shall take first, or now.
//!
//! Runs with `mmap_lock` held shared; takes one PTL at a time, the LRU lock inside. Only folios that no other
//! entry maps are touched, so that one program cannot push out another's pages. A cleared accessed bit
//! needs no flush. [`page_out`] sleeps for the disk with no PTL held.

use super::args::Range;
use crate::frame::{flag, frame};
use crate::handle::MmRef;
use crate::lru;
use crate::pt::PteLocked;
use crate::pt::gather::Room;
use crate::pt::tables::{Span, Tables};
use crate::reclaim::advice::{self, Pages};
use arch::addr::PAGE_SIZE;
use arch::pte;
use arch::{Pfn, VirtAddr};

/// Puts the range's pages where reclaim looks next.
pub(super) fn deactivate(mm: &MmRef, range: Range) {
    for span in Tables::new(mm, range.start, range.end) {
        let Some(mut pte) = span.pmd.lock(VirtAddr(span.start)) else {
            continue;
        };
        let mut va = span.start;
        while va < span.end {
            pte.seek(VirtAddr(va));
            if let Some(pfn) = make_old(&mut pte) {
                lru::deactivate(pfn);
            }
            va += PAGE_SIZE;
        }
    }
}

/// The folio at the cursor, if this is its only entry, with its signs of use cleared.
fn make_old(pte: &mut PteLocked) -> Option<Pfn> {
    let entry = pte.get();
    if !entry.is_mapped() || entry.is_special() {
        return None;
    }
    let f = frame(entry.pfn());
    if f.mapcount() != 1 {
        return None;
    }
    if entry.is_accessed() {
        pte.clear_bits(pte::ACCESSED);
    }
    f.clear(flag::SIGNS);
    Some(entry.pfn())
}

/// Reclaims the range's pages; those that stay are in use otherwise. Waits for the disk.
pub(super) fn page_out(mm: &MmRef, range: Range) {
    let mut pages = Pages::new();
    for span in Tables::new(mm, range.start, range.end) {
        let mut va = span.start;
        while va < span.end {
            va = collect(&span, va, &mut pages);
            pages.evict();
        }
    }
    advice::finish();
}

/// Isolates pages from `va` on until the batch is full; returns how far it came.
fn collect(span: &Span, mut va: u64, pages: &mut Pages) -> u64 {
    let Some(mut pte) = span.pmd.lock(VirtAddr(va)) else {
        return span.end;
    };
    let mut room = Room::Left;
    while va < span.end && room == Room::Left {
        pte.seek(VirtAddr(va));
        if let Some(pfn) = make_old(&mut pte) {
            room = pages.isolate(pfn);
        }
        va += PAGE_SIZE;
    }
    va
}
