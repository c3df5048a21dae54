//! Does the page cache add up? Marks against flags, counts against trees, trees against the memmap.
//! Sleeps.

use super::flusher;
use crate::pagecache::layout::Kind;
use crate::pagecache::tree::Held;
use crate::pagecache::{File, each, tree};
use crate::stats::{Use, use_pages};
use crate::swap;
use alloc::format;
use alloc::string::String;

/// Holds every file's cache against itself and against the counters. Nobody reads or writes
/// meanwhile; the flusher is kept still, and what it has begun is waited for.
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
        check_slots(f, pin.id())?;
        folios += u64::from(census.folios);
        dirty += u64::from(census.dirty);
        writeback += u64::from(census.writeback);
    }
    let waiting = tree::unwritten();
    let counted = (use_pages(Use::File), waiting.dirty, waiting.writeback);
    if (folios, dirty, writeback) != counted {
        return Err(format!(
            "file pages, dirty, in writeback: the caches hold {:?}, the counters say {counted:?}",
            (folios, dirty, writeback)
        ));
    }
    Ok(())
}

/// What the file has on the swap disk is in use there.
fn check_slots(f: &File, id: u32) -> Result<(), String> {
    let mut from = Some(0);
    while let Some(at) = from.filter(|_| f.layout.kind() == Kind::Memory)
        && let Some((index, held)) = f.tree.next(at, u32::MAX)
    {
        if let Held::Slot(slot) = held
            && swap::slot_state(slot).is_none_or(|s| s.count() != 1)
        {
            return Err(format!(
                "file {id}, page {index:#x}: its swap slot {slot:#x} is not its own"
            ));
        }
        from = index.checked_add(1);
    }
    Ok(())
}
