//! kswapd: reclaim in the background, from below the low watermark up to the high one.
//!
//! One kernel thread; sleeps on `buddy::KSWAPD`, which allocations wake below the low watermark.
//! Holds no lock between rounds. After several runs that freed nothing it stays asleep until there
//! is hope, so that allocations do not pay for hopeless work: direct reclaim has had success,
//! memory was above the high watermark, or a full swap area has room again. It also reaps whoever
//! was killed, and drops handles that others could not.

use super::scan::{By, Scan};
use super::shrink::{self, DEF_PRIORITY};
use super::{laundry, oom, scan_count};
use crate::buddy;
use crate::buddy::kswapd::{KSWAPD, RUNNING, RUNS, is_running};
use crate::mm;
use alloc::boxed::Box;
use arch::thread::{Spawn, SpawnError};
use core::sync::atomic::{AtomicBool, Ordering};
use sync::WaitQueue;

/// It is not asleep.
static AWAKE: AtomicBool = AtomicBool::new(false);
/// Who waits for it to go to sleep.
static ASLEEP: WaitQueue = WaitQueue::new();

/// Starts the thread, once.
///
/// # Errors
/// When there is no thread to be had.
pub fn start() -> Result<(), SpawnError> {
    if RUNNING.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    let opts = Spawn {
        name: "kswapd",
        cpu: None,
    };
    let started = arch::thread::spawn(opts, Box::new(run));
    if started.is_err() {
        RUNNING.store(false, Ordering::Release);
    }
    started.map(|_| ())
}

fn run() {
    loop {
        KSWAPD.wait_until(|| {
            let awake = wanted() || oom::has_dead() || mm::any_unreaped();
            AWAKE.store(awake, Ordering::Relaxed);
            awake
        });
        turn();
        if mm::any_unreaped() {
            // Somebody changes its areas. The end of that wakes nobody.
            oom::pause();
        }
        // Release pairs with the Acquire in `wait_asleep`: what it did is done.
        AWAKE.store(mm::any_unreaped(), Ordering::Release);
        ASLEEP.wake_all();
    }
}

/// What it does when it is woken.
pub(super) fn turn() {
    oom::bury();
    oom::reap_killed();
    if wanted() {
        let run = RUNS.begin();
        run.end(balance() > 0);
    }
}

/// Sleeps until it has nothing in hand, and whoever was killed is reaped.
pub(super) fn wait_asleep() {
    let busy = || AWAKE.load(Ordering::Acquire) || mm::any_unreaped();
    ASLEEP.wait_until(|| !is_running() || !busy());
}

fn wanted() -> bool {
    buddy::is_low() && !RUNS.are_enough()
}

/// Frees up to the high watermark; how many frames it freed.
fn balance() -> u32 {
    let high = buddy::watermarks().2;
    let mut scan = Scan::new(By::Kswapd);
    let mut priority = DEF_PRIORITY;
    loop {
        let before = scan.reclaimed;
        let missing = high.saturating_sub(buddy::free_pages());
        if missing == 0 {
            break;
        }
        shrink::round(&mut scan, priority, before + missing);
        // What this CPU frees first goes to its own list.
        buddy::pcp::drain();
        while buddy::free_pages() < high && laundry::wait_one(&mut scan) {}
        if scan.reclaimed == before {
            if priority == 0 {
                break;
            }
            priority -= 1;
        }
    }
    laundry::drain(&mut scan);
    scan_count::end_run();
    buddy::pcp::drain();
    scan.reclaimed
}
