//! Files in memory: on their way to swap and back, while others use them.

use arch::upcall::Access;
use arch::{PAGE_SIZE, VirtAddr};
use mm::knobs::Knob;
use mm::{Advice, MapFlags, MmError, MmRef};

use super::play::{HOME, Play, must};
use crate::race::stage::Stage;

/// Two pages of a file in memory, mapped in the space at place 0.
fn one_mapped_page(stage: &Stage) -> Result<(), MmError> {
    stage.open_shmem(0, 2)?;
    let space = MmRef::new()?;
    stage.map_file(&space, HOME, 2, 0, 0, MapFlags::SHARED)?;
    stage.put(0, space);
    Ok(())
}

fn page_out(stage: &Stage) {
    let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
    must(stage, "madvise", out);
}

/// B has the page in its TLB, written.
fn b_wrote(stage: &'static Stage, me: usize) {
    if me == 1 {
        must(stage, "store", stage.store(HOME, 1));
    }
}

/// Rules 1 and 7: the slot takes the page's place in the tree.
pub(super) static SHMEM_OUT_VS_FAULT: Play = Play {
    name: "shmem-out-vs-fault",
    about: "A swaps a page of a file in memory out while B writes and reads it",
    fixes: &[Knob::ReclaimFlush, Knob::FreeAfterWrite],
    setup: one_mapped_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return page_out(stage);
        }
        must(stage, "store", stage.store(HOME, 2));
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};

/// Rule 7: of two who bring a page back, one installs it.
pub(super) static SHMEM_IN_VS_IN: Play = Play {
    name: "shmem-in-vs-in",
    about: "A reads and B stores to a page of a file in memory that is on the disk",
    fixes: &[],
    setup: |stage| {
        one_mapped_page(stage)?;
        stage.fill_file(0, 0, 5)?;
        // Reclaim by request takes what is mapped.
        let space = stage.space(0);
        space
            .fault(HOME, Access::Read)
            .map_err(|_| MmError::NotMapped)?;
        space.madvise(HOME, PAGE_SIZE, Advice::PageOut)
    },
    run: |stage, me| {
        must(stage, "load", stage.load(HOME));
        let va = VirtAddr(HOME.0 + 8 * (1 + me as u64));
        must(stage, "store", stage.store(va, 10 + me as u64));
    },
    ..Play::NEW
};

/// A page that goes to swap is cut off meanwhile: neither the page nor its slot stays.
pub(super) static SHMEM_OUT_VS_PUNCH: Play = Play {
    name: "shmem-out-vs-punch",
    about: "A swaps a page of a file in memory out while B makes a hole of it, and stores to it anew",
    fixes: &[],
    setup: one_mapped_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return page_out(stage);
        }
        must(stage, "punch", stage.punch_file(0, 0, PAGE_SIZE));
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};

/// A page that a private area shows goes to swap, and is no page of a file there, while the area
/// gets its copy.
pub(super) static SHMEM_OUT_VS_COPY: Play = Play {
    name: "shmem-out-vs-copy",
    about: "A swaps a page of a file in memory out while B makes its private copy of it",
    fixes: &[],
    setup: |stage| {
        stage.open_shmem(0, 2)?;
        let space = MmRef::new()?;
        stage.map_file(&space, HOME, 2, 0, 0, MapFlags::NONE)?;
        stage.fill_file(0, 0, 5)?;
        space
            .fault(HOME, Access::Read)
            .map_err(|_| MmError::NotMapped)?;
        stage.put(0, space);
        Ok(())
    },
    run: |stage, me| {
        if me == 0 {
            return page_out(stage);
        }
        must(stage, "store", stage.store(HOME, 2));
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};
