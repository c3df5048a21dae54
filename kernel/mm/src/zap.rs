//! Zapping: taking a range's entries, then its tables, out of an address space.
//!
//! [`all`] needs `mmap_lock` (shared is enough) and takes one PTL at a time; [`tables`] needs it
//! exclusively, with every area of the range out of its reverse maps, so that neither faults nor
//! reverse walks are on their way into a table. Both only fill the [`Gather`]; its flush frees. No
//! allocation; sleeps never; interrupts on (a full batch is flushed). [`file_range`] finds the
//! areas by itself and needs no `mmap_lock`: it holds the file's `Rank::IMmap` lock shared, which
//! keeps the areas and the tables under them; it sleeps for that only.
//!
//! The rmap of anonymous folios, and of file folios that were not written through the entry, is
//! dropped under the PTL: reclaim cannot free one while the gather holds the entry's reference. The
//! gather drops the others' (rule 2).

use crate::folio::Folio;
use crate::frame::flag;
use crate::lru;
use crate::mm::by_id;
use crate::pt::gather::{Gather, Room, Unhooking};
use crate::pt::range::{self, Leaf, Locked};
use crate::pt::{PmdLocked, PteLocked, Unhooked, UpperRef, tlb};
use crate::swap;
use crate::vma::{imap, vm};
use arch::VirtAddr;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE, PMD_SIZE, span};
use arch::pte::Entry;
use core::ops::ControlFlow::{Break, Continue};

/// Takes every entry of `start..end` out. What was mapped goes to the gather, swap slots are given
/// back.
pub(crate) fn all(gather: &mut Gather<'_>, start: u64, end: u64) {
    entries::<true>(gather, start, end);
}

/// Unmaps the pages `first` to `last` of a file everywhere (Linux: `unmap_mapping_range`). With
/// `even_cows` also the copies that private areas have made of them. Every entry that was there
/// when this was called is gone, and flushed everywhere; what faults put in meanwhile is the
/// caller's to prevent. Sleeps.
pub(crate) fn file_range(file: u32, first: u32, last: u32, even_cows: bool) {
    let areas = imap::read(file);
    areas.for_each_vma(first, last, |area| {
        let low = area.address_of(first.max(area.pgoff()));
        let pages = u64::from(last - area.pgoff()) + 1;
        let end = (area.start() + (pages << PAGE_SHIFT)).min(area.end());
        if let Some(VirtAddr(start)) = low {
            let id = area.mm();
            let mut gather = Gather::new(id, by_id(id));
            if even_cows || area.has(vm::SHARED) {
                entries::<true>(&mut gather, start, end);
            } else {
                entries::<false>(&mut gather, start, end);
            }
        }
        true
    });
}

/// Takes the entries of `start..end` out: all of them, or (without `COWS`) those that map pages of
/// files.
fn entries<const COWS: bool>(gather: &mut Gather<'_>, start: u64, end: u64) {
    let (id, mm) = (gather.mm_id(), gather.mm());
    range::locked_or_huge(id, mm, start, end, |part| match part {
        Locked::Table(pte, start, end) => one_table::<COWS>(gather, pte, start, end),
        Locked::Huge(pmd, va) => one_huge(gather, pmd, va),
    });
}

/// Zaps `start..end` within one PTE table; returns how far it came before the batch was full.
fn one_table<const COWS: bool>(
    gather: &mut Gather<'_>,
    pte: PteLocked,
    start: u64,
    end: u64,
) -> u64 {
    let mm = gather.mm();
    tlb::flush_batched_pending(gather.mm_id(), mm);
    let mut gone = Gone::default();
    let full = gather.in_table(pte, |table| {
        range::entries(table, start, end, |table, va, seen| {
            if !COWS && !maps_file(seen) {
                return Continue(());
            }
            let old = table.pte.unhook(Entry::NONE);
            match take(table, va, old, &mut gone) {
                Room::Left => Continue(()),
                Room::Full => Break(()),
            }
        })
    });
    mm.anon_pages.add(-gone.anon);
    mm.swap_entries.add(-gone.slots);
    if gone.file > 0 {
        mm.file_pages.add(-gone.file);
    }
    match full {
        Continue(()) => end,
        Break((va, ())) => {
            gather.flush();
            va + PAGE_SIZE
        }
    }
}

/// Zaps a huge page, which is anonymous.
#[cold]
#[inline(never)]
fn one_huge(gather: &mut Gather<'_>, pmd: PmdLocked, va: VirtAddr) -> u64 {
    gather
        .mm()
        .anon_pages
        .add(-((PMD_SIZE >> PAGE_SHIFT) as i64));
    gather.take_huge(pmd, va);
    va.0 + PMD_SIZE
}

/// What one table has lost.
#[derive(Default)]
struct Gone {
    anon: i64,
    file: i64,
    slots: i64,
}

/// The entry maps a page of a file's cache.
fn maps_file(entry: Entry) -> bool {
    matches!(Leaf::of(entry), Leaf::Page(pfn) if Folio::of(pfn).is_file())
}

/// Hands what `old` mapped to the gather. It is gone from its locked table for good.
#[inline(always)]
fn take(table: &mut Unhooking<'_, '_>, va: VirtAddr, old: Unhooked, gone: &mut Gone) -> Room {
    let entry = old.entry();
    if entry.is_present() && !entry.is_special() {
        let f = Folio::of(entry.pfn());
        if f.is_plain_anon() {
            gone.anon += 1;
            f.map_dec();
            return table.add(va, old);
        }
    }
    take_other(table, va, old, gone)
}

/// As [`take`], for everything but an anonymous page in use that only entries know: apart, as those
/// are the most.
#[inline(never)]
fn take_other(table: &mut Unhooking<'_, '_>, va: VirtAddr, old: Unhooked, gone: &mut Gone) -> Room {
    let pfn = match Leaf::of(old.entry()) {
        Leaf::Page(pfn) => pfn,
        Leaf::Special => {
            table.add_special(va, old);
            return Room::Left;
        }
        Leaf::Swap(slot) => {
            let _ = old.never_used();
            swap::free_entry(slot);
            gone.slots += 1;
            return Room::Left;
        }
        Leaf::Migration => {
            // Holds nothing; what moves the page finds one entry less.
            let _ = old.never_used();
            gone.anon += 1;
            return Room::Left;
        }
    };
    let f = Folio::of(pfn);
    if f.is_file() {
        gone.file += 1;
        return take_file(table, va, old);
    }
    gone.anon += 1;
    let cached = f.has(flag::SWAPCACHE);
    if cached && old.entry().is_dirty() {
        f.flags_point();
        f.set(flag::DIRTY);
    }
    f.map_dec();
    if cached {
        drop_slot(f);
    }
    table.add(va, old)
}

/// As [`take`], for a page of a file.
fn take_file(table: &mut Unhooking<'_, '_>, va: VirtAddr, old: Unhooked) -> Room {
    let entry = old.entry();
    let f = Folio::of(entry.pfn());
    if entry.is_accessed() {
        // What the entry knew of its use goes with it.
        lru::sign_used(f);
    }
    if entry.is_dirty() {
        return table.add_written(va, old);
    }
    f.map_dec();
    table.add(va, old)
}

/// The slot of a folio in the swap cache is of no use once nobody maps the folio; where the folio
/// is busy, reclaim finds it.
fn drop_slot(folio: Folio) {
    if folio.mapcount() == 0
        && let Some(guard) = folio.try_lock()
    {
        swap::cache::try_drop(&guard);
    }
}

/// Unhooks every table that covers some of `start..end` and lies wholly in `floor..ceiling`, where
/// no area is left.
pub(crate) fn tables(gather: &mut Gather<'_>, start: u64, end: u64, floor: u64, ceiling: u64) {
    for level in 0..3 {
        let size = span(level + 1);
        let first = floor.next_multiple_of(size).max(start & !(size - 1));
        let last = (ceiling & !(size - 1)).min(end.next_multiple_of(size));
        level_tables(gather, level, first, last);
    }
}

/// Unhooks the tables of `level` (0 = PTE tables) in the range. Lower levels are gone already.
fn level_tables(gather: &mut Gather<'_>, level: u32, mut va: u64, end: u64) {
    let (size, all) = (span(level + 1), span(level + 2));
    while va < end {
        match UpperRef::lookup(gather.mm(), VirtAddr(va), level + 1) {
            Ok(mut place) => {
                let table_end = ((va & !(all - 1)) + all).min(end);
                while va < table_end {
                    if let Some(table) = place.detach(gather.mm()) {
                        gather.add_table(table, va, va + size);
                    }
                    place.advance();
                    va += size;
                }
            }
            Err(missing) => {
                let hole = span(missing);
                va = (va & !(hole - 1)).saturating_add(hole);
            }
        }
    }
}
