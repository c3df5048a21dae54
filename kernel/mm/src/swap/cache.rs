//! The swap cache: from a slot to the folio that holds, or will hold, its content.
//!
//! The cache holds one reference on each folio in it. Who may change what:
//! - adding needs the slot's HAS_CACHE mark, which one CPU at a time can set (`area::set_cache`) or
//!   which a fresh slot comes with: so of two faults on one slot, one reads and the other finds its
//!   folio;
//! - removing needs the folio lock, with no I/O of the folio in flight: its slot could be given to
//!   somebody else meanwhile. The table entry goes first, the mark after it.
//!
//! Where a slot has no folio, its cell holds what `workingset` remembers of the one that was
//! evicted.
//!
//! Locks: `Rank::SwapCache`, one lock per shard of slots, so that a finder's reference and a
//! remover's freeze exclude each other; it may be taken under a PTL. Never sleeps. Tables are
//! allocated at swapon.

#![expect(unsafe_code, reason = "the reference of the cache")]

use super::area;
use crate::folio::{self, Folio, FolioGuard};
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::stats::Gauge;
use crate::workingset;
use algo::nonresident::Shadow;
use algo::swapmap::Left;
use alloc::vec::Vec;
use arch::Pfn;
use sync::point::{self, AccessKind, class};
use sync::{Rank, SpinLock};

/// Shards; neighbouring slots lie in different ones.
const SHARDS: usize = 64;
/// In a table cell: there is no folio; the other bits are a shadow, or all set.
const NO_FOLIO: u32 = 1 << 31;
/// A table cell without folio and shadow.
const NONE: u32 = u32::MAX;

/// The folio in a cell.
#[inline]
fn folio_in(cell: u32) -> Option<Pfn> {
    (cell & NO_FOLIO == 0).then_some(Pfn(cell))
}

/// The shadow in a cell.
#[inline]
fn shadow_in(cell: u32) -> Option<Shadow> {
    (cell & NO_FOLIO != 0 && cell != NONE).then(|| Shadow::from_bits(cell & !NO_FOLIO))
}

#[repr(align(64))]
struct Shard(SpinLock<Vec<u32>>);

static TABLE: [Shard; SHARDS] =
    [const { Shard(SpinLock::new(Rank::SwapCache, Vec::new())) }; SHARDS];

/// Folios in the cache.
static CACHED: Gauge = Gauge::new();

/// I/O that keeps a folio in the cache.
const IN_FLIGHT: u32 = flag::WRITEBACK | flag::READING;

/// What a slot takes in the tables, but for rounding up.
pub(super) const BYTES_PER_SLOT: u64 = size_of::<u32>() as u64;

/// The tables for `slots` slots, or `None` when the heap has no room.
pub(super) fn tables(slots: u32) -> Option<Vec<Vec<u32>>> {
    let per_shard = (slots as usize).div_ceil(SHARDS);
    let mut all = Vec::new();
    all.try_reserve_exact(SHARDS).ok()?;
    for _ in 0..SHARDS {
        let mut one = Vec::new();
        one.try_reserve_exact(per_shard).ok()?;
        one.resize(per_shard, NONE);
        all.push(one);
    }
    Some(all)
}

/// Puts tables in place; returns what was there, for the caller to free.
pub(super) fn install(tables: Vec<Vec<u32>>) {
    for (shard, table) in TABLE.iter().zip(tables) {
        let old = core::mem::replace(&mut *shard.0.lock(), table);
        drop(old);
    }
}

/// Gives the tables up.
pub(super) fn uninstall() {
    for shard in &TABLE {
        let old = core::mem::take(&mut *shard.0.lock());
        debug_assert!(
            old.iter().all(|&cell| folio_in(cell).is_none()),
            "a folio stayed in the swap cache"
        );
        drop(old);
    }
}

fn shard(slot: u32) -> (&'static SpinLock<Vec<u32>>, usize) {
    (&TABLE[slot as usize % SHARDS].0, slot as usize / SHARDS)
}

/// Folios in the cache.
pub fn len() -> u64 {
    CACHED.get()
}

/// The folio of `slot`, with a reference.
pub(crate) fn find(slot: u32) -> Option<folio::Ref> {
    let (lock, i) = shard(slot);
    let table = lock.lock();
    let folio = Folio::of(folio_in(*table.get(i)?)?);
    // In the table, so the cache's reference exists.
    folio.get();
    // SAFETY: just counted.
    Some(unsafe { folio::Ref::new(folio) })
}

/// Adds the folio as the content of `slot`, whose HAS_CACHE mark the caller set. The folio is
/// locked, or known to nobody yet. What is remembered of the slot's content, should it have been
/// evicted before.
pub(crate) fn add(folio: Folio, slot: u32) -> Option<Shadow> {
    debug_assert!(
        !folio.has(flag::SWAPCACHE),
        "{folio:?} is in the swap cache already"
    );
    folio.get();
    folio.set_private(slot + 1);
    folio.set(flag::SWAPCACHE);
    let pfn = folio.pfn();
    let (lock, i) = shard(slot);
    let mut table = lock.lock();
    let before = core::mem::replace(&mut table[i], pfn.0);
    drop(table);
    debug_assert!(
        folio_in(before).is_none() && folio_in(pfn.0).is_some(),
        "two folios for swap slot {slot:#x}"
    );
    touch_slot(slot);
    CACHED.add(1);
    shadow_in(before)
}

/// The running actor changes what [`wait_settled`] waits for.
fn touch_slot(slot: u32) {
    point::touch(AccessKind::Write, || slot_object(slot));
}

fn slot_object(slot: u32) -> u32 {
    point::object(class::SLOT, u64::from(slot))
}

/// After the mark of `slot` was found set and no folio in the table: waits until there is one, or
/// no mark. Whoever is between the two does not sleep there.
pub(crate) fn wait_settled(slot: u32) {
    let settled = || {
        let (lock, i) = shard(slot);
        let has_folio = lock
            .try_lock()
            .map(|t| t.get(i).is_some_and(|&cell| folio_in(cell).is_some()));
        let marked = area::state(slot).is_some_and(|s| s.is_cached());
        has_folio.is_some_and(|has| has || !marked)
    };
    if !point::spin(|| slot_object(slot), settled) {
        sync::threads().yield_now();
    }
}

/// The slot of a locked folio, if it is in the cache.
#[inline]
pub(crate) fn slot_of(guard: &FolioGuard) -> Option<u32> {
    let f = guard.folio();
    f.has(flag::SWAPCACHE).then(|| f.private() - 1)
}

/// After the folio left the table: its mark, its flags, and what its slot is good for.
fn forget(guard: &FolioGuard, slot: u32) -> Left {
    let f = guard.folio();
    // An error of content that is valid was one of writing; of this slot, unless it may have been
    // another's of the request.
    let failed = flag::ERROR | flag::UPTODATE;
    if f.flags() & (failed | flag::SUSPECT) == failed {
        area::mark_bad(slot);
    }
    f.set_private(0);
    f.clear(flag::SWAPCACHE | flag::ERROR | flag::SUSPECT | flag::READAHEAD);
    CACHED.add(-1);
    touch_slot(slot);
    area::clear_cache(slot)
}

/// Takes a locked folio without I/O out of the cache. Its content has no copy on disk from now on.
/// The caller holds a reference of its own.
fn remove(guard: &FolioGuard, slot: u32) {
    let (lock, i) = shard(slot);
    lock.lock()[i] = NONE;
    guard.set(flag::DIRTY);
    forget(guard, slot);
    // SAFETY: the cache's reference, of the folio that just left it.
    unsafe { guard.put() };
}

/// Takes a locked folio out of the cache if no page-table entry names its slot and no I/O is in
/// flight. True when it is (or was) out. The caller holds a reference of its own.
pub(crate) fn try_drop(guard: &FolioGuard) -> bool {
    let Some(slot) = slot_of(guard) else {
        return true;
    };
    if guard.flags() & IN_FLIGHT != 0 {
        return false;
    }
    // Entries that name the slot cannot come about from none while the folio is locked: a fresh one
    // is made by unmapping this folio, a copied one needs an original.
    if area::state(slot).is_none_or(|s| s.count() > 0) {
        return false;
    }
    remove(guard, slot);
    true
}

/// Takes a folio whose read failed out of the cache, so that the next access reads again.
pub(crate) fn drop_failed(guard: &FolioGuard) {
    debug_assert!(!guard.has(flag::UPTODATE));
    if let Some(slot) = slot_of(guard)
        && guard.flags() & IN_FLIGHT == 0
    {
        remove(guard, slot);
    }
}

/// For reclaim: from "in the cache, clean, unmapped, referenced by the cache and the caller alone"
/// to "nobody can find it", in one step. True when done: the caller then owns a frozen frame and
/// frees it. Otherwise nothing has changed. `ours` are the caller's references.
pub(crate) fn remove_frozen(guard: &FolioGuard, ours: u32) -> bool {
    let f = guard.folio();
    let Some(slot) = slot_of(guard) else {
        return false;
    };
    let (lock, i) = shard(slot);
    {
        let mut table = lock.lock();
        if !f.freeze_unmapped(ours) {
            return false;
        }
        // With the references frozen nobody can write it any more: what is clean now stays clean.
        if f.has(flag::DIRTY) {
            f.thaw_unmapped(ours);
            return false;
        }
        table[i] = workingset::eviction(f.flags()).map_or(NONE, |s| NO_FOLIO | s.to_bits());
    }
    forget(guard, slot);
    true
}

/// For a move: from "referenced by the cache, if it is there, and by the caller alone" to "frozen,
/// and `to` is in its place in the cache", in one step. False, and nothing has changed, when others
/// refer to it.
pub(crate) fn replace_frozen(guard: &FolioGuard, to: &FolioGuard) -> bool {
    let Some(slot) = slot_of(guard) else {
        return freeze_to_move(guard);
    };
    let (lock, i) = shard(slot);
    {
        let mut table = lock.lock();
        if !freeze_to_move(guard) {
            return false;
        }
        to.get();
        to.set_private(slot + 1);
        to.set(flag::SWAPCACHE);
        table[i] = to.pfn().0;
    }
    guard.set_private(0);
    guard.clear(flag::SWAPCACHE);
    touch_slot(slot);
    true
}

/// (With the rule broken others keep their references, and the cache's goes with the slot.)
fn freeze_to_move(guard: &FolioGuard) -> bool {
    if knobs::on(Knob::MigrateFreeze) {
        return guard.freeze_unmapped(1);
    }
    if guard.has(flag::SWAPCACHE) {
        // SAFETY: the cache's reference, which the caller is taking from it.
        unsafe { guard.put() };
    }
    true
}

/// Takes every folio out that no entry names and nobody is busy with; true when there was one.
/// Sleeps for reads and writes under way.
pub(crate) fn sweep() -> bool {
    let mut any = false;
    let mut from = 0;
    while let Some(slot) = area::next_in_use(from) {
        from = slot + 1;
        let Some(folio) = find(slot) else { continue };
        folio.wait_read();
        folio.wait_writeback();
        let guard = folio.lock();
        if slot_of(&guard) == Some(slot) {
            any |= try_drop(&guard);
        }
    }
    any
}

/// An entry that named `slot` is gone, and only the cache uses it: drop the folio from it when
/// nobody is busy with it. May be called under a PTL.
pub(crate) fn drop_unused(slot: u32) {
    let Some(folio) = find(slot) else { return };
    if let Some(guard) = folio.try_lock()
        && slot_of(&guard) == Some(slot)
    {
        try_drop(&guard);
    }
}

/// For the explorer, while nobody runs: the folio of `slot`, if the cache has one. Takes no
/// reference; `None` too when somebody was stopped in the middle of a change.
#[cfg(feature = "lab")]
pub(crate) fn peek(slot: u32) -> Option<Pfn> {
    let (lock, i) = shard(slot);
    folio_in(*lock.try_lock()?.get(i)?)
}

/// For the explorer: the cache knows no folio any more.
#[cfg(feature = "lab")]
pub(crate) fn forget_all() {
    forget_evicted();
    for shard in &TABLE {
        shard.0.lock().fill(NONE);
    }
    CACHED.reset();
}

/// For the explorer: of a slot without a folio nothing is remembered.
#[cfg(feature = "lab")]
pub(crate) fn forget_evicted() {
    for shard in &TABLE {
        for cell in shard
            .0
            .lock()
            .iter_mut()
            .filter(|c| folio_in(**c).is_none())
        {
            *cell = NONE;
        }
    }
}
