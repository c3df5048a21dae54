//! Zapping: taking a range's entries, then its tables, out of an address space.
//!
//! [`range`] needs `mmap_lock` (shared is enough) and takes one PTL at a time; [`tables`] needs it
//! exclusively, with every area of the range out of its anon_vma, so that neither faults nor reverse walks
//! are on their way into a table. Both only fill the [`Gather`]; its flush frees. No allocation; sleeps
//! never; interrupts on (a full batch is flushed).
//!
//! The rmap of anonymous folios is dropped under the PTL: reclaim cannot free one while the gather holds
//! the entry's reference.

use crate::folio;
use crate::frame::{flag, frame};
use crate::pt::gather::{Gather, Room, Unflushed};
use crate::pt::{PmdRef, PteLocked, UpperRef, tlb};
use crate::swap;
use arch::VirtAddr;
use arch::addr::{PAGE_SIZE, PMD_SIZE};
use arch::pte::Entry;

/// Takes every entry of `start..end` out. What was mapped goes to the gather, swap slots are given back.
pub(crate) fn range(gather: &mut Gather<'_>, start: u64, end: u64) {
    let mut va = start;
    while va < end {
        let table_end = ((va & !(PMD_SIZE - 1)) + PMD_SIZE).min(end);
        match PmdRef::lookup(gather.mm(), VirtAddr(va)) {
            Some(pmd) => va = one_table(gather, pmd, va, table_end),
            None => va = skip_hole(gather, va, end),
        }
    }
}

/// The end of the hole at `va`: without an upper table nothing below it exists.
fn skip_hole(gather: &Gather<'_>, va: u64, end: u64) -> u64 {
    let level = UpperRef::missing_level(gather.mm(), VirtAddr(va));
    let size = PAGE_SIZE << (9 * level);
    ((va & !(size - 1)).saturating_add(size)).min(end)
}

/// Zaps `va..end` within one PTE table; returns how far it came before the batch was full.
fn one_table(gather: &mut Gather<'_>, pmd: PmdRef, mut va: u64, end: u64) -> u64 {
    let Some(mut pte) = pmd.lock(VirtAddr(va)) else {
        return end;
    };
    tlb::flush_batched_pending(gather.mm_id(), gather.mm());
    let mut pages = 0;
    let mut slots = 0;
    let mut room = Room::Left;
    while va < end && room == Room::Left {
        pte.seek(VirtAddr(va));
        if !pte.get().is_none() {
            let old = pte.clear();
            if old.is_swap() {
                swap::free_entry(old.swap_slot());
                slots += 1;
            } else {
                pages += i64::from(!old.is_special());
                room = unhook(gather, &pte, VirtAddr(va), old);
            }
        }
        va += PAGE_SIZE;
    }
    drop(pte);
    gather.mm().anon_pages.add(-pages);
    gather.mm().swap_entries.add(-slots);
    if room == Room::Full {
        gather.flush();
    }
    va
}

/// Hands what `old` mapped to the gather. The lock is the proof that the entry is gone for good.
#[inline]
fn unhook(gather: &mut Gather<'_>, _ptl: &PteLocked, va: VirtAddr, old: Entry) -> Room {
    if old.is_special() {
        gather.note(va);
        return Room::Left;
    }
    let pfn = old.pfn();
    let f = frame(pfn);
    if f.has(flag::SWAPCACHE) {
        if old.is_dirty() {
            f.flags_point();
            f.set(flag::DIRTY);
        }
        f.map_dec();
        // The slot is of no use once nobody maps the folio; where the folio is busy, reclaim finds it.
        if f.mapcount() == 0
            && let Some(guard) = folio::try_lock(pfn)
        {
            swap::cache::try_drop(&guard);
        }
    } else {
        f.map_dec();
    }
    gather.add(va, Unflushed::new(pfn))
}

/// Unhooks every table that covers some of `start..end` and lies wholly in `floor..ceiling`, where no area
/// is left.
pub(crate) fn tables(gather: &mut Gather<'_>, start: u64, end: u64, floor: u64, ceiling: u64) {
    for level in 0..3 {
        let size = PMD_SIZE << (9 * level);
        let first = floor.next_multiple_of(size).max(start & !(size - 1));
        let last = (ceiling & !(size - 1)).min(end.next_multiple_of(size));
        level_tables(gather, level, first, last);
    }
}

/// Unhooks the tables of `level` (0 = PTE tables) in the range. Lower levels are gone already.
fn level_tables(gather: &mut Gather<'_>, level: u32, mut va: u64, end: u64) {
    let size = PMD_SIZE << (9 * level);
    while va < end {
        match UpperRef::lookup(gather.mm(), VirtAddr(va), level + 1) {
            Ok(mut place) => {
                let table_end = ((va & !(size * 512 - 1)) + size * 512).min(end);
                while va < table_end {
                    if let Some(table) = place.detach(gather.mm()) {
                        gather.add_table(table, va, va + size);
                    }
                    place.advance();
                    va += size;
                }
            }
            Err(missing) => {
                let hole = PAGE_SIZE << (9 * missing);
                va = (va & !(hole - 1)).saturating_add(hole);
            }
        }
    }
}
