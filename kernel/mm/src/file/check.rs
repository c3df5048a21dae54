//! Does the page cache add up? Marks against flags, counts against trees, trees against the memmap. Sleeps.

use super::flusher;
use crate::pagecache::{each, tree};
use crate::stats::{Use, use_pages};
use alloc::format;
use alloc::string::String;

/// Holds every file's cache against itself and against the counters. Nobody reads or writes meanwhile; the flusher is kept
/// still, and what it has begun is waited for.
///
/// # Errors
/// A sentence naming what does not add up.
pub fn check() -> Result<(), String> {
    let _pass = flusher::pause();
    let (mut folios, mut dirty, mut writeback) = (0, 0, 0);
    for pin in each() {
        let f = pin.file();
        super::writeback::wait(f, &super::writeback::all(f));
        let census = tree::census(pin.0)
            .map_err(|(what, at)| format!("file {}, page {at:#x}: {what}", pin.0))?;
        folios += u64::from(census.folios);
        dirty += u64::from(census.dirty);
        writeback += u64::from(census.writeback);
    }
    let counted = (use_pages(Use::File), tree::dirty(), tree::writeback());
    if (folios, dirty, writeback) != counted {
        return Err(format!(
            "file pages, dirty, in writeback: the caches hold {:?}, the counters say {counted:?}",
            (folios, dirty, writeback)
        ));
    }
    Ok(())
}
