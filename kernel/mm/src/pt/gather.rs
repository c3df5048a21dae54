//! mmu_gather: frames and tables that were unhooked, on their way to being free.
//!
//! The order is unhook the entry → flush every CPU that may cache it → free (rule 1). It is kept by types:
//! taking a frame out of an entry yields an [`Unflushed`]; only a [`Gather`] accepts one; only the gather's
//! flush frees. One flush per batch. Tables go the same way, and are freed after the shootdown IPI, which
//! lockless walkers hold off by keeping interrupts off (rule 5). Two that run in one address space at a time
//! (under `mmap_lock` held shared) each flush for the other as well.
//!
//! Adding takes no lock and runs under the PTL; [`Gather::flush`] runs with no spin lock held and
//! interrupts on. Never sleeps, never allocates.
//!
//! ```compile_fail
//! // A frame that was unhooked but not flushed cannot be freed: there is no way out of `Unflushed`.
//! fn free_too_early(page: mm::pt::gather::Unflushed) { mm::folio::put(page.pfn); }
//! ```

use crate::folio;
use crate::frame::{NIL, frame};
use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::pt::{free_table, tlb};
use crate::stats::{Event, count_n};
use arch::addr::{PAGE_SIZE, USER_TOP};
use arch::{Pfn, VirtAddr};
use core::sync::atomic::Ordering;
use sync::point::AccessKind;

/// Frames in one batch: a whole PTE table's worth.
const BATCH: usize = 512;

/// A frame whose entry is gone but which a TLB may still translate to. Holds the entry's reference.
#[must_use = "an unhooked frame must go to a gather"]
pub struct Unflushed {
    pfn: Pfn,
}

impl Unflushed {
    /// The frame of an entry that was just taken out, with the reference that the entry held.
    #[inline]
    pub(crate) fn new(pfn: Pfn) -> Self {
        Self { pfn }
    }
}

/// Whether a batch has room for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Room {
    /// Go on.
    Left,
    /// Drop the page-table lock and flush.
    Full,
}

/// Collects what an unmap operation takes out of `mm`.
pub struct Gather<'a> {
    mm: &'a Mm,
    mm_id: u32,
    start: u64,
    end: u64,
    nr: usize,
    pages: [Pfn; BATCH],
    /// List of freed tables, through the memmap's `next`.
    tables: u32,
}

impl<'a> Gather<'a> {
    /// An empty gather for `mm`.
    pub fn new(mm_id: u32, mm: &'a Mm) -> Self {
        // Before the first entry is taken out. Whoever finds that one gone had its PTL after us, and so sees it.
        mm.touch_gathers(AccessKind::Write);
        mm.gathers.fetch_add(1, Ordering::Relaxed);
        Self {
            mm,
            mm_id,
            start: u64::MAX,
            end: 0,
            nr: 0,
            pages: [Pfn(0); BATCH],
            tables: NIL,
        }
    }

    /// The address space.
    pub fn mm(&self) -> &'a Mm {
        self.mm
    }

    /// Its id.
    pub fn mm_id(&self) -> u32 {
        self.mm_id
    }

    /// The entry of `va` was present and is gone or weaker: the range to flush covers it.
    #[inline]
    pub fn note(&mut self, va: VirtAddr) {
        self.start = self.start.min(va.0);
        self.end = self.end.max(va.0 + PAGE_SIZE);
    }

    /// Takes the frame that was mapped at `va`.
    #[inline]
    pub fn add(&mut self, va: VirtAddr, page: Unflushed) -> Room {
        self.note(va);
        self.pages[self.nr] = page.pfn;
        self.nr += 1;
        if self.nr == BATCH {
            Room::Full
        } else {
            Room::Left
        }
    }

    /// Takes a table that was unhooked and covered `start..end`.
    pub(crate) fn add_table(&mut self, table: Pfn, start: u64, end: u64) {
        self.start = self.start.min(start);
        self.end = self.end.max(end);
        frame(table).set_next(self.tables);
        self.tables = table.0;
        self.mm.tables.add(-1);
    }

    /// Nothing is waiting for a flush.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Flushes every CPU that may translate what was gathered, then frees it.
    pub fn flush(&mut self) {
        if self.is_empty() {
            debug_assert!(self.nr == 0 && self.tables == NIL);
            return;
        }
        let freed_tables = self.tables != NIL;
        let rule = if freed_tables {
            Knob::TableFlush
        } else {
            Knob::TlbFlush
        };
        if knobs::on(rule) {
            count_n(Event::TlbFlushPages, self.nr as u64);
            tlb::flush_range(self.mm_id, self.mm, self.start, self.end, freed_tables);
        }
        folio::put_all(&self.pages[..self.nr]);
        self.nr = 0;
        while self.tables != NIL {
            let table = Pfn(self.tables);
            self.tables = frame(table).next();
            free_table(table);
        }
        self.start = u64::MAX;
        self.end = 0;
    }
}

impl Drop for Gather<'_> {
    fn drop(&mut self) {
        self.mm.touch_gathers(AccessKind::Read);
        // Acquire pairs with the Release below: a gather that is no longer counted has flushed.
        if self.mm.gathers.load(Ordering::Acquire) > 1 {
            // Another one may have taken entries of the same range out, and not have flushed yet. They are
            // promised to be gone when this operation is over (Linux commit 99baac21).
            self.start = 0;
            self.end = USER_TOP;
        }
        self.flush();
        self.mm.touch_gathers(AccessKind::Write);
        self.mm.gathers.fetch_sub(1, Ordering::Release);
    }
}
