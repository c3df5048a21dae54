//! Shrinking the LRU lists: from which list and how many, and second chance between the two.
//!
//! Folios go from the old end of the active list to the inactive one, with their accessed bits cleared, and
//! from the old end of that to `evict`. Locks: an LRU shard's while isolating; what `evict` takes. Sleeps for
//! disk requests. No allocation.

use super::evict::{Mercy, evict_folios};
use super::laundry;
use crate::folio;
use crate::frame::{flag, frame};
use crate::lru::{self, SHARDS};
use crate::rmap::scan::referenced;
use crate::stats::{Event, Use, count_n};
use arch::Pfn;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::point::{self, AccessKind, class};

/// Folios handled together.
pub(super) const BATCH: usize = 32;
/// The mildest pressure: 1/4096 of each list per round.
pub(super) const DEF_PRIORITY: u8 = 12;

/// On whose account it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Kswapd,
    Direct,
}

/// One run of reclaim.
pub(super) struct Scan {
    by: By,
    /// Frames freed so far.
    pub(super) reclaimed: u32,
}

impl Scan {
    pub(super) const fn new(by: By) -> Self {
        Self { by, reclaimed: 0 }
    }
    pub(super) fn freed(&mut self, n: u32) {
        self.reclaimed += n;
        let event = match self.by {
            By::Kswapd => Event::PgStealKswapd,
            By::Direct => Event::PgStealDirect,
        };
        count_n(event, u64::from(n));
    }
    fn looked_at(&self, n: u32) {
        let event = match self.by {
            By::Kswapd => Event::PgScanKswapd,
            By::Direct => Event::PgScanDirect,
        };
        count_n(event, u64::from(n));
    }
}

/// Which shard comes first; moves on, so that all take their turns.
static TURN: AtomicU32 = AtomicU32::new(0);

/// For the explorer: the first shard comes first.
#[cfg(feature = "lab")]
pub(super) fn reset_turn() {
    TURN.store(0, Ordering::Relaxed);
}

/// One round over all shards: a share of each list by `priority` (0: all of it), until `target` frames are
/// free in all.
pub(super) fn round(scan: &mut Scan, priority: u8, target: u32) {
    point::touch(AccessKind::Write, || point::object_at(class::SWAP, &TURN));
    let first = TURN.fetch_add(1, Ordering::Relaxed) as usize;
    for i in 0..SHARDS {
        if scan.reclaimed >= target {
            return;
        }
        shrink_shard((first + i) % SHARDS, scan, priority, target);
    }
}

fn shrink_shard(shard: usize, scan: &mut Scan, priority: u8, target: u32) {
    let lengths = || {
        let lists = lru::lock(shard);
        (lists.active(), lists.inactive())
    };
    let share = |of: u32| (of >> priority).max(BATCH as u32).min(of);
    let (active, inactive) = lengths();
    if inactive_is_low(active, inactive) {
        deactivate_oldest(shard, share(active));
    }
    // Once over the list at most: who was spared now has time to be used again.
    let mut left = share(lengths().1);
    while left > 0 && scan.reclaimed < target {
        laundry::collect(scan);
        if laundry::is_full() {
            laundry::wait_one(scan);
        }
        let n = shrink_inactive(shard, scan, left.min(BATCH as u32));
        if n == 0 {
            return;
        }
        left = left.saturating_sub(n);
    }
}

/// The inactive list should hold a part of all that shrinks with the square root of memory (Linux:
/// `inactive_is_low`): at 1 GiB a half, at 10 GiB a quarter, at 100 GiB 1/33.
fn inactive_is_low(active: u32, inactive: u32) -> bool {
    let gib = (u64::from(active) + u64::from(inactive)) >> (30 - arch::PAGE_SHIFT);
    let ratio = if gib > 0 { (10 * gib).isqrt() } else { 1 };
    u64::from(inactive) * ratio < u64::from(active)
}

/// Moves the `n` oldest active folios of a shard to its inactive list. Their accessed bits were true of a
/// time long ago and start afresh.
fn deactivate_oldest(shard: usize, mut n: u32) {
    while n > 0 {
        let mut pages = [Pfn(0); BATCH];
        let got = isolate(shard, true, &mut pages[..BATCH.min(n as usize)]);
        if got == 0 {
            return;
        }
        n -= got as u32;
        for &pfn in &pages[..got] {
            if frame(pfn).usage() == Use::Anon
                && let Some(guard) = folio::try_lock(pfn)
            {
                referenced(&guard);
            }
            frame(pfn).clear(flag::REFERENCED);
            lru::add(pfn, false);
            folio::put(pfn);
        }
        count_n(Event::PgDeactivate, got as u64);
    }
}

/// Takes the oldest folios of a list off it, with a reference each.
fn isolate(shard: usize, active: bool, out: &mut [Pfn]) -> usize {
    let mut lists = lru::lock(shard);
    let mut got = 0;
    // A folio that is being freed is passed over; the bound ends a list of nothing else.
    for _ in 0..2 * out.len() {
        if got == out.len() {
            break;
        }
        match lists.isolate_oldest(active) {
            None => break,
            Some(Ok(pfn)) => {
                out[got] = pfn;
                got += 1;
            }
            Some(Err(())) => {}
        }
    }
    got
}

/// Handles up to `n` (at most [`BATCH`]) of the oldest inactive folios of a shard; how many it looked at.
fn shrink_inactive(shard: usize, scan: &mut Scan, n: u32) -> u32 {
    let mut pages = [Pfn(0); BATCH];
    let got = isolate(shard, false, &mut pages[..n as usize]);
    scan.looked_at(got as u32);
    evict_folios(&pages[..got], scan, Mercy::SecondChance);
    got as u32
}
