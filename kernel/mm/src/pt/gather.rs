//! mmu_gather: frames and tables that were unhooked, on their way to being free.
//!
//! The order is unhook the entry → flush every CPU that may cache it → drop the rmap → free (rule
//! 1). It is kept by types: taking an entry out yields an [`Unhooked`]; a [`Gather`] accepts one
//! only while the table is locked ([`Gather::in_table`]), and only its flush frees. One flush per
//! batch. Tables go the same way, and are freed after the shootdown IPI, which lockless walkers
//! hold off by keeping interrupts off (rule 5). Two that run in one address space at a time each
//! flush for the other as well.
//!
//! What was written through an entry of a file (rule 2): the folio is made dirty at once, and goes
//! on counting as mapped, so that whoever is to clean it comes for the lock; all CPUs are flushed
//! before the lock is dropped, then it stops counting. The one batch bounds that work. A folio that
//! is clean, or anonymous, stops counting as mapped at once: reclaim cannot free it while the
//! gather holds the entry's reference.
//!
//! Adding takes no lock but a file's tree lock and runs under the PTL; [`Gather::flush`] runs with
//! no spin lock held and interrupts on. Never sleeps, never allocates.

#![expect(unsafe_code, reason = "the references of entries that are gone")]

mod written;

use crate::folio::Folio;
use crate::frame::{NIL, frame};
use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::pt::{PmdLocked, PteLocked, Unhooked, assert_no_table_locked, free_table, tlb};
use crate::stats::{Event, count_n};
use arch::addr::USER_TOP;
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use core::sync::atomic::Ordering;
use sync::point::AccessKind;
use written::Rule;

/// Frames in one batch: a whole PTE table's worth.
const BATCH: usize = 512;
/// How long a broken rule 2 stays visible. A disk has to write a page meanwhile.
const BROKEN_NS: u64 = 5_000_000;

/// Whether a batch has room for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Room {
    /// Go on.
    Left,
    /// Drop the page-table lock and flush.
    Full,
}

/// Collects what an unmap operation takes out of `mm`.
pub(crate) struct Gather<'a> {
    mm: &'a Mm,
    mm_id: u32,
    /// What is not flushed yet; empty when `start >= end`.
    start: u64,
    end: u64,
    /// From the front `nr` folios that count as mapped no more, from `written` on those that still
    /// do.
    pages: [Pfn; BATCH],
    nr: usize,
    written: usize,
    /// What becomes of those.
    rule: Rule,
    /// So many of `pages` are flushed.
    flushed: usize,
    /// List of freed tables, through the memmap's `next`.
    tables: u32,
}

/// A locked table whose entries are being taken out, and the gather that they go to.
pub(crate) struct Unhooking<'t, 'a> {
    /// The table.
    pub(crate) pte: &'t mut PteLocked,
    gather: &'t mut Gather<'a>,
}

impl AsMut<PteLocked> for Unhooking<'_, '_> {
    #[inline]
    fn as_mut(&mut self) -> &mut PteLocked {
        self.pte
    }
}

impl Unhooking<'_, '_> {
    /// Takes the entry of `va`, which had no folio.
    #[inline]
    pub(crate) fn add_special(&mut self, va: VirtAddr, old: Unhooked) {
        self.gather.note(va, old);
    }

    /// Takes the entry of `va`, and the folio that it mapped, which counts as mapped by it no more.
    #[inline]
    pub(crate) fn add(&mut self, va: VirtAddr, old: Unhooked) -> Room {
        let gather = &mut *self.gather;
        let entry = gather.note(va, old);
        gather.pages[gather.nr] = entry.pfn();
        gather.nr += 1;
        self.added()
    }

    /// Takes the entry of `va`, and the file folio that was written through it. It counts as mapped
    /// until the flush.
    pub(crate) fn add_written(&mut self, va: VirtAddr, old: Unhooked) -> Room {
        let gather = &mut *self.gather;
        let entry = gather.note(va, old);
        let folio = Folio::of(entry.pfn());
        gather.rule.taken_out(folio);
        if knobs::on(Knob::DelayRmap) {
            gather.written -= 1;
            gather.pages[gather.written] = entry.pfn();
        } else {
            gather.rule.flushed(folio);
            gather.pages[gather.nr] = entry.pfn();
            gather.nr += 1;
        }
        self.added()
    }

    #[inline]
    fn added(&mut self) -> Room {
        if knobs::on(Knob::ImmediateGather) {
            self.gather.settle();
            self.gather.flush();
        }
        if self.gather.nr == self.gather.written {
            Room::Full
        } else {
            Room::Left
        }
    }
}

impl<'a> Gather<'a> {
    /// An empty gather for `mm`. No table is locked, nor when it is dropped (rule 12).
    pub(crate) fn new(mm_id: u32, mm: &'a Mm) -> Self {
        assert_no_table_locked();
        // Before the first entry is taken out. Whoever finds that one gone had its PTL after us,
        // and so sees it.
        mm.touch_gathers(AccessKind::Write);
        mm.gathers.fetch_add(1, Ordering::Relaxed);
        Self {
            mm,
            mm_id,
            start: u64::MAX,
            end: 0,
            pages: [Pfn(0); BATCH],
            nr: 0,
            written: BATCH,
            rule: Rule::chosen(),
            flushed: 0,
            tables: NIL,
        }
    }

    /// The address space.
    pub(crate) fn mm(&self) -> &'a Mm {
        self.mm
    }

    /// Its id.
    pub(crate) fn mm_id(&self) -> u32 {
        self.mm_id
    }

    /// Lets `each` take entries out of a locked table, and unlocks it when nothing of what they
    /// were waits for the lock any more.
    #[inline]
    pub(crate) fn in_table<R>(
        &mut self,
        mut pte: PteLocked,
        each: impl FnOnce(&mut Unhooking<'_, 'a>) -> R,
    ) -> R {
        let r = each(&mut Unhooking {
            pte: &mut pte,
            gather: self,
        });
        if self.written < BATCH {
            self.settle_and_unlock(pte);
        } else if !knobs::on(Knob::DelayRmap) && self.nr > 0 {
            drop(pte);
            broken_window();
        }
        r
    }

    /// Takes a huge page as one item, and frees the table that was deposited with it. All CPUs
    /// forget the page before it is freed (rule 1).
    pub(crate) fn take_huge(&mut self, mut pmd: PmdLocked, va: VirtAddr) {
        let old = pmd.unhook(Entry::NONE);
        self.note_range(va.0, va.0 + old.size());
        let entry = old.noted();
        Folio::of(entry.pfn()).map_dec();
        let table = pmd.withdraw(self.mm);
        self.pages[self.nr] = entry.pfn();
        self.nr += 1;
        drop(pmd);
        // No CPU has ever walked it.
        free_table(table);
        if knobs::on(Knob::ImmediateGather) || self.nr == self.written {
            self.flush();
        }
    }

    #[cold]
    fn settle_and_unlock(&mut self, pte: PteLocked) {
        if !self.rule.before_unlock() {
            return;
        }
        if !knobs::on(Knob::FlushBeforeUnlock) {
            drop(pte);
            broken_window();
        }
        self.settle();
    }

    /// Flushes every CPU; afterwards nothing of what was gathered counts as mapped.
    fn settle(&mut self) {
        self.flush_tlb();
        for at in self.written..BATCH {
            let pfn = self.pages[at];
            self.rule.flushed(Folio::of(pfn));
            self.pages[self.nr] = pfn;
            self.nr += 1;
        }
        self.written = BATCH;
    }

    /// The range to flush covers what `old` mapped at `va`.
    #[inline]
    fn note(&mut self, va: VirtAddr, old: Unhooked) -> Entry {
        self.note_range(va.0, va.0 + old.size());
        old.noted()
    }

    /// Translations of `start..end` are to be flushed.
    #[inline]
    pub(crate) fn note_range(&mut self, start: u64, end: u64) {
        self.start = self.start.min(start);
        self.end = self.end.max(end);
    }

    /// Takes note of an entry that moves from `va` elsewhere, with its reference, and gives it
    /// back.
    #[inline]
    pub(crate) fn note_moved(&mut self, va: VirtAddr, old: Unhooked) -> Entry {
        if old.entry().is_present() {
            self.note(va, old)
        } else {
            old.never_used()
        }
    }

    /// Takes a table that was unhooked and covered `start..end`.
    pub(crate) fn add_table(&mut self, table: Pfn, start: u64, end: u64) {
        self.note_range(start, end);
        frame(table).set_next(self.tables);
        self.tables = table.0;
        self.mm.tables.add(-1);
    }

    fn flush_tlb(&mut self) {
        if self.start >= self.end {
            return;
        }
        let freed_tables = self.tables != NIL;
        let rule = if freed_tables {
            Knob::TableFlush
        } else {
            Knob::TlbFlush
        };
        if knobs::on(rule) {
            let pages = self.nr + (BATCH - self.written);
            count_n(Event::TlbFlushPages, (pages - self.flushed) as u64);
            tlb::flush_range(self.mm_id, self.mm, self.start, self.end, freed_tables);
        }
        self.flushed = self.nr + (BATCH - self.written);
        self.start = u64::MAX;
        self.end = 0;
    }

    /// Flushes every CPU that may translate what was gathered, then frees it.
    pub(crate) fn flush(&mut self) {
        if self.start >= self.end && self.nr == 0 {
            debug_assert!(self.written == BATCH && self.tables == NIL);
            return;
        }
        self.settle();
        for &pfn in &self.pages[..self.nr] {
            // SAFETY: the reference of an entry that was taken out, which every CPU has forgotten
            // now.
            unsafe { Folio::of(pfn).put() };
        }
        self.nr = 0;
        self.flushed = 0;
        while self.tables != NIL {
            let table = Pfn(self.tables);
            self.tables = frame(table).next();
            free_table(table);
        }
    }
}

/// The broken twins' window, wide enough for a test to meet it. (The explorer goes on where it
/// wants.)
#[cold]
fn broken_window() {
    if !sync::point::exploring() {
        arch::thread::sleep_ns(BROKEN_NS);
    }
}

impl Drop for Gather<'_> {
    fn drop(&mut self) {
        assert_no_table_locked();
        self.mm.touch_gathers(AccessKind::Read);
        // Acquire pairs with the Release below: a gather that is no longer counted has flushed.
        if self.mm.gathers.load(Ordering::Acquire) > 1 && knobs::on(Knob::GatheredPending) {
            // Another one may have taken entries of the same range out, and not have flushed yet.
            // They are promised to be gone when this operation is over (Linux commit 99baac21).
            self.start = 0;
            self.end = USER_TOP;
        }
        self.flush();
        self.mm.touch_gathers(AccessKind::Write);
        self.mm.gathers.fetch_sub(1, Ordering::Release);
    }
}
