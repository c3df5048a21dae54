//! Disks that fail requests, move them in halves, and serve them in another order: what the memory
//! manager keeps then.

use alloc::format;
use alloc::string::String;
use arch::{PAGE_SIZE, VirtAddr};
use mm::knobs::Knob;
use mm::{Advice, MmError};
use sync::point::PointKind;

use super::files::{MKWRITE_VS_WRITEBACK, SYNC_VS_SYNC, WRITE_VS_SYNC, ZAP_VS_SYNC};
use super::memory::{SHMEM_IN_VS_IN, SHMEM_OUT_VS_FAULT};
use super::play::{FEW_STOPS, HOME, Play, must, must_or_io, one_space, page};
use super::reclaim::{SWAPIN_VS_SWAPIN, SWAPOUT_VS_FAULT};
use crate::race::scenario::{Disks, Kinds};
use crate::race::stage::Stage;

/// One request fails.
const FAILING: Disks = Disks {
    failures: 1,
    ..Disks::TAME
};

/// One request fails, wherever in its data it is.
const FAILING_HALFWAY: Disks = Disks {
    halves: true,
    ..FAILING
};

/// Where actors of these scenarios stop whose pages have many users: not at counts either.
const FEWER_STOPS: Kinds = FEW_STOPS.without(PointKind::Count);

/// A word in the second half of the page.
const FAR: VirtAddr = VirtAddr(HOME.0 + 2048 + 8);

/// Rule 7: what could not be written stays, and its slot is not used again.
pub(super) static SWAPOUT_FAILING: Play = Play {
    name: "swapout-failing",
    about: "A swaps a page out while B writes and reads it; a request may fail",
    fixes: &[
        Knob::ReclaimFlush,
        Knob::SlotBeforePte,
        Knob::FreeAfterWrite,
        Knob::FailedDirty,
    ],
    disks: |_| FAILING_HALFWAY,
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 1));
            must(stage, "store", stage.store(FAR, 7));
        }
    },
    check: slots_are_bad,
    ..SWAPOUT_VS_FAULT
};

/// Where no slot is in use, each of which a write has failed is bad.
fn slots_are_bad(stage: &'static Stage) -> Result<(), String> {
    let (failed, slots) = (stage.failed_swap_writes(), mm::swap::stats());
    if slots.used == 0 && failed as u64 != slots.bad {
        let bad = slots.bad;
        return Err(format!("{failed} writes have failed, {bad} slots are bad"));
    }
    Ok(())
}

/// Rule 7: a read that failed is tried once more, alone, before the access fails.
pub(super) static SWAPIN_FAILING: Play = Play {
    name: "swapin-failing",
    about: "A and B use a page that is on the disk; a request may fail",
    stops: FEWER_STOPS,
    disks: |_| FAILING,
    ..SWAPIN_VS_SWAPIN
};

/// Where that fails as well, the access does; the next one tries again.
pub(super) static SWAPIN_UNREADABLE: Play = Play {
    name: "swapin-unreadable",
    about: "A and B read a page that is on the disk, again if they cannot; two requests may fail",
    disks: |_| Disks {
        failures: 2,
        ..FAILING
    },
    run: |stage, _| {
        if !must_or_io(stage, "load", stage.load(HOME)) {
            must(stage, "load", stage.load(HOME));
        }
    },
    ..SWAPIN_FAILING
};

/// As [`SWAPOUT_FAILING`], where a file in memory has the page.
pub(super) static SHMEM_OUT_FAILING: Play = Play {
    name: "shmem-out-failing",
    about: "A swaps a page of a file in memory out while B writes and reads it; a request may fail",
    fixes: &[Knob::ReclaimFlush, Knob::FreeAfterWrite, Knob::FailedDirty],
    disks: |_| FAILING_HALFWAY,
    ..SHMEM_OUT_VS_FAULT
};

/// As [`SWAPIN_FAILING`], of a file in memory.
pub(super) static SHMEM_IN_FAILING: Play = Play {
    name: "shmem-in-failing",
    about: "A reads and B stores to a page of a file in memory that is on the disk; a request may fail",
    stops: FEWER_STOPS,
    disks: |_| FAILING,
    ..SHMEM_IN_VS_IN
};

/// Rule 9: a sync that could not write tells its caller, and what it could not write is written by
/// the next.
pub(super) static WRITE_FAILING: Play = Play {
    name: "write-failing",
    about: "A writes to a page of a file while B makes the file durable, twice; a request may fail",
    fixes: &[Knob::SyncFlush, Knob::FailedDirty, Knob::FailedTold],
    disks: |_| FAILING_HALFWAY,
    run: |stage, me| {
        if me == 0 {
            return must(stage, "write", stage.write_file(0, 0, 3));
        }
        sync_twice(stage);
    },
    ..WRITE_VS_SYNC
};

fn sync_twice(stage: &Stage) {
    for _ in 0..2 {
        must_or_io(stage, "sync", stage.sync_file(0));
    }
}

/// Rule 9: each opening is told of a write that failed, its own or the other's.
pub(super) static SYNC_FAILING: Play = Play {
    name: "sync-failing",
    about: "A and B, each with an opening of its own, make the same written page durable; a request may fail",
    fixes: &[
        Knob::SyncWait,
        Knob::SyncFlush,
        Knob::FailedDirty,
        Knob::FailedTold,
    ],
    disks: |_| FAILING_HALFWAY,
    setup: |stage| {
        (WRITE_VS_SYNC.setup)(stage)?;
        (0..2).try_for_each(|me| stage.open_again(0, me))
    },
    run: |stage, me| {
        let told = !must_or_io(stage, "sync", stage.sync_file(0));
        stage.set(me, u64::from(told));
    },
    check: |stage| match (stage.failed_writes(0), stage.get(0), stage.get(1)) {
        (0, ..) | (_, 1, 1) => Ok(()),
        (_, a, b) => Err(format!("a write has failed; told were A: {a}, B: {b}")),
    },
    ..SYNC_VS_SYNC
};

/// Rules 7 and 9: a page that could not be written may be stored to again, and is written again.
pub(super) static MKWRITE_FAILING: Play = Play {
    name: "mkwrite-failing",
    about: "A stores to a mapped page of a file while B makes the file durable, twice; a request may fail",
    fixes: &[
        Knob::CleanFirst,
        Knob::CleanFlush,
        Knob::FailedDirty,
        Knob::FailedTold,
    ],
    stops: FEW_STOPS,
    disks: |_| FAILING,
    run: |stage, me| {
        if me == 0 {
            return must(stage, "store", stage.store(HOME, 3));
        }
        sync_twice(stage);
    },
    ..MKWRITE_VS_WRITEBACK
};

/// Rules 3 and 9, where a page is stored to while half of it is on its way.
pub(super) static MKWRITE_HALVES: Play = Play {
    name: "mkwrite-halves",
    about: "A stores to both halves of a mapped page of a file while B makes the file durable, twice; the disk writes a half at a time",
    fixes: &[Knob::CleanFirst, Knob::CleanFlush],
    disks: |_| Disks {
        halves: true,
        ..Disks::TAME
    },
    run: |stage, me| {
        if me == 0 {
            must(stage, "store", stage.store(HOME, 3));
            return must(stage, "store", stage.store(FAR, 4));
        }
        sync_twice(stage);
    },
    ..MKWRITE_FAILING
};

/// Rule 2, where the first sync may have left the page dirty.
pub(super) static ZAP_FAILING: Play = Play {
    name: "zap-failing",
    about: "A drops a mapped page of a file while B makes it durable, stores to it and makes it durable again; a request may fail",
    variants: &[],
    stops: FEWER_STOPS,
    disks: |_| FAILING,
    run: |stage, me| {
        if me == 0 {
            let dropped = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::DontNeed);
            return must(stage, "madvise", dropped);
        }
        must_or_io(stage, "sync", stage.sync_file(0));
        must(stage, "store", stage.store(HOME, 3));
        must_or_io(stage, "sync", stage.sync_file(0));
    },
    ..ZAP_VS_SYNC
};

/// Rule 7 with two requests under way: each frame waits for its own write, and the laundry is no
/// queue of the disk's.
pub(super) static SWAPOUT_OVERTAKING: Play = Play {
    name: "swapout-overtaking",
    about: "A and B each swap a page out and read it; the disk serves either first, and one request may fail",
    fixes: &[Knob::FreeAfterWrite, Knob::FailedDirty],
    disks: |_| Disks {
        overtake: true,
        ..FAILING
    },
    stops: FEWER_STOPS,
    setup: |stage| {
        one_space(stage, 2)?;
        (0..2).try_for_each(|i| stage.fill(0, page(i), 1 + i))
    },
    run: |stage, me| {
        let at = page(me as u64);
        let out = stage.space(0).madvise(at, PAGE_SIZE, Advice::PageOut);
        must(stage, "madvise", out);
        must(stage, "load", stage.load(at));
    },
    ..Play::NEW
};

/// Rule 9 with two requests under way: a flush makes no write last that is not over.
pub(super) static SYNC_OVERTAKING: Play = Play {
    name: "sync-overtaking",
    about: "A and B each write a file and make it durable; the disk serves either's requests first",
    fixes: &[Knob::SyncWait, Knob::SyncFlush],
    spaces: &[None, None],
    stops: FEWER_STOPS,
    disks: |_| Disks {
        overtake: true,
        ..Disks::TAME
    },
    setup: |stage| {
        (0..2).try_for_each(|file| -> Result<(), MmError> {
            stage.open_file(file, 1)?;
            stage.on_disk(file, 0, 1);
            stage.fill_file(file, 0, 2)
        })
    },
    run: |stage, me| must(stage, "sync", stage.sync_file(me)),
    ..Play::NEW
};
