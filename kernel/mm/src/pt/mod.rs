//! Page tables: four levels, a lock per PMD and PTE table, and the ways down.
//!
//! - PGD and PUD entries change only none → table, under the mm's `pgt_lock`; tables go away only under
//!   `mmap_lock` held exclusively, after every area in their range is out of its anon_vma.
//! - PMD entries change only under the PMD table's lock (`Rank::Pmd`, in the memmap word of that table).
//! - PTE entries change only under the PTE table's lock (`Rank::Ptl`); the MMU sets A and D by itself, so
//!   whoever clears or replaces a present entry uses an atomic exchange.
//!
//! Mapping a PTE table can *fail* ([`PmdRef::lock`] returns `None`): the caller then looks at the PMD
//! again. Nothing here sleeps, except that allocating a table may reclaim: no lock below `mmap_lock` may
//! be held then.

mod cells;
pub mod gather;
pub(crate) mod tables;
pub mod tlb;
pub mod walk;

use crate::buddy::{self, Gfp, Oom, Page};
use crate::content::HasContent;
use crate::frame::frame;
use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::stats::{Event, Use, count};
use arch::addr::ENTRIES;
use arch::pte::{self, Entry};
use arch::{Pfn, VirtAddr};
use cells::{cell, cell_at};
use core::sync::atomic::{AtomicU64, Ordering};
use sync::point::{self, AccessKind, PointKind};
use sync::{Rank, RawGuard};

/// Bits of an entry that points to a table.
const TABLE_BITS: u64 = pte::PRESENT | pte::WRITE | pte::USER | pte::ACCESSED;

/// What of an entry does not depend on the rights of its area.
pub(crate) const KEPT: u64 = pte::ADDR_MASK | pte::ACCESSED | pte::DIRTY | pte::SPECIAL;

/// Level of the PTE tables; 1 is PMD, 2 is PUD, 3 is PGD.
const PTE_LEVEL: u32 = 0;

/// A zeroed table page. May reclaim.
fn alloc_table() -> Result<Pfn, Oom> {
    let page = buddy::alloc(0, Use::Table, Gfp::RECLAIM)?;
    page.zero();
    page.frame().set_private(0);
    count(Event::TableAlloc);
    Ok(page.into_pfn())
}

/// Frees a table that no CPU can walk any more.
pub(crate) fn free_table(pfn: Pfn) {
    point::at(PointKind::Count, AccessKind::Write, || cells::content(pfn));
    count(Event::TableFree);
    // SAFETY: the caller has unhooked the table and flushed; a table has no other reference.
    drop(unsafe { Page::take_back(pfn, 0) });
}

/// A PGD: empty below, the kernel's half above. May reclaim.
///
/// # Errors
/// [`Oom`] when there is no frame.
pub(crate) fn alloc_root() -> Result<Pfn, Oom> {
    let root = alloc_table()?;
    let kernel = arch::kernel_root();
    for i in ENTRIES / 2..ENTRIES {
        let entry = cell_at(kernel, i).load(Ordering::Relaxed);
        cell_at(root, i).store(entry, Ordering::Relaxed);
    }
    Ok(root)
}

/// Equal but for the bits that the MMU sets.
pub(crate) fn same(a: Entry, b: Entry) -> bool {
    const MMU: u64 = pte::ACCESSED | pte::DIRTY;
    a.without(MMU) == b.without(MMU)
}

/// The place of a PMD entry: its table (whose lock guards it) and its cell.
#[derive(Clone, Copy)]
pub struct PmdRef {
    table: Pfn,
    cell: &'static AtomicU64,
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
                install_upper(mm, c)?
            };
        }
        Ok(Self {
            table,
            cell: cell(table, va, 1),
        })
    }

    /// The entry as it is now.
    #[inline]
    pub(crate) fn get(self) -> Entry {
        cells::look(self.table, self.cell)
    }

    /// The entry, where a lock that is held keeps it as it is, or tells what it may change to.
    #[inline]
    fn locked(self) -> Entry {
        cells::read(self.cell)
    }

    /// Makes sure that a PTE table (or something that is no table) is here. May reclaim.
    ///
    /// # Errors
    /// [`Oom`] when there is no frame for the table.
    pub(crate) fn alloc_pte_table(self, mm: &Mm) -> Result<(), Oom> {
        if !self.get().is_none() {
            return Ok(());
        }
        let fresh = alloc_table()?;
        if !knobs::on(Knob::PmdRecheck) {
            // The broken twin's window, wide enough for a test to meet it.
            sync::threads().yield_now();
        }
        {
            let _pmd = frame(self.table).ptl().lock(Rank::Pmd);
            if self.locked().is_none() || !knobs::on(Knob::PmdRecheck) {
                cells::publish(self.cell, Entry::from_bits(fresh, TABLE_BITS));
                mm.tables.add(1);
                return Ok(());
            }
        }
        free_table(fresh);
        Ok(())
    }

    /// Locks the PTE table under this PMD for the entries around `va`; `None` when there is no table (any
    /// more): look at the PMD again.
    #[inline]
    pub(crate) fn lock(self, va: VirtAddr) -> Option<PteLocked> {
        self.lock_by(va, |table| frame(table).ptl().lock(Rank::Ptl))
    }

    /// As [`PmdRef::lock`], while the lock of another PTE table is held. The order is the caller's to
    /// justify.
    #[inline]
    pub(crate) fn lock_nested(self, va: VirtAddr) -> Option<PteLocked> {
        self.lock_by(va, |table| frame(table).ptl().lock_nested(Rank::Ptl))
    }

    #[inline]
    fn lock_by(
        self,
        va: VirtAddr,
        lock: impl FnOnce(Pfn) -> RawGuard<'static>,
    ) -> Option<PteLocked> {
        let entry = self.get();
        if !entry.is_present() || entry.is_huge() {
            return None;
        }
        let table = entry.pfn();
        let guard = lock(table);
        // Under the lock the PMD must still name the table that was locked.
        if self.locked().0 & pte::ADDR_MASK != entry.0 & pte::ADDR_MASK {
            return None;
        }
        Some(PteLocked {
            table,
            index: va.table_index(PTE_LEVEL),
            _guard: guard,
        })
    }

    /// The PTE of `va` as it is now, without a lock; `None` when there is no table. The caller keeps the
    /// table in place (`mmap_lock`, or interrupts off for a lockless walk).
    #[inline]
    pub(crate) fn peek(self, va: VirtAddr) -> Option<Entry> {
        let table = self.table()?;
        Some(cells::look(table, cell(table, va, PTE_LEVEL)))
    }

    /// The PTE table under this PMD, if there is one.
    #[inline]
    pub(crate) fn table(self) -> Option<Pfn> {
        let entry = self.get();
        (entry.is_present() && !entry.is_huge()).then(|| entry.pfn())
    }
}

impl PmdRef {
    /// Hangs the PTE table from here below `to` instead, if there is one and `to` is empty; true then. The caller
    /// holds `mmap_lock` exclusively and keeps reverse walks away from both places.
    pub(crate) fn move_table(self, to: Self) -> bool {
        if self.table().is_none() || !to.get().is_none() {
            return false;
        }
        // One lock at a time, they may be the same: nobody looks for the table in between.
        let entry = {
            let _pmd = frame(self.table).ptl().lock(Rank::Pmd);
            cells::exchange(self.cell, Entry::NONE)
        };
        let _pmd = frame(to.table).ptl().lock(Rank::Pmd);
        cells::publish(to.cell, entry);
        true
    }
}

/// The place of an entry that points to a table: PMD (level 1), PUD (2) or PGD (3) entry.
pub(crate) struct UpperRef {
    level: u32,
    table: Pfn,
    index: usize,
}

impl UpperRef {
    /// The entry of `level` for `va`.
    ///
    /// # Errors
    /// The level whose entry is missing above it.
    pub(crate) fn lookup(mm: &Mm, va: VirtAddr, level: u32) -> Result<Self, u32> {
        let mut table = mm.root();
        for above in (level + 1..=3).rev() {
            let entry = cells::read(cell(table, va, above));
            if !entry.is_present() {
                return Err(above);
            }
            table = entry.pfn();
        }
        Ok(Self {
            level,
            table,
            index: va.table_index(level),
        })
    }

    /// Goes to the next entry; the caller stays within the table.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.index += 1;
    }

    /// The level of the first missing entry on the way to the PMD entry of `va` (3 or 2; 1 when all are
    /// there).
    pub(crate) fn missing_level(mm: &Mm, va: VirtAddr) -> u32 {
        match Self::lookup(mm, va, 1) {
            Ok(_) => 1,
            Err(level) => level,
        }
    }

    /// Empties the entry and returns the table it named. The caller holds `mmap_lock` exclusively and no
    /// area covers the range any more.
    #[inline]
    pub(crate) fn detach(&self, mm: &Mm) -> Option<Pfn> {
        let cell = cell_at(self.table, self.index);
        if !cells::read(cell).is_present() {
            return None;
        }
        let old = if self.level == 1 {
            let _pmd = frame(self.table).ptl().lock(Rank::Pmd);
            cells::exchange(cell, Entry::NONE)
        } else {
            let _upper = mm.pgt_lock.lock();
            cells::exchange(cell, Entry::NONE)
        };
        Some(old.pfn())
    }
}

#[cold]
fn install_upper(mm: &Mm, c: &AtomicU64) -> Result<Pfn, Oom> {
    let fresh = alloc_table()?;
    let found = {
        let _upper = mm.pgt_lock.lock();
        let now = cells::read(c);
        if now.is_none() {
            cells::publish(c, Entry::from_bits(fresh, TABLE_BITS));
            mm.tables.add(1);
            return Ok(fresh);
        }
        now.pfn()
    };
    free_table(fresh);
    Ok(found)
}

/// A locked PTE table with a cursor: the proof that its entries are ours to change.
pub struct PteLocked {
    table: Pfn,
    index: usize,
    _guard: RawGuard<'static>,
}

impl PteLocked {
    /// Moves the cursor to the entry of `va`, which lies in the same table.
    #[inline]
    pub(crate) fn seek(&mut self, va: VirtAddr) {
        self.index = va.table_index(PTE_LEVEL);
    }
    #[inline]
    fn cell(&self) -> &'static AtomicU64 {
        cell_at(self.table, self.index)
    }
    /// The entry at the cursor.
    #[inline]
    pub(crate) fn get(&self) -> Entry {
        cells::read(self.cell())
    }
    /// Replaces an entry that the MMU cannot be changing (none, swap, or made unreachable before).
    #[inline]
    pub(crate) fn set(&mut self, entry: Entry) {
        cells::publish(self.cell(), entry);
    }
    /// Takes the entry out and returns it with the A and D bits the MMU had set.
    #[inline]
    pub(crate) fn clear(&mut self) -> Entry {
        cells::exchange(self.cell(), Entry::NONE)
    }
    /// Takes the entry out and puts another in, in one step.
    #[inline]
    pub(crate) fn exchange(&mut self, entry: Entry) -> Entry {
        cells::exchange(self.cell(), entry)
    }
    /// Gives a present entry the rights `bits` and keeps its frame and its A, D and software bits. Returns the
    /// entry before.
    #[inline]
    pub(crate) fn set_rights(&mut self, bits: u64) -> Entry {
        cells::replace_bits(self.cell(), KEPT, bits)
    }
    /// Clears `bits`, keeping what the MMU sets meanwhile. Returns the entry before.
    #[inline]
    pub(crate) fn clear_bits(&mut self, bits: u64) -> Entry {
        cells::clear_bits(self.cell(), bits)
    }
    /// Sets `bits`. Returns the entry before.
    #[inline]
    pub(crate) fn set_bits(&mut self, bits: u64) -> Entry {
        cells::set_bits(self.cell(), bits)
    }
}
