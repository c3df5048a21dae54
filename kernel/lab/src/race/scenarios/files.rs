//! Files: what is written, stored or unmapped while others make it durable.

use arch::PAGE_SIZE;
use mm::knobs::Knob;
use mm::{Advice, MmError, MmRef};

use super::play::{HOME, Play, must};
use crate::race::stage::Stage;

/// One page of a file, mapped in the space at place 0. A second one keeps the table, whose end would be a flush of its own.
fn one_mapped_page(stage: &Stage) -> Result<(), MmError> {
    stage.open_file(0, 2)?;
    stage.on_disk(0, 0, 1);
    let space = MmRef::new()?;
    stage.map_file(&space, HOME, 2, 0, 0)?;
    stage.put(0, space);
    Ok(())
}

/// The last actor has the page in its TLB, written.
fn c_stored(stage: &'static Stage, me: usize) {
    if me == 2 {
        must(stage, "store", stage.store(HOME, 2));
    }
}

fn sync_twice(stage: &Stage) {
    for _ in 0..2 {
        must(stage, "sync", stage.sync_file(0));
    }
}

/// What a sync promises, of writes.
pub(super) static WRITE_VS_SYNC: Play = Play {
    name: "write-vs-sync",
    about: "A writes to a page of a file while B makes the file durable, twice",
    fixes: &[Knob::SyncFlush],
    spaces: &[None, None],
    setup: |stage| {
        stage.open_file(0, 1)?;
        stage.on_disk(0, 0, 1);
        Ok(())
    },
    enter: |stage, me| {
        if me == 0 {
            must(stage, "write", stage.write_file(0, 0, 2));
        }
    },
    run: |stage, me| {
        if me == 0 {
            return must(stage, "write", stage.write_file(0, 0, 3));
        }
        sync_twice(stage);
    },
    ..Play::NEW
};

/// What a sync promises, of a write to the disk that somebody else began.
pub(super) static SYNC_VS_SYNC: Play = Play {
    name: "sync-vs-sync",
    about: "A and B make the same written page durable",
    fixes: &[Knob::SyncWait, Knob::SyncFlush],
    run: |stage, _| must(stage, "sync", stage.sync_file(0)),
    ..WRITE_VS_SYNC
};

/// What a sync promises, of stores: a page is made read-only everywhere before it is written to the disk.
pub(super) static STORE_VS_SYNC: Play = Play {
    name: "store-vs-sync",
    about: "A stores to a mapped page of a file, twice, while B makes the file durable, twice",
    fixes: &[Knob::CleanFirst],
    spaces: &[Some(0), None],
    setup: one_mapped_page,
    enter: |stage, me| {
        if me == 0 {
            must(stage, "store", stage.store(HOME, 2));
        }
    },
    run: |stage, me| {
        if me == 0 {
            must(stage, "store", stage.store(HOME, 3));
            return must(stage, "store", stage.store(HOME, 4));
        }
        sync_twice(stage);
    },
    ..Play::NEW
};

/// Rule 2: what a CPU may still store to a page whose entry is gone is not lost.
pub(super) static ZAP_VS_MKCLEAN: Play = Play {
    name: "zap-vs-mkclean",
    about: "A drops a mapped page of a file that C stores to, while B makes the file durable, twice",
    fixes: &[
        Knob::DelayRmap,
        Knob::FlushBeforeUnlock,
        Knob::MkcleanSync,
        Knob::LateDirtyUnlocked,
    ],
    variants: &[
        Knob::LateDirty,
        Knob::LateDirtyPending,
        Knob::ImmediateGather,
    ],
    spaces: &[Some(0), None, Some(0)],
    setup: one_mapped_page,
    enter: c_stored,
    run: |stage, me| match me {
        0 => {
            let dropped = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::DontNeed);
            must(stage, "madvise", dropped);
        }
        1 => sync_twice(stage),
        _ => must(stage, "store", stage.store(HOME, 3)),
    },
    ..Play::NEW
};

/// The same where the area goes as well.
pub(super) static MUNMAP_VS_MKCLEAN: Play = Play {
    name: "munmap-vs-mkclean",
    about: "A unmaps a page of a file that C stores to while it can, while B makes the file durable",
    fixes: &[Knob::DelayRmap, Knob::FlushBeforeUnlock, Knob::MkcleanSync],
    variants: &[
        Knob::LateDirty,
        Knob::LateDirtyPending,
        Knob::ImmediateGather,
    ],
    run: |stage, me| match me {
        0 => must(stage, "munmap", stage.space(0).munmap(HOME, PAGE_SIZE)),
        1 => must(stage, "sync", stage.sync_file(0)),
        // The page may be gone.
        _ => super::play::whatever(stage.store(HOME, 3)),
    },
    ..ZAP_VS_MKCLEAN
};

/// Rule 2 by itself: a page counts as mapped for as long as somebody may store to it.
pub(super) static ZAP_KEEPS_RMAP: Play = Play {
    name: "zap-keeps-rmap",
    about: "A drops a mapped page of a file that B stores to; it counts as mapped until B's CPU is flushed",
    fixes: &[Knob::DelayRmap],
    variants: ZAP_VS_MKCLEAN.variants,
    watches_rmap: true,
    spaces: &[Some(0), Some(0)],
    setup: one_mapped_page,
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 2));
        }
    },
    run: |stage, me| {
        if me == 1 {
            return must(stage, "store", stage.store(HOME, 3));
        }
        let dropped = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::DontNeed);
        must(stage, "madvise", dropped);
    },
    ..Play::NEW
};
