//! Is memory too small for what is in use? What was evicted is remembered for a while, with the age
//! of the LRU lists then: a *shadow* (Linux: `workingset`). That of a swapped page is in the swap
//! cache, in the cell of its slot. Those of file pages are in a table of fixed size, where Linux
//! keeps them in the page cache's tree: here the tree holds nothing that must be passed over and
//! pruned.
//!
//! A page that comes back after its eviction has a *refault distance*: how much older the lists are
//! now. Had there been that much more room on the inactive list, the page would have been used
//! again before its end. When what is active is at least as much, it is worth trying to push that
//! out instead: the page begins on the active list. The kind of list that loses pages which were
//! active before pays for it (`Cost`), and is scanned less.
//!
//! A page of a file that was truncated and grew again may meet an old entry: a wrong guess, no
//! more. What actors of the explorer leave is forgotten with their run. Takes no lock, never
//! sleeps.

use crate::frame::{flag, max_pfn};
use crate::lru::{self, Counts, Kind};
use crate::stats::{Event, count};
use algo::nonresident::{self, Shadow, WAYS};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use spin::Once;
use sync::point::{self, AccessKind, class};

/// What one disk request costs, in folios that were looked at in vain (Linux: `SWAP_CLUSTER_MAX`).
const IO: u64 = 32;
/// More cells are never of use: an eviction that long ago tells nothing.
const MOST: usize = 1 << 22;

/// A cell for each frame: a page that was evicted longer ago could not be kept anyhow.
static SHADOWS: Once<Box<[AtomicU64]>> = Once::new();

/// Folios on the lists as reclaim last saw them: active and inactive of each kind.
static SIZES: [[AtomicU32; 2]; 2] = [const { [const { AtomicU32::new(0) }; 2] }; 2];
/// Anonymous folios could go, too.
static SWAPPING: AtomicBool = AtomicBool::new(false);

/// The table of the explorer's actors, which is soon emptied.
#[cfg(feature = "lab")]
static OF_ACTORS: [AtomicU64; 4 * WAYS] = [const { AtomicU64::new(0) }; 4 * WAYS];

/// What reclaim from each kind of list has cost lately.
static COST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Makes the table. Once, at boot, when the heap is there; without memory for it nothing is
/// remembered.
pub(crate) fn init() {
    let cells = max_pfn().clamp(WAYS, MOST);
    let mut table = Vec::new();
    if table.try_reserve_exact(cells).is_ok() {
        table.extend((0..cells).map(|_| AtomicU64::new(0)));
        SHADOWS.call_once(|| table.into_boxed_slice());
    }
}

/// For the explorer: the running actor looks at, or changes, what is remembered.
#[inline(always)]
fn touch(access: AccessKind) {
    point::touch(access, || point::object_at(class::SWAP, &SIZES));
}

/// For the explorer: nothing is remembered but by the swap cache, and nothing has cost anything.
/// While actors have no files in use.
#[cfg(feature = "lab")]
pub(crate) fn forget() {
    lru::forget_age();
    SIZES
        .iter()
        .flatten()
        .for_each(|n| n.store(0, Ordering::Relaxed));
    COST.iter().for_each(|n| n.store(0, Ordering::Relaxed));
    SWAPPING.store(false, Ordering::Relaxed);
    OF_ACTORS
        .iter()
        .for_each(|cell| cell.store(0, Ordering::Relaxed));
}

fn shadows() -> &'static [AtomicU64] {
    #[cfg(feature = "lab")]
    if point::exploring() {
        return &OF_ACTORS;
    }
    SHADOWS.get().map_or(&[], |table| table)
}

/// A folio with these flags is being evicted: what is to be remembered.
#[inline]
pub(crate) fn eviction(flags: u32) -> Option<Shadow> {
    touch(AccessKind::Write);
    let age = lru::age();
    lru::grow_old(1);
    let bit = flags & flag::WORKINGSET != 0;
    Some(Shadow { age, bit })
}

/// What was evicted is in memory again, in a fresh folio of this kind: the flags that it begins
/// with, ACTIVE and WORKINGSET or none.
pub(crate) fn refault(kind: Kind, shadow: Shadow) -> u32 {
    touch(AccessKind::Write);
    let [refault, activate, restore] = EVENTS[kind as usize];
    count(refault);
    let distance = nonresident::distance(lru::age(), shadow.age);
    if u64::from(distance) > room(kind) {
        return 0;
    }
    lru::grow_old(1);
    count(activate);
    if !shadow.bit {
        return flag::ACTIVE;
    }
    count(restore);
    note_cost(kind, 1, 0);
    flag::ACTIVE | flag::WORKINGSET
}

fn key(file: u32, index: u32) -> u64 {
    (u64::from(file) << 32) | u64::from(index)
}

/// [`eviction`] of the page `index` of `file`, which may be found by [`file_refault`].
pub(crate) fn file_eviction(file: u32, index: u32, flags: u32) {
    if let Some(shadow) = eviction(flags) {
        nonresident::remember(shadows(), key(file, index), shadow);
    }
}

/// The page `index` of `file` comes into memory: [`refault`], if it was there not long ago.
pub(crate) fn file_refault(file: u32, index: u32) -> u32 {
    nonresident::recall(shadows(), key(file, index)).map_or(0, |s| refault(Kind::File, s))
}

/// Refaults, those within the working set, and those of pages that were active before; by [`Kind`].
const EVENTS: [[Event; 3]; 2] = [
    [
        Event::RefaultAnon,
        Event::RefaultActivateAnon,
        Event::RefaultRestoreAnon,
    ],
    [
        Event::RefaultFile,
        Event::RefaultActivateFile,
        Event::RefaultRestoreFile,
    ],
];

/// Pages of this kind that came back so soon that they were activated; since boot.
pub(crate) fn activations(kind: Kind) -> u64 {
    crate::stats::total(EVENTS[kind as usize][1])
}

/// How many folios could be pushed out for a page of this kind, beside the inactive ones of its own
/// list.
fn room(kind: Kind) -> u64 {
    let size = |kind: Kind, active: bool| {
        u64::from(SIZES[kind as usize][usize::from(active)].load(Ordering::Relaxed))
    };
    let mut room = size(Kind::File, true);
    if kind == Kind::Anon {
        room += size(Kind::File, false);
    }
    if SWAPPING.load(Ordering::Relaxed) {
        room += size(Kind::Anon, true);
        if kind == Kind::File {
            room += size(Kind::Anon, false);
        }
    }
    room
}

/// Reclaim sees lists of these sizes, and whether anonymous folios can go.
pub(crate) fn publish(counts: &[Counts; 2], swapping: bool) {
    touch(AccessKind::Write);
    for (to, of) in SIZES.iter().zip(counts) {
        to[0].store(of.inactive as u32, Ordering::Relaxed);
        to[1].store(of.active as u32, Ordering::Relaxed);
    }
    SWAPPING.store(swapping, Ordering::Relaxed);
}

/// Reclaim from the lists of `kind` took `io` requests, and `spared` folios went back.
pub(crate) fn note_cost(kind: Kind, io: u32, spared: u32) {
    touch(AccessKind::Write);
    COST[kind as usize].fetch_add(u64::from(io) * IO + u64::from(spared), Ordering::Relaxed);
    // What was long ago counts for less. (Two that halve at a time forget a little faster.)
    let listed: u64 = SIZES
        .iter()
        .flatten()
        .map(|n| u64::from(n.load(Ordering::Relaxed)))
        .sum();
    if costs().iter().sum::<u64>() > listed / 4 {
        for cost in &COST {
            let now = cost.load(Ordering::Relaxed);
            cost.store(now / 2, Ordering::Relaxed);
        }
    }
}

/// What reclaim has cost lately; by [`Kind`].
pub(crate) fn costs() -> [u64; 2] {
    touch(AccessKind::Read);
    [
        COST[0].load(Ordering::Relaxed),
        COST[1].load(Ordering::Relaxed),
    ]
}
