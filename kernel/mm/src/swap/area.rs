//! The swap area: the disk, and for each of its slots who uses it.
//!
//! One area at a time. A slot is used by the page-table entries that name it (its count) and by the
//! swap cache. Locks: `Rank::SwapMap`, taken in every function here, with the page allocator's
//! inside where a page goes back; it may be taken under a PTL. Never sleeps, and allocates in
//! [`make_room`] only. The tables are allocated at swapon.
//!
//! A slot that more entries name than its byte can count needs a frame in which the count goes on,
//! which serves its whole cluster (`algo::swapmap`). [`make_room`] is called where no spin lock is
//! held: by fork, when [`dup`] has refused an entry, with any effort that memory takes; by reclaim
//! before it takes the entries of a widely shared folio out, from the reserve ([`Gfp::MEMALLOC`]):
//! a frame for the counts of up to 256 pages that go.

#![expect(unsafe_code, reason = "frames lent to the swap map")]

use crate::buddy::{self, Gfp, Oom, Page};
use crate::stats::Use;
use algo::swapmap::{Cluster, Cursor, Left, MAX_COUNT, Pages, SlotState, SwapError, SwapMap};
use alloc::boxed::Box;
use arch::Pfn;
use arch::block::BlockDevice;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use sync::point::{self, AccessKind, class};
use sync::{MAX_CPUS, Rank, SpinLock, cpu};

/// The area's map, which owns its tables.
pub(super) type Map = SwapMap<Box<[AtomicU8]>, Box<[Cluster]>>;

pub(super) struct Area {
    map: Map,
    dev: &'static dyn BlockDevice,
    /// Slots are handed out (not while the area is being emptied).
    open: bool,
    /// Where each CPU allocates next.
    cursors: [Cursor; MAX_CPUS],
}

/// The frames that counts go on in, named by their numbers.
struct Frames;

impl Pages for Frames {
    fn cell(&self, page: u32, i: u32) -> &AtomicU64 {
        // SAFETY: a frame that `make_room` gave to the map, until `release`.
        let words = unsafe { arch::frame_words(Pfn(page)) };
        &words[i as usize]
    }
    fn release(&self, page: u32) {
        // SAFETY: a frame that `make_room` gave to the map, which has done with it.
        drop(unsafe { Page::take_back(Pfn(page), 0) });
    }
}

static AREA: SpinLock<Option<Area>> = SpinLock::new(Rank::SwapMap, None);
/// Slots that [`alloc()`] can hand out; 0 while the area is closed. Readable without the lock.
static FREE: AtomicU32 = AtomicU32::new(0);
/// Usable slots of the area.
static TOTAL: AtomicU32 = AtomicU32::new(0);

/// Runs `f` on the area, if there is one, and publishes the counts.
#[inline]
fn with<R>(f: impl FnOnce(&mut Area) -> R) -> Option<R> {
    let mut area = AREA.lock();
    let area = area.as_mut()?;
    let r = f(area);
    publish(area);
    Some(r)
}

/// For the explorer: the running actor looks at, or changes, the counts that are readable without
/// the lock.
#[inline(always)]
fn touch_counts(access: AccessKind) {
    point::touch(access, || point::object_at(class::SWAP, &FREE));
}

fn publish(area: &Area) {
    note_change();
    let free = if area.open { area.map.free() } else { 0 };
    if free > 0 && FREE.load(Ordering::Relaxed) == 0 {
        // What could not go can go now.
        buddy::kswapd::RUNS.hope();
    }
    FREE.store(free, Ordering::Relaxed);
    // Slot 0 is counted as bad.
    TOTAL.store(area.map.slots() - area.map.bad(), Ordering::Relaxed);
}

/// What [`Others`] waits for has come nearer: the area, or what leads swapoff to its slots, has
/// changed.
#[inline]
pub(crate) fn note_change() {
    touch_counts(AccessKind::Write);
    #[cfg(feature = "lab")]
    CHANGES[cpu::id()].fetch_add(1, Ordering::Relaxed);
}

/// Such changes by each CPU.
#[cfg(feature = "lab")]
static CHANGES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// What other CPUs have done to the area and to what leads to its slots.
pub(crate) struct Others {
    #[cfg(feature = "lab")]
    me: usize,
    #[cfg(feature = "lab")]
    seen: u64,
}

impl Others {
    /// Up to now.
    pub(crate) fn so_far() -> Self {
        touch_counts(AccessKind::Read);
        #[cfg(feature = "lab")]
        return Self {
            me: cpu::id(),
            seen: Self::sum(cpu::id()),
        };
        #[cfg(not(feature = "lab"))]
        Self {}
    }

    #[cfg(feature = "lab")]
    fn sum(me: usize) -> u64 {
        let of = |cpu: usize| CHANGES[cpu].load(Ordering::Relaxed);
        (0..MAX_CPUS).filter(|cpu| *cpu != me).map(of).sum()
    }

    /// After a round in vain: lets others run. An actor of the explorer stands until one has done
    /// something to the area.
    pub(crate) fn wait(&self) {
        #[cfg(feature = "lab")]
        if point::spin(
            || point::object_at(class::SWAP, &FREE),
            || Self::sum(self.me) != self.seen,
        ) {
            return;
        }
        sync::threads().yield_now();
    }
}

/// What an operation on the slot of a live swap entry says.
///
/// # Panics
/// If there is no area or the slot is not in use: an entry outlived its slot.
fn must<R>(slot: u32, r: Option<Result<R, SwapError>>) -> R {
    match r {
        Some(Ok(r)) => r,
        Some(Err(e)) => panic!("swap slot {slot:#x}: {e:?}"),
        None => panic!("swap slot {slot:#x} without a swap area"),
    }
}

/// Opens an area on `dev`. The caller holds the swapon lock. Slots are handed out from now on, so
/// `map` comes with its bad slots.
///
/// # Panics
/// If there is an area already, or slot 0, which is the header, could be handed out.
pub(super) fn open(dev: &'static dyn BlockDevice, map: Map) {
    assert!(
        map.state(0).is_some_and(SlotState::is_bad),
        "the swap header could be handed out"
    );
    let mut area = AREA.lock();
    assert!(area.is_none(), "two swap areas");
    let fresh = Area {
        map,
        dev,
        open: true,
        cursors: [Cursor::new(); MAX_CPUS],
    };
    publish(area.insert(fresh));
}

/// Stops handing out slots.
pub(crate) fn close() {
    with(|a| a.open = false);
}

/// Makes a closed area hand out slots again, because memory is short: swapoff sees it and gives up.
/// True when the area was closed.
pub(crate) fn reopen() -> bool {
    with(|a| !core::mem::replace(&mut a.open, true)).unwrap_or(false)
}

/// The area is being emptied and nobody has objected.
pub(crate) fn is_closed() -> bool {
    AREA.lock().as_ref().is_some_and(|a| !a.open)
}

/// Takes a closed and empty area away, for the caller to drop where memory can be given back; None
/// when it is not. The caller holds the swapon lock.
pub(super) fn take_away() -> Option<Area> {
    let mut area = AREA.lock();
    let old = area.take_if(|a| !a.open && a.map.used() == 0)?;
    touch_counts(AccessKind::Write);
    FREE.store(0, Ordering::Relaxed);
    TOTAL.store(0, Ordering::Relaxed);
    Some(old)
}

/// The area's disk.
pub(crate) fn device() -> Option<&'static dyn BlockDevice> {
    AREA.lock().as_ref().map(|a| a.dev)
}

/// Free slots; a hint.
#[inline]
pub fn free_slots() -> u32 {
    touch_counts(AccessKind::Read);
    FREE.load(Ordering::Relaxed)
}

/// Usable slots of the area, 0 without one.
#[inline]
pub fn total_slots() -> u32 {
    touch_counts(AccessKind::Read);
    TOTAL.load(Ordering::Relaxed)
}

/// More than half of the area is in use: slots are worth more than saved writes.
#[inline]
pub(crate) fn nearly_full() -> bool {
    free_slots() < total_slots() / 2
}

/// (slots in use, bad slots without the header).
pub(super) fn usage() -> (u32, u32) {
    with(|a| (a.map.used(), a.map.bad().saturating_sub(1))).unwrap_or((0, 0))
}

/// Fills `out` with free slots, consecutive where possible, each in the state "cached, no entry";
/// how many.
pub(crate) fn alloc(out: &mut [u32]) -> usize {
    if free_slots() == 0 {
        return 0;
    }
    with(|a| {
        if !a.open {
            return 0;
        }
        let cursor = &mut a.cursors[cpu::id()];
        a.map.alloc(cursor, out)
    })
    .unwrap_or(0)
}

/// The slot's count is at its limit, and nothing changed: [`make_room`], then try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoRoom;

/// One more page-table entry names `slot`.
///
/// # Errors
/// [`NoRoom`]; never after [`make_room`] for a slot that has been in use since.
pub(crate) fn dup(slot: u32) -> Result<(), NoRoom> {
    match with(|a| a.map.dup(slot, &Frames)) {
        Some(Err(SwapError::NoRoom)) => Err(NoRoom),
        other => {
            must(slot, other);
            Ok(())
        }
    }
}

/// Lets the count of `slot` go on beyond what its byte counts, until it is free. No spin lock is
/// held; may sleep with [`Gfp::RECLAIM`]. A slot that is not in use any more needs no room.
///
/// # Errors
/// [`Oom`].
pub(crate) fn make_room(slot: u32, gfp: Gfp) -> Result<(), Oom> {
    let lend = |page: &mut Option<u32>| with(|a| a.map.make_room(slot, page, &Frames));
    if lend(&mut None) != Some(Err(SwapError::NoRoom)) {
        return Ok(());
    }
    let page = buddy::alloc(0, Use::Misc, gfp)?;
    let mut lent = Some(page.pfn().0);
    // Another thread may have lent one to the cluster meanwhile: then this one goes back.
    let _ = lend(&mut lent);
    if lent.is_none() {
        let _ = page.into_pfn();
    }
    Ok(())
}

/// For reclaim, before as many as `entries` come to name `slot`: from the reserve, at once.
///
/// # Errors
/// [`Oom`]: not all of them could be counted.
#[inline]
pub(crate) fn make_room_for(slot: u32, entries: u32) -> Result<(), Oom> {
    // A fork may add sharers meanwhile, so not to the last one.
    if entries < u32::from(MAX_COUNT) / 2 {
        return Ok(());
    }
    make_room(slot, Gfp::MEMALLOC)
}

/// One page-table entry fewer names `slot`.
pub(crate) fn put(slot: u32) -> Left {
    must(slot, with(|a| a.map.put(slot, &Frames)))
}

/// References to `slot` by entries and files.
pub fn references(slot: u32) -> u64 {
    let area = AREA.lock();
    area.as_ref().map_or(0, |a| a.map.references(slot, &Frames))
}

/// Claims the right to put the page of `slot` into the swap cache.
///
/// # Errors
/// Why not: the cache has it ([`SwapError::AlreadyCached`]), or the slot is no longer in use.
pub(crate) fn set_cache(slot: u32) -> Result<(), SwapError> {
    with(|a| a.map.set_cache(slot)).unwrap_or(Err(SwapError::Free))
}

/// The swap cache no longer has the page of `slot`.
pub(crate) fn clear_cache(slot: u32) -> Left {
    must(slot, with(|a| a.map.clear_cache(slot, &Frames)))
}

/// A write to `slot` failed: it turns bad when nothing uses it any more.
pub(crate) fn mark_bad(slot: u32) {
    must(slot, with(|a| a.map.mark_bad(slot)));
}

/// What the map says of `slot`; `None` outside the area.
pub fn state(slot: u32) -> Option<SlotState> {
    AREA.lock().as_ref()?.map.state(slot)
}

/// The slots in `first..=last` that entries name and the cache does not have, for reading ahead.
pub(crate) fn readable(first: u32, last: u32, mut f: impl FnMut(u32)) {
    let area = AREA.lock();
    let Some(area) = area.as_ref() else { return };
    for slot in first..=last {
        if area
            .map
            .state(slot)
            .is_some_and(|s| s.count() > 0 && !s.is_cached())
        {
            f(slot);
        }
    }
}

/// Slots of the area, bad ones included.
pub(crate) fn slots() -> u32 {
    AREA.lock().as_ref().map_or(0, |a| a.map.slots())
}

/// The first slot from `from` on that is in use.
pub(crate) fn next_in_use(from: u32) -> Option<u32> {
    AREA.lock().as_ref()?.map.next_in_use(from)
}

/// Full check of the map.
///
/// # Errors
/// What is wrong, and where.
pub fn validate() -> Result<(), algo::Corrupt> {
    AREA.lock()
        .as_ref()
        .map_or(Ok(()), |a| a.map.validate(&Frames))
}

/// For the explorer: the bad slots, `None` without an area or while slots are in use.
#[cfg(feature = "lab")]
pub(crate) fn bad_slots() -> Option<alloc::vec::Vec<u32>> {
    let area = AREA.lock();
    let map = &area.as_ref()?.map;
    let is_bad = |&slot: &u32| map.state(slot).is_some_and(SlotState::is_bad);
    (map.used() == 0).then(|| (0..map.slots()).filter(is_bad).collect())
}

/// For the explorer: slots in use.
#[cfg(feature = "lab")]
pub(crate) fn used() -> u32 {
    usage().0
}

/// For the explorer: the area is as new, open, and none but `bad` is bad. O(slots).
#[cfg(feature = "lab")]
pub(crate) fn reset(bad: &[u32]) {
    with(|a| {
        a.map.reset(bad.iter().copied(), &Frames);
        a.open = true;
        a.cursors = [Cursor::new(); MAX_CPUS];
    });
}
