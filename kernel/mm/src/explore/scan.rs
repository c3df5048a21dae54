//! Looking at everything while nobody runs: no lock is taken (the swap cache's only where it is
//! free), nothing is changed. Never sleeps.

use crate::folio::Folio;
use crate::frame::{flag, frame};
use crate::lru;
use crate::mm::{Mm, by_id, id_limit};
use crate::pt::{Pmd, PmdRef, tlb};
use crate::reclaim;
use crate::rmap::walk;
use crate::stats::Use;
use crate::swap::cache;
use crate::vma::{Vma, anon, imap};
use alloc::format;
use alloc::string::String;
use arch::addr::{PAGE_SIZE, USER_TOP, entries, span};
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use core::sync::atomic::Ordering;

/// Calls `f` with the id and record of every live address space.
pub fn each_space(f: &mut dyn FnMut(u32, &'static Mm)) {
    for id in 0..id_limit() {
        if by_id(id).users.load(Ordering::Acquire) != 0 {
            f(id, by_id(id));
        }
    }
}

/// The entry of `va`, as it is.
pub fn entry(mm: &Mm, va: VirtAddr) -> Option<Entry> {
    match PmdRef::read_at(mm, va) {
        Pmd::Table(table) => Some(table.peek(va)),
        Pmd::None => None,
        Pmd::Huge(huge) => Some(huge.piece(va.table_index(0) as u32)),
        other => other.unmet(),
    }
}

/// Calls `f` with every entry of a PTE table of `mm` that is not empty, whether an area covers it
/// or not. A huge page counts as the entries that it would have if it were split.
pub fn each_entry(mm: &Mm, f: &mut dyn FnMut(VirtAddr, Entry)) {
    each_below(mm.root(), 3, 0, f);
}

/// The same for the part of it that hangs below the table of `level` whose first address is `base`.
/// The kernel's half of the root is left out.
fn each_below(table: Pfn, level: u32, base: u64, f: &mut dyn FnMut(VirtAddr, Entry)) {
    let size = span(level);
    for (i, cell) in (0..).zip(&super::words(table)[..entries(level)]) {
        let va = base + i * size;
        // Acquire pairs with the Release that published the entry.
        let entry = Entry(cell.load(Ordering::Acquire));
        if va >= USER_TOP {
            return;
        }
        if entry.is_none() {
            continue;
        }
        if level == 0 {
            f(VirtAddr(va), entry);
        } else if let Some(table) = entry.table() {
            each_below(table, level - 1, va, f);
        } else {
            for i in 0..entries(0) as u32 {
                f(VirtAddr(va + u64::from(i) * PAGE_SIZE), entry.piece(i));
            }
        }
    }
}

/// Page tables of `mm`, its root and deposited ones included.
pub fn tables(mm: &Mm) -> u64 {
    1 + tables_below(mm.root(), 3, 0)
}

/// As [`each_below`].
fn tables_below(table: Pfn, level: u32, base: u64) -> u64 {
    if level == 0 {
        return 0;
    }
    let size = span(level);
    let mut found = 0;
    for (i, cell) in (0..).zip(&super::words(table)[..entries(level)]) {
        let va = base + i * size;
        // Acquire pairs with the Release that published the entry.
        let entry = Entry(cell.load(Ordering::Acquire));
        if va >= USER_TOP {
            break;
        }
        if let Some(table) = entry.table() {
            found += 1 + tables_below(table, level - 1, va);
        } else if !entry.is_none() {
            found += 1;
        }
    }
    found
}

/// Pages in the areas of `mm`.
///
/// # Errors
/// Its lock is held, or the tree of its areas is damaged: what is wrong with it.
pub fn mapped_pages(mm: &Mm) -> Result<u64, &'static str> {
    let set = mm.mmap_lock.try_read().ok_or("its mmap_lock is held")?;
    set.validate()?;
    Ok(set.iter().map(|(_, area)| area.pages()).sum())
}

/// The folio is where reclaim finds it: on the LRU list that its flags name, or in the laundry.
pub fn is_listed(pfn: Pfn) -> bool {
    let folio = Folio::of(pfn);
    lru::is_listed(folio) || reclaim::is_in_laundry(folio)
}

/// How many entries that map the frame its own reverse walk finds.
pub fn mapped_by_rmap(pfn: Pfn) -> usize {
    let f = Folio::of(pfn);
    let mut found = 0;
    let mut look = |area: &Vma| {
        let entry = area
            .address_of(f.index())
            .and_then(|va| self::entry(by_id(area.mm()), va));
        found += usize::from(entry.is_some_and(|e| walk::maps(e, pfn)));
    };
    match f.usage() {
        Use::File => imap::peek_folio(f, look),
        _ => anon::peek_folio(f, &mut look),
    }
    found
}

/// Where the page is that an entry stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// In this frame, mapped or in the swap cache: [`super::words`] has it.
    Frame(Pfn),
    /// On the disk only, in this slot.
    Slot(u32),
}

/// Where the page is that `entry` stands for; `None` for an empty entry.
pub fn content(entry: Entry) -> Option<Content> {
    if entry.is_none() {
        return None;
    }
    if !entry.is_swap() {
        return Some(Content::Frame(entry.pfn()));
    }
    Some(of_slot(entry.swap_slot()))
}

/// Where the page is that a slot is named for.
pub(super) fn of_slot(slot: u32) -> Content {
    let cached = cache::peek(slot).filter(|&pfn| frame(pfn).has(flag::UPTODATE));
    cached.map_or(Content::Slot(slot), Content::Frame)
}

/// A TLB request that is not served everywhere, or a gather under way in `mm`: what there is.
pub fn pending(mm: &Mm) -> Option<String> {
    let gathers = mm.gathers.load(Ordering::Relaxed);
    if gathers != 0 {
        return Some(format!("{gathers} gathers have not flushed"));
    }
    requests()
}

/// A TLB request that is not served everywhere.
pub(super) fn requests() -> Option<String> {
    tlb::unserved().map(|(sender, cpus)| match sender {
        Some(sender) => format!(
            "the TLB request of CPU {sender} waits for CPUs {:#x}",
            cpus.bits()
        ),
        None => format!("CPUs {:#x} have a TLB request to serve", cpus.bits()),
    })
}
