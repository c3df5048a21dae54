//! Evicting a batch of folios: out to swap, or away if nobody wants the content, or a file's disk
//! has it.
//!
//! A batch goes through in steps, so that one TLB shootdown and few disk requests serve many
//! folios:
//! 1. lock each folio that is free to lock; used ones go back (twice used: to the active list); of
//!    the others anonymous ones get a slot and enter the swap cache; then they lose their entries,
//!    all or some;
//! 2. one flush for all of them (rule 1), until which each stays locked and in hand (rule 13);
//! 3. `dispose` frees them, writes them or puts them back.
//!
//! The caller has isolated the folios and holds no spin lock. Locks: folio locks by trying, up to a
//! batch of them; what `rmap` takes; the LRU's for those that go back. Sleeps for disk requests. No
//! allocation.
//!
//! A file's folio that is dirty is the flusher's to write, and only what kswapd finds where nothing
//! else is, or what is asked for by name, is written here. A dirty one of a file in memory goes to
//! swap: it gets its slot first, and leaves the file for the swap cache once nothing maps it.

use super::dispose::{Then, dispose, dispose_one};
use super::let_go::{activate, put_back, put_back_unlocked};
use super::scan::Scan;
use crate::file::{self, memory};
use crate::folio::{Folio, FolioGuard};
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::rmap::batch::{BATCH, Batch, Owing};
use crate::rmap::scan::referenced;
use crate::rmap::unmap::{Replace, try_to_unmap};
use crate::rmap::walk::Sync;
use crate::swap::{area, cache};
use algo::swapmap::SlotState;

/// How long a broken rule 7 stays visible.
const BROKEN_NS: u64 = 1_000_000;

/// Whether use counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum References {
    /// Used folios stay.
    Heed,
    /// Out with all (MADV_PAGEOUT; Linux: `ignore_references`).
    Ignore,
}

/// What is to become of a locked folio.
enum Verdict {
    /// It can go: try to unmap it.
    Evict(Replace),
    /// As [`Verdict::Evict`], a written page of a file in memory: to this slot once nothing maps
    /// it.
    ToSwap(u32),
    /// Not now: back to the inactive list.
    Keep,
    /// In use: to the active list.
    Activate,
}

/// Free slots taken in one go for a batch.
struct Slots {
    slots: [u32; BATCH],
    next: usize,
    n: usize,
}

impl Slots {
    const fn new() -> Self {
        Self {
            slots: [0; BATCH],
            next: 0,
            n: 0,
        }
    }
    /// There is none left here, nor in the area. A hint.
    fn are_none_left(&self) -> bool {
        self.next == self.n && area::free_slots() == 0
    }
    /// The next slot; takes `want` more from the area when there is none left.
    fn take(&mut self, want: usize) -> Option<u32> {
        if self.next == self.n {
            self.next = 0;
            self.n = area::alloc(&mut self.slots[..want]);
        }
        let slot = *self.slots[..self.n].get(self.next)?;
        self.next += 1;
        Some(slot)
    }
    /// The slot that was taken last was not used.
    fn give_back(&mut self, slot: u32) {
        self.next -= 1;
        debug_assert!(self.slots[self.next] == slot);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for &slot in &self.slots[self.next..self.n] {
            area::clear_cache(slot);
        }
    }
}

/// Evicts what can be evicted of `folios`, each isolated with a reference; the rest goes back to
/// the LRU.
pub(super) fn evict_folios(folios: &[Folio], scan: &mut Scan, references: References) {
    let mut batch = Batch::new();
    {
        let mut slots = Slots::new();
        for (i, &folio) in folios.iter().enumerate() {
            let Some(guard) = folio.try_lock() else {
                put_back_unlocked(folio, folio.has(flag::ACTIVE));
                continue;
            };
            let left = folios.len() - i;
            let verdict = if guard.is_file() {
                judge_file(&guard, references, scan, &mut slots, left)
            } else {
                judge(&guard, references, &mut slots, left)
            };
            let (owing, then) = match verdict {
                Verdict::Evict(how) => unmap(guard, how, references, &mut batch),
                Verdict::ToSwap(slot) => to_swap(guard, slot, references, &mut slots, &mut batch),
                Verdict::Keep => {
                    put_back(guard, false);
                    continue;
                }
                Verdict::Activate => {
                    activate(guard);
                    continue;
                }
            };
            if let Some((guard, then)) = batch.keep(owing, then) {
                dispose_one(guard, then, scan);
            }
        }
    }
    let flushed = batch.flush();
    if !knobs::on(Knob::SlotBeforePte) && !sync::point::exploring() {
        // Time for an access to follow an entry that names nothing yet. (The explorer takes it
        // where it wants.)
        arch::thread::sleep_ns(BROKEN_NS);
    }
    dispose(flushed, scan);
}

/// Judges a locked folio of a file.
fn judge_file(
    guard: &FolioGuard,
    references: References,
    scan: &mut Scan,
    slots: &mut Slots,
    left: usize,
) -> Verdict {
    let f = guard.folio();
    if f.flags() & (flag::WRITEBACK | flag::READING) != 0 {
        return Verdict::Keep;
    }
    let mapped = f.mapcount();
    if references == References::Heed {
        match second_chance(guard) {
            Verdict::Evict(_) => {}
            other => return other,
        }
    }
    let to_swap = f.has(flag::DIRTY | flag::SWAPBACKED);
    if f.has(flag::DIRTY) && !to_swap && !scan.writes_files {
        scan.dirty += 1;
        file::wake_flusher();
        return Verdict::Keep;
    }
    // Beside the entries, the cache and this thread somebody has it in hand: it would be in vain.
    if f.refcount() > f.expected_refs(mapped) + 1 {
        return Verdict::Keep;
    }
    if !to_swap {
        return Verdict::Evict(Replace::Cached);
    }
    // Before an entry goes: without a slot it stays mapped.
    match slots.take(left) {
        Some(slot) => Verdict::ToSwap(slot),
        None => Verdict::Keep,
    }
}

/// Takes a folio's entries out, as many as can be had, and says what is next after the flush.
fn unmap(
    guard: FolioGuard,
    how: Replace,
    references: References,
    batch: &mut Batch<Then>,
) -> (Owing, Then) {
    let owing = try_to_unmap(guard, how, sync_for(references), batch);
    if let Replace::Slot(slot) = how
        && !knobs::on(Knob::SlotBeforePte)
        && !owing.folio().has(flag::SWAPCACHE)
    {
        // Rule 7 broken: the entries name a slot whose content is not there, and the cache knows
        // nothing.
        area::clear_cache(slot);
    }
    let then = match how {
        // The next access finds the page in its file, whether entries are left or not.
        Replace::Cached => Then::Out(how),
        _ if owing.is_gone() => Then::Out(how),
        Replace::Nothing => Then::Activate,
        Replace::Slot(_) => Then::Keep,
    };
    (owing, then)
}

/// As [`unmap`], of a written page of a file in memory.
fn to_swap(
    guard: FolioGuard,
    slot: u32,
    references: References,
    slots: &mut Slots,
    batch: &mut Batch<Then>,
) -> (Owing, Then) {
    let owing = try_to_unmap(guard, Replace::Cached, sync_for(references), batch);
    if owing.is_gone() && memory::swap_out(owing.folio(), slot) {
        return (owing, Then::Out(Replace::Slot(slot)));
    }
    slots.give_back(slot);
    (owing, Then::Out(Replace::Cached))
}

/// Reclaim has other folios if it misses an entry; a request for this very folio should not.
fn sync_for(references: References) -> Sync {
    match references {
        References::Ignore => Sync::Always,
        References::Heed => Sync::Hint,
    }
}

/// Judges a locked anonymous folio; one that is to go to swap has its slot then, and is in the swap
/// cache.
fn judge(guard: &FolioGuard, references: References, slots: &mut Slots, left: usize) -> Verdict {
    let f = guard.folio();
    if f.flags() & (flag::WRITEBACK | flag::READING) != 0 {
        return Verdict::Keep;
    }
    // Zapped or exited meanwhile: only reclaim's reference is left, or soon will be.
    if f.mapcount() == 0 && cache::try_drop(guard) {
        return Verdict::Keep;
    }
    let cached = cache::slot_of(guard);
    // Its slot is bad: it stays until no entry names that any more. (A folio that could not be read
    // is of no use, and goes like a clean one.)
    if cached.is_some() && f.has(flag::ERROR | flag::UPTODATE) {
        return Verdict::Activate;
    }
    let lazy = !f.has(flag::SWAPBACKED) && cached.is_none();
    if !lazy && cached.is_none() && slots.are_none_left() {
        return Verdict::Keep;
    }
    if references == References::Heed {
        match second_chance(guard) {
            Verdict::Evict(_) => {}
            other => return other,
        }
    }
    if lazy {
        return Verdict::Evict(Replace::Nothing);
    }
    let Some(slot) = cached.or_else(|| slots.take(left)) else {
        return Verdict::Keep;
    };
    let named = cached.and_then(area::state).map_or(0, SlotState::count);
    if area::make_room_for(slot, u32::from(named) + f.mapcount()).is_err() {
        // It would lose some of its entries in vain.
        if cached.is_none() {
            slots.give_back(slot);
        }
        return Verdict::Keep;
    }
    if cached.is_none() {
        enter_cache(guard, slot);
    }
    Verdict::Evict(Replace::Slot(slot))
}

/// Puts the folio into the swap cache for a fresh slot: it has no copy there yet, so it is dirty.
fn enter_cache(guard: &FolioGuard, slot: u32) {
    guard.set(flag::DIRTY);
    if knobs::on(Knob::SlotBeforePte) {
        cache::add(guard.folio(), slot);
    }
}

/// Not used since the last look: evict. Used: once is a hint, twice (or by two entries) is a
/// reason. Entries that went have left their signs.
fn second_chance(guard: &FolioGuard) -> Verdict {
    let f = guard.folio();
    let seen = match f.mapcount() {
        0 => Some(0),
        _ => referenced(guard),
    };
    if f.has(flag::USED) {
        f.clear(flag::SIGNS);
        return Verdict::Activate;
    }
    match seen {
        None => Verdict::Keep,
        Some(0) => {
            if f.has(flag::REFERENCED) {
                f.clear(flag::REFERENCED);
            }
            Verdict::Evict(Replace::Nothing)
        }
        Some(n) => {
            let before = f.set(flag::REFERENCED);
            if n > 1 || before & flag::REFERENCED != 0 {
                Verdict::Activate
            } else {
                Verdict::Keep
            }
        }
    }
}
