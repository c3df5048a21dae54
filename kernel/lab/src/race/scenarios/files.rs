//! Files: what is written, stored or cut off while others make it durable.

use super::play::{Play, must};

/// What a sync promises, of writes.
pub(super) static WRITE_VS_SYNC: Play = Play {
    name: "write-vs-sync",
    about: "A writes to a page of a file while B makes the file durable, twice",
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
        for _ in 0..2 {
            must(stage, "sync", stage.sync_file(0));
        }
    },
    ..Play::NEW
};
