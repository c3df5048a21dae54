//! Page tables: four levels, a lock per PMD and PTE table, and the ways down.
//!
//! - PGD and PUD entries change only none → table, under the mm's `pgt_lock`; tables go away only
//!   under `mmap_lock` held exclusively, after every area in their range is out of its anon_vma.
//! - PMD entries change only under the PMD table's lock (`Rank::Pmd`, in the memmap word of that
//!   table).
//! - PTE entries change only under the PTE table's lock (`Rank::Ptl`); the MMU sets A and D by
//!   itself, so whoever clears or replaces a present entry uses an atomic exchange.
//!
//! A read of a PMD yields a [`Pmd`]. Mapping the PTE table that it names can *fail*
//! ([`TableRef::lock`] returns [`Changed`]): the caller then reads the PMD again. Nothing here
//! sleeps, except that allocating a table may reclaim: no lock below `mmap_lock` may be held then.

#![expect(unsafe_code, reason = "a page table becomes an owned block again")]

mod cells;
pub(crate) mod gather;
mod huge;
mod invalidation;
mod locked;
mod pmd;
pub(crate) mod range;
pub(crate) mod split;
pub(crate) mod tlb;
mod unhooked;
mod upper;
pub(crate) mod walk;

pub(crate) use huge::PmdLocked;
pub(crate) use invalidation::{Invalidation, assert_no_table_locked};
pub(crate) use pmd::{Changed, Pmd, TableRef};
pub(crate) use unhooked::{Unhooked, Weaker};
pub(crate) use upper::UpperRef;
pub(crate) use {locked::PteLocked, pmd::PmdRef};

use crate::buddy::{self, Gfp, Oom, Page};
use crate::content::HasContent;
use crate::mm::Mm;
use crate::stats::{Event, Use, count};
use arch::addr::entries;
use arch::pte::{self, Entry};
use arch::{Pfn, VirtAddr};
use cells::cell_at;
use core::sync::atomic::Ordering;
use sync::point::{self, AccessKind, PointKind};

/// Bits of an entry that points to a table.
const TABLE_BITS: u64 = pte::PRESENT | pte::WRITE | pte::USER | pte::ACCESSED;

/// What of an entry does not depend on the rights of its area.
pub(crate) const KEPT: u64 = pte::ADDR_MASK | pte::ACCESSED | pte::DIRTY | pte::SPECIAL;

/// Level of the PTE tables; 1 is PMD, 2 is PUD, 3 is PGD.
const PTE_LEVEL: u32 = 0;
/// The level of the root.
const PGD_LEVEL: u32 = 3;

/// A zeroed table page. May reclaim.
pub(crate) fn alloc_table() -> Result<Pfn, Oom> {
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
    for i in entries(PGD_LEVEL) / 2..entries(PGD_LEVEL) {
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

/// The locked table of `va`, with the cursor on its entry; `None` where there is no table. The
/// caller keeps tables in place, and knows that no huge page is mapped there.
#[cfg(feature = "lab")]
pub(crate) fn lock_at(mm: &Mm, va: VirtAddr) -> Option<PteLocked> {
    match lock_leaf(mm, va)? {
        LeafLock::Table(pte) => Some(pte),
        LeafLock::Huge(pmd) => pmd.read().unmet(),
    }
}

/// What maps a page, locked.
pub(crate) enum LeafLock {
    /// A PTE table, with the cursor on the page's entry.
    Table(PteLocked),
    /// The PMD of a huge page that the page is a part of.
    Huge(PmdLocked),
}

/// The locked table that has the entry of `va`, or the locked PMD; `None` where there is neither.
/// The caller keeps tables in place.
pub(crate) fn lock_leaf(mm: &Mm, va: VirtAddr) -> Option<LeafLock> {
    loop {
        // From the root each time: a table that was on the way may be gone.
        let pmd = PmdRef::lookup(mm, va)?;
        match pmd.read() {
            Pmd::Table(table) => {
                if let Ok(pte) = table.lock(va) {
                    return Some(LeafLock::Table(pte));
                }
            }
            Pmd::None => return None,
            Pmd::Huge(_) | Pmd::Invalid(_) => {
                let locked = pmd.lock();
                if let Pmd::Huge(_) = locked.read() {
                    return Some(LeafLock::Huge(locked));
                }
            }
            moving @ Pmd::Migration(_) => moving.unmet(),
        }
    }
}

impl LeafLock {
    /// The entry of `va`: of a huge page, what it would be if that were split.
    pub(crate) fn entry(&mut self, va: VirtAddr) -> Entry {
        match self {
            Self::Table(pte) => {
                pte.seek(va);
                pte.get()
            }
            Self::Huge(pmd) => match pmd.read() {
                Pmd::Huge(entry) => entry.piece(va.table_index(PTE_LEVEL) as u32),
                other => other.unmet(),
            },
        }
    }
}
