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
mod invalidation;
mod locked;
mod pmd;
pub(crate) mod range;
pub(crate) mod tlb;
mod unhooked;
mod upper;
pub(crate) mod walk;

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
/// caller keeps tables in place.
pub(crate) fn lock_at(mm: &Mm, va: VirtAddr) -> Option<PteLocked> {
    loop {
        match PmdRef::read_at(mm, va) {
            Pmd::Table(table) => {
                if let Ok(pte) = table.lock(va) {
                    return Some(pte);
                }
            }
            Pmd::None => return None,
            huge => huge.unmet(),
        }
    }
}
