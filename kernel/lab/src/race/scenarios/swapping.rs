//! The swap area as a whole: it is taken away, or comes into use, while others fault, fork and
//! reclaim; and pages that come back with their neighbours.

use arch::PAGE_SIZE;
use mm::knobs::Knob;
use mm::swap::SwapOpError;
use mm::{Advice, MapFlags, MmError, MmRef};

use super::play::{
    FEWER_STOPS, HOME, Play, dont_need, fork, must, one_space, page, short_of_frames, unless_kernel,
};
use crate::race::disk::SWAP;
use crate::race::scenario::Disks;
use crate::race::stage::Stage;

/// `n` pages that are on the disk and nowhere else; each holds its number, plus 1.
fn on_disk(stage: &Stage, n: u64) -> Result<(), MmError> {
    one_space(stage, n)?;
    for i in 0..n {
        stage.fill(0, page(i), 1 + i)?;
    }
    stage.space(0).madvise(HOME, n * PAGE_SIZE, Advice::PageOut)
}

fn swapoff(stage: &Stage) {
    must(stage, "swapoff", mm::ops::swapoff::swapoff());
}

/// Rules 4 and 7 where two bring a page back, and the slot is to be gone afterwards.
pub(super) static SWAPOFF_VS_FAULT: Play = Play {
    name: "swapoff-vs-fault",
    about: "A takes the swap area away while B loads one of the two pages there and stores to it",
    fixes: &[Knob::SwapinWait],
    spaces: &[None, Some(0)],
    stops: FEWER_STOPS,
    setup: |stage| on_disk(stage, 2),
    run: |stage, me| {
        if me == 0 {
            return swapoff(stage);
        }
        must(stage, "load", stage.load(HOME));
        must(stage, "store", stage.store(HOME, 5));
    },
    check: |_| match mm::swap::enabled() {
        false => Ok(()),
        true => Err("the area is still in use".into()),
    },
    ..Play::NEW
};

/// A fork copies entries that swapoff has still to see, in either of the spaces.
pub(super) static SWAPOFF_VS_FORK: Play = Play {
    name: "swapoff-vs-fork",
    about: "A takes the swap area away while B forks and stores to the page that was there",
    fixes: &[Knob::SwapinWait],
    setup: |stage| on_disk(stage, 1),
    run: |stage, me| {
        if me == 0 {
            return swapoff(stage);
        }
        fork(stage);
        must(stage, "store", stage.store(HOME, 5));
    },
    ..SWAPOFF_VS_FAULT
};

/// Entries go while swapoff looks for them.
pub(super) static SWAPOFF_VS_ZAP: Play = Play {
    name: "swapoff-vs-zap",
    about: "A takes the swap area away while B drops a page that is there, and stores to it anew",
    // Without it an entry outlives its slot: a panic.
    fixes: unless_kernel(&[Knob::PteRecheck], &[]),
    run: |stage, me| {
        if me == 0 {
            return swapoff(stage);
        }
        dont_need(stage, 0, HOME, 1);
        must(stage, "store", stage.store(HOME, 5));
    },
    ..SWAPOFF_VS_FAULT
};

/// Pages on their way out when the area is to go: they come back, or stay.
pub(super) static SWAPOFF_VS_RECLAIM: Play = Play {
    name: "swapoff-vs-reclaim",
    about: "A takes the swap area away, to which B reclaims a page; B then loads it",
    fixes: &[Knob::ReclaimFlush],
    setup: |stage| {
        one_space(stage, 2)?;
        stage.fill(0, HOME, 1)?;
        stage.fill(0, page(1), 2)?;
        let space = stage.space(0);
        space.madvise(page(1), PAGE_SIZE, Advice::PageOut)
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 4));
        }
    },
    run: |stage, me| {
        if me == 0 {
            return swapoff(stage);
        }
        let space = stage.space(0);
        must(
            stage,
            "madvise",
            space.madvise(HOME, PAGE_SIZE, Advice::PageOut),
        );
        must(stage, "load", stage.load(HOME));
    },
    ..SWAPOFF_VS_FAULT
};

/// Pages of files in memory come back as well.
pub(super) static SWAPOFF_VS_SHMEM: Play = Play {
    name: "swapoff-vs-shmem",
    about: "A takes the swap area away, where a page of a file in memory is that B loads and stores to",
    fixes: &[],
    setup: |stage| {
        stage.open_shmem(0, 2)?;
        let space = MmRef::new()?;
        stage.map_file(&space, HOME, 2, 0, 0, MapFlags::SHARED)?;
        stage.put(0, space);
        stage.fill_file(0, 0, 5)?;
        stage.fill_file(0, PAGE_SIZE, 6)?;
        let space = stage.space(0);
        for i in 0..2 {
            let faulted = space.fault(page(i), arch::upcall::Access::Read);
            faulted.map_err(|_| MmError::NotMapped)?;
        }
        space.madvise(HOME, 2 * PAGE_SIZE, Advice::PageOut)
    },
    run: |stage, me| {
        if me == 0 {
            return swapoff(stage);
        }
        must(stage, "load", stage.load(HOME));
        must(stage, "store", stage.store(HOME, 7));
    },
    ..SWAPOFF_VS_FAULT
};

/// Two who take it away, and one who cannot: the pages do not fit into memory.
pub(super) static SWAPOFF_VS_SWAPOFF: Play = Play {
    name: "swapoff-vs-swapoff",
    about: "A and B take the swap area away, which succeeds for one, while memory has room for one of two pages",
    fixes: &[],
    spaces: &[None, None],
    enter: |_, me| {
        if me == 1 {
            mm::explore::leave_frames(1);
        }
    },
    run: |stage, _| match mm::ops::swapoff::swapoff() {
        Err(SwapOpError::NoMemory) => {}
        other => stage.violated("scenario", alloc::format!("swapoff: {other:?}")),
    },
    check: |_| match mm::swap::enabled() {
        true => Ok(()),
        false => Err("the area is gone, and a page with it".into()),
    },
    ..SWAPOFF_VS_FAULT
};

/// Where a page cannot be read the area stays in use, and the page there.
pub(super) static SWAPOFF_FAILING: Play = Play {
    name: "swapoff-failing",
    about: "A takes the swap area away, where B drops one of two pages and stores to it anew; two requests may fail",
    fixes: &[],
    disks: |_| Disks {
        failures: 2,
        ..Disks::TAME
    },
    run: |stage, me| {
        if me == 1 {
            dont_need(stage, 0, HOME, 1);
            return must(stage, "store", stage.store(HOME, 5));
        }
        match mm::ops::swapoff::swapoff() {
            Ok(()) => {}
            Err(SwapOpError::Io) if stage.failed_requests() > 0 => stage.set(0, 1),
            other => must(stage, "swapoff", other),
        }
    },
    check: |stage| match (mm::swap::enabled(), stage.get(0) == 1) {
        (enabled, failed) if enabled == failed => Ok(()),
        (enabled, _) => Err(alloc::format!("the area is in use: {enabled}")),
    },
    ..SWAPOFF_VS_FAULT
};

/// The area comes into use under the hands of a reclaimer.
pub(super) static SWAPON_VS_RECLAIM: Play = Play {
    name: "swapon-vs-reclaim",
    about: "A brings the swap area into use while B reclaims a page that it has in its TLB, and loads it",
    fixes: &[Knob::ReclaimFlush],
    setup: |stage| {
        one_space(stage, 1)?;
        mm::explore::swapoff().map_err(|_| MmError::NoMemory)
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 4));
        }
    },
    run: |stage, me| {
        if me == 0 {
            return must(stage, "swapon", mm::swap::swapon(&SWAP));
        }
        let space = stage.space(0);
        must(
            stage,
            "madvise",
            space.madvise(HOME, PAGE_SIZE, Advice::PageOut),
        );
        must(stage, "store", stage.store(HOME, 5));
        must(stage, "load", stage.load(HOME));
    },
    check: |_| Ok(()),
    ..SWAPOFF_VS_FAULT
};

/// Pages that are read with their neighbours are found half-way by who wants those.
pub(super) static READAHEAD_VS_FAULT: Play = Play {
    name: "readahead-vs-fault",
    about: "A reads three pages ahead that are on the disk, while B loads the first and then the last, and stores to it",
    fixes: &[Knob::SwapinWait],
    spaces: &[Some(0), Some(0)],
    setup: |stage| on_disk(stage, 3),
    run: |stage, me| {
        if me == 0 {
            let space = stage.space(0);
            let asked = space.madvise(HOME, 3 * PAGE_SIZE, Advice::WillNeed);
            return must(stage, "madvise", asked);
        }
        must(stage, "load", stage.load(HOME));
        must(stage, "load", stage.load(page(2)));
        must(stage, "store", stage.store(page(2), 9));
    },
    check: |_| Ok(()),
    ..SWAPOFF_VS_FAULT
};

/// A page that is read ahead looks unused, and is on its way from the disk.
pub(super) static READAHEAD_VS_RECLAIM: Play = Play {
    name: "readahead-vs-reclaim",
    about: "A reads a page ahead that is on the disk, and loads it, while B, as kswapd, frees what it can and stores to a fresh page",
    fixes: &[],
    setup: |stage| {
        one_space(stage, 2)?;
        stage.fill(0, HOME, 1)?;
        stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut)
    },
    enter: short_of_frames,
    run: |stage, me| {
        if me == 0 {
            let asked = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::WillNeed);
            must(stage, "madvise", asked);
            return must(stage, "load", stage.load(HOME));
        }
        mm::reclaim::as_kswapd();
        must(stage, "store", stage.store(page(1), 9));
        must(stage, "load", stage.load(page(1)));
    },
    ..READAHEAD_VS_FAULT
};

/// What was read ahead and not used is dropped meanwhile.
pub(super) static READAHEAD_VS_ZAP: Play = Play {
    name: "readahead-vs-zap",
    about: "A loads two pages that follow each other on the disk, with their neighbours, while B drops the third",
    fixes: &[],
    setup: |stage| on_disk(stage, 4),
    run: |stage, me| {
        if me == 0 {
            must(stage, "load", stage.load(HOME));
            return must(stage, "load", stage.load(page(1)));
        }
        dont_need(stage, 0, page(2), 1);
        must(stage, "store", stage.store(page(2), 9));
    },
    ..READAHEAD_VS_FAULT
};
