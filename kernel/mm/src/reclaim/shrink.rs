//! Shrinking the LRU lists: second chance between active and inactive, and eviction from there.
//!
//! How much of which list is `scan_count`'s choice. Folios go from the old end of the active list
//! to the inactive one, with their accessed bits cleared, and from the old end of that to `evict`.
//! Locks: an LRU shard's while isolating; what `evict` takes. Sleeps for disk requests. No
//! allocation.

#![expect(unsafe_code, reason = "the reference of an isolated folio")]

use super::evict::{References, evict_folios};
use super::laundry;
use super::scan::{By, Scan};
use super::scan_count::Plan;
use crate::folio::Folio;
use crate::frame::flag;
use crate::lru::{self, Kind, Oldest, SHARDS};
use crate::rmap;
use crate::rmap::batch::BATCH;
use crate::rmap::scan::referenced;
use crate::stats::{Event, count_n};
use crate::workingset;
use core::sync::atomic::{AtomicU32, Ordering};
use heapless::Vec;
use sync::point::{self, AccessKind, class};

/// The mildest pressure: 1/4096 of each list per round.
pub(super) const DEF_PRIORITY: u8 = 12;

/// Which shard comes first; moves on, so that all take their turns.
static TURN: AtomicU32 = AtomicU32::new(0);

/// For the explorer: the first shard comes first.
#[cfg(feature = "lab")]
pub(super) fn reset_turn() {
    TURN.store(0, Ordering::Relaxed);
}

/// One round over all shards: a share of each list by `priority` (0: all of it), until `target`
/// frames are free in all.
pub(super) fn round(scan: &mut Scan, priority: u8, target: u32) {
    point::touch(AccessKind::Write, || point::object_at(class::SWAP, &TURN));
    let first = TURN.fetch_add(1, Ordering::Relaxed) as usize;
    let plan = Plan::new(priority);
    for i in 0..SHARDS {
        if scan.reclaimed >= target {
            return;
        }
        shrink_shard((first + i) % SHARDS, scan, &plan, target);
    }
}

fn shrink_shard(shard: usize, scan: &mut Scan, plan: &Plan, target: u32) {
    let len = |kind, active| lru::lock(shard).len(kind, active);
    // Once over the lists at most: who was spared now has time to be used again.
    let mut left = Kind::ALL.map(|kind| {
        let aging = plan.aging(kind, len(kind, true), len(kind, false));
        deactivate_oldest(shard, kind, aging);
        plan.share(kind, len(kind, false))
    });
    while left != [0, 0] && scan.reclaimed < target {
        for kind in Kind::ALL {
            let left = &mut left[kind as usize];
            if *left == 0 {
                continue;
            }
            laundry::collect(scan);
            if laundry::is_full() {
                laundry::wait_one(scan);
            }
            let n = shrink_inactive(shard, kind, scan, (*left).min(BATCH as u32));
            *left = if n == 0 { 0 } else { left.saturating_sub(n) };
        }
    }
}

/// Moves the `n` oldest active folios of a shard to its inactive list. Their accessed bits were
/// true of a time long ago and start afresh.
fn deactivate_oldest(shard: usize, kind: Kind, mut n: u32) {
    while n > 0 {
        // A huge folio is never made active.
        let (folios, _) = isolate(shard, kind, true, BATCH.min(n as usize));
        if folios.is_empty() {
            return;
        }
        n -= folios.len() as u32;
        for &folio in &folios {
            if folio.mapcount() > 0
                && let Some(guard) = folio.try_lock()
            {
                referenced(&guard);
            }
            folio.clear(flag::SIGNS);
            folio.set(flag::WORKINGSET);
            lru::add(folio, false);
            // SAFETY: the reference taken with the folio off its list.
            unsafe { folio.put() };
        }
        count_n(Event::PgDeactivate, folios.len() as u64);
    }
}

/// Takes the oldest folios of a list, up to `n`, off it, with a reference each. Ends at a huge one,
/// which comes back apart.
fn isolate(
    shard: usize,
    kind: Kind,
    active: bool,
    n: usize,
) -> (Vec<Folio, BATCH>, Option<lru::Huge>) {
    let mut lists = lru::lock(shard);
    let mut out = Vec::new();
    // A folio that is being freed is passed over; the bound ends a list of nothing else.
    for _ in 0..2 * n {
        if out.len() == n {
            break;
        }
        match lists.isolate_oldest(kind, active) {
            None => break,
            Some(Oldest::Page(folio)) => {
                let Ok(()) = out.push(folio) else {
                    unreachable!("more than a batch was asked for");
                };
            }
            Some(Oldest::Huge(huge)) => return (out, Some(huge)),
            Some(Oldest::Dying) => {}
        }
    }
    (out, None)
}

/// Handles up to `n` (at most [`BATCH`]) of the oldest inactive folios of a shard; how many it
/// looked at.
fn shrink_inactive(shard: usize, kind: Kind, scan: &mut Scan, n: u32) -> u32 {
    let (folios, huge) = isolate(shard, kind, false, n as usize);
    // Its pages are the oldest then, and come next.
    let split = huge.is_some_and(rmap::huge::split);
    let got = folios.len() as u32 + u32::from(split);
    scan.looked_at(got);
    let before = (scan.reclaimed, scan.written);
    let dirty = scan.dirty;
    evict_folios(&folios, scan, References::Heed);
    let written = scan.written - before.1;
    // Roughly: some of what was freed meanwhile had been written before.
    let gone = written + (scan.reclaimed - before.0);
    if scan.dirty - dirty == folios.len() as u32 && !split && scan.by == By::Kswapd {
        // The flusher does not keep up: nothing else is left at the old end of the list.
        scan.writes_files = true;
    }
    workingset::note_cost(kind, written, got.saturating_sub(gone));
    got
}
