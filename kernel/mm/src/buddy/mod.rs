//! The page allocator: one zone with a buddy below per-CPU lists, watermarks above.
//!
//! Locks: `Rank::PcpLock`, then `Rank::ZoneLock`. [`alloc()`] sleeps only with [`Gfp::RECLAIM`],
//! when it has to reclaim (the slow path that `reclaim` registers); freeing never sleeps. No
//! allocation from the heap.
//!
//! Watermarks (Linux's formula): below `low` kswapd is woken; ordinary requests stop at `min`; what
//! lies below is for reclaim itself ([`Gfp::MEMALLOC`]), so that freeing memory never fails for
//! want of memory: it takes a frame where the counts of slots that more address spaces share than a
//! byte can count go on (`swap::area`).

#![expect(unsafe_code, reason = "a frame number becomes an owned block again")]

pub(crate) mod kswapd;
pub mod pcp;
#[cfg(feature = "lab")]
pub(crate) mod pocket;
pub mod poison;
#[cfg(feature = "lab")]
pub mod refuse;

#[cfg(not(feature = "lab"))]
mod refuse {
    //! Without the lab nothing is refused.
    #[inline(always)]
    pub(super) const fn is_this(_: super::Use) -> bool {
        false
    }
}

#[cfg(not(feature = "lab"))]
mod pocket {
    //! Without the lab nobody opens one.
    use super::{Pfn, Use};

    #[inline(always)]
    pub(super) const fn serves(_: u8, _: Use) -> bool {
        false
    }
    pub(super) const fn take(_: u8, _: Use) -> Option<Pfn> {
        None
    }
    #[inline(always)]
    pub(super) const fn put(_: Pfn, _: u8, _: Use) -> bool {
        false
    }
    #[inline(always)]
    pub(super) const fn free() -> Option<u32> {
        None
    }
    #[inline(always)]
    pub(super) const fn watermarks() -> Option<(u32, u32, u32)> {
        None
    }
}

use crate::content::HasContent;
use crate::frame::{Frame, FrameLinks, NIL, flag, frame};
use crate::scarce;
use crate::stats::{Event, Use, count_n, move_use};
use algo::buddy::Buddy;
use algo::list::Links;
use arch::Pfn;
use arch::addr::HPAGE_PMD_ORDER;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;
use sync::{Rank, SpinGuard, SpinLock};

pub(crate) use kswapd::KSWAPD;

/// Order of a block that one PMD can map.
pub const HUGE_ORDER: u8 = HPAGE_PMD_ORDER;
pub use algo::buddy::MAX_ORDER;

/// There is no frame to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Oom;

impl From<Oom> for crate::error::MmError {
    fn from(_: Oom) -> Self {
        Self::NoMemory
    }
}

/// How hard an allocation tries, and how deep it may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gfp(u8);

impl Gfp {
    /// Takes what is free above the `min` watermark, or fails at once.
    pub const NOWAIT: Self = Self(0);
    /// May sleep, reclaim, and as the last resort call the OOM killer.
    pub const RECLAIM: Self = Self(1);
    /// For reclaim itself: everything that is free, at once.
    pub const MEMALLOC: Self = Self(2);

    fn floor(self) -> u32 {
        if self == Self::MEMALLOC {
            0
        } else {
            WATERMARKS.min.load(Ordering::Relaxed)
        }
    }
}

/// What the slow path achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Something was freed: try again.
    Retry,
    /// Nothing more can be done for this request.
    GiveUp,
}

/// A block that belongs to the caller alone: reference count 1, on no list. Dropping it frees it.
///
/// # Panics
/// When it is dropped and is free already, or still mapped, listed or locked: an invariant is
/// broken.
pub struct Page {
    pfn: Pfn,
    order: u8,
}

impl Page {
    /// The first frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }
    /// Its record in the memmap.
    #[inline]
    pub fn frame(&self) -> &'static Frame {
        frame(self.pfn)
    }
    /// Fills every frame of the block with zeroes.
    pub(crate) fn zero_block(&self) {
        for i in 0..1 << self.order {
            // SAFETY: the block is this value's.
            unsafe { arch::zero_frame(self.pfn.add(i)) };
        }
    }
    /// Frees a block whose content nobody touched: debug builds need not fill it, which matters for
    /// gigabytes.
    pub fn give_back(self) {
        release(self.pfn, self.order, false);
        core::mem::forget(self);
    }
    /// Takes a block back whose number [`Page::into_pfn`] gave away. Dropping it frees it.
    ///
    /// # Safety
    /// The block is the caller's alone: no entry, list, table or reference leads to it any more,
    /// and no CPU can still reach it.
    #[inline]
    pub(crate) unsafe fn take_back(pfn: Pfn, order: u8) -> Self {
        Self { pfn, order }
    }
    /// Hands the one reference to whoever keeps the number.
    #[inline]
    pub fn into_pfn(self) -> Pfn {
        let pfn = self.pfn;
        core::mem::forget(self);
        pfn
    }
}

// SAFETY: the block is the caller's alone until it is dropped.
unsafe impl HasContent for Page {
    #[inline]
    fn frame_number(&self) -> Pfn {
        self.pfn
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        release(self.pfn, self.order, true);
    }
}

struct Watermarks {
    min: AtomicU32,
    low: AtomicU32,
    high: AtomicU32,
}

static WATERMARKS: Watermarks = Watermarks {
    min: AtomicU32::new(0),
    low: AtomicU32::new(0),
    high: AtomicU32::new(0),
};
static ZONE: SpinLock<Buddy> = SpinLock::new(Rank::ZoneLock, Buddy::new());
/// The buddy's free count, readable without its lock.
static FREE: AtomicU32 = AtomicU32::new(0);
static MANAGED: AtomicU32 = AtomicU32::new(0);
static SLOW_PATH: Once<fn(u8) -> Progress> = Once::new();

/// How the buddy sees the memmap.
pub(super) struct BuddyFrames;

impl Links for BuddyFrames {
    fn next(&self, i: u32) -> u32 {
        FrameLinks.next(i)
    }
    fn set_next(&self, i: u32, v: u32) {
        FrameLinks.set_next(i, v);
    }
    fn prev(&self, i: u32) -> u32 {
        FrameLinks.prev(i)
    }
    fn set_prev(&self, i: u32, v: u32) {
        FrameLinks.set_prev(i, v);
    }
}

impl algo::buddy::Frames for BuddyFrames {
    #[inline]
    fn free_order(&self, pfn: u32) -> Option<u8> {
        let flags = frame(Pfn(pfn)).flags();
        (flags & flag::BUDDY != 0).then(|| Frame::order_in(flags))
    }
    #[inline]
    fn set_free(&self, pfn: u32, order: u8) {
        frame(Pfn(pfn)).init_head(flag::BUDDY, order, Use::Free);
    }
    #[inline]
    fn clear_free(&self, pfn: u32) {
        // A tail of a larger block now, or about to be a head again.
        frame(Pfn(pfn)).init_head(0, 0, Use::Free);
    }
}

fn zone() -> &'static SpinLock<Buddy> {
    &ZONE
}

/// Publishes the free count after a change; called with the lock that `zone` proves.
fn publish_free(zone: &Buddy) {
    let free = zone.free_pages();
    FREE.store(free, Ordering::Relaxed);
    // Somebody else has made room: when that is used up, what there is to reclaim is not what it
    // was.
    if free >= WATERMARKS.high.load(Ordering::Relaxed) && kswapd::RUNS.are_enough() {
        kswapd::RUNS.hope();
    }
}

/// Frees a block under the zone lock.
///
/// # Panics
/// On a double free.
fn free_locked(zone: &mut SpinGuard<'_, Buddy>, pfn: Pfn, order: u8) {
    // It may become a tail.
    frame(pfn).init_head(0, 0, Use::Free);
    if let Err(double) = zone.free(&BuddyFrames, pfn.0, order) {
        panic!("double free of {pfn:?}, order {order}: {double:?}");
    }
}

/// Gives boot memory to the zone: `start..end`, all its frames unused. Boot CPU alone.
pub(crate) fn add_range(start: Pfn, end: Pfn) {
    let pages = end.0 - start.0;
    let mut zone = ZONE.lock();
    let added = zone.add_range(&BuddyFrames, start.0, end.0);
    assert!(
        added.is_ok(),
        "boot memory {start:?}..{end:?} overlaps: {added:?}"
    );
    publish_free(&zone);
    drop(zone);
    MANAGED.fetch_add(pages, Ordering::Relaxed);
    crate::stats::found_use(Use::Free, u64::from(pages));
}

/// Sets watermarks and list sizes once all memory is in.
pub(crate) fn tune(cpus: u32) {
    let pages = MANAGED.load(Ordering::Relaxed);
    let min = ((u64::from(pages) * 4 * 16).isqrt() / 4) as u32;
    WATERMARKS.min.store(min, Ordering::Relaxed);
    WATERMARKS.low.store(min + min / 4, Ordering::Relaxed);
    WATERMARKS.high.store(min + min / 2, Ordering::Relaxed);
    pcp::tune(pages, cpus);
}

/// Registers what to do when nothing is free (see `reclaim`).
pub(crate) fn set_slow_path(f: fn(u8) -> Progress) {
    SLOW_PATH.call_once(|| f);
}

/// Frames in the zone.
pub fn managed_pages() -> u32 {
    MANAGED.load(Ordering::Relaxed)
}
/// Free frames in the buddy, without the per-CPU lists. (To an actor of the explorer: those of its
/// pocket.)
#[inline]
pub fn free_pages() -> u32 {
    pocket::free().unwrap_or_else(|| FREE.load(Ordering::Relaxed))
}
/// Free memory is below the low watermark.
#[inline]
pub fn is_low() -> bool {
    match pocket::watermarks() {
        Some((_, 0, _)) => false,
        Some((_, low, _)) => free_pages() < low,
        None => FREE.load(Ordering::Relaxed) < WATERMARKS.low.load(Ordering::Relaxed),
    }
}
/// The watermarks `min`, `low`, `high`, in frames. (To an actor of the explorer: those of its
/// pocket.)
pub fn watermarks() -> (u32, u32, u32) {
    let of = |mark: &AtomicU32| mark.load(Ordering::Relaxed);
    pocket::watermarks().unwrap_or_else(|| {
        (
            of(&WATERMARKS.min),
            of(&WATERMARKS.low),
            of(&WATERMARKS.high),
        )
    })
}
/// Free blocks of each order, for `buddyinfo`.
pub fn free_blocks() -> [u32; MAX_ORDER as usize + 1] {
    let zone = ZONE.lock();
    core::array::from_fn(|order| zone.nr_free(order as u8))
}

/// A block of `2^order` frames, naturally aligned, contents arbitrary.
///
/// # Errors
/// [`Oom`] when there is none and `gfp` allows no more effort, or the effort was in vain.
#[inline]
pub fn alloc(order: u8, usage: Use, gfp: Gfp) -> Result<Page, Oom> {
    if refuse::is_this(usage) || scarce::is_refused() {
        return Err(Oom);
    }
    let pfn = match take(order, usage, gfp) {
        Some(pfn) => pfn,
        None => slow(order, usage, gfp)?,
    };
    let f = frame(pfn);
    if cfg!(debug_assertions) {
        assert!(f.refcount() == 0, "{pfn:?} was handed out while referenced");
        if let Err(s) = poison::take(pfn, order) {
            panic!(
                "free {:?} was written to: byte {:#x} holds {:#x}",
                s.pfn, s.offset, s.found
            );
        }
    }
    f.init_head(0, order, usage);
    f.init_refcount(1);
    count_n(Event::PgAlloc, 1 << order);
    Ok(Page { pfn, order })
}

#[inline]
fn take(order: u8, usage: Use, gfp: Gfp) -> Option<Pfn> {
    if pocket::serves(order, usage) {
        return pocket::take(order, usage);
    }
    let pfn = pcp::alloc(order, usage, gfp.floor()).or_else(|| from_zone(order, usage, gfp));
    if is_low() && gfp != Gfp::MEMALLOC && !kswapd::RUNS.are_enough() {
        KSWAPD.wake_all();
    }
    pfn
}

fn from_zone(order: u8, usage: Use, gfp: Gfp) -> Option<Pfn> {
    let mut zone = ZONE.lock();
    if zone.free_pages() < gfp.floor() + (1 << order) {
        return None;
    }
    let pfn = zone.alloc(&BuddyFrames, order)?;
    publish_free(&zone);
    drop(zone);
    move_use(Use::Free, usage, 1 << order);
    Some(Pfn(pfn))
}

#[cold]
fn slow(order: u8, usage: Use, gfp: Gfp) -> Result<Pfn, Oom> {
    if pocket::serves(order, usage) && !sync::point::exploring() {
        return Err(Oom);
    }
    pcp::drain();
    loop {
        if let Some(pfn) = take(order, usage, gfp) {
            return Ok(pfn);
        }
        // The looks of an actor of the explorer are at its pocket: what that does not serve is
        // refused.
        let unserved = sync::point::exploring() && !pocket::serves(order, usage);
        if gfp != Gfp::RECLAIM || unserved {
            return Err(Oom);
        }
        match SLOW_PATH.get().map(|f| f(order)) {
            Some(Progress::Retry) => pcp::drain(),
            Some(Progress::GiveUp) | None => return Err(Oom),
        }
    }
}

/// For a fault whose allocation was refused: does what an allocation of one frame does that finds
/// nothing free.
#[cold]
pub(crate) fn relieve() -> Progress {
    SLOW_PATH.get().map_or(Progress::GiveUp, |f| f(0))
}

/// Frees a block whose last reference is gone. `touched`: somebody may have written to the block,
/// so it is filled anew.
fn release(pfn: Pfn, order: u8, touched: bool) {
    let f = frame(pfn);
    let usage = f.usage();
    assert!(
        !matches!(usage, Use::Free | Use::Pcp | Use::Reserved),
        "double free of {pfn:?} ({usage:?})"
    );
    assert!(f.mapcount() == 0, "{pfn:?} freed while mapped");
    debug_assert!(!f.has(flag::LRU) && !f.has(flag::LOCKED) && !f.has(flag::SWAPCACHE));
    f.init_refcount(0);
    f.set_mapping(0);
    f.set_private(0);
    for one in pfn.0..pfn.0 + (1 << order) {
        arch::frame_freed(Pfn(one));
    }
    f.init_head(0, order, Use::Pcp);
    if touched {
        poison::fill(pfn, order);
    }
    count_n(Event::PgFree, 1 << order);
    if pocket::put(pfn, order, usage) || pcp::free(pfn, order, usage) {
        return;
    }
    let mut zone = ZONE.lock();
    free_locked(&mut zone, pfn, order);
    publish_free(&zone);
    drop(zone);
    move_use(usage, Use::Free, 1 << order);
}

/// Full recount of the zone and the per-CPU lists.
///
/// # Errors
/// What is wrong and with which frame.
pub fn validate() -> Result<(), (&'static str, Pfn)> {
    pcp::validate()?;
    let zone = ZONE.lock();
    zone.validate(&BuddyFrames)
        .map_err(|c| (c.what, Pfn(c.at)))?;
    for order in 0..=MAX_ORDER {
        for pfn in zone.blocks(&BuddyFrames, order) {
            poison::check(Pfn(pfn), order).map_err(|s| ("free frame was written to", s.pfn))?;
        }
    }
    if zone.free_pages() != free_pages() {
        return Err(("published free count is wrong", Pfn(NIL)));
    }
    Ok(())
}
