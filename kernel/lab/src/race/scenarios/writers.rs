//! The page cache of files on a disk: the flusher and those who wait for it, readers with their
//! readahead, files that grow.

use arch::PAGE_SIZE;
use mm::knobs::Knob;
use mm::{MapFlags, MmError, MmRef, Sync};

use super::play::{
    FEW_STOPS, FEWER_STOPS, HOME, Play, must, page, short_of_frames, unmap, whatever,
};
use crate::race::stage::Stage;

/// A file of `pages` pages at place 0; the first word of each holds its number, plus 1, on the
/// disk.
fn file(stage: &Stage, pages: u32) -> Result<(), MmError> {
    stage.open_file(0, pages)?;
    for i in 0..u64::from(pages) {
        stage.on_disk(0, i * PAGE_SIZE, 1 + i);
    }
    Ok(())
}

/// As [`file()`], mapped in the space at place 0.
fn mapped(stage: &Stage, pages: u32) -> Result<(), MmError> {
    file(stage, pages)?;
    let space = MmRef::new()?;
    stage.map_file(&space, HOME, u64::from(pages), 0, 0, MapFlags::SHARED)?;
    stage.put(0, space);
    Ok(())
}

/// Where writers wait: so many pages that are not on the disk.
const FEW: u64 = 2;

/// Rules 3 and 9 where the flusher cleans, and a writer waits for the room.
pub(super) static FLUSHER_VS_STORE: Play = Play {
    name: "flusher-vs-store",
    about: "A stores to three pages of a file, of which two may be dirty at a time; B, the flusher, makes room",
    fixes: &[Knob::CleanFlush],
    spaces: &[Some(0), None],
    stops: FEWER_STOPS,
    setup: |stage| {
        mapped(stage, 3)?;
        mm::file::set_limits(Some(FEW));
        Ok(())
    },
    enter: |stage, me| {
        if me == 0 {
            must(stage, "store", stage.store(HOME, 10));
        }
    },
    run: |stage, me| {
        if me == 1 {
            return flusher(stage);
        }
        must(stage, "store", stage.store(page(1), 11));
        must(stage, "store", stage.store(HOME, 12));
        end_flusher(stage);
    },
    ..Play::NEW
};

/// The flusher, until A has done what it had to.
fn flusher(stage: &Stage) {
    mm::file::as_flusher(|| stage.get(0) == 1);
}

fn end_flusher(stage: &Stage) {
    stage.set(0, 1);
    mm::file::call_flusher();
}

/// As [`FLUSHER_VS_STORE`], with a file that is cut off under the flusher's hands.
pub(super) static FLUSHER_VS_TRUNCATE: Play = Play {
    name: "flusher-vs-truncate",
    about: "A writes to two pages of a file, which is too much, while B, the flusher, makes room and C cuts one of them off",
    fixes: &[],
    spaces: &[None, None, None],
    setup: |stage| {
        file(stage, 2)?;
        mm::file::set_limits(Some(FEW));
        Ok(())
    },
    enter: |stage, me| {
        if me == 0 {
            must(stage, "write", stage.write_file(0, PAGE_SIZE, 10));
            must(stage, "write", stage.write_file(0, 0, 11));
        }
    },
    run: |stage, me| match me {
        0 => {
            must(stage, "write", stage.write_file(0, 0, 12));
            end_flusher(stage);
        }
        1 => flusher(stage),
        _ => must(stage, "truncate", stage.truncate_file(0, PAGE_SIZE)),
    },
    ..FLUSHER_VS_STORE
};

/// A page that is being read is what everybody waits for, and a write finds what was on the disk
/// around it.
pub(super) static READ_VS_WRITE: Play = Play {
    name: "read-vs-write",
    about: "A reads three pages of a file one after the other, with what its readahead brings, while B writes to two of them",
    fixes: &[],
    spaces: &[None, None],
    stops: FEW_STOPS,
    setup: |stage| file(stage, 4),
    run: |stage, me| {
        if me == 0 {
            for i in 0..3 {
                must(stage, "read", stage.read_file(0, i * PAGE_SIZE));
            }
            return;
        }
        must(stage, "write", stage.write_file(0, PAGE_SIZE, 20));
        must(stage, "write", stage.write_file(0, 8 + 2 * PAGE_SIZE, 21));
    },
    ..Play::NEW
};

/// A reader finds a page of the file, or none, never another's.
pub(super) static READ_VS_TRUNCATE: Play = Play {
    name: "read-vs-truncate",
    about: "A reads two pages of a file while B cuts one off and makes the file longer again",
    fixes: &[],
    run: |stage, me| {
        if me == 0 {
            must(stage, "read", stage.read_file(0, 0));
            let mut bytes = [0; 8];
            let read = stage.file(0).read(PAGE_SIZE, &mut bytes);
            let value = u64::from_le_bytes(bytes);
            match read {
                Ok(0) => {}
                Ok(8) if value == 0 || value == 2 => {}
                other => stage.violated("scenario", alloc::format!("{other:?} of {value:#x}")),
            }
            return;
        }
        must(stage, "truncate", stage.truncate_file(0, PAGE_SIZE));
        must(stage, "truncate", stage.truncate_file(0, 2 * PAGE_SIZE));
    },
    setup: |stage| file(stage, 2),
    ..READ_VS_WRITE
};

/// The file grows over bytes that a mapping has stored behind its end.
pub(super) static GROW_VS_STORE: Play = Play {
    name: "grow-vs-store",
    about: "A makes a file longer, from the middle of a page that B has mapped and stores to, and then to its limit",
    fixes: &[],
    spaces: &[None, Some(0)],
    setup: |stage| {
        mapped(stage, 3)?;
        stage.truncate_file(0, PAGE_SIZE / 2)
    },
    run: |stage, me| {
        if me == 0 {
            must(stage, "write", stage.write_file(0, PAGE_SIZE + 8, 30));
            return must(stage, "truncate", stage.truncate_file(0, 3 * PAGE_SIZE));
        }
        must(stage, "store", stage.store(HOME, 31));
        whatever(stage.store(page(1), 32));
    },
    ..READ_VS_WRITE
};

/// msync writes what was stored through a mapping, whoever unmaps it meanwhile.
pub(super) static MSYNC_VS_MUNMAP: Play = Play {
    name: "msync-vs-munmap",
    about: "A makes two mapped pages durable, one of which B unmaps after it has stored to it",
    fixes: &[Knob::SyncFlush],
    spaces: &[Some(0), Some(0)],
    setup: |stage| mapped(stage, 2),
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 40));
            must(stage, "store", stage.store(page(1), 41));
        }
    },
    run: |stage, me| {
        let space = stage.space(0);
        if me == 0 {
            whatever(space.msync(HOME, 2 * PAGE_SIZE, Sync::Start));
            must(stage, "sync", stage.sync_file(0));
            return;
        }
        must(stage, "store", stage.store(HOME, 42));
        unmap(stage, 0, HOME);
    },
    ..READ_VS_WRITE
};

/// What was written is on the disk before reclaim lets the page go, and comes back from there.
pub(super) static RECLAIM_VS_READ: Play = Play {
    name: "reclaim-vs-read",
    about: "A, kswapd, frees the frames of a file whose page B writes to and reads, through no mapping",
    fixes: &[],
    setup: |stage| {
        file(stage, 2)?;
        stage.read_file(0, PAGE_SIZE)?;
        stage.fill_file(0, 0, 50)
    },
    enter: short_of_frames,
    run: |stage, me| {
        if me == 0 {
            return mm::reclaim::as_kswapd();
        }
        must(stage, "read", stage.read_file(0, PAGE_SIZE));
        must(stage, "write", stage.write_file(0, PAGE_SIZE, 51));
        must(stage, "read", stage.read_file(0, 0));
    },
    ..READ_VS_WRITE
};
