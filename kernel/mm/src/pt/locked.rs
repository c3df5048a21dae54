//! A locked PTE table: the only way to change its entries.
//!
//! The MMU sets A and D by itself, so a present entry is never stored over: it is taken out, or
//! changed in place, by one atomic operation. What a CPU may go on using afterwards comes back as
//! an [`Unhooked`] or a [`Weaker`], which only a flush takes (rules 1 and 3). Never sleeps.

use super::cells::{self, cell};
use super::unhooked::{Unhooked, Weaker};
use super::{KEPT, PTE_LEVEL};
use crate::knobs::{self, Knob};
use arch::pte::{self, Entry};
use arch::{Pfn, VirtAddr};
use core::sync::atomic::AtomicU64;
use sync::RawGuard;

/// A locked PTE table with a cursor: the proof that its entries are ours to change.
pub(crate) struct PteLocked {
    table: Pfn,
    /// The cursor.
    cell: &'static AtomicU64,
    _guard: RawGuard<'static>,
}

impl PteLocked {
    /// The table whose lock `guard` is, with the cursor on the entry of `va`.
    #[inline]
    pub(super) fn new(table: Pfn, va: VirtAddr, guard: RawGuard<'static>) -> Self {
        Self {
            table,
            cell: cell(table, va, PTE_LEVEL),
            _guard: guard,
        }
    }

    /// Moves the cursor to the entry of `va`, which lies in the same table.
    #[inline]
    pub(crate) fn seek(&mut self, va: VirtAddr) {
        self.cell = cell(self.table, va, PTE_LEVEL);
    }

    /// The entry at the cursor.
    #[inline]
    pub(crate) fn get(&self) -> Entry {
        cells::read(self.cell)
    }

    /// Puts an entry in the place of one that no CPU uses: none, a swap entry, or one without
    /// rights.
    #[inline]
    pub(crate) fn set(&mut self, entry: Entry) {
        debug_assert!(
            !cells::is_present(self.cell) || !knobs::on(Knob::PteRecheck),
            "an entry that the MMU may be using was stored over"
        );
        cells::publish(self.cell, entry);
    }

    /// Takes the entry out, with the A and D bits that the MMU had set, and puts `instead` in, in
    /// one step.
    #[inline]
    pub(crate) fn unhook(&mut self, instead: Entry) -> Unhooked {
        Unhooked::new(cells::exchange(self.cell, instead))
    }

    /// Puts an entry back that was taken out under this very lock, and nothing in its place.
    #[inline]
    pub(crate) fn put_back(&mut self, old: Unhooked) {
        self.set(old.forgiven());
    }

    /// Takes `bits` from a present entry, keeping what the MMU sets meanwhile.
    #[inline]
    pub(crate) fn weaken(&mut self, bits: u64) -> Weaker {
        Weaker::new(cells::clear_bits(self.cell, bits))
    }

    /// Gives a present entry the rights `bits` and keeps its frame and its A, D and software bits.
    /// It comes back if it has lost any.
    #[inline]
    pub(crate) fn set_rights(&mut self, bits: u64) -> Option<Weaker> {
        let old = cells::replace_bits(self.cell, KEPT, bits);
        let lost = old.0 & !bits & (pte::PRESENT | pte::WRITE) | !old.0 & bits & pte::NX;
        (lost != 0).then(|| Weaker::new(old))
    }

    /// Clears the accessed bit. Nothing to flush: a CPU that still has the translation uses it
    /// without setting the bit again, and the page only looks less used than it is (rule 3).
    #[inline]
    pub(crate) fn clear_accessed(&mut self) {
        cells::clear_bits(self.cell, pte::ACCESSED);
    }

    /// Gives the entry `bits`. Nothing to flush: a CPU that has the weaker translation faults once
    /// more.
    #[inline]
    pub(crate) fn strengthen(&mut self, bits: u64) {
        cells::set_bits(self.cell, bits);
    }
}
