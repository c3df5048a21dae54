//! Reclaim against everything that uses the page meanwhile.

use alloc::format;
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr};
use mm::knobs::Knob;
use mm::{Advice, MmError};

use super::play::{HOME, Play, map, must, one_space};
use crate::race::stage::Stage;

fn page_out(stage: &Stage) {
    let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
    must(stage, "madvise", out);
}

fn one_filled_page(stage: &Stage) -> Result<(), MmError> {
    one_space(stage, 1)?;
    stage.fill(0, HOME, 1)
}

/// The page is on the disk and nowhere else.
fn one_page_on_disk(stage: &Stage) -> Result<(), MmError> {
    one_filled_page(stage)?;
    stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut)
}

/// A word that is stored once, beside the one that the actors write.
const BESIDE: VirtAddr = VirtAddr(HOME.0 + 8);

/// B has the page in its TLB, written.
fn b_wrote(stage: &'static Stage, me: usize) {
    if me == 1 {
        must(stage, "store", stage.store(HOME, 1));
        must(stage, "store", stage.store(BESIDE, 7));
    }
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
        match stage.space(0).fork() {
            Ok(child) => {
                stage.put(1, child);
                stage.forked(0, 1);
            }
            Err(e) => stage.violated("refused", format!("fork: {e:?}")),
        }
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
            let pfn = stage.frame_of(0, HOME);
            stage.set(0, pfn.map_or(0, |p| u64::from(p.0)));
        }
    },
    run: |stage, me| {
        if me == 1 {
            let pfn = arch::Pfn(stage.get(0) as u32);
            mm::reclaim::one(pfn);
            return;
        }
        let space = stage.space(0);
        stage.volatile(0, HOME, 1);
        must(stage, "munmap", space.munmap(HOME, PAGE_SIZE));
        must(stage, "mmap", map(&space, 1));
        must(stage, "store", stage.store(HOME, 2));
        stage.lasting(0, HOME);
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};

/// Rule 7: of two faults on one slot one reads, the other waits.
pub(super) static SWAPIN_VS_SWAPIN: Play = Play {
    name: "swapin-vs-swapin",
    about: "A and B use a page that is on the disk",
    fixes: &[Knob::SwapinWait],
    setup: one_page_on_disk,
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
            stage.volatile(0, HOME, 1);
            let freed = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::Free);
            must(stage, "madvise", freed);
            stage.set(0, 1);
            return page_out(stage);
        }
        // A store that begins after the advice was given is one that lasts.
        let after = stage.get(0) == 1;
        must(stage, "store", stage.store(HOME, 2));
        if after {
            stage.lasting(0, HOME);
        }
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};

/// A page of a killed space is what it was until it is gone.
fn a_kills(stage: &'static Stage, me: usize) {
    if me == 0 {
        let space = stage.space(0);
        stage.volatile(0, HOME, 1);
        space.kill();
        mm::reclaim::reap(&space);
        return;
    }
    for _ in 0..2 {
        match stage.load(BESIDE) {
            Ok(1) | Err(FaultError::Killed) => {}
            other => stage.violated("scenario", format!("after its death: {other:?}")),
        }
        match stage.store(HOME, 2) {
            Ok(()) | Err(FaultError::Killed) => {}
            other => stage.violated("scenario", format!("after its death: {other:?}")),
        }
    }
}

/// No fault that is under way puts zeroes in the place of a page that was taken from a killed space.
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
