//! What becomes of folios that lost their entries, after the flush: clean ones are freed; dirty ones are marked, unlocked,
//! written in the order of their slots or pages, and go to the `laundry` until their writes are done (rule 7).
//!
//! The folios are locked; each has reclaim's reference. Takes file trees' and the swap cache's locks, and the LRU's for those
//! that go back. Sleeps for disk requests. No allocation.

use super::evict::{free_frozen, put_back, put_back_unlocked};
use super::laundry;
use super::shrink::{BATCH, Scan};
use crate::file::{self, Fate};
use crate::folio::{self, FolioGuard};
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::rmap::unmap::Replace;
use crate::stats::{Event, count_n};
use crate::swap::io::{self, PageIo};
use crate::swap::{area, cache};
use crate::workingset;
use arch::Pfn;
use arch::block::Op;

/// Folios that lost their entries, still locked (the locks are handed over).
pub(super) struct Unmapped {
    pages: [(Pfn, Replace); BATCH],
    n: usize,
    /// Those of files are locked, too.
    files_locked: bool,
}

impl Unmapped {
    pub(super) fn new() -> Self {
        Self {
            pages: [(Pfn(0), Replace::Nothing); BATCH],
            n: 0,
            files_locked: knobs::on(Knob::KeepLocked),
        }
    }

    pub(super) fn push(&mut self, guard: FolioGuard, how: Replace) {
        let pfn = guard.pfn();
        if how != Replace::Cached || self.files_locked {
            guard.hand_over();
        }
        self.pages[self.n] = (pfn, how);
        self.n += 1;
    }

    /// See the module text. No CPU translates to any of them now.
    pub(super) fn dispose(&self, scan: &mut Scan) {
        let mut slots: [PageIo; BATCH] = [(0, 0); BATCH];
        let mut pages = [Pfn(0); BATCH];
        let (mut to_swap, mut to_files) = (0, 0);
        for &(pfn, how) in &self.pages[..self.n] {
            let Some(guard) = self.lock(pfn, how) else {
                put_back_unlocked(pfn, false);
                continue;
            };
            if how == Replace::Cached {
                if file(guard, scan) {
                    pages[to_files] = pfn;
                    to_files += 1;
                }
            } else if let Some(slot) = anon(guard, how, scan) {
                slots[to_swap] = (slot, pfn.0);
                to_swap += 1;
            }
        }
        write_swap(&mut slots[..to_swap], scan);
        write_files(&mut pages[..to_files], scan);
    }

    /// The lock that was handed over.
    fn lock(&self, pfn: Pfn, how: Replace) -> Option<FolioGuard> {
        if how != Replace::Cached || self.files_locked {
            return Some(FolioGuard::take_over(pfn));
        }
        // Rule 2 broken: it may have been cleaned meanwhile.
        folio::try_lock(pfn)
    }
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
    f.set(flag::WRITEBACK);
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
