//! Reclaim against everything that uses the page meanwhile.

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr};
use mm::knobs::Knob;
use mm::{Advice, Prot};

use super::play::{
    BESIDE, FEW_STOPS, HOME, Play, b_wrote, fork, free, map, move_to, must, one_filled_page,
    one_space, page, page_on_disk, reclaim_remembered, remember_frame, told, unmap,
};
use crate::race::model::Fresh;
use crate::race::stage::Stage;

fn page_out(stage: &Stage) {
    let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
    must(stage, "madvise", out);
}

/// Rules 1 and 7.
pub(super) static SWAPOUT_VS_FAULT: Play = Play {
    name: "swapout-vs-fault",
    about: "A swaps a page out while B writes and reads it",
    fixes: &[
        Knob::ReclaimFlush,
        Knob::SlotBeforePte,
        Knob::FreeAfterWrite,
    ],
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            page_out(stage);
        } else {
            must(stage, "store", stage.store(HOME, 2));
            must(stage, "load", stage.load(HOME));
        }
    },
    ..Play::NEW
};

/// Rules 1, 3 and 7, with an entry that is copied meanwhile.
pub(super) static SWAPOUT_VS_FORK: Play = Play {
    name: "swapout-vs-fork",
    about: "A swaps a page out while B forks and then writes it",
    fixes: &[Knob::ReclaimFlush, Knob::SlotBeforePte, Knob::WpFlush],
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return page_out(stage);
        }
        fork(stage);
        must(stage, "store", stage.store(HOME, 2));
    },
    ..Play::NEW
};

/// Rule 1 where the flush is reclaim's and the entry somebody else's.
pub(super) static MUNMAP_VS_RECLAIM: Play = Play {
    name: "munmap-vs-reclaim",
    about: "A unmaps a page, maps a fresh one in its place and writes it, while B reclaims the old one",
    fixes: &[Knob::ReclaimFlush, Knob::BatchedPending],
    spaces: &[Some(0), None],
    // The second page keeps the table, whose end would be a flush of its own.
    setup: |stage| one_space(stage, 2),
    enter: |stage, me| {
        if me == 0 {
            must(stage, "store", stage.store(HOME, 1));
            remember_frame(stage, HOME);
        }
    },
    run: |stage, me| {
        if me == 1 {
            return reclaim_remembered(stage);
        }
        unmap(stage, 0, HOME);
        let space = stage.space(0);
        let mapped = stage.remapping(&space, HOME, 1, Fresh::Memory, || map(&space, 1));
        must(stage, "mmap", mapped);
        must(stage, "store", stage.store(HOME, 2));
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};

/// Rule 7: of two faults on one slot one reads, the other waits.
pub(super) static SWAPIN_VS_SWAPIN: Play = Play {
    name: "swapin-vs-swapin",
    about: "A and B use a page that is on the disk",
    fixes: &[Knob::SwapinWait],
    setup: page_on_disk,
    run: |stage, me| {
        must(stage, "load", stage.load(HOME));
        let va = VirtAddr(HOME.0 + 8 * (1 + me as u64));
        must(stage, "store", stage.store(va, 10 + me as u64));
    },
    ..Play::NEW
};

/// Rule 3: a page that was written after MADV_FREE is not dropped.
pub(super) static FREE_VS_WRITE: Play = Play {
    name: "madvise-free-vs-write",
    about: "A gives a page's content up and reclaims it while B writes it",
    fixes: &[Knob::LazyFlush],
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            free(stage, 0, HOME);
            return page_out(stage);
        }
        must(stage, "store", stage.store(HOME, 2));
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};

/// Rule 1 where reclaim leaves an entry empty, and a fault fills it before reclaim has flushed.
pub(super) static EMPTIED_VS_FAULT: Play = Play {
    name: "emptied-vs-fault",
    about: "A reclaims a page that was given up and that B has in its TLB, while C stores to it anew; then B reads",
    fixes: &[Knob::BatchedPending],
    is_small: true,
    spaces: &[None, Some(0), Some(0)],
    stops: FEW_STOPS,
    setup: |stage| {
        one_filled_page(stage)?;
        remember_frame(stage, HOME);
        free(stage, 0, HOME);
        Ok(())
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => reclaim_remembered(stage),
        1 => must(stage, "load", stage.load(HOME)),
        _ => must(stage, "store", stage.store(HOME, 2)),
    },
    ..Play::NEW
};

/// Rule 3 where the right was reclaim's to take away from the TLB: it has unmapped the page and not
/// flushed yet.
pub(super) static MPROTECT_VS_RECLAIM: Play = Play {
    name: "mprotect-vs-reclaim",
    about: "A reclaims a page while B, which has it in its TLB, takes its own right to write it away and stores",
    fixes: &[Knob::BatchedPending],
    is_small: true,
    spaces: &[None, Some(0)],
    enter: |stage, me| {
        b_wrote(stage, me);
        remember_frame(stage, HOME);
    },
    run: |stage, me| {
        if me == 0 {
            return reclaim_remembered(stage);
        }
        let protected = stage.space(0).mprotect(HOME, PAGE_SIZE, Prot::READ);
        must(stage, "mprotect", protected);
        let stored = stage.store(HOME, 2);
        if stored != Err(FaultError::Protection) {
            stage.violated("scenario", told("a store without the right", stored));
        }
    },
    ..Play::NEW
};

/// As [`MPROTECT_VS_RECLAIM`], where the page is moved away.
pub(super) static MREMAP_VS_RECLAIM: Play = Play {
    name: "mremap-vs-reclaim",
    about: "A reclaims a page while B, which has it in its TLB, moves it and looks where it was",
    setup: |stage| one_space(stage, 2),
    run: |stage, me| {
        if me == 0 {
            return reclaim_remembered(stage);
        }
        let to = page(4);
        move_to(stage, 0, HOME, 1, to);
        let loaded = stage.load(HOME);
        if loaded != Err(FaultError::Unmapped) {
            stage.violated("scenario", told("a load where nothing is", loaded));
        }
        let loaded = stage.load(to);
        if loaded != Ok(1) {
            stage.violated("scenario", told("a load where it is now", loaded));
        }
    },
    ..MPROTECT_VS_RECLAIM
};

/// As [`MPROTECT_VS_RECLAIM`], where the page's slot is shared: what is stored afterwards is the
/// parent's own.
pub(super) static FORK_VS_RECLAIM: Play = Play {
    name: "fork-vs-reclaim",
    about: "A reclaims a page while B, which has it in its TLB, forks and then writes it",
    is_small: false,
    run: |stage, me| {
        if me == 0 {
            return reclaim_remembered(stage);
        }
        fork(stage);
        must(stage, "store", stage.store(HOME, 2));
    },
    ..MPROTECT_VS_RECLAIM
};

/// As [`MPROTECT_VS_RECLAIM`], where the page's slot is given up: what is stored afterwards lasts.
pub(super) static FREE_VS_RECLAIM: Play = Play {
    name: "madvise-free-vs-reclaim",
    about: "A reclaims a page while B, which has it in its TLB, gives its content up and then writes it",
    is_small: false,
    run: |stage, me| {
        if me == 0 {
            return reclaim_remembered(stage);
        }
        free(stage, 0, HOME);
        must(stage, "store", stage.store(HOME, 2));
    },
    ..MPROTECT_VS_RECLAIM
};

/// A page of a killed space is what it was until it is gone.
fn a_kills(stage: &'static Stage, me: usize) {
    if me == 0 {
        let space = stage.space(0);
        space.kill();
        mm::reclaim::reap(&space);
        return;
    }
    for _ in 0..2 {
        match stage.load(BESIDE) {
            Ok(1) | Err(FaultError::Killed) => {}
            other => stage.violated("scenario", told("a load after its death", other)),
        }
        match stage.store(HOME, 2) {
            Ok(()) | Err(FaultError::Killed) => {}
            other => stage.violated("scenario", told("a store after its death", other)),
        }
    }
}

/// No fault that is under way puts zeroes in the place of a page that was taken from a killed
/// space.
pub(super) static REAP_VS_SWAPIN: Play = Play {
    name: "reap-vs-swapin",
    about: "A kills an address space and takes its page away while B brings it back from the disk",
    setup: |stage| {
        one_space(stage, 1)?;
        stage.fill(0, BESIDE, 1)?;
        stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut)
    },
    run: a_kills,
    ..Play::NEW
};

/// As [`REAP_VS_SWAPIN`], for a copy on write.
pub(super) static REAP_VS_COW: Play = Play {
    name: "reap-vs-cow",
    about: "A kills an address space and takes its page away while B makes its copy of it",
    setup: |stage| {
        one_space(stage, 1)?;
        stage.fill(0, BESIDE, 1)?;
        stage.put(1, stage.space(0).fork()?);
        stage.forked(0, 1);
        Ok(())
    },
    ..REAP_VS_SWAPIN
};
