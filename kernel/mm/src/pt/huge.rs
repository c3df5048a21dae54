//! A locked PMD: where a huge page is mapped, unmapped, or gives way to a table.
//!
//! With each huge page a PTE table is *deposited*, so that a split never fails for memory.
//! Deposited tables hang from the record of the PMD table, linked by `next`; they are empty, and no
//! CPU has walked one. The lock of the PMD table (`Rank::Pmd`) guards the entry and the deposits.
//! Nothing here sleeps.

use super::cells::{self, cell};
use super::pmd::{Pmd, PmdRef};
use super::unhooked::{Unhooked, Weaker};
use super::{KEPT, PTE_LEVEL, TABLE_BITS};
use crate::frame::frame;
use crate::mm::Mm;
use arch::addr::{PMD_SIZE, entries};
use arch::pte::{self, Entry};
use arch::{Pfn, VirtAddr};
use sync::{Rank, RawGuard};

/// A locked PMD: the proof that the entry is ours to change.
pub(crate) struct PmdLocked {
    pmd: PmdRef,
    _guard: RawGuard<'static>,
}

impl PmdRef {
    /// Locks the table that the entry lies in.
    pub(crate) fn lock(self) -> PmdLocked {
        let _guard = self.record().ptl().lock(Rank::Pmd);
        PmdLocked { pmd: self, _guard }
    }
}

impl PmdLocked {
    /// What the entry says.
    pub(crate) fn read(&self) -> Pmd {
        Pmd::of(self.pmd, self.pmd.locked())
    }

    /// Maps a huge page where nothing is, and takes the table that its split will need.
    pub(crate) fn map(&mut self, mm: &Mm, entry: Entry, table: Pfn) {
        debug_assert!(entry.0 & pte::HUGE != 0);
        let owner = self.pmd.record();
        frame(table).set_next(owner.mapping());
        owner.set_mapping(table.0 + 1);
        mm.tables.add(1);
        mm.anon_huge.add(1);
        cells::publish(self.pmd.cell, entry);
    }

    /// Takes the huge page out and puts `instead` in.
    pub(crate) fn unhook(&mut self, instead: Entry) -> Unhooked<PMD_SIZE> {
        Unhooked::new(cells::exchange(self.pmd.cell, instead))
    }

    /// The deposited table of a huge page that has been taken out: for the caller to free.
    pub(crate) fn withdraw(&mut self, mm: &Mm) -> Pfn {
        mm.tables.add(-1);
        mm.anon_huge.add(-1);
        self.take_deposit()
    }

    /// Puts the deposited table in the place of a huge page that was made invalid, with the entry
    /// `piece(i)` for each page.
    pub(super) fn populate(&mut self, mm: &Mm, piece: impl Fn(u32) -> Entry) {
        let table = self.take_deposit();
        for i in 0..entries(PTE_LEVEL) as u32 {
            let at = VirtAddr(u64::from(i) << arch::PAGE_SHIFT);
            cells::fill(cell(table, at, PTE_LEVEL), piece(i));
        }
        cells::publish(self.pmd.cell, Entry::from_bits(table, TABLE_BITS));
        // Not before: an operation that sees no huge page left finds a table.
        mm.anon_huge.add(-1);
    }

    fn take_deposit(&mut self) -> Pfn {
        let owner = self.pmd.record();
        let Some(table) = owner.mapping().checked_sub(1) else {
            panic!("a huge page without a deposited table");
        };
        owner.set_mapping(frame(Pfn(table)).next());
        Pfn(table)
    }

    /// As [`super::PteLocked::set_rights`].
    pub(crate) fn set_rights(&mut self, bits: u64) -> Option<Weaker<PMD_SIZE>> {
        let old = cells::replace_bits(self.pmd.cell, KEPT | pte::HUGE, bits);
        let lost = old.0 & !bits & (pte::PRESENT | pte::WRITE) | !old.0 & bits & pte::NX;
        (lost != 0).then(|| Weaker::new(old))
    }

    /// As [`super::PteLocked::strengthen`].
    pub(crate) fn strengthen(&mut self, bits: u64) {
        cells::set_bits(self.pmd.cell, bits);
    }
}
