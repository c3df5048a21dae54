//! Direct reclaim: what an allocation does that finds nothing free.
//!
//! Runs in the allocating thread, which may hold `mmap_lock`s; takes none, sleeps for the disk.
//! Fails only when several whole scans have freed nothing and nothing is being written; then the
//! OOM killer decides.

use super::scan::{By, Scan};
use super::shrink::{self, DEF_PRIORITY};
use super::{laundry, oom, scan_count};
use crate::buddy::{self, Progress};
use crate::file;
use crate::stats::{Event, count};
use crate::swap::{area, io};
use core::sync::atomic::{AtomicU32, Ordering};
use sync::point::{self, AccessKind, class};

/// Frames that one call tries to free.
const TARGET: u32 = 32;
/// Whole scans in vain before memory counts as exhausted, and the same when no slot is free: then a
/// scan only looks for what was lazily freed, or is in nobody's use.
const TRIES: u32 = 8;
const TRIES_WITHOUT_SLOTS: u32 = 2;
/// Bumped by each success of any thread: whoever finds it changed has a reason to try again.
static SUCCESSES: AtomicU32 = AtomicU32::new(0);

/// The page allocator's slow path, for a block of `2^order` frames.
pub(super) fn slow_path(order: u8) -> Progress {
    count(Event::AllocStall);
    let mut tries = 0;
    while !oom::must_give_up() {
        let (seen, successes) = (io::completions(), successes_now());
        let written = file::written();
        if reclaim() > 0 {
            succeeded();
            return if is_useful(order) {
                Progress::Retry
            } else {
                Progress::GiveUp
            };
        }
        if order > 0 {
            return Progress::GiveUp;
        }
        // What others freed, and what was found to be in nobody's use.
        buddy::pcp::drain();
        if buddy::free_pages() > buddy::watermarks().0 {
            return Progress::Retry;
        }
        if area::reopen() {
            // swapoff was about to fill memory: it fails, and nobody is killed for it.
            succeeded();
        }
        if successes_now() != successes {
            return Progress::Retry;
        }
        if file::wait_written(written) {
            // What files wait to be written will be clean, and can go.
            continue;
        }
        tries += 1;
        let enough = if area::free_slots() > 0 {
            TRIES
        } else {
            TRIES_WITHOUT_SLOTS
        };
        if tries >= enough || oom::victim().is_some() {
            return oom::out_of_memory();
        }
        io::wait_progress(seen);
        sync::threads().yield_now();
    }
    Progress::GiveUp
}

fn touch(access: AccessKind) {
    point::touch(access, || point::object_at(class::SWAP, &SUCCESSES));
}

fn successes_now() -> u32 {
    touch(AccessKind::Read);
    SUCCESSES.load(Ordering::Relaxed)
}

fn succeeded() {
    touch(AccessKind::Write);
    SUCCESSES.fetch_add(1, Ordering::Relaxed);
    buddy::kswapd::RUNS.hope();
}

/// Nothing is moved together here: what is free may still be in pieces, and more of it is no help
/// when there is plenty.
fn is_useful(order: u8) -> bool {
    order == 0 || buddy::free_pages() < buddy::watermarks().2
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
    scan_count::end_run();
    scan.reclaimed
}
