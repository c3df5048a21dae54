//! Memory that is short: kswapd, direct reclaim and the OOM killer, while others use the pages that
//! they want.

use arch::upcall::{Access, FaultError};
use arch::{PAGE_SIZE, VirtAddr};
use mm::knobs::Knob;
use mm::{MapFlags, MmError, MmRef};

use super::play::{
    FEW_STOPS, FEWER_STOPS, HOME, Play, dont_need, free, must, one_space, page, short_of_frames,
    told,
};
use crate::race::model::Fresh;
use crate::race::stage::Stage;

/// Two filled pages, whose translations no CPU has.
fn two_filled_pages(stage: &Stage) -> Result<(), MmError> {
    one_space(stage, 2)?;
    stage.fill(0, HOME, 1)?;
    stage.fill(0, page(1), 2)
}

/// To reclaim the page looks unused; the translations of the CPUs stay.
fn age(stage: &Stage, va: VirtAddr) {
    if let Some(pfn) = stage.frame_of(0, va) {
        mm::reclaim::age(pfn);
    }
}

/// B has the first page in its TLB, written; to reclaim both look unused.
fn b_wrote(stage: &'static Stage, me: usize) {
    if me == 1 {
        must(stage, "store", stage.store(HOME, 1));
        age(stage, HOME);
        age(stage, page(1));
    }
}

/// Rules 1, 5 and 7 where kswapd chooses the pages: it believes a look at an entry without the
/// lock.
pub(super) static KSWAPD_VS_STORE: Play = Play {
    name: "kswapd-vs-store",
    about: "A, kswapd, frees frames while B writes and reads one of the pages that look unused",
    fixes: &[
        Knob::ReclaimFlush,
        Knob::SlotBeforePte,
        Knob::FreeAfterWrite,
    ],
    spaces: &[None, Some(0)],
    stops: FEW_STOPS,
    setup: two_filled_pages,
    enter: |stage, me| {
        b_wrote(stage, me);
        short_of_frames(stage, me);
    },
    run: |stage, me| {
        if me == 0 {
            return mm::reclaim::as_kswapd();
        }
        must(stage, "store", stage.store(HOME, 3));
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};

/// As [`KSWAPD_VS_STORE`], where the page is given up: kswapd meets it on its list without a
/// reference to take.
pub(super) static KSWAPD_VS_ZAP: Play = Play {
    name: "kswapd-vs-zap",
    about: "A, kswapd, frees frames while B gives up one of the pages that look unused, and stores to it",
    fixes: &[Knob::ReclaimFlush],
    run: |stage, me| {
        if me == 0 {
            return mm::reclaim::as_kswapd();
        }
        dont_need(stage, 0, HOME, 1);
        must(stage, "store", stage.store(HOME, 3));
    },
    ..KSWAPD_VS_STORE
};

/// As [`KSWAPD_VS_STORE`], where the reclaimer is a fault that finds nothing free.
pub(super) static DIRECT_VS_STORE: Play = Play {
    name: "direct-vs-store",
    about: "A stores to a fresh page when no frame is free, and has to reclaim, while B writes and reads another",
    stops: FEWER_STOPS,
    setup: |stage| {
        one_space(stage, 3)?;
        stage.fill(0, HOME, 1)?;
        stage.fill(0, page(1), 2)?;
        Ok(())
    },
    spaces: &[Some(0), Some(0)],
    enter: |stage, me| {
        b_wrote(stage, me);
        if me == 1 {
            mm::explore::leave_frames(0);
        }
    },
    run: |stage, me| {
        if me == 0 {
            return or_killed(stage, stage.store(page(2), 5));
        }
        or_killed(stage, stage.store(HOME, 3));
        or_killed(stage, stage.load(HOME));
    },
    ..KSWAPD_VS_STORE
};

/// What goes through, unless the space had to end: others may keep all there is in hand for as long
/// as A looks for something.
fn or_killed<T>(stage: &Stage, done: Result<T, FaultError>) {
    match done {
        Err(FaultError::Killed) => {}
        other => must(stage, "access", other),
    }
}

/// As [`DIRECT_VS_STORE`], where what can go is a page of a file, and lazily freed.
pub(super) static DIRECT_VS_FILE: Play = Play {
    name: "direct-vs-file",
    about: "A stores to a fresh page when no frame is free; a page of a file that B reads can go, and one that B gave up",
    fixes: &[Knob::ReclaimFlush],
    setup: |stage| {
        one_space(stage, 2)?;
        stage.open_file(0, 1)?;
        stage.on_disk(0, 0, 7);
        let space = stage.space(0);
        stage.map_file(&space, page(4), 1, 0, 0, MapFlags::SHARED)?;
        stage.fill(0, HOME, 1)?;
        free(stage, 0, HOME);
        Ok(())
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
            must(stage, "load", stage.load(page(4)));
            age(stage, HOME);
            age(stage, page(4));
            mm::explore::leave_frames(0);
        }
    },
    run: |stage, me| {
        if me == 0 {
            return or_killed(stage, stage.store(page(1), 5));
        }
        or_killed(stage, stage.load(page(4)));
        or_killed(stage, stage.load(HOME));
    },
    ..DIRECT_VS_STORE
};

/// The largest space at place 1, another one at place 0; nothing can be swapped out and no frame is
/// free.
fn no_way_out(stage: &Stage) -> Result<(), MmError> {
    one_space(stage, 2)?;
    let large = MmRef::new()?;
    super::play::map(&large, 4)?;
    stage.put(1, large);
    for i in 0..4 {
        stage.fill(1, page(i), 10 + i)?;
    }
    mm::explore::swapoff().map_err(|_| MmError::NoMemory)
}

/// A space that was killed loses its pages under everybody's hands, and never shows zeroes in their
/// place.
pub(super) static OOM_VS_FAULT: Play = Play {
    name: "oom-vs-fault",
    about: "A needs a frame and there is none, so another space, in which B loads and stores, has to end",
    fixes: &[Knob::TlbFlush],
    spaces: &[Some(0), Some(1)],
    stops: FEW_STOPS,
    setup: no_way_out,
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
            mm::explore::leave_frames(0);
        }
    },
    run: |stage, me| {
        if me == 0 {
            return must(stage, "store", stage.store(HOME, 5));
        }
        for _ in 0..2 {
            match stage.load(HOME) {
                Ok(10) | Err(FaultError::Killed) => {}
                other => stage.violated("scenario", told("a load after its death", other)),
            }
        }
        match stage.store(page(1), 20) {
            Ok(()) | Err(FaultError::Killed) => {}
            other => stage.violated("scenario", told("a store after its death", other)),
        }
    },
    ..Play::NEW
};

/// Two at the end of memory: one of them decides, and no more than one space ends for it.
pub(super) static OOM_VS_OOM: Play = Play {
    name: "oom-vs-oom",
    about: "A and B need a frame each, in a space each, and there is none: a third, the largest, has to end",
    fixes: &[],
    stops: Play::NEW.stops,
    spaces: &[Some(0), Some(2)],
    setup: |stage| {
        no_way_out(stage)?;
        let other = MmRef::new()?;
        super::play::map(&other, 2)?;
        other
            .fault(page(1), Access::Read)
            .map_err(|_| MmError::NotMapped)?;
        stage.put(2, other);
        Ok(())
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
            mm::explore::leave_frames(0);
        } else {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, _| must(stage, "store", stage.store(HOME, 5)),
    check: |stage| match (0..3).filter(|i| stage.space(*i).is_killed()).count() {
        1 => Ok(()),
        n => Err(alloc::format!("{n} spaces were killed")),
    },
    ..OOM_VS_FAULT
};

/// A victim that changes its areas cannot be reaped before that ends: the killer waits, or somebody
/// gives way.
pub(super) static OOM_VS_MUNMAP: Play = Play {
    name: "oom-vs-munmap",
    about: "A needs a frame and there is none; B, in the largest space, unmaps a page of it and maps one",
    fixes: &[Knob::TlbFlush],
    run: |stage, me| {
        if me == 0 {
            return must(stage, "store", stage.store(HOME, 5));
        }
        let space = stage.space(1);
        let op = || space.munmap(page(1), PAGE_SIZE);
        match stage.remapping(&space, page(1), 1, Fresh::Nothing, op) {
            Ok(()) | Err(MmError::Killed) => {}
            other => must(stage, "munmap", other),
        }
        match stage.load(HOME) {
            Ok(10) | Err(FaultError::Killed) => {}
            other => stage.violated("scenario", told("a load after its death", other)),
        }
    },
    ..OOM_VS_FAULT
};
