//! Mine alone: folios that are taken over, or given up, while somebody still reaches them (rules 13
//! and 14).

use arch::PAGE_SIZE;
use arch::upcall::Access;
use mm::knobs::Knob;
use mm::{Advice, MmError, Prot};

use super::play::{
    self, BESIDE, FEW_STOPS, HOME, Play, dont_need, family, free, must, one_filled_page, one_space,
    page, page_on_disk, remember_frame, remembered, shared_page, write_through,
};
use crate::race::disk::PAGES as DISK_PAGES;
use crate::race::stage::Stage;

/// The parent gives the page up.
fn drop_in_parent(stage: &Stage) {
    dont_need(stage, 0, HOME, 1);
}

/// Rule 13: what one reclaimer has unmapped in part, another does not free before the flush.
pub(super) static HALF_UNMAPPED: Play = Play {
    name: "half-unmapped-vs-reclaim",
    about: "A's CPU translates to a page that B, as kswapd, reclaims; C, the child, makes its copy and reclaims the old page",
    fixes: &[Knob::KeepLocked, Knob::ReclaimFlush],
    spaces: &[Some(0), None, Some(1)],
    stops: FEW_STOPS,
    is_small: true,
    // With its copy on the disk, so that nobody waits for that.
    setup: |stage| {
        page_on_disk(stage)?;
        let faulted = stage.space(0).fault(HOME, Access::Read);
        faulted.map_err(|_| MmError::NotMapped)?;
        family(stage, 0, 1)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    enter: |stage, me| match me {
        0 => must(stage, "load", stage.load(HOME)),
        // The translation stays; to reclaim, the page looks unused.
        1 => mm::reclaim::age(remembered(stage)),
        _ => {}
    },
    run: |stage, me| match me {
        0 => {}
        1 => mm::reclaim::one_if_unused(remembered(stage)),
        _ => {
            must(stage, "store", stage.store(HOME, 20));
            mm::reclaim::one_if_unused(remembered(stage));
        }
    },
    ..Play::NEW
};

/// As [`HALF_UNMAPPED`], with a reclaimer of its own for each of the two.
pub(super) static TWO_RECLAIMERS: Play = Play {
    name: "half-unmapped-vs-two",
    about: "A's CPU translates to a page that B and C, as kswapd, reclaim while D, the child, makes its copy of it",
    spaces: &[Some(0), None, None, Some(1)],
    is_small: false,
    run: |stage, me| match me {
        0 => {}
        1 | 2 => mm::reclaim::one_if_unused(remembered(stage)),
        _ => must(stage, "store", stage.store(HOME, 20)),
    },
    ..HALF_UNMAPPED
};

/// Rule 14 for swap-in. The parent has brought the page back from the disk, the child has not.
pub(super) static SWAPIN_VS_ZAP: Play = Play {
    name: "swapin-vs-zap",
    about: "A drops a page that B reads, in the parent; C, the child, stores to it, with its entry still on the disk",
    fixes: &[Knob::SoleByRefs],
    is_small: true,
    spaces: &[Some(0), Some(0), Some(1)],
    setup: |stage| {
        page_on_disk(stage)?;
        family(stage, 0, 1)
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => drop_in_parent(stage),
        1 => must(stage, "load", stage.load(HOME)),
        _ => must(stage, "store", stage.store(HOME, 20)),
    },
    ..Play::NEW
};

/// Rule 14 for a copy on write.
pub(super) static COW_VS_ZAP: Play = Play {
    name: "cow-vs-zap",
    about: "A drops a page that B reads, in the parent; C, the child, which shares it, stores to it",
    setup: shared_page,
    ..SWAPIN_VS_ZAP
};

/// Rule 14 for rights that an area gets.
pub(super) static MPROTECT_VS_ZAP: Play = Play {
    name: "mprotect-vs-zap",
    about: "A drops a page that B reads, in the parent; C makes the child's area of it writable again and stores",
    setup: |stage| {
        shared_page(stage)?;
        stage.space(1).mprotect(HOME, PAGE_SIZE, Prot::READ)
    },
    run: |stage, me| match me {
        0 => drop_in_parent(stage),
        1 => must(stage, "load", stage.load(HOME)),
        _ => {
            let protected = stage.space(1).mprotect(HOME, PAGE_SIZE, Prot::RW);
            must(stage, "mprotect", protected);
            must(stage, "store", stage.store(HOME, 20));
        }
    },
    ..SWAPIN_VS_ZAP
};

/// Rule 14 for lazy free: what is written through a walker's reference after MADV_FREE is not
/// dropped.
pub(super) static FREE_VS_WALKER: Play = Play {
    name: "madvise-free-vs-walker",
    about: "A gives a page's content up and reclaims it while B writes it through a reference from the lockless walk",
    fixes: &[Knob::SoleByRefs],
    is_small: true,
    setup: one_filled_page,
    run: |stage, me| {
        if me == 1 {
            return write_through(stage);
        }
        free(stage, 0, HOME);
        let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
        must(stage, "pageout", out);
    },
    ..Play::NEW
};

/// Rule 5: what a walker writes is in the page before the page may be swapped out and copied.
pub(super) static PAGEOUT_VS_WALKER: Play = Play {
    name: "pageout-vs-walker",
    about: "A swaps a page out and stores to it while B writes it through a reference from the lockless walk",
    fixes: &[Knob::ReclaimFlush],
    is_small: true,
    // Clean, with its copy on the disk: only the walker knows that it wrote.
    setup: |stage| {
        page_on_disk(stage)?;
        let faulted = stage.space(0).fault(HOME, Access::Read);
        faulted.map_err(|_| MmError::NotMapped)
    },
    run: |stage, me| {
        if me == 1 {
            return write_through(stage);
        }
        let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
        must(stage, "pageout", out);
        must(stage, "store", stage.store(BESIDE, 7));
    },
    ..Play::NEW
};

/// Rule 5: as [`PAGEOUT_VS_WALKER`], before the page is shared.
pub(super) static FORK_VS_WALKER: Play = Play {
    name: "fork-vs-walker",
    about: "A forks and stores to a page while B writes it through a reference from the lockless walk",
    fixes: &[Knob::WpFlush],
    run: |stage, me| {
        if me == 1 {
            return write_through(stage);
        }
        play::fork(stage);
        must(stage, "store", stage.store(BESIDE, 7));
    },
    ..PAGEOUT_VS_WALKER
};

/// Pages that leave one slot of the scenarios' swap disk free, its header apart.
const ALL_BUT_ONE: u64 = DISK_PAGES as u64 - 2;

/// Rule 4 for swap-in: the folio that was found may have left its slot, and another have come to
/// it, while its lock was waited for; the entry is the same again (Linux commit 31c4a3d3).
pub(super) static SLOT_USED_AGAIN: Play = Play {
    name: "slot-used-again",
    about: "A drops a page that B brings back from the disk, and swaps another one out to the same slot",
    fixes: &[Knob::SlotRecheck],
    spaces: &[Some(0), Some(0)],
    stops: FEW_STOPS,
    setup: |stage| {
        // Every other slot is taken.
        one_space(stage, 1 + ALL_BUT_ONE)?;
        let space = stage.space(0);
        for i in 1..=ALL_BUT_ONE {
            let faulted = space.fault(page(i), Access::Write);
            faulted.map_err(|_| MmError::NotMapped)?;
        }
        space.madvise(page(1), ALL_BUT_ONE * PAGE_SIZE, Advice::PageOut)?;
        stage.fill(0, HOME, 1)?;
        space.madvise(HOME, PAGE_SIZE, Advice::PageOut)
    },
    run: |stage, me| {
        if me == 1 {
            return must(stage, "load", stage.load(HOME));
        }
        drop_in_parent(stage);
        must(stage, "store", stage.store(HOME, 2));
        let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
        must(stage, "madvise", out);
    },
    ..Play::NEW
};
