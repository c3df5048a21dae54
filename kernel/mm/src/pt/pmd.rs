//! PMD entries: what one says, and the PTE table that it may name.
//!
//! A read of a PMD yields a [`Pmd`]; a PTE table is reached through its [`TableRef`] only. None →
//! table changes under the PMD table's lock (`Rank::Pmd`); a table goes away, or moves, only under
//! `mmap_lock` held exclusively.
//!
//! To lock a PTE table can fail: [`Changed`] is an outcome of locking, not a state. The caller then
//! reads the PMD again, or says why it cannot be.
//!
//! Nothing here sleeps, but that [`PmdRef::lookup_or_alloc`] and [`PmdRef::table_or_alloc`] may
//! reclaim: no lock below `mmap_lock` may be held then.

use super::cells::{self, cell, cell_at};
use super::locked::PteLocked;
use super::{PTE_LEVEL, TABLE_BITS, alloc_table, free_table, tlb, upper};
use crate::buddy::Oom;
use crate::frame::{Frame, frame};
use crate::knobs::{self, Knob};
use crate::mm::Mm;
use arch::pte::{self, Entry};
use arch::{Pfn, VirtAddr};
use core::sync::atomic::AtomicU64;
use sync::{Rank, RawGuard};

/// What a PMD entry says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pmd {
    /// Nothing is here.
    None,
    /// A PTE table.
    Table(TableRef),
    /// A huge page is mapped, whether the MMU may use it or not.
    Huge(Entry),
    /// A huge page that is being moved, or split: faults wait for its folio.
    Migration(Entry),
    /// A huge page that is being split: present to software, not to the MMU.
    Invalid(Entry),
}

impl Pmd {
    /// The entry that was read at the place `pmd`.
    #[inline]
    pub(super) fn of(pmd: PmdRef, entry: Entry) -> Self {
        match entry.upper() {
            pte::Upper::Table(table) => Self::Table(TableRef { pmd, table }),
            pte::Upper::None => Self::None,
            pte::Upper::Huge => Self::Huge(entry),
            pte::Upper::Migration => Self::Migration(entry),
            pte::Upper::Invalid => Self::Invalid(entry),
        }
    }

    /// The end of a match on a PMD, where no huge page can be: the caller has split it, or the
    /// range never had one. To skip one would lose it.
    ///
    /// # Panics
    /// Always.
    #[cold]
    #[inline(never)]
    pub(crate) fn unmet(self) -> ! {
        match self {
            Self::Huge(entry) => panic!("a huge page, {entry:?}, where only page tables can be"),
            Self::Migration(entry) => panic!("{entry:?}: a huge page is moved that cannot be here"),
            Self::Invalid(entry) => panic!("{entry:?}: a huge page is split that cannot be here"),
            Self::None | Self::Table(_) => unreachable!("{self:?} is met everywhere"),
        }
    }
}

/// The PMD is not what it was when it was read: read it again.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Changed;

/// The place of a PMD entry: its table (whose lock guards it) and its cell.
#[derive(Clone, Copy)]
pub(crate) struct PmdRef {
    table: Pfn,
    pub(super) cell: &'static AtomicU64,
}

impl PmdRef {
    /// The PMD entry for `va`, if the levels above exist.
    #[inline]
    pub(crate) fn lookup(mm: &Mm, va: VirtAddr) -> Option<Self> {
        let mut table = mm.root();
        for level in [3, 2] {
            let entry = cells::read(cell(table, va, level));
            if !entry.is_present() {
                return None;
            }
            table = entry.pfn();
            cells::relies_on(table);
        }
        Some(Self {
            table,
            cell: cell(table, va, 1),
        })
    }

    /// What the PMD of `va` says; [`Pmd::None`] also where a level above is missing.
    #[inline]
    pub(crate) fn read_at(mm: &Mm, va: VirtAddr) -> Pmd {
        Self::lookup(mm, va).map_or(Pmd::None, Self::read)
    }

    /// The PMD entry for `va`; makes the levels above. May reclaim.
    ///
    /// # Errors
    /// [`Oom`] when there is no frame for a table.
    #[inline]
    pub(crate) fn lookup_or_alloc(mm: &Mm, va: VirtAddr) -> Result<Self, Oom> {
        let mut table = mm.root();
        for level in [3, 2] {
            let c = cell(table, va, level);
            let entry = cells::read(c);
            table = if entry.is_present() {
                entry.pfn()
            } else {
                upper::install(mm, c)?
            };
        }
        Ok(Self {
            table,
            cell: cell(table, va, 1),
        })
    }

    /// What the entry says now.
    #[inline]
    pub(crate) fn read(self) -> Pmd {
        Pmd::of(self, cells::look(self.table, self.cell))
    }

    /// As [`PmdRef::read`], where a lock that is held keeps the entry as it is, or tells what it
    /// may change to.
    #[inline]
    pub(super) fn locked(self) -> Entry {
        cells::read(self.cell)
    }

    /// The record of the table that the entry lies in.
    #[inline]
    pub(super) fn record(self) -> &'static Frame {
        frame(self.table)
    }

    /// What is here, in `mm`, after a PTE table was put in where nothing was. May reclaim.
    ///
    /// # Errors
    /// [`Oom`] when there is no frame for the table.
    #[inline]
    pub(crate) fn table_or_alloc(self, mm_id: u32, mm: &Mm) -> Result<Pmd, Oom> {
        match self.read() {
            Pmd::None => self.install(mm_id, mm),
            there => Ok(there),
        }
    }

    /// The same, where the entry was seen empty.
    #[cold]
    fn install(self, mm_id: u32, mm: &Mm) -> Result<Pmd, Oom> {
        let fresh = alloc_table()?;
        if !knobs::on(Knob::PmdRecheck) {
            // The broken twin's window, wide enough for a test to meet it.
            sync::threads().yield_now();
        }
        let there = {
            let _pmd = frame(self.table).ptl().lock(Rank::Pmd);
            let there = self.locked();
            if there.is_none() || !knobs::on(Knob::PmdRecheck) {
                // A huge page may have been here until just now (rule 11).
                tlb::flush_gathered_pending(mm_id, mm);
                let entry = Entry::from_bits(fresh, TABLE_BITS);
                cells::publish(self.cell, entry);
                mm.tables.add(1);
                return Ok(Pmd::of(self, entry));
            }
            there
        };
        free_table(fresh);
        Ok(Pmd::of(self, there))
    }

    /// Puts `entry` here, whatever was.
    #[cfg(feature = "lab")]
    pub(crate) fn overwrite(self, entry: Entry) {
        let _pmd = frame(self.table).ptl().lock(Rank::Pmd);
        cells::exchange(self.cell, entry);
    }
}

/// A PTE table, and the PMD that names it. The caller keeps the table in place: by `mmap_lock`, a
/// lock of a reverse map, or interrupts off in a lockless walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableRef {
    pmd: PmdRef,
    table: Pfn,
}

impl TableRef {
    /// The table's frame.
    #[inline]
    pub(crate) fn pfn(self) -> Pfn {
        self.table
    }

    /// The PTE of `va` as it is now, without a lock.
    #[inline]
    pub(crate) fn peek(self, va: VirtAddr) -> Entry {
        cells::look(self.table, cell(self.table, va, PTE_LEVEL))
    }

    /// Locks the table, with the cursor on the entry of `va`.
    ///
    /// # Errors
    /// [`Changed`]: the PMD does not name the table any more.
    #[inline]
    pub(crate) fn lock(self, va: VirtAddr) -> Result<PteLocked, Changed> {
        self.lock_by(va, |table| frame(table).ptl().lock(Rank::Ptl))
    }

    /// As [`TableRef::lock`], while the lock of another PTE table is held. The order is the
    /// caller's to justify.
    ///
    /// # Errors
    /// [`Changed`].
    #[inline]
    pub(crate) fn lock_nested(self, va: VirtAddr) -> Result<PteLocked, Changed> {
        self.lock_by(va, |table| frame(table).ptl().lock_nested(Rank::Ptl))
    }

    #[inline]
    fn lock_by(
        self,
        va: VirtAddr,
        lock: impl FnOnce(Pfn) -> RawGuard<'static>,
    ) -> Result<PteLocked, Changed> {
        let guard = lock(self.table);
        if self.pmd.locked().table() != Some(self.table) {
            return Err(Changed);
        }
        Ok(PteLocked::new(self.table, va, guard))
    }

    /// Hangs the table from `to` instead, if that is empty; true then. The caller holds `mmap_lock`
    /// exclusively and keeps reverse walks away from both places.
    pub(crate) fn move_to(self, to: PmdRef) -> bool {
        match to.read() {
            Pmd::None => {}
            Pmd::Table(_) => return false,
            huge => huge.unmet(),
        }
        // One lock at a time, they may be the same: nobody looks for the table in between.
        let entry = {
            let _pmd = frame(self.pmd.table).ptl().lock(Rank::Pmd);
            cells::exchange(self.pmd.cell, Entry::NONE)
        };
        let _pmd = frame(to.table).ptl().lock(Rank::Pmd);
        cells::publish(to.cell, entry);
        true
    }
}

/// The PTE table that entry `index` of the PMD table `upper` names; it is taken out. The caller
/// holds `mmap_lock` exclusively, and no area covers the table's range any more.
#[inline]
pub(super) fn detach(upper: Pfn, index: usize) -> Option<Pfn> {
    let cell = cell_at(upper, index);
    let pmd = PmdRef { table: upper, cell };
    match Pmd::of(pmd, pmd.locked()) {
        Pmd::None => None,
        Pmd::Table(table) => {
            let _pmd = frame(upper).ptl().lock(Rank::Pmd);
            cells::exchange(cell, Entry::NONE);
            Some(table.table)
        }
        huge => huge.unmet(),
    }
}

impl core::fmt::Debug for PmdRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "pmd in table {:?}", self.table)
    }
}
