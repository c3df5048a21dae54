//! Files: what is written, stored or unmapped while others make it durable.

use alloc::format;
use arch::PAGE_SIZE;
use arch::upcall::FaultError;
use mm::knobs::Knob;
use mm::{MapFlags, MmError, MmRef, Prot};

use super::play::{
    FEW_STOPS, HOME, Play, dont_need, move_to, must, page, sync_twice, told, unmap, whatever,
};
use crate::race::stage::Stage;

/// One page of a file, mapped in the space at place 0. A second one keeps the table, whose end
/// would be a flush of its own.
fn one_mapped_page(stage: &Stage) -> Result<(), MmError> {
    stage.open_file(0, 2)?;
    stage.on_disk(0, 0, 1);
    let space = MmRef::new()?;
    stage.map_file(&space, HOME, 2, 0, 0, MapFlags::SHARED)?;
    stage.put(0, space);
    Ok(())
}

/// The actor has the page in its TLB, written.
fn stored(stage: &Stage, it: bool) {
    if it {
        must(stage, "store", stage.store(HOME, 2));
    }
}

fn drop_page(stage: &Stage) {
    dont_need(stage, 0, HOME, 1);
}

/// The page may be gone: a fault would bring it back, which is another story.
fn store_if_it_can(stage: &Stage) {
    stage.try_store(HOME, 3);
}

/// Other orders of rule 2 that hold as well.
const VARIANTS: &[Knob] = &[
    Knob::LateDirty,
    Knob::LateDirtyPending,
    Knob::ImmediateGather,
];

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

/// What a sync promises, of stores: a page is made read-only everywhere before it is written to the
/// disk.
pub(super) static MKWRITE_VS_WRITEBACK: Play = Play {
    name: "mkwrite-vs-writeback",
    about: "A stores to a mapped page of a file, twice, while B makes the file durable, twice",
    fixes: &[Knob::CleanFirst, Knob::CleanFlush],
    spaces: &[Some(0), None],
    setup: one_mapped_page,
    enter: |stage, me| stored(stage, me == 0),
    run: |stage, me| {
        if me == 0 {
            must(stage, "store", stage.store(HOME, 3));
            return must(stage, "store", stage.store(HOME, 4));
        }
        sync_twice(stage);
    },
    ..Play::NEW
};

/// Rule 2: what a CPU still stores to a page whose entry is gone is not lost.
pub(super) static ZAP_VS_MKCLEAN: Play = Play {
    name: "zap-vs-mkclean",
    about: "A unmaps a page of a file that C stores to while it can; B makes the file durable",
    fixes: &[Knob::DelayRmap, Knob::FlushBeforeUnlock, Knob::MkcleanSync],
    variants: VARIANTS,
    spaces: &[Some(0), None, Some(0)],
    stops: FEW_STOPS,
    is_small: true,
    setup: one_mapped_page,
    enter: |stage, me| stored(stage, me == 2),
    run: |stage, me| match me {
        0 => unmap(stage, 0, HOME),
        1 => must(stage, "sync", stage.sync_file(0)),
        _ => store_if_it_can(stage),
    },
    ..Play::NEW
};

/// The same where the area stays.
pub(super) static DROP_VS_MKCLEAN: Play = Play {
    name: "drop-vs-mkclean",
    about: "A drops a page of a file that C stores to while it can; B makes the file durable",
    run: |stage, me| match me {
        0 => drop_page(stage),
        1 => must(stage, "sync", stage.sync_file(0)),
        _ => store_if_it_can(stage),
    },
    ..ZAP_VS_MKCLEAN
};

/// Rules 1 and 2 where reclaim takes the entry, and flushes later.
pub(super) static RECLAIM_VS_MKCLEAN: Play = Play {
    name: "reclaim-vs-mkclean",
    about: "A reclaims a page of a file that C stores to while it can; B makes the file durable",
    fixes: &[Knob::ReclaimFlush, Knob::KeepLocked],
    variants: &[],
    spaces: &[None, None, Some(0)],
    enter: |stage, me| {
        stored(stage, me == 2);
        if me == 2 {
            let pfn = stage.frame_of(0, HOME);
            stage.set(0, pfn.map_or(0, |p| u64::from(p.0)));
        }
    },
    is_small: false,
    run: |stage, me| match me {
        0 => mm::reclaim::one(arch::Pfn(stage.get(0) as u32)),
        1 => must(stage, "sync", stage.sync_file(0)),
        _ => store_if_it_can(stage),
    },
    ..ZAP_VS_MKCLEAN
};

/// Rule 2: who stores and syncs need not know that another thread drops the page.
pub(super) static ZAP_VS_SYNC: Play = Play {
    name: "zap-vs-sync",
    about: "A drops a mapped page of a file while B makes it durable, stores to it and makes it durable again",
    fixes: &[
        Knob::DelayRmap,
        Knob::FlushBeforeUnlock,
        Knob::MkcleanSync,
        Knob::LateDirtyUnlocked,
    ],
    variants: VARIANTS,
    stops: FEW_STOPS,
    setup: one_mapped_page,
    enter: |stage, me| stored(stage, me == 1),
    run: |stage, me| {
        if me == 0 {
            return drop_page(stage);
        }
        must(stage, "sync", stage.sync_file(0));
        must(stage, "store", stage.store(HOME, 3));
        must(stage, "sync", stage.sync_file(0));
    },
    ..Play::NEW
};

/// Rule 2 by itself: a page counts as mapped for as long as somebody may store to it.
pub(super) static ZAP_KEEPS_RMAP: Play = Play {
    name: "zap-keeps-rmap",
    about: "A drops a mapped page of a file that B stores to; it counts as mapped until B's CPU is flushed",
    fixes: &[Knob::DelayRmap],
    variants: VARIANTS,
    watches_rmap: true,
    spaces: &[Some(0), Some(0)],
    is_small: true,
    setup: one_mapped_page,
    enter: |stage, me| stored(stage, me == 1),
    run: |stage, me| {
        if me == 1 {
            return must(stage, "store", stage.store(HOME, 3));
        }
        drop_page(stage);
    },
    ..Play::NEW
};

/// Rule 10: what was cut off is mapped nowhere, and in no cache.
pub(super) static TRUNCATE_VS_FAULT: Play = Play {
    name: "truncate-vs-fault",
    about: "A cuts a page of a file off that B stores to",
    fixes: &[Knob::TruncateSize],
    spaces: &[None, Some(0)],
    is_small: true,
    setup: one_mapped_page,
    enter: |stage, me| {
        if me == 0 {
            must(stage, "write", stage.write_file(0, PAGE_SIZE, 1));
        }
    },
    run: |stage, me| {
        if me == 0 {
            return must(stage, "truncate", stage.truncate_file(0, PAGE_SIZE));
        }
        whatever(stage.store(page(1), 2));
    },
    ..Play::NEW
};

/// Rule 10: a page that leaves a cache is mapped nowhere, though the file goes on.
pub(super) static PUNCH_VS_FAULT: Play = Play {
    name: "punch-vs-fault",
    about: "A makes a hole where B stores to a file in memory",
    fixes: &[Knob::TruncateUnmap],
    stops: FEW_STOPS,
    setup: |stage| {
        stage.open_shmem(0, 2)?;
        let space = MmRef::new()?;
        stage.map_file(&space, HOME, 2, 0, 0, MapFlags::SHARED)?;
        stage.put(0, space);
        Ok(())
    },
    is_small: false,
    run: |stage, me| match me {
        0 => must(stage, "punch", stage.punch_file(0, PAGE_SIZE, PAGE_SIZE)),
        _ => must(stage, "store", stage.store(page(1), 2)),
    },
    ..TRUNCATE_VS_FAULT
};

/// Rule 10: nor are private copies of it.
pub(super) static TRUNCATE_VS_COPY: Play = Play {
    name: "truncate-vs-copy",
    about: "A cuts a page of a file off that B makes a private copy of",
    fixes: &[Knob::TruncateCopies],
    setup: |stage| {
        stage.open_file(0, 2)?;
        let space = MmRef::new()?;
        stage.map_file(&space, HOME, 2, 0, 0, MapFlags::NONE)?;
        stage.put(0, space);
        Ok(())
    },
    check: |stage| match stage.frame_of(0, page(1)) {
        None => Ok(()),
        Some(pfn) => Err(format!("{pfn:?} is mapped beyond the end of the file")),
    },
    ..TRUNCATE_VS_FAULT
};

/// Rule 3: a right that was taken away is gone, also where a truncation has emptied the entry and
/// not flushed yet (the kind of Linux commits 3ea27719 and 99baac21).
pub(super) static TRUNCATE_VS_MPROTECT: Play = Play {
    name: "truncate-vs-mprotect",
    about: "A cuts a page of a file off while B, which has its private copy in its TLB, takes its right to write it away and stores",
    fixes: &[Knob::GatheredPending],
    setup: |stage| {
        stage.open_file(0, 2)?;
        let space = MmRef::new()?;
        stage.map_file(&space, HOME, 2, 0, 0, MapFlags::NONE)?;
        stage.put(0, space);
        Ok(())
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(page(1), 1));
        }
    },
    run: |stage, me| {
        if me == 0 {
            return must(stage, "truncate", stage.truncate_file(0, PAGE_SIZE));
        }
        let protected = stage.space(0).mprotect(HOME, 2 * PAGE_SIZE, Prot::READ);
        must(stage, "mprotect", protected);
        let stored = stage.store(page(1), 2);
        if stored != Err(FaultError::Protection) {
            stage.violated("scenario", told("a store without the right", stored));
        }
    },
    ..TRUNCATE_VS_FAULT
};

/// The same where the space's own advice took the page (99baac21): the second advice is over only
/// when the first one's flush is.
pub(super) static DROP_VS_DROP: Play = Play {
    name: "drop-vs-drop",
    about: "A drops a page that B has in its TLB; B drops it as well and looks",
    fixes: &[Knob::TlbFlush, Knob::GatheredPending],
    variants: &[],
    spaces: &[Some(0), Some(0)],
    is_small: true,
    setup: |stage| {
        super::play::one_space(stage, 1)?;
        stage.fill(0, HOME, 1)
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| {
        drop_page(stage);
        if me == 1 && stage.load(HOME) != Ok(0) {
            stage.violated("scenario", "the page is still there".into());
        }
    },
    ..Play::NEW
};

/// As [`TRUNCATE_VS_MPROTECT`], where the area is moved away.
pub(super) static TRUNCATE_VS_MREMAP: Play = Play {
    name: "truncate-vs-mremap",
    about: "A cuts a page of a file off while B, which has its private copy in its TLB, moves the area and looks where it was",
    fixes: &[],
    run: |stage, me| {
        if me == 0 {
            return must(stage, "truncate", stage.truncate_file(0, PAGE_SIZE));
        }
        move_to(stage, 0, HOME, 2, page(8));
        let loaded = stage.load(page(1));
        if loaded != Err(FaultError::Unmapped) {
            stage.violated("scenario", told("a load where nothing is", loaded));
        }
    },
    ..TRUNCATE_VS_MPROTECT
};

/// A space that maps both pages of a file in memory, which are filled.
fn two_in_memory(stage: &Stage, how: MapFlags) -> Result<(), MmError> {
    stage.open_shmem(0, 2)?;
    stage.fill_file(0, 0, 9)?;
    stage.fill_file(0, PAGE_SIZE, 9)?;
    let space = MmRef::new()?;
    stage.map_file(&space, HOME, 2, 0, 0, how)?;
    stage.put(0, space);
    Ok(())
}

/// No fault that is under way puts the file's page in the place of a copy that was taken from a
/// killed space, nor one that maps what is around it.
pub(super) static REAP_VS_AROUND: Play = Play {
    name: "reap-vs-around",
    about: "A kills an address space and takes its private copy of a file's page away while B reads the page beside it, and it",
    fixes: &[],
    spaces: &[Some(0), Some(0)],
    setup: |stage| {
        two_in_memory(stage, MapFlags::NONE)?;
        stage.fill(0, page(1), 1)
    },
    enter: |_, _| (),
    run: |stage, me| {
        if me == 0 {
            let space = stage.space(0);
            space.kill();
            mm::reclaim::reap(&space);
            return;
        }
        whatever(stage.load(HOME));
        match stage.load(page(1)) {
            Ok(1) | Err(FaultError::Killed) => {}
            other => stage.violated("scenario", told("a load after its death", other)),
        }
    },
    check: |_| Ok(()),
    ..TRUNCATE_VS_FAULT
};

/// A load maps the pages around it that it has found in the cache, if they still are there.
pub(super) static PUNCH_VS_AROUND: Play = Play {
    name: "punch-vs-around",
    about: "A makes a hole in a file in memory, and reads it, while B reads the page beside it, which maps what is around",
    setup: |stage| two_in_memory(stage, MapFlags::SHARED),
    run: |stage, me| {
        if me == 0 {
            must(stage, "punch", stage.punch_file(0, PAGE_SIZE, PAGE_SIZE));
            return must(stage, "load", stage.load(page(1)));
        }
        must(stage, "load", stage.load(HOME));
    },
    ..REAP_VS_AROUND
};

/// Rules 1 and 2 where the entry goes to another place: who cleans the page there must find every
/// CPU flushed of the old one (Linux commits 5d190420 and eb66ae03).
pub(super) static MREMAP_VS_MKCLEAN: Play = Play {
    name: "mremap-vs-mkclean",
    about: "A moves a page of a file that C stores to, where it was, while it can; B makes the file durable",
    fixes: &[Knob::MoveFlush],
    variants: &[],
    // Between the locks and the flush as well.
    stops: Play::NEW.stops,
    run: |stage, me| match me {
        0 => move_to(stage, 0, HOME, 1, page(8)),
        1 => must(stage, "sync", stage.sync_file(0)),
        _ => store_if_it_can(stage),
    },
    ..ZAP_VS_MKCLEAN
};

/// A private copy is what every thread of the space reads from then on, whoever takes the page of
/// the file away meanwhile.
pub(super) static PUNCH_VS_COPY: Play = Play {
    name: "punch-vs-copy",
    about: "A makes a hole of a page that C has in its TLB; B makes its private copy of it, stores and tells C, which reads",
    fixes: &[Knob::GatheredPending],
    spaces: &[None, Some(0), Some(0)],
    stops: FEW_STOPS,
    setup: |stage| {
        stage.open_shmem(0, 2)?;
        stage.fill_file(0, PAGE_SIZE, 5)?;
        let space = MmRef::new()?;
        stage.map_file(&space, HOME, 2, 0, 0, MapFlags::NONE)?;
        stage.put(0, space);
        Ok(())
    },
    enter: |stage, me| {
        if me == 2 {
            must(stage, "load", stage.load(page(1)));
        }
    },
    run: |stage, me| match me {
        0 => must(stage, "punch", stage.punch_file(0, PAGE_SIZE, PAGE_SIZE)),
        1 => {
            must(stage, "store", stage.store(page(1), 2));
            stage.set(0, 1);
        }
        _ => {
            let knows = stage.get(0) == 1;
            let loaded = stage.load(page(1));
            if knows && loaded != Ok(2) {
                stage.violated("scenario", told("a load after it knew of a store", loaded));
            }
        }
    },
    ..Play::NEW
};
