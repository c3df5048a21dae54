//! What becomes of folios that lost entries, after the flush: clean ones are freed; dirty ones are
//! marked, unlocked, written in the order of their slots or pages, and go to the `laundry` until
//! their writes are done (rule 7). Those of which an entry stayed go back to the LRU.
//!
//! The folios are locked; each has reclaim's reference. Takes file trees' and the swap cache's locks, and the LRU's for those
//! that go back. Sleeps for disk requests. No allocation.

use super::evict::{activate, free_frozen, put_back, put_back_unlocked};
use super::laundry;
use super::shrink::Scan;
use crate::file::{self, Fate};
use crate::folio::FolioGuard;
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::rmap::batch::{BATCH, Flushed};
use crate::rmap::unmap::Replace;
use crate::stats::{Event, count_n};
use crate::swap::io::{self, PageIo};
use crate::swap::{area, cache};
use crate::workingset;
use arch::Pfn;
use arch::block::Op;

/// What is next for a folio once the flush is over.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// It goes.
    Out(Replace),
    /// It keeps some entries, or got one back: to the inactive list.
    Keep,
    /// As [`Then::Keep`], to the active list.
    Activate,
}

/// Folios marked WRITEBACK, to be written together.
struct Writes {
    swap: [PageIo; BATCH],
    to_swap: usize,
    files: [Pfn; BATCH],
    to_files: usize,
}

impl Writes {
    const fn new() -> Self {
        Self {
            swap: [(0, 0); BATCH],
            to_swap: 0,
            files: [Pfn(0); BATCH],
            to_files: 0,
        }
    }

    /// See [`dispose`].
    fn settle(&mut self, guard: FolioGuard, then: Then, scan: &mut Scan) {
        let pfn = guard.pfn();
        match then {
            Then::Keep => put_back(guard, false),
            Then::Activate => activate(guard),
            Then::Out(Replace::Cached) => {
                if file(guard, scan) {
                    self.files[self.to_files] = pfn;
                    self.to_files += 1;
                }
            }
            Then::Out(how) => {
                if let Some(slot) = anon(guard, how, scan) {
                    self.swap[self.to_swap] = (slot, pfn.0);
                    self.to_swap += 1;
                }
            }
        }
    }

    fn submit(&mut self, scan: &mut Scan) {
        write_swap(&mut self.swap[..self.to_swap], scan);
        write_files(&mut self.files[..self.to_files], scan);
    }
}

/// See the module text. No CPU translates to any of them through an entry that is gone.
pub(super) fn dispose(folios: Flushed<Then>, scan: &mut Scan) {
    let mut writes = Writes::new();
    for (pfn, guard, then) in folios {
        match guard {
            Some(guard) => writes.settle(guard, then, scan),
            None => put_back_unlocked(pfn, false),
        }
    }
    writes.submit(scan);
}

/// As [`dispose`], of one folio.
pub(super) fn dispose_one(guard: FolioGuard, then: Then, scan: &mut Scan) {
    let mut writes = Writes::new();
    writes.settle(guard, then, scan);
    writes.submit(scan);
}

/// An anonymous folio: the slot to which the caller must write it, if it is marked WRITEBACK.
fn anon(guard: FolioGuard, how: Replace, scan: &mut Scan) -> Option<u32> {
    let f = guard.frame();
    let Replace::Slot(slot) = how else {
        if f.freeze(1) {
            free_frozen(guard);
            scan.freed(1);
        } else {
            put_back(guard, true);
        }
        return None;
    };
    if !knobs::on(Knob::SlotBeforePte) && !f.has(flag::SWAPCACHE) && area::set_cache(slot).is_ok() {
        cache::add(guard.pfn(), slot);
    }
    if !f.has(flag::DIRTY) && cache::remove_frozen(&guard, 1) {
        free_frozen(guard);
        scan.freed(1);
        return None;
    }
    if !f.has(flag::DIRTY | flag::SWAPCACHE) {
        put_back(guard, true);
        return None;
    }
    f.set(flag::WRITEBACK | flag::LAUNDRY);
    f.clear(flag::DIRTY);
    Some(slot)
}

/// A folio of a file: true when it is marked WRITEBACK, and the caller must write it.
fn file(guard: FolioGuard, scan: &mut Scan) -> bool {
    match leave_file(&guard) {
        Fate::Free => {
            free_frozen(guard);
            scan.freed(1);
        }
        // An entry that is left may be written through.
        Fate::Dirty if guard.frame().mapcount() == 0 && scan.writes_files => {
            if file::begin_write(&guard) {
                return true;
            }
            put_back(guard, false);
        }
        Fate::Dirty => {
            file::wake_flusher();
            put_back(guard, false);
        }
        Fate::Keep => put_back(guard, false),
    }
    false
}

/// Takes a locked folio out of its file's cache if it can go. When it did, the caller frees it.
pub(super) fn leave_file(guard: &FolioGuard) -> Fate {
    let f = guard.frame();
    let (mapping, index) = (f.mapping(), f.index());
    let fate = file::evict(guard);
    if fate == Fate::Free {
        workingset::file_eviction(mapping - 1, index, f.flags());
    }
    fate
}

/// Writes folios that are marked WRITEBACK, and hands them to the laundry.
fn write_swap(writes: &mut [PageIo], scan: &mut Scan) {
    if writes.is_empty() {
        return;
    }
    writes.sort_unstable();
    let mut pages = [Pfn(0); BATCH];
    for (to, &(_, pfn)) in pages.iter_mut().zip(writes.iter()) {
        *to = Pfn(pfn);
    }
    io::start(Op::Write, writes);
    launder(&pages[..writes.len()], scan);
}

/// Hands folios whose writes were submitted to the laundry.
fn launder(pages: &[Pfn], scan: &mut Scan) {
    scan.written += pages.len() as u32;
    count_n(Event::VmscanWrite, pages.len() as u64);
    laundry::add(pages);
    laundry::collect(scan);
}

/// As [`write_swap`], of files' folios.
fn write_files(pages: &mut [Pfn], scan: &mut Scan) {
    if !pages.is_empty() {
        file::submit(pages);
        launder(pages, scan);
    }
}
