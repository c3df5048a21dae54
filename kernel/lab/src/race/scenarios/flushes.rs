//! Flushes beside flushes: what one operation leaves out because another has done it, or is about
//! to.

use arch::{PAGE_SIZE, VirtAddr};
use mm::knobs::Knob;
use mm::{Advice, MapFlags, Prot};
use sync::point::PointKind;

use super::play::{
    FEW_STOPS, HOME, LOCK_STOPS, Play, dont_need, family, free, must, one_space, page,
    page_on_disk, reclaim_remembered, remember_frame, remembered, told,
};
use crate::race::scenario::Kinds;
use crate::race::stage::Stage;

/// Rule 1: reclaim's flush is still owed, a copy on write flushes the same space for its own page,
/// and a third relies on both.
pub(super) static FLUSH_BESIDE_BATCH: Play = Play {
    name: "flush-beside-batch",
    about: "A reclaims a page that was given up, B makes its copy of another, and C, which has the first in its TLB, drops that and looks",
    fixes: &[Knob::AckedFirst, Knob::BatchedPending],
    is_small: true,
    spaces: &[None, Some(0), Some(0)],
    stops: BEFORE_FLUSH,
    setup: |stage| {
        one_space(stage, 1)?;
        // In another table, whose lock the copy on write keeps while it flushes.
        let (space, flags) = (stage.space(0), MapFlags::FIXED);
        space.mmap(Some(OTHER), PAGE_SIZE, Prot::RW, flags)?;
        stage.fill(0, OTHER, 1)?;
        family(stage, 0, 1)?;
        // Only now: the child does not have it. To be reclaimed it waits for no disk.
        stage.fill(0, HOME, 1)?;
        remember_frame(stage, HOME);
        free(stage, 0, HOME);
        Ok(())
    },
    enter: |stage, me| {
        if me == 2 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => reclaim_remembered(stage),
        1 => must(stage, "store", stage.store(OTHER, 2)),
        _ => drop_and_look(stage),
    },
    ..Play::NEW
};

fn drop_and_look(stage: &Stage) {
    dont_need(stage, 0, HOME, 1);
    let loaded = stage.load(HOME);
    if loaded != Ok(0) {
        let text = told("a load after the page was dropped", loaded);
        stage.violated("scenario", text);
    }
}

/// As [`FLUSH_BESIDE_BATCH`], where the CPU that flushes for its own page is the one that still has
/// reclaim's: it has missed a request, so its own does not say enough.
pub(super) static FLUSH_AFTER_BATCH: Play = Play {
    name: "flush-after-batch",
    about: "A reclaims a page that was given up; B, which has it in its TLB, makes its copy of another, drops the first and looks",
    fixes: &[Knob::MissedGen, Knob::BatchedPending],
    spaces: &[None, Some(0)],
    stops: BEFORE_FLUSH,
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| {
        if me == 0 {
            return reclaim_remembered(stage);
        }
        must(stage, "store", stage.store(OTHER, 2));
        drop_and_look(stage);
    },
    ..FLUSH_BESIDE_BATCH
};

/// At locks, and where they are given back: between that of an entry and the flush that is owed for
/// it.
const BEFORE_FLUSH: Kinds = Kinds::ALL
    .without(PointKind::CellRead)
    .without(PointKind::CellWrite)
    .without(PointKind::Count)
    .without(PointKind::Space)
    .without(PointKind::IpiSend);

/// In another table than [`HOME`].
const OTHER: VirtAddr = page(arch::addr::entries(0) as u64);

/// Rule 7 for pages that are read ahead of use, and given up meanwhile.
pub(super) static WILLNEED_VS_DROP: Play = Play {
    name: "willneed-vs-drop",
    about: "A asks for a page that is on the disk, B reads it, C drops it",
    fixes: &[Knob::SwapinWait],
    is_small: true,
    spaces: &[Some(0), Some(0), Some(0)],
    stops: LOCK_STOPS,
    setup: page_on_disk,
    run: |stage, me| match me {
        0 => advise(stage, Advice::WillNeed),
        1 => must(stage, "load", stage.load(HOME)),
        _ => dont_need(stage, 0, HOME, 1),
    },
    ..Play::NEW
};

fn advise(stage: &Stage, advice: Advice) {
    must(
        stage,
        "madvise",
        stage.space(0).madvise(HOME, PAGE_SIZE, advice),
    );
}

/// Rule 3: advice that takes the accessed bit away, and no more, beside reclaim that relies on what
/// it takes away.
pub(super) static COLD_VS_RECLAIM: Play = Play {
    name: "cold-vs-reclaim",
    about: "A calls a page cold that B reclaims as kswapd does, while C, which has it in its TLB, stores to it",
    fixes: &[Knob::ReclaimFlush],
    is_small: true,
    spaces: &[Some(0), None, Some(0)],
    stops: FEW_STOPS,
    enter: |stage, me| {
        if me == 2 {
            must(stage, "store", stage.store(HOME, 1));
            remember_frame(stage, HOME);
        }
    },
    run: |stage, me| match me {
        0 => advise(stage, Advice::Cold),
        1 => mm::reclaim::one_if_unused(remembered(stage)),
        _ => must(stage, "store", stage.store(HOME, 2)),
    },
    ..Play::NEW
};
