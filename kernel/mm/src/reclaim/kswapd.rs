//! kswapd: reclaim in the background, from below the low watermark up to the high one.
//!
//! One kernel thread; sleeps on `buddy::KSWAPD`, which allocations wake below the low watermark. Holds no
//! lock between rounds. After several runs that freed nothing it stays asleep until direct reclaim has had
//! success, so that allocations do not pay for hopeless work.

use super::shrink::{self, By, DEF_PRIORITY, Scan};
use super::{laundry, oom, scan_count};
use crate::buddy::{self, KSWAPD};
use alloc::boxed::Box;
use arch::thread::{Spawn, SpawnError};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sync::WaitQueue;

/// Runs in vain before it gives up (Linux: `MAX_RECLAIM_RETRIES`).
const TRIES: u32 = 16;
static IN_VAIN: AtomicU32 = AtomicU32::new(0);
static RUNNING: AtomicBool = AtomicBool::new(false);
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

/// The thread was started.
pub(super) fn is_running() -> bool {
    RUNNING.load(Ordering::Acquire)
}

/// Reclaim was of use to somebody: it is worth trying again.
pub(super) fn hope() {
    IN_VAIN.store(0, Ordering::Relaxed);
    buddy::KSWAPD_RESTS.store(false, Ordering::Relaxed);
}

fn run() {
    loop {
        KSWAPD.wait_until(|| {
            let awake = wanted() || oom::has_dead();
            AWAKE.store(awake, Ordering::Relaxed);
            awake
        });
        oom::bury();
        if wanted() && balance() == 0 && IN_VAIN.fetch_add(1, Ordering::Relaxed) + 1 >= TRIES {
            buddy::KSWAPD_RESTS.store(true, Ordering::Relaxed);
        }
        // Release pairs with the Acquire in `wait_asleep`: what it did is done.
        AWAKE.store(false, Ordering::Release);
        ASLEEP.wake_all();
    }
}

/// Sleeps until it has nothing in hand.
pub(super) fn wait_asleep() {
    ASLEEP.wait_until(|| !AWAKE.load(Ordering::Acquire));
}

fn wanted() -> bool {
    buddy::is_low() && IN_VAIN.load(Ordering::Relaxed) < TRIES
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
    if scan.reclaimed > 0 {
        IN_VAIN.store(0, Ordering::Relaxed);
    }
    scan.reclaimed
}
