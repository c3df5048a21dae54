//! mremap in the forms that change more than a place: areas that grow, shrink on the way, go over
//! others and between tables, and calls that are refused.

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr};
use mm::knobs::Knob;
use mm::{MapFlags, MmError, Prot, RemapFlags};

use super::files::MREMAP_VS_MKCLEAN;
use super::moves::{FAR, MREMAP_TABLE, MREMAP_TWICE, TABLE};
use super::play::{
    FEW_STOPS, HOME, Play, mapped_file, move_to, must, one_space, page, reclaim_remembered,
    sync_twice, told, unless_kernel,
};
use super::reclaim::MREMAP_VS_RECLAIM;
use super::refused::MREMAP_REFUSED;
use crate::race::stage::Stage;

/// A page of the space at place 0 that nothing else is to take.
fn occupy(stage: &Stage, at: VirtAddr) -> Result<(), MmError> {
    let (space, how) = (stage.space(0), MapFlags::FIXED);
    space.mmap(Some(at), PAGE_SIZE, Prot::READ, how).map(drop)
}

/// In the scenario's word 2: where `pages` pages go that may lie anywhere.
fn look_for_room(stage: &Stage, pages: u64) -> Result<(), MmError> {
    let (space, len) = (stage.space(0), pages * PAGE_SIZE);
    let room = space.mmap(None, len, Prot::READ, MapFlags::NONE)?;
    stage.set(2, room.0);
    space.munmap(room, len)
}

/// The place of [`look_for_room`].
fn room(stage: &Stage) -> VirtAddr {
    VirtAddr(stage.get(2))
}

/// Rule 1 where an area has to move because it grows.
pub(super) static MREMAP_GROW_MOVES: Play = Play {
    name: "mremap-grow-vs-reclaim",
    about: "A reclaims a page while B, which has it in its TLB, makes the area longer, elsewhere, and looks where it was",
    setup: |stage| {
        one_space(stage, 2)?;
        occupy(stage, page(2))?;
        look_for_room(stage, 3)
    },
    run: |stage, me| {
        if me == 0 {
            return reclaim_remembered(stage);
        }
        let (space, to) = (stage.space(0), room(stage));
        let (old, new) = (2 * PAGE_SIZE, 3 * PAGE_SIZE);
        let op = || space.mremap(HOME, old, new, RemapFlags::MAYMOVE, None);
        let moved = stage.moving(&space, (HOME, 2), (to, 3), op);
        if moved != Ok(to) {
            let text = alloc::format!("mremap to {to:?}: {moved:?}");
            stage.violated("scenario", text);
        }
        let loaded = stage.load(HOME);
        if loaded != Err(FaultError::Unmapped) {
            stage.violated("scenario", told("a load where nothing is", loaded));
        }
        let loaded = stage.load(to);
        if loaded != Ok(1) {
            stage.violated("scenario", told("a load where it is now", loaded));
        }
        must(stage, "store", stage.store(VirtAddr(to.0 + old), 4));
    },
    ..MREMAP_VS_RECLAIM
};

/// An area that grows where it is beside faults on what it grows over.
pub(super) static MREMAP_GROW_STAYS: Play = Play {
    name: "mremap-grow-vs-fault",
    about: "A makes an area one page longer and stores to that page, to which B stores as well if it can",
    fixes: &[],
    is_small: true,
    stops: FEW_STOPS,
    run: |stage, me| {
        let beside = VirtAddr(page(1).0 + 8);
        if me == 1 {
            return match stage.store(beside, 7) {
                Ok(()) | Err(FaultError::Unmapped) => {}
                other => must(stage, "store", other),
            };
        }
        let space = stage.space(0);
        let op = || space.mremap(HOME, PAGE_SIZE, 2 * PAGE_SIZE, RemapFlags::NONE, None);
        let done = stage.moving(&space, (HOME, 1), (HOME, 2), op);
        must(stage, "mremap", done);
        must(stage, "store", stage.store(page(1), 5));
        must(stage, "load", stage.load(beside));
    },
    ..Play::NEW
};

/// Calls that must fail, and leave everything as it is: what is asked, and what it comes to.
const REFUSALS: [(VirtAddr, u64, u64, RemapFlags, Option<VirtAddr>, MmError); 12] = {
    use MmError::{Fault, Invalid, NoRoom};
    const NONE: RemapFlags = RemapFlags::NONE;
    const FIXED: RemapFlags = RemapFlags::FIXED;
    const ANY: RemapFlags = RemapFlags::MAYMOVE;
    let [a, far] = [page(0), page(16)];
    [
        // Two areas, a hole, nothing at all.
        (a, 3, 4, NONE, None, Fault),
        (a, 3, 3, FIXED, Some(far), Fault),
        (page(3), 2, 3, ANY, None, Fault),
        (page(8), 1, 1, FIXED, Some(far), Fault),
        (page(8), 2, 1, NONE, None, Fault),
        // No length, no place, one that meets the old, one where nobody may be.
        (a, 1, 0, NONE, None, Invalid),
        (a, 1, 1, FIXED, None, Invalid),
        (a, 2, 2, FIXED, Some(page(1)), Invalid),
        (a, 1, 1, FIXED, Some(VirtAddr(0)), Invalid),
        // A second mapping of what is nobody else's.
        (a, 0, 1, FIXED, Some(far), Invalid),
        // Something is in the way; there is no such room.
        (a, 2, 3, NONE, None, NoRoom),
        (a, 2, 1 << 40, ANY, None, NoRoom),
    ]
};

/// What mremap refuses it does not begin.
pub(super) static MREMAP_WRONG: Play = Play {
    name: "mremap-wrong-vs-fault",
    about: "A asks for moves that have to be refused, while B stores to both of the areas that they are about",
    fixes: &[],
    is_small: true,
    stops: FEW_STOPS,
    setup: |stage| {
        one_space(stage, 2)?;
        occupy(stage, page(2))?;
        stage.space(0).mprotect(page(2), PAGE_SIZE, Prot::NONE)?;
        occupy(stage, page(3))
    },
    run: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 5));
            return must(stage, "load", stage.load(page(3)));
        }
        let space = stage.space(0);
        for (va, old, new, how, to, expected) in REFUSALS {
            let done = space.mremap(va, old * PAGE_SIZE, new * PAGE_SIZE, how, to);
            if done != Err(expected) {
                let text = alloc::format!("{va:?}, {old} to {new} pages: {done:?}");
                stage.violated("scenario", text);
            }
        }
        must(stage, "store", stage.store(page(1), 6));
    },
    check: |stage| match (stage.peek(0, HOME), stage.peek(0, page(1))) {
        (Some(5), Some(6)) => Ok(()),
        other => Err(alloc::format!("the pages hold {other:?}")),
    },
    ..Play::NEW
};

/// Rule 2 for what does not fit at the new place.
pub(super) static MREMAP_SHORTER: Play = Play {
    name: "mremap-shorter-vs-mkclean",
    about: "A moves the first of two pages of a file, so that the second goes, which C stores to while it can; B syncs twice",
    fixes: &[Knob::DelayRmap, Knob::FlushBeforeUnlock, Knob::MkcleanSync],
    stops: FEW_STOPS,
    setup: |stage| mapped_file(stage, 2),
    enter: |stage, me| {
        if me == 2 {
            must(stage, "store", stage.store(page(1), 2));
        }
    },
    run: |stage, me| match me {
        0 => {
            let space = stage.space(0);
            let (old, new, how) = (2 * PAGE_SIZE, PAGE_SIZE, RemapFlags::FIXED);
            let op = || space.mremap(HOME, old, new, how, Some(page(8)));
            let moved = stage.moving(&space, (HOME, 2), (page(8), 1), op);
            must(stage, "mremap", moved);
        }
        1 => sync_twice(stage),
        _ => _ = stage.try_store(page(1), 3),
    },
    ..MREMAP_VS_MKCLEAN
};

/// As `mremap-table-vs-mkclean`, where what was mapped there has left its table: the entries move
/// one by one.
pub(super) static MREMAP_TABLE_OVER: Play = Play {
    name: "mremap-table-over-vs-store",
    about: "A moves a page of a file with what its table has to where a table is, and looks where it was; B stores to it while it can",
    fixes: &[],
    is_small: true,
    spaces: &[Some(0), Some(0)],
    stops: FEW_STOPS,
    setup: |stage| {
        (MREMAP_TABLE.setup)(stage)?;
        let (space, how) = (stage.space(0), MapFlags::FIXED);
        space.mmap(Some(FAR), PAGE_SIZE, Prot::RW, how)?;
        stage.fill(0, FAR, 9)
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 2));
        }
    },
    run: |stage, me| {
        if me == 1 {
            _ = stage.try_store(HOME, 3);
            return;
        }
        move_to(stage, 0, HOME, TABLE, FAR);
        let loaded = stage.load(HOME);
        if loaded != Err(FaultError::Unmapped) {
            stage.violated("scenario", told("a load where nothing is", loaded));
        }
    },
    check: |stage| match stage.peek(0, FAR) {
        Some(2 | 3) => Ok(()),
        other => Err(alloc::format!("what was moved holds {other:?}")),
    },
    ..Play::NEW
};

/// As `mremap-vs-mkclean`, where the pages of one table go to two.
pub(super) static MREMAP_ACROSS: Play = Play {
    name: "mremap-across-vs-mkclean",
    about: "A moves two pages of a file to the end of a table and the next one; C stores to the first, where it was, while it can; B syncs",
    // Found after six thousand schedules: minutes in the kernel. `mremap-vs-mkclean` is faster.
    fixes: unless_kernel(&[Knob::MoveFlush], &[]),
    setup: |stage| mapped_file(stage, 2),
    run: |stage, me| match me {
        0 => move_to(stage, 0, HOME, 2, page(2 * TABLE - 1)),
        1 => must(stage, "sync", stage.sync_file(0)),
        _ => _ = stage.try_store(HOME, 3),
    },
    ..MREMAP_VS_MKCLEAN
};

/// As `mremap-twice-vs-sync`, where the second mapping may be anywhere.
pub(super) static MREMAP_TWICE_ANYWHERE: Play = Play {
    name: "mremap-anywhere-vs-sync",
    about: "A maps a page of a file a second time, anywhere, and stores to it there, twice, while B makes the file durable, twice",
    setup: |stage| {
        mapped_file(stage, 1)?;
        look_for_room(stage, 1)
    },
    run: |stage, me| {
        if me == 1 {
            return sync_twice(stage);
        }
        let (space, to) = (stage.space(0), room(stage));
        let nowhere = space.mremap(HOME, 0, PAGE_SIZE, RemapFlags::NONE, None);
        if nowhere != Err(MmError::NoRoom) {
            let text = alloc::format!("a second mapping, nowhere: {nowhere:?}");
            stage.violated("scenario", text);
        }
        let twice = || space.mremap(HOME, 0, PAGE_SIZE, RemapFlags::MAYMOVE, None);
        let twice = stage.moving(&space, (HOME, 0), (to, 1), twice);
        must(stage, "mremap", twice);
        must(stage, "store", stage.store(to, 3));
        must(stage, "store", stage.store(to, 4));
    },
    ..MREMAP_TWICE
};

/// As `mremap-refused`, where it would have gone over an area that stays.
pub(super) static MREMAP_OVER_REFUSED: Play = Play {
    name: "mremap-over-refused",
    about: "A moves two of three pages far away, over one there, and an allocation of it fails, the one that C's count names; B stores to the first",
    setup: |stage| {
        one_space(stage, 3)?;
        for i in 0..3 {
            stage.fill(0, page(i), 1 + i)?;
        }
        occupy(stage, VirtAddr(BEYOND.0 + PAGE_SIZE))
    },
    run: |stage, me| match me {
        0 => super::refused::without(stage, "mremap", || {
            let (space, len) = (stage.space(0), 2 * PAGE_SIZE);
            let op = || space.mremap(page(1), len, len, RemapFlags::FIXED, Some(BEYOND));
            let moved = stage.moving(&space, (page(1), 2), (BEYOND, 2), op);
            moved.map(drop)
        }),
        _ => (MREMAP_REFUSED.run)(stage, me),
    },
    ..MREMAP_REFUSED
};

/// The last page below a table's end, far away.
const BEYOND: VirtAddr = VirtAddr((HOME.0 << 2) - PAGE_SIZE);
