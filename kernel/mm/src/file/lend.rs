//! For the explorer: a disk of its own for files, while the machine's files rest.
//!
//! Everything that is dirty is written before, and what nobody has mapped is dropped; the flusher
//! stands still until the machine's disk is back. Sleeps; holds `Rank::FilePass` throughout.

use super::{drop_caches, flusher, io, writeback};
use crate::error::MmError;
use crate::pagecache;
use arch::block::BlockDevice;

/// How often, and how far apart, requests under way are looked for: ten seconds in all.
const PATIENCE: u32 = 10_000;
const TICK_NS: u64 = 1_000_000;

/// Until it is dropped, files lie on the explorer's disk.
pub(crate) struct Lent {
    _flusher: flusher::Paused,
}

/// Makes `disk`, always the same one, the disk for files.
///
/// # Errors
/// [`MmError::Io`] when something cannot be written to the machine's.
pub(crate) fn lend(disk: &'static dyn BlockDevice) -> Result<Lent, MmError> {
    let flusher = flusher::pause();
    writeback::write_back();
    // Nobody waits for what was read ahead, and a request is given back a moment after its pages.
    for _ in 0..PATIENCE {
        if io::in_flight() == 0 {
            break;
        }
        arch::thread::sleep_ns(TICK_NS);
    }
    if pagecache::unwritten().all() + u64::from(io::in_flight()) != 0 {
        return Err(MmError::Io);
    }
    drop_caches();
    io::lend(disk);
    Ok(Lent { _flusher: flusher })
}

impl Drop for Lent {
    fn drop(&mut self) {
        io::take_back();
    }
}
