//! Areas that move, and areas that show the same pages twice, while their pages are cleaned, cut
//! off or looked at.

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr};
use mm::knobs::Knob;
use mm::{MapFlags, MmRef, Prot, RemapFlags};

use super::areas::MPROTECT_VS_TWO;
use super::files::MREMAP_VS_MKCLEAN;
use super::play::{
    FEW_STOPS, HOME, Play, mapped_file, move_to, must, one_space, page, reclaim_remembered,
    sync_twice, told,
};

/// Rule 2 for pages of a file that are moved over.
pub(super) static MREMAP_OVER: Play = Play {
    name: "mremap-over-vs-mkclean",
    about: "A moves memory over a page of a file that C stores to while it can; B makes the file durable",
    fixes: &[Knob::DelayRmap, Knob::FlushBeforeUnlock, Knob::MkcleanSync],
    is_small: true,
    spaces: &[Some(0), None, Some(0)],
    stops: FEW_STOPS,
    setup: |stage| {
        mapped_file(stage, 1)?;
        let space = stage.space(0);
        for (at, pages) in [(page(1), 1), (page(4), 2)] {
            space.mmap(Some(at), pages * PAGE_SIZE, Prot::RW, MapFlags::FIXED)?;
        }
        // Of the two the first has no page: where the file was C finds nothing.
        stage.fill(0, page(5), 9)
    },
    enter: |stage, me| {
        if me == 2 {
            must(stage, "store", stage.store(HOME, 2));
        }
    },
    run: |stage, me| match me {
        0 => move_to(stage, 0, page(4), 2, HOME),
        1 => must(stage, "sync", stage.sync_file(0)),
        _ => _ = stage.try_store(HOME, 3),
    },
    check: |stage| match stage.peek(0, page(1)) {
        Some(9) => Ok(()),
        other => Err(alloc::format!("what was moved holds {other:?}")),
    },
    ..Play::NEW
};

/// Rules 3 and 9 for a second mapping of the same pages: cleaning finds the area that came last.
pub(super) static MREMAP_TWICE: Play = Play {
    name: "mremap-twice-vs-sync",
    about: "A maps a page of a file a second time and stores to it there, twice, while B makes the file durable, twice",
    fixes: &[Knob::CleanFirst, Knob::CleanFlush],
    spaces: &[Some(0), None],
    stops: FEW_STOPS,
    setup: |stage| mapped_file(stage, 1),
    run: |stage, me| {
        if me == 1 {
            return sync_twice(stage);
        }
        let space = stage.space(0);
        let twice = || space.mremap(HOME, 0, PAGE_SIZE, RemapFlags::FIXED, Some(page(8)));
        let twice = stage.moving(&space, (HOME, 0), (page(8), 1), twice);
        must(stage, "mremap", twice);
        must(stage, "store", stage.store(page(8), 3));
        must(stage, "store", stage.store(page(8), 4));
    },
    ..Play::NEW
};

/// Rule 1: a page that was moved is nowhere else, on any CPU, though reclaim had unmapped it and
/// not flushed yet.
pub(super) static MREMAP_VS_TWO: Play = Play {
    name: "mremap-vs-two",
    about: "A reclaims a page, B moves it and tells C, which has it in its TLB and looks where it was",
    fixes: &[Knob::BatchedPending],
    setup: |stage| one_space(stage, 2),
    run: |stage, me| match me {
        0 => reclaim_remembered(stage),
        1 => {
            move_to(stage, 0, HOME, 1, page(4));
            stage.set(1, 1);
        }
        _ => {
            let knows = stage.get(1) == 1;
            let loaded = stage.load(HOME);
            if knows && loaded != Err(FaultError::Unmapped) {
                stage.violated("scenario", told("a load where nothing is", loaded));
            }
        }
    },
    check: |stage| match stage.peek(0, page(4)) {
        Some(1) => Ok(()),
        other => Err(alloc::format!("what was moved holds {other:?}")),
    },
    ..MPROTECT_VS_TWO
};

/// As `mremap-vs-mkclean`, where a whole table moves.
pub(super) static MREMAP_TABLE: Play = Play {
    name: "mremap-table-vs-mkclean",
    about: "A moves a page of a file with its whole table; C stores to it, where it was, while it can; B makes the file durable",
    setup: |stage| {
        stage.open_file(0, 1)?;
        stage.on_disk(0, 0, 1);
        let space = MmRef::new()?;
        stage.map_file(&space, HOME, TABLE, 0, 0, MapFlags::SHARED)?;
        stage.put(0, space);
        Ok(())
    },
    run: |stage, me| match me {
        0 => move_to(stage, 0, HOME, TABLE, FAR),
        1 => must(stage, "sync", stage.sync_file(0)),
        _ => _ = stage.try_store(HOME, 3),
    },
    ..MREMAP_VS_MKCLEAN
};

/// Pages of a table.
pub(super) const TABLE: u64 = arch::addr::entries(0) as u64;

/// In another table than [`HOME`].
pub(super) const FAR: VirtAddr = VirtAddr(HOME.0 + TABLE * PAGE_SIZE);
