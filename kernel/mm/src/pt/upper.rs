//! Entries that name tables, above the PTE tables, and how a table is taken out of one.
//!
//! PGD and PUD entries change none → table under the mm's `pgt_lock`. Every table goes away only
//! under `mmap_lock` held exclusively, after every area in its range is out of its anon_vma and its
//! file's tree. Never sleeps, but that [`install`] may reclaim.

use super::cells::{self, cell, cell_at};
use super::{TABLE_BITS, alloc_table, free_table, pmd};
use crate::buddy::Oom;
use crate::mm::Mm;
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use core::sync::atomic::AtomicU64;

/// Level of the PMD tables.
const PMD_LEVEL: u32 = 1;

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

    /// The level of the first missing entry on the way to the PMD entry of `va` (3 or 2; 1 when all
    /// are there).
    pub(crate) fn missing_level(mm: &Mm, va: VirtAddr) -> u32 {
        match Self::lookup(mm, va, PMD_LEVEL) {
            Ok(_) => PMD_LEVEL,
            Err(level) => level,
        }
    }

    /// Empties the entry and returns the table it named. The caller holds `mmap_lock` exclusively
    /// and no area covers the range any more.
    #[inline]
    pub(crate) fn detach(&self, mm: &Mm) -> Option<Pfn> {
        if self.level == PMD_LEVEL {
            return pmd::detach(self.table, self.index);
        }
        let cell = cell_at(self.table, self.index);
        if !cells::read(cell).is_present() {
            return None;
        }
        let _upper = mm.pgt_lock.lock();
        Some(cells::exchange(cell, Entry::NONE).pfn())
    }
}

/// Puts a table into an entry that was seen empty; returns that, or what another CPU has put in
/// meanwhile. May reclaim.
///
/// # Errors
/// [`Oom`] when there is no frame for it.
#[cold]
pub(super) fn install(mm: &Mm, c: &AtomicU64) -> Result<Pfn, Oom> {
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
