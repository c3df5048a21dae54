//! Memory that is not to be had in the middle of an operation: an allocation of A is refused, and
//! C's progress says which one, so that the search tries each. The operation fails whole, or is
//! done; B uses the pages meanwhile.

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr};
use mm::{Advice, MapFlags, MmError, MmRef, Prot, RemapFlags};

use super::play::{FEW_STOPS, FEWER_STOPS, HOME, Play, must, one_space, page};
use crate::race::model::Fresh;
use crate::race::stage::Stage;

/// Allocations that may be granted before the one that is refused: one fewer than this at most, or
/// all.
const MOST: u64 = 10;

/// C goes on counting; how far it is when A begins is how many are granted.
fn c_counts(stage: &Stage) {
    for _ in 0..MOST {
        stage.tick(0);
    }
}

/// A's operation, with its allocation refused; an error says that memory was out.
pub(super) fn without(stage: &Stage, what: &str, op: impl FnOnce() -> Result<(), MmError>) {
    let granted = stage.get(0);
    if granted < MOST {
        mm::explore::refuse_after(granted as u32);
    }
    match op() {
        Ok(()) | Err(MmError::NoMemory) => {}
        other => must(stage, what, other),
    }
}

/// B's store to a page that stays: it goes through whatever A does.
fn b_stores(stage: &Stage, va: VirtAddr) {
    must(stage, "store", stage.store(va, 9));
    match stage.load(va) {
        Ok(9) => {}
        other => must::<()>(stage, "load", Err(other)),
    }
}

/// A fork that fails leaves the parent as it was.
pub(super) static FORK_REFUSED: Play = Play {
    name: "fork-refused",
    about: "A forks, and an allocation of it fails, the one that C's count names; B stores to one of the pages",
    fixes: &[],
    is_small: true,
    spaces: &[Some(0), Some(0), None],
    stops: FEW_STOPS,
    setup: |stage| {
        one_space(stage, 2)?;
        stage.fill(0, HOME, 1)?;
        stage.fill(0, page(1), 2)
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => without(stage, "fork", || {
            if let Some(child) = stage.forking(&stage.space(0)) {
                stage.put(1, child);
            }
            Ok(())
        }),
        1 => b_stores(stage, HOME),
        _ => c_counts(stage),
    },
    ..Play::NEW
};

/// An area that is to be cut in three, and is not, is whole.
pub(super) static MUNMAP_REFUSED: Play = Play {
    name: "munmap-refused",
    about: "A unmaps the middle of three pages, and an allocation of it fails, the one that C's count names; B stores to the last",
    setup: |stage| {
        one_space(stage, 3)?;
        stage.fill(0, HOME, 1)?;
        stage.fill(0, page(1), 2)?;
        stage.fill(0, page(2), 3)?;
        Ok(())
    },
    run: |stage, me| match me {
        0 => without(stage, "munmap", || {
            let space = stage.space(0);
            let op = || space.munmap(page(1), PAGE_SIZE);
            stage.remapping(&space, page(1), 1, Fresh::Nothing, op)
        }),
        1 => b_stores(stage, page(2)),
        _ => c_counts(stage),
    },
    ..FORK_REFUSED
};

/// As [`MUNMAP_REFUSED`], where the middle is to be read only.
pub(super) static MPROTECT_REFUSED: Play = Play {
    name: "mprotect-refused",
    about: "A makes the middle of three pages read-only, and an allocation of it fails, the one that C's count names; B stores there",
    run: |stage, me| match me {
        0 => without(stage, "mprotect", || {
            stage.space(0).mprotect(page(1), PAGE_SIZE, Prot::READ)
        }),
        1 => match stage.store(page(1), 9) {
            Ok(()) | Err(FaultError::Protection) => {}
            other => must(stage, "store", other),
        },
        _ => c_counts(stage),
    },
    ..MUNMAP_REFUSED
};

/// A page that is to be moved, and is not, is where it was.
pub(super) static MREMAP_REFUSED: Play = Play {
    name: "mremap-refused",
    about: "A moves the middle of three pages far away, and an allocation of it fails, the one that C's count names; B stores to the first",
    run: |stage, me| match me {
        0 => {
            without(stage, "mremap", || {
                let to = VirtAddr(HOME.0 << 2);
                let space = stage.space(0);
                let (len, how) = (PAGE_SIZE, RemapFlags::FIXED);
                let op = || space.mremap(page(1), len, len, how, Some(to));
                stage.moving(&space, (page(1), 1), (to, 1), op).map(drop)
            });
        }
        1 => b_stores(stage, HOME),
        _ => c_counts(stage),
    },
    ..MUNMAP_REFUSED
};

/// Pages that a mapping was to replace, and did not, are there, and no record of its area is left.
pub(super) static MMAP_REFUSED: Play = Play {
    name: "mmap-refused",
    about: "A maps anew over the middle of three pages, and an allocation of it fails, the one that C's count names; B stores to the last",
    run: |stage, me| match me {
        0 => without(stage, "mmap", || {
            let space = stage.space(0);
            let op = || space.mmap(Some(page(1)), PAGE_SIZE, Prot::RW, MapFlags::FIXED);
            stage
                .remapping(&space, page(1), 1, Fresh::Memory, op)
                .map(drop)
        }),
        1 => b_stores(stage, page(2)),
        _ => c_counts(stage),
    },
    ..MUNMAP_REFUSED
};

/// A fault finds its frame in the end, and an area that a mapping was refused is not there.
pub(super) static FAULT_REFUSED: Play = Play {
    name: "fault-refused",
    about: "A maps a page far away and stores to it, and an allocation of it fails, the one that C's count names; B stores to another",
    run: |stage, me| match me {
        0 => {
            let at = VirtAddr(HOME.0 << 2);
            let mut mapped = false;
            without(stage, "mmap", || {
                let space = stage.space(0);
                let op = || space.mmap(Some(at), PAGE_SIZE, Prot::RW, MapFlags::FIXED);
                stage.remapping(&space, at, 1, Fresh::Memory, op)?;
                mapped = true;
                Ok(())
            });
            if mapped {
                must(stage, "store", stage.store(at, 5));
            }
        }
        1 => b_stores(stage, HOME),
        _ => c_counts(stage),
    },
    ..MUNMAP_REFUSED
};

/// The same of what comes back from the disk, or is to be read ahead.
pub(super) static SWAPIN_REFUSED: Play = Play {
    name: "swapin-refused",
    about: "A reads ahead and loads what is on the disk, and an allocation of it fails, the one that C's count names; B stores there",
    setup: |stage| {
        one_space(stage, 3)?;
        for i in 0..3 {
            stage.fill(0, page(i), 1 + i)?;
        }
        stage.space(0).madvise(HOME, 3 * PAGE_SIZE, Advice::PageOut)
    },
    is_small: false,
    stops: FEWER_STOPS,
    enter: |_, _| (),
    run: |stage, me| match me {
        0 => {
            without(stage, "madvise", || {
                stage
                    .space(0)
                    .madvise(page(1), 2 * PAGE_SIZE, Advice::WillNeed)
            });
            must(stage, "load", stage.load(page(1)));
        }
        1 => must(stage, "store", stage.store(HOME, 9)),
        _ => c_counts(stage),
    },
    ..FORK_REFUSED
};

/// The same of a file's pages, which want nodes of the page cache as well.
pub(super) static FILE_REFUSED: Play = Play {
    name: "file-refused",
    about: "A writes and then loads pages of a file, and an allocation of it fails, the one that C's count names; B stores to one",
    setup: |stage| {
        stage.open_file(0, 3)?;
        stage.on_disk(0, 0, 1);
        stage.on_disk(0, 2 * PAGE_SIZE, 3);
        let space = MmRef::new()?;
        stage.map_file(&space, HOME, 3, 0, 0, MapFlags::SHARED)?;
        stage.put(0, space);
        Ok(())
    },
    is_small: false,
    stops: FEWER_STOPS,
    enter: |_, _| (),
    run: |stage, me| match me {
        0 => {
            without(stage, "write", || {
                stage.write_file(0, PAGE_SIZE, 5).map(drop)
            });
            must(stage, "load", stage.load(page(2)));
        }
        1 => must(stage, "store", stage.store(HOME, 9)),
        _ => c_counts(stage),
    },
    ..FORK_REFUSED
};
