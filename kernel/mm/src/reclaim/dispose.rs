//! What becomes of folios that lost entries, after the flush: clean ones are freed; dirty ones are
//! marked, unlocked, written in the order of their slots or pages, and go to the `laundry` until
//! their writes are done (rule 7). Those of which an entry stayed go back to the LRU.
//!
//! The folios are locked; each has reclaim's reference. Takes file trees' and the swap cache's
//! locks, and the LRU's for those that go back. Sleeps for disk requests. No allocation.

use super::laundry;
use super::let_go::{activate, free_frozen, leave_file, put_back, put_back_unlocked};
use super::scan::Scan;
use crate::file::{self, Removal};
use crate::folio::{Folio, FolioGuard};
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::rmap::batch::{BATCH, Flushed};
use crate::rmap::unmap::Replace;
use crate::stats::{Event, count_n};
use crate::swap::io::{self, PageIo};
use crate::swap::{area, cache};
use arch::Pfn;
use arch::block::Op;
use heapless::Vec;

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
    swap: Vec<PageIo, BATCH>,
    files: Vec<Folio, BATCH>,
}

impl Writes {
    const fn new() -> Self {
        Self {
            swap: Vec::new(),
            files: Vec::new(),
        }
    }

    /// See [`dispose`].
    fn settle(&mut self, guard: FolioGuard, then: Then, scan: &mut Scan) {
        let folio = guard.folio();
        match then {
            Then::Keep => put_back(guard, false),
            Then::Activate => activate(guard),
            Then::Out(Replace::Cached) => {
                if file(guard, scan) {
                    add(&mut self.files, folio);
                }
            }
            Then::Out(how) => {
                if let Some(slot) = anon(guard, how, scan) {
                    add(&mut self.swap, (slot, folio.pfn().0));
                }
            }
        }
    }

    fn submit(&mut self, scan: &mut Scan) {
        write_swap(&mut self.swap, scan);
        write_files(&mut self.files, scan);
    }
}

/// One more of a batch, which has room for all of its folios.
fn add<T>(to: &mut Vec<T, BATCH>, one: T) {
    let Ok(()) = to.push(one) else {
        unreachable!("more folios than a batch has");
    };
}

/// See the module text. No CPU translates to any of them through an entry that is gone.
pub(super) fn dispose(folios: Flushed<Then>, scan: &mut Scan) {
    let mut writes = Writes::new();
    for (folio, guard, then) in folios {
        match guard {
            Some(guard) => writes.settle(guard, then, scan),
            None => put_back_unlocked(folio, false),
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
    let f = guard.folio();
    let Replace::Slot(slot) = how else {
        if f.freeze_unmapped(1) {
            free_frozen(guard);
            scan.freed(1);
        } else {
            put_back(guard, true);
        }
        return None;
    };
    if !knobs::on(Knob::SlotBeforePte) && !f.has(flag::SWAPCACHE) && area::set_cache(slot).is_ok() {
        cache::add(f, slot);
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
        Removal::Free => {
            free_frozen(guard);
            scan.freed(1);
        }
        // An entry that is left may be written through.
        Removal::Dirty if guard.mapcount() == 0 && scan.writes_files => {
            if file::begin_write(&guard) {
                return true;
            }
            put_back(guard, false);
        }
        Removal::Dirty => {
            file::wake_flusher();
            put_back(guard, false);
        }
        Removal::Keep => put_back(guard, false),
    }
    false
}

/// Writes folios that are marked WRITEBACK, and hands them to the laundry.
fn write_swap(writes: &mut [PageIo], scan: &mut Scan) {
    if writes.is_empty() {
        return;
    }
    writes.sort_unstable();
    io::start(Op::Write, writes);
    launder(writes.iter().map(|&(_, pfn)| Folio::of(Pfn(pfn))), scan);
}

/// Hands folios whose writes were submitted to the laundry.
fn launder(folios: impl ExactSizeIterator<Item = Folio>, scan: &mut Scan) {
    scan.written += folios.len() as u32;
    count_n(Event::VmscanWrite, folios.len() as u64);
    laundry::add(folios);
    laundry::collect(scan);
}

/// As [`write_swap`], of files' folios.
fn write_files(folios: &mut [Folio], scan: &mut Scan) {
    if !folios.is_empty() {
        file::submit(folios);
        launder(folios.iter().copied(), scan);
    }
}
