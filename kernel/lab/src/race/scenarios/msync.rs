//! msync, which finds its pages by address, while they are stored to, unmapped or cut off.

use arch::PAGE_SIZE;
use mm::knobs::Knob;
use mm::{MapFlags, MmError, Prot, Sync};

use super::play::{FEW_STOPS, HOME, Play, dont_need, mapped_file, must, page, whatever};
use crate::race::stage::Stage;

/// What was unmapped meanwhile was not promised.
fn msync(stage: &Stage, pages: u64) {
    match stage.msync(&stage.space(0), HOME, pages, Sync::Wait) {
        Ok(()) | Err(MmError::NotMapped) => {}
        done => must(stage, "msync", done),
    }
}

/// The actor has the first page of the file in its TLB, written.
fn stored(stage: &'static Stage, it: bool) {
    if it {
        must(stage, "store", stage.store(HOME, 2));
    }
}

/// Rule 9 by address.
pub(super) static MSYNC_VS_STORE: Play = Play {
    name: "msync-vs-store",
    about: "A stores to a mapped page of a file, twice, while B makes it durable by its address, twice",
    fixes: &[Knob::CleanFirst, Knob::CleanFlush, Knob::SyncFlush],
    spaces: &[Some(0), Some(0)],
    stops: FEW_STOPS,
    setup: |stage| mapped_file(stage, 2),
    enter: |stage, me| stored(stage, me == 0),
    run: |stage, me| {
        if me == 0 {
            must(stage, "store", stage.store(HOME, 3));
            return must(stage, "store", stage.store(HOME, 4));
        }
        msync(stage, 1);
        msync(stage, 1);
    },
    ..Play::NEW
};

/// Rule 2 by address: what was stored through an entry that is going is written by who comes for it
/// meanwhile.
pub(super) static MSYNC_VS_ZAP: Play = Play {
    name: "msync-vs-zap",
    about: "A drops a page of a file that C stores to while it can; B makes it durable by its address",
    fixes: &[Knob::DelayRmap, Knob::FlushBeforeUnlock, Knob::MkcleanSync],
    is_small: true,
    spaces: &[Some(0), Some(0), Some(0)],
    setup: |stage| mapped_file(stage, 1),
    enter: |stage, me| stored(stage, me == 2),
    run: |stage, me| match me {
        0 => dont_need(stage, 0, HOME, 1),
        1 => msync(stage, 1),
        _ => _ = stage.try_store(HOME, 3),
    },
    ..MSYNC_VS_STORE
};

/// Rules 9 and 10 by address: pages beyond the end are nobody's to write.
pub(super) static MSYNC_VS_TRUNCATE: Play = Play {
    name: "msync-vs-truncate",
    about: "A cuts the second page of a file off while B stores to it, makes both pages durable by their address, and stores again",
    fixes: &[Knob::TruncateSize],
    spaces: &[None, Some(0)],
    enter: |_, _| (),
    run: |stage, me| {
        if me == 0 {
            return must(stage, "truncate", stage.truncate_file(0, PAGE_SIZE));
        }
        whatever(stage.store(page(1), 2));
        msync(stage, 2);
        whatever(stage.store(page(1), 3));
    },
    ..MSYNC_VS_STORE
};

/// Of a range with a hole, and with memory, what is a file's is written.
pub(super) static MSYNC_OVER_HOLE: Play = Play {
    name: "msync-hole-vs-store",
    about: "A stores to a mapped page of a file; B has that begun to be written, and made durable, by a range with a hole and memory in it",
    fixes: &[],
    setup: |stage| {
        mapped_file(stage, 1)?;
        let (space, how) = (stage.space(0), MapFlags::FIXED);
        let memory = space.mmap(Some(page(2)), PAGE_SIZE, Prot::RW, how);
        memory.map(drop)
    },
    run: |stage, me| {
        if me == 0 {
            return must(stage, "store", stage.store(HOME, 3));
        }
        for (pages, how) in [(1, Sync::Start), (3, Sync::Wait), (5, Sync::Start)] {
            let done = stage.msync(&stage.space(0), HOME, pages, how);
            if done.is_ok() != (pages == 1) {
                let text = alloc::format!("msync of {pages} pages: {done:?}");
                stage.violated("scenario", text);
            }
        }
    },
    ..MSYNC_VS_STORE
};
