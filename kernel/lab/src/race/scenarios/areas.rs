//! Areas that are cut in two, joined, made shorter or longer, while reverse walks, faults and
//! reclaim come to their pages (rule 16).

use arch::PAGE_SIZE;
use arch::upcall::FaultError;
use mm::knobs::Knob;
use mm::{MapFlags, MmRef, Prot, RemapFlags};

use super::play::{
    FEW_STOPS, HOME, LOCK_STOPS, Play, free, map, mapped_file, must, one_space, page,
    reclaim_remembered, remember_frame, sync_twice, told, unmap,
};
use crate::race::model::Fresh;
use crate::race::stage::Stage;

/// The actor has the second page of the file in its TLB, written.
fn c_wrote(stage: &'static Stage, me: usize) {
    if me == 2 {
        must(stage, "store", stage.store(page(1), 2));
    }
}

/// What a sync of B's misses, C goes on storing to, and the next sync takes for clean.
fn b_syncs_c_stores(stage: &'static Stage, me: usize) {
    if me == 1 {
        return sync_twice(stage);
    }
    stage.try_store(page(1), 3);
}

fn protect_first(stage: &Stage, prot: Prot) {
    let protected = stage.space(0).mprotect(HOME, PAGE_SIZE, prot);
    must(stage, "mprotect", protected);
}

/// The upper half of an area that is cut.
pub(super) static MPROTECT_CUTS: Play = Play {
    name: "mprotect-part-vs-sync",
    about: "A takes the right to write the first of two pages of a file away; C stores to the second while it can; B syncs twice",
    fixes: &[Knob::CutOverlap],
    is_small: true,
    spaces: &[Some(0), None, Some(0)],
    stops: FEW_STOPS,
    setup: |stage| mapped_file(stage, 2),
    enter: c_wrote,
    run: |stage, me| match me {
        0 => protect_first(stage, Prot::READ),
        _ => b_syncs_c_stores(stage, me),
    },
    ..Play::NEW
};

/// As [`MPROTECT_CUTS`], where two areas become one.
pub(super) static MPROTECT_JOINS: Play = Play {
    name: "mprotect-join-vs-sync",
    about: "A gives the right to write the first of two pages of a file back; C stores to the second while it can; B syncs twice",
    setup: |stage| {
        mapped_file(stage, 2)?;
        stage.space(0).mprotect(HOME, PAGE_SIZE, Prot::READ)
    },
    run: |stage, me| match me {
        0 => protect_first(stage, Prot::RW),
        _ => b_syncs_c_stores(stage, me),
    },
    ..MPROTECT_CUTS
};

/// The middle, which goes, and the upper edge, which stays.
pub(super) static MUNMAP_MIDDLE: Play = Play {
    name: "munmap-middle-vs-sync",
    about: "A unmaps the second of three pages of a file; C has written it and the third, and goes on while it can; B syncs twice",
    fixes: &[Knob::ZapFirst, Knob::CutOverlap],
    stops: LOCK_STOPS,
    setup: |stage| mapped_file(stage, 3),
    enter: |stage, me| {
        c_wrote(stage, me);
        if me == 2 {
            must(stage, "store", stage.store(page(2), 2));
        }
    },
    run: |stage, me| match me {
        0 => unmap(stage, 0, page(1)),
        _ => b_syncs_c_stores(stage, me),
    },
    ..MPROTECT_CUTS
};

/// The end, which goes, and comes back empty.
pub(super) static SHRINK_AND_GROW: Play = Play {
    name: "mremap-size-vs-sync",
    about: "A makes an area of a file one page shorter and longer again; C stores to that page while it can; B syncs twice",
    is_small: true,
    fixes: &[Knob::ZapFirst],
    run: |stage, me| {
        if me != 0 {
            return b_syncs_c_stores(stage, me);
        }
        let space = stage.space(0);
        for (from, to) in [(2, 1), (1, 2)] {
            let (old, new) = (from * PAGE_SIZE, to * PAGE_SIZE);
            let op = || space.mremap(HOME, old, new, RemapFlags::NONE, None);
            let done = stage.moving(&space, (HOME, from), (HOME, to), op);
            must(stage, "mremap", done);
        }
    },
    ..MPROTECT_CUTS
};

/// Rule 3 for one CPU's right that another takes away while reclaim has unmapped the page and not
/// flushed yet.
pub(super) static MPROTECT_VS_TWO: Play = Play {
    name: "mprotect-vs-two",
    about: "A reclaims a page, B takes the right to write it away and tells C, which has it in its TLB and stores",
    fixes: &[Knob::BatchedPending, Knob::WpFlush],
    is_small: true,
    spaces: &[None, Some(0), Some(0)],
    stops: FEW_STOPS,
    enter: |stage, me| {
        if me == 2 {
            must(stage, "store", stage.store(HOME, 1));
            remember_frame(stage, HOME);
        }
    },
    run: |stage, me| match me {
        0 => reclaim_remembered(stage),
        1 => {
            let protected = stage.space(0).mprotect(HOME, PAGE_SIZE, Prot::READ);
            must(stage, "mprotect", protected);
            stage.set(1, 1);
        }
        _ => {
            let knows = stage.get(1) == 1;
            let stored = stage.store(HOME, 2);
            if knows && stored != Err(FaultError::Protection) {
                stage.violated("scenario", told("a store without the right", stored));
            }
        }
    },
    ..Play::NEW
};

/// What is mapped over a page is what every CPU sees from then on, though reclaim was about to take
/// the page away.
pub(super) static FIXED_VS_TWO: Play = Play {
    name: "mmap-fixed-vs-two",
    about: "A maps fresh memory over a page that was given up, B reclaims and C has in its TLB, and tells C, which reads",
    fixes: &[Knob::BatchedPending, Knob::ReclaimFlush],
    spaces: &[Some(0), None, Some(0)],
    is_small: false,
    stops: LOCK_STOPS,
    // The second page keeps the table, whose end would be a flush of its own.
    setup: |stage| {
        one_space(stage, 2)?;
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
        0 => {
            let space = stage.space(0);
            let mapped = stage.remapping(&space, HOME, 1, Fresh::Memory, || map(&space, 1));
            must(stage, "mmap", mapped);
            stage.set(1, 1);
        }
        1 => reclaim_remembered(stage),
        _ => {
            let knows = stage.get(1) == 1;
            let loaded = stage.load(HOME);
            if knows && loaded != Ok(0) {
                stage.violated("scenario", told("a load of fresh memory", loaded));
            }
        }
    },
    ..MPROTECT_VS_TWO
};

/// A stack of one page.
fn stack(stage: &Stage) -> Result<(), mm::MmError> {
    let space = MmRef::new()?;
    let flags = MapFlags::FIXED | MapFlags::GROWSDOWN;
    space.mmap(Some(page(8)), PAGE_SIZE, Prot::RW, flags)?;
    stage.put(0, space);
    stage.grows(HOME, 8);
    Ok(())
}

/// Rule 4: what a fault saw with the areas held shared may be different once it holds them alone.
pub(super) static STACK_VS_STACK: Play = Play {
    name: "stack-vs-stack",
    about: "A and B store below a stack, A further down",
    fixes: &[Knob::GrowRecheck],
    is_small: true,
    setup: stack,
    run: |stage, me| {
        let at = page(5 + me as u64);
        must(stage, "store", stage.store(at, 1));
        must(stage, "load", stage.load(at));
    },
    ..Play::NEW
};

/// As [`STACK_VS_STACK`], where something else is put into the gap.
pub(super) static STACK_VS_MMAP: Play = Play {
    name: "stack-vs-mmap",
    about: "A stores below a stack where B maps memory and stores beside",
    run: |stage, me| {
        if me == 0 {
            return must(stage, "store", stage.store(page(6), 1));
        }
        let space = stage.space(0);
        let map = || space.mmap(Some(page(6)), PAGE_SIZE, Prot::RW, MapFlags::FIXED);
        let mapped = stage.remapping(&space, page(6), 1, Fresh::Memory, map);
        must(stage, "mmap", mapped);
        let beside = arch::VirtAddr(page(6).0 + 8);
        must(stage, "store", stage.store(beside, 2));
    },
    ..STACK_VS_STACK
};
