//! Direct reclaim: what an allocation does that finds nothing free.
//!
//! Runs in the allocating thread, which may hold `mmap_lock`s; takes none, sleeps for the disk. Fails only
//! when several whole scans have freed nothing and nothing is being written; then the OOM killer decides.

use super::shrink::{self, By, DEF_PRIORITY, Scan};
use super::{kswapd, laundry, oom};
use crate::buddy::{self, Progress};
use crate::stats::{Event, count};
use crate::swap::io;
use core::sync::atomic::{AtomicU32, Ordering};

/// Frames that one call tries to free.
const TARGET: u32 = 32;
/// Whole scans in vain before memory counts as exhausted.
const TRIES: u32 = 4;
/// Scans in vain in a row, of all threads together.
static IN_VAIN: AtomicU32 = AtomicU32::new(0);

/// The page allocator's slow path, for a block of `2^order` frames.
pub(super) fn slow_path(order: u8) -> Progress {
    count(Event::AllocStall);
    if oom::current_is_killed() {
        return Progress::GiveUp;
    }
    let seen = io::completions();
    let freed = reclaim();
    if freed > 0 {
        IN_VAIN.store(0, Ordering::Relaxed);
        kswapd::hope();
    }
    if order > 0 {
        // Nothing is moved together here: what is free may still be in pieces.
        let high = buddy::watermarks().2;
        let useful = freed > 0 && buddy::free_pages() < high;
        return if useful {
            Progress::Retry
        } else {
            Progress::GiveUp
        };
    }
    if freed > 0 || buddy::free_pages() > buddy::watermarks().0 {
        return Progress::Retry;
    }
    if IN_VAIN.fetch_add(1, Ordering::Relaxed) < TRIES {
        io::wait_progress(seen);
        sync::threads().yield_now();
        return Progress::Retry;
    }
    IN_VAIN.store(0, Ordering::Relaxed);
    oom::out_of_memory()
}

/// Raises the pressure until enough is freed; how many frames.
fn reclaim() -> u32 {
    let mut scan = Scan::new(By::Direct);
    for priority in (0..=DEF_PRIORITY).rev() {
        shrink::round(&mut scan, priority, TARGET);
        while scan.reclaimed < TARGET && laundry::wait_one(&mut scan) {}
        if scan.reclaimed >= TARGET {
            break;
        }
    }
    scan.reclaimed
}
