//! Which files there are and where they lie: opening, growing by extents, forgetting what is in
//! memory, while others read.

use arch::PAGE_SIZE;
use mm::file::Extent;
use mm::swap::SwapOpError;
use mm::{MmError, file};

use super::play::{FEW_STOPS, Play, must};
use crate::race::disk::{DATA_FIRST, SWAP};

/// Whoever opens an extent has the same file; one that overlaps it is refused.
pub(super) static OPEN_VS_OPEN: Play = Play {
    name: "open-vs-open",
    about: "A and B open one extent of the disk, read it and close it; one that overlaps is refused to both",
    fixes: &[],
    spaces: &[None, None],
    stops: FEW_STOPS,
    setup: |stage| {
        stage.open_extent(0, 2)?;
        stage.on_disk(0, 0, 5);
        Ok(())
    },
    run: |stage, _| {
        let mine = match file::open(DATA_FIRST, 2) {
            Ok(mine) => mine,
            Err(e) => return must::<()>(stage, "open", Err(e)),
        };
        let mut bytes = [0; 8];
        let read = mine.read(0, &mut bytes);
        if read != Ok(8) || u64::from_le_bytes(bytes) != 5 {
            stage.violated("scenario", alloc::format!("{read:?}: {bytes:?}"));
        }
        for (first, pages) in [(DATA_FIRST + 1, 2), (DATA_FIRST, 1)] {
            if !matches!(file::open(first, pages), Err(MmError::Exists)) {
                stage.violated("scenario", "a file over another".into());
            }
        }
        must(stage, "sync", mine.sync());
    },
    ..Play::NEW
};

/// A file gets room elsewhere, uses it and gives it back, under a reader's eyes.
pub(super) static EXTENTS_VS_READ: Play = Play {
    name: "extents-vs-read",
    about: "A gives a file another extent, writes there, cuts the file and takes the extent away; B reads and writes its first page",
    setup: |stage| {
        stage.open_file(0, 1)?;
        stage.on_disk(0, 0, 5);
        Ok(())
    },
    run: |stage, me| {
        if me == 1 {
            must(stage, "read", stage.read_file(0, 0));
            return must(stage, "write", stage.write_file(0, 8, 6));
        }
        let (f, other) = (stage.file(0), DATA_FIRST + 20);
        let extent = Extent {
            first: other,
            pages: 1,
        };
        must(stage, "extent", f.add_extent(extent));
        must(stage, "write", stage.write_file(0, PAGE_SIZE + 8, 7));
        if (f.place(1), f.size()) != (Some(other), PAGE_SIZE + 16) {
            stage.violated("scenario", "the second page lies elsewhere".into());
        }
        if f.cut_extents(1) != Err(MmError::Invalid) {
            stage.violated("scenario", "room went that is in use".into());
        }
        must(stage, "truncate", stage.truncate_file(0, PAGE_SIZE));
        must(stage, "cut", f.cut_extents(1));
        must(stage, "again", f.again().map(drop));
    },
    ..OPEN_VS_OPEN
};

/// What is forgotten is read anew, and what a reader has in hand stays.
pub(super) static FORGET_VS_READ: Play = Play {
    name: "forget-vs-read",
    about: "A drops what is clean in memory, and then all of a file's pages, while B reads two of them",
    setup: |stage| {
        stage.open_file(0, 2)?;
        stage.on_disk(0, 0, 5);
        stage.on_disk(0, PAGE_SIZE, 6);
        stage.read_file(0, 0)?;
        Ok(())
    },
    run: |stage, me| {
        if me == 1 {
            must(stage, "read", stage.read_file(0, 0));
            return must(stage, "read", stage.read_file(0, PAGE_SIZE));
        }
        file::drop_caches();
        must(
            stage,
            "invalidate",
            stage.file(0).invalidate(0, 2 * PAGE_SIZE),
        );
    },
    ..OPEN_VS_OPEN
};

/// An area is in use, or gets its header; not both at a time.
pub(super) static MKSWAP_VS_SWAPON: Play = Play {
    name: "mkswap-vs-swapon",
    about: "A writes a swap header where B begins to swap",
    setup: |_| mm::explore::swapoff().map_err(|_| MmError::NoMemory),
    run: |stage, me| {
        if me == 1 {
            return must(stage, "swapon", mm::swap::swapon(&SWAP));
        }
        match mm::swap::mkswap(&SWAP, "race", &[]) {
            Ok(()) | Err(SwapOpError::InUse) => {}
            other => must(stage, "mkswap", other),
        }
    },
    check: |_| match mm::swap::total_slots() {
        0 => Err("no area is in use".into()),
        _ => Ok(()),
    },
    ..OPEN_VS_OPEN
};
