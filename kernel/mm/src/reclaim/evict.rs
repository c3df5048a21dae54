//! Evicting a batch of folios: out to swap, or away if nobody wants the content, or a file's disk has it.
//!
//! A batch goes through in steps, so that one TLB shootdown and few disk requests serve many folios:
//! 1. lock each folio that is free to lock; used ones go back (twice used: to the active list); of the others anonymous ones
//!    get a slot and enter the swap cache; then they lose their entries;
//! 2. one flush for all of them (rule 1);
//! 3. `dispose` frees or writes them.
//!
//! The caller has isolated the folios and holds no spin lock. Locks: folio locks by trying, up to a batch of
//! them; what `rmap` takes; the LRU's for those that go back. Sleeps for disk requests. No allocation.
//!
//! A file's folio that has lost an entry stays locked until the flush, whatever becomes of it then: who cleans it for
//! writing believes that no CPU can store to it once nothing maps it (rule 2). One that is dirty is the flusher's
//! to write, and only what kswapd finds where nothing else is, or what is asked for by name, is written here. A dirty one of a
//! file in memory goes to swap: it gets its slot first, and leaves the file for the swap cache once nothing maps it.

use super::dispose::Unmapped;
use super::shrink::{BATCH, Scan};
use crate::buddy;
use crate::file::{self, memory};
use crate::folio::{self, FolioGuard};
use crate::frame::{flag, frame};
use crate::knobs::{self, Knob};
use crate::lru;
use crate::rmap::batch::Batch;
use crate::rmap::scan::referenced;
use crate::rmap::unmap::{Replace, try_to_unmap};
use crate::rmap::walk::Sync;
use crate::stats::{Event, count_n};
use crate::swap::{area, cache};
use arch::Pfn;

/// How long a broken rule 7 stays visible.
const BROKEN_NS: u64 = 1_000_000;

/// Whether use counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mercy {
    /// Used folios stay.
    SecondChance,
    /// Out with all (MADV_PAGEOUT).
    None,
}

/// What is to become of a locked folio.
enum Verdict {
    /// It can go: try to unmap it.
    Evict(Replace),
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

/// Evicts what can be evicted of `pages`, each isolated with a reference; the rest goes back to the LRU.
pub(super) fn evict_folios(pages: &[Pfn], scan: &mut Scan, mercy: Mercy) {
    let mut unmapped = Unmapped::new();
    let mut batch = Batch::default();
    {
        let mut slots = Slots::new();
        for (i, &pfn) in pages.iter().enumerate() {
            let Some(guard) = folio::try_lock(pfn) else {
                put_back_unlocked(pfn, frame(pfn).has(flag::ACTIVE));
                continue;
            };
            let verdict = if guard.frame().is_file() {
                evict_file(&guard, mercy, scan, &mut slots, pages.len() - i, &mut batch)
            } else {
                evict(&guard, mercy, &mut slots, pages.len() - i, &mut batch)
            };
            match verdict {
                Verdict::Evict(how) => unmapped.push(guard, how),
                Verdict::Keep => put_back(guard, false),
                Verdict::Activate => {
                    // A folio in use does without its copy on disk when slots are scarce, or the copy is bad.
                    if area::nearly_full() || guard.frame().has(flag::ERROR) {
                        cache::try_drop(&guard);
                    }
                    put_back(guard, true);
                }
            }
        }
    }
    batch.flush();
    if !knobs::on(Knob::SlotBeforePte) && !sync::point::exploring() {
        // Time for an access to follow an entry that names nothing yet. (The explorer takes it where it wants.)
        arch::thread::sleep_ns(BROKEN_NS);
    }
    unmapped.dispose(scan);
}

/// Judges a folio of a file and, if it is to go, takes its entries out, as many as can be had.
fn evict_file(
    guard: &FolioGuard,
    mercy: Mercy,
    scan: &mut Scan,
    slots: &mut Slots,
    left: usize,
    batch: &mut Batch,
) -> Verdict {
    let f = guard.frame();
    if f.flags() & (flag::WRITEBACK | flag::READING) != 0 {
        return Verdict::Keep;
    }
    let mapped = f.mapcount();
    if mapped > 0 && mercy == Mercy::SecondChance {
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
    if f.refcount() > mapped + 2 {
        return Verdict::Keep;
    }
    // Before an entry goes: without a slot it stays mapped.
    let slot = if to_swap {
        let Some(slot) = slots.take(left) else {
            return Verdict::Keep;
        };
        Some(slot)
    } else {
        None
    };
    let gone = mapped == 0 || try_to_unmap(guard, Replace::Cached, sync_for(mercy), batch);
    match slot {
        Some(slot) if gone && memory::swap_out(guard, slot) => {
            return Verdict::Evict(Replace::Slot(slot));
        }
        Some(slot) => slots.give_back(slot),
        None => {}
    }
    Verdict::Evict(Replace::Cached)
}

/// Reclaim has other folios if it misses an entry; a request for this very folio should not.
fn sync_for(mercy: Mercy) -> Sync {
    match mercy {
        Mercy::None => Sync::Always,
        Mercy::SecondChance => Sync::Hint,
    }
}

/// Judges a folio and, if it is to go, takes its entries out.
fn evict(
    guard: &FolioGuard,
    mercy: Mercy,
    slots: &mut Slots,
    left: usize,
    batch: &mut Batch,
) -> Verdict {
    let how = match judge(guard, mercy, slots, left) {
        Verdict::Evict(how) => how,
        other => return other,
    };
    if let Replace::Slot(slot) = how
        && area::make_room_for(slot, guard.frame().mapcount()).is_err()
    {
        // It would lose some of its entries in vain.
        return Verdict::Keep;
    }
    let gone = try_to_unmap(guard, how, sync_for(mercy), batch);
    if let Replace::Slot(slot) = how
        && !knobs::on(Knob::SlotBeforePte)
        && !guard.frame().has(flag::SWAPCACHE)
    {
        // Rule 7 broken: the entries name a slot whose content is not there, and the cache knows nothing.
        area::clear_cache(slot);
    }
    if how == Replace::Nothing && !gone {
        // Some entries may be gone and one not. Its owner may soon take the folio over as the only one left:
        // nobody else may see through a stale translation what it writes then.
        batch.flush();
    }
    match how {
        _ if gone => Verdict::Evict(how),
        Replace::Nothing => Verdict::Activate,
        Replace::Slot(_) | Replace::Cached => Verdict::Keep,
    }
}

fn judge(guard: &FolioGuard, mercy: Mercy, slots: &mut Slots, left: usize) -> Verdict {
    let f = guard.frame();
    if f.flags() & (flag::WRITEBACK | flag::READING) != 0 {
        return Verdict::Keep;
    }
    // Zapped or exited meanwhile: only reclaim's reference is left, or soon will be.
    if f.mapcount() == 0 && cache::try_drop(guard) {
        return Verdict::Keep;
    }
    let cached = cache::slot_of(guard);
    // Its slot is bad: it stays until no entry names that any more. (A folio that could not be read is of no
    // use, and goes like a clean one.)
    if cached.is_some() && f.has(flag::ERROR | flag::UPTODATE) {
        return Verdict::Activate;
    }
    let lazy = !f.has(flag::SWAPBACKED) && cached.is_none();
    if !lazy && cached.is_none() && area::free_slots() == 0 {
        return Verdict::Keep;
    }
    if f.mapcount() > 0 && mercy == Mercy::SecondChance {
        match second_chance(guard) {
            Verdict::Evict(_) => {}
            other => return other,
        }
    }
    if lazy {
        return Verdict::Evict(Replace::Nothing);
    }
    let slot = match cached {
        Some(slot) => slot,
        None => {
            let Some(slot) = slots.take(left) else {
                return Verdict::Keep;
            };
            enter_cache(guard, slot);
            slot
        }
    };
    Verdict::Evict(Replace::Slot(slot))
}

/// Puts the folio into the swap cache for a fresh slot: it has no copy there yet, so it is dirty.
fn enter_cache(guard: &FolioGuard, slot: u32) {
    guard.frame().set(flag::DIRTY);
    if knobs::on(Knob::SlotBeforePte) {
        cache::add(guard.pfn(), slot);
    }
}

/// Not used since the last look: evict. Used: once is a hint, twice (or by two entries) is a reason.
fn second_chance(guard: &FolioGuard) -> Verdict {
    let f = guard.frame();
    match referenced(guard) {
        None => Verdict::Keep,
        Some(0) => {
            f.clear(flag::REFERENCED);
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

/// Frees the frame of a folio whose references the caller has frozen.
pub(super) fn free_frozen(guard: FolioGuard) {
    let pfn = guard.pfn();
    drop(guard);
    buddy::free(pfn, 0);
}

/// Back to the LRU, with the caller's reference.
pub(super) fn put_back(guard: FolioGuard, active: bool) {
    let pfn = guard.pfn();
    drop(guard);
    if active {
        count_n(Event::PgActivate, 1);
        lru::grow_old(1);
    }
    put_back_unlocked(pfn, active);
}

pub(super) fn put_back_unlocked(pfn: Pfn, active: bool) {
    lru::add(pfn, active);
    folio::put(pfn);
}
