//! Splitting a huge page: one PMD entry becomes a table of PTEs, and its folio becomes as many
//! folios as it has pages.
//!
//! A huge folio is mapped by exactly one entry, whose reference is its only one: whoever needs less
//! than all of it splits it first. In this order, under the lock of the PMD table:
//! 1. the reference is frozen;
//! 2. the entry is made invalid, and every CPU is flushed: none may hold a translation of the huge
//!    page and one of a part of it (rule 11);
//! 3. each page becomes a folio, on the LRU list that the huge one was on;
//! 4. the deposited table, filled, takes the place of the entry.
//!
//! Locks: `Rank::Pmd`, inside it an LRU shard's. The caller holds `mmap_lock` at least shared, or a
//! lock of a reverse map, and no lock of a table. Never sleeps, allocates nothing, does not fail.

use super::{Invalidation, Pmd, PmdRef};
use crate::frame::{Folio, flag};
use crate::knobs::Knob;
use crate::lru;
use crate::mm::Mm;
use crate::stats::{Event, Use, count};
use arch::VirtAddr;
use arch::addr::PMD_SIZE;

/// Splits every huge page of `start..end`, also those that reach beyond it.
#[inline]
pub(crate) fn split_range(mm_id: u32, mm: &Mm, start: u64, end: u64) {
    if mm.anon_huge.get() > 0 {
        let mut va = start & !(PMD_SIZE - 1);
        while va < end {
            split(mm_id, mm, VirtAddr(va));
            va += PMD_SIZE;
        }
    }
}

/// Makes `start` and `end` places where no huge page goes on: areas may be cut there.
#[inline]
pub(crate) fn split_ends(mm_id: u32, mm: &Mm, start: u64, end: u64) {
    if mm.anon_huge.get() > 0 {
        for at in [start, end] {
            if !at.is_multiple_of(PMD_SIZE) {
                split(mm_id, mm, VirtAddr(at));
            }
        }
    }
}

/// Splits the huge page that is mapped at `va`, if there is one.
#[cold]
#[inline(never)]
pub(crate) fn split(mm_id: u32, mm: &Mm, va: VirtAddr) {
    split_if(mm_id, mm, va, |_| true);
}

/// The same, if it is the one that the caller means; true when it was split.
pub(crate) fn split_if(
    mm_id: u32,
    mm: &Mm,
    va: VirtAddr,
    is_it: impl FnOnce(Folio) -> bool,
) -> bool {
    let va = VirtAddr(va.0 & !(PMD_SIZE - 1));
    let Some(pmd) = PmdRef::lookup(mm, va) else {
        return false;
    };
    let within = Invalidation::begin(mm_id, mm, va, PMD_SIZE);
    let mut locked = pmd.lock();
    let entry = match locked.read() {
        Pmd::Huge(entry) => entry,
        Pmd::None | Pmd::Table(_) => return false,
        other => other.unmet(),
    };
    let folio = Folio::of(entry.pfn());
    if !is_it(folio) {
        return false;
    }
    while !folio.freeze(1) {
        // A lockless walker that came too late has a reference for a moment, with interrupts off.
        core::hint::spin_loop();
    }
    let old = locked.unhook(entry.being_split());
    // As it was when it went: with the bits that the MMU had set until then.
    let entry = old.flush_at_once(&within, va, Knob::HugeFlush);
    into_pages(folio);
    locked.populate(mm, |i| entry.piece(i));
    count(Event::ThpSplitPage);
    true
}

/// From one frozen folio to one for each of its pages, each with the reference of its entry to be.
fn into_pages(head: Folio) {
    const KEPT: u32 = flag::SWAPBACKED
        | flag::UPTODATE
        | flag::DIRTY
        | flag::EXCLUSIVE
        | flag::SIGNS
        | flag::WORKINGSET;
    let (state, shard) = (head.flags() & KEPT, head.shard() as u32);
    let (mapping, index) = (head.mapping(), head.index());
    lru::replace_by_pages(head, |page, i, listed| {
        page.init_flags(state | listed, shard, Use::Anon);
        page.set_mapping(mapping);
        page.set_index(index + i);
        page.init_mapcount(1);
        page.init_refcount(1);
    });
    head.unfreeze(1);
}
