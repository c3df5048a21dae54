//! The explorer's pocket: while it is open, page tables, anonymous and file pages of actors, and of
//! the thread that opened it, come from one block of frames, so that every run gets the same frames
//! in the same order.
//!
//! Frames lie in shares, one for each actor's CPU and one for everybody else, as in the per-CPU
//! lists that they stand for: an allocation takes the lowest frame of its CPU's share (of the next
//! share that has one when it is empty), a frame that is freed goes to the share of the CPU that
//! frees it. So allocations on two CPUs do not depend on each other. When all are empty, frames
//! from elsewhere would not be the same in every run: an actor reclaims, anybody else has no
//! memory. A free frame counts as one in a per-CPU list ([`Use::Pcp`]), and is poisoned as such.
//!
//! *To actors the pocket is all the memory there is*: what they see of free frames and watermarks
//! is its own. A scenario makes it short with [`leave`], and says with [`want`] how many frames
//! shall be free.
//!
//! Locks: `Rank::PcpLock` of one share at a time; `Rank::ZoneLock` to open and to close. Never
//! sleeps.

use super::{Gfp, Oom, alloc, free_locked, poison, publish_free, zone};
use crate::frame::{Folio, flag, frame};
use crate::lru;
use crate::stats::{Use, move_use};
use arch::Pfn;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::{Rank, SpinLock, cpu, point, task};

/// Most frames.
pub(crate) const MAX: usize = 1 << super::MAX_ORDER;
const SHARES: usize = 8;

/// The frames of the pocket that are free in one share, a bit each.
type Free = [u64; MAX / 64];

#[repr(align(64))]
struct Share(SpinLock<Free>);

static FREE: [Share; SHARES] =
    [const { Share(SpinLock::new(Rank::PcpLock, [0; MAX / 64])) }; SHARES];
/// First frame.
static BASE: AtomicU32 = AtomicU32::new(0);
/// Number of frames; 0 while it is closed.
static LEN: AtomicU32 = AtomicU32::new(0);
/// The thread that opened it.
static OPENER: AtomicU32 = AtomicU32::new(0);
/// Free frames that nobody gets (see [`leave`]).
static KEPT: SpinLock<Free> = SpinLock::new(Rank::PcpLock, [0; MAX / 64]);
/// The blocks for huge pages that are free, a bit each. A huge page that is split leaves its frames
/// to the shares, until the next rewind.
static BLOCKS: SpinLock<u32> = SpinLock::new(Rank::PcpLock, 0);
/// So many there are.
static KEPT_BLOCKS: AtomicU32 = AtomicU32::new(0);
/// All its watermarks, in frames.
static WANTED: AtomicU32 = AtomicU32::new(0);

/// A block of this order and use comes from the pocket, or not at all.
#[inline]
pub(super) fn serves(order: u8, usage: Use) -> bool {
    LEN.load(Ordering::Relaxed) != 0
        && (order == 0 || order == super::HUGE_ORDER)
        && matches!(usage, Use::Anon | Use::File | Use::Table)
        && (point::is_actor() || u32::from(task::current().0) == OPENER.load(Ordering::Relaxed))
}

/// Which frame of the pocket `pfn` is.
#[inline]
fn place(pfn: Pfn) -> Option<usize> {
    let n = pfn.0.wrapping_sub(BASE.load(Ordering::Relaxed));
    (n < LEN.load(Ordering::Relaxed)).then_some(n as usize)
}

fn nth(n: usize) -> Pfn {
    Pfn(BASE.load(Ordering::Relaxed) + n as u32)
}

/// Block `i` for a huge page: they lie at the end of the pocket, the last one first.
fn block(i: u32) -> Pfn {
    let len = LEN.load(Ordering::Relaxed);
    nth((len - ((i + 1) << super::HUGE_ORDER)) as usize)
}

/// The share of who is running.
fn own_share() -> usize {
    if point::is_actor() {
        1 + cpu::id() % (SHARES - 1)
    } else {
        0
    }
}

/// The lowest free frame of the caller's share, or the lowest free block.
pub(super) fn take(order: u8, usage: Use) -> Option<Pfn> {
    if order != 0 {
        let mut blocks = BLOCKS.lock();
        let n = blocks.trailing_zeros();
        if n == u32::BITS {
            return None;
        }
        *blocks &= *blocks - 1;
        move_use(Use::Pcp, usage, 1 << order);
        return Some(block(n));
    }
    let own = own_share();
    let n = (own..own + SHARES).find_map(|i| {
        let mut free = FREE[i % SHARES].0.lock();
        let (word, bits) = free.iter_mut().enumerate().find(|(_, bits)| **bits != 0)?;
        let bit = bits.trailing_zeros();
        *bits &= *bits - 1;
        Some(word * 64 + bit as usize)
    })?;
    move_use(Use::Pcp, usage, 1);
    Some(nth(n))
}

/// Takes back a frame of the pocket, which `release` has made a free one; false when it is none.
#[inline]
pub(super) fn put(pfn: Pfn, order: u8, usage: Use) -> bool {
    let Some(n) = place(pfn) else {
        return false;
    };
    if order != 0 {
        // Of a block of which all is free again.
        let back = (LEN.load(Ordering::Relaxed) as usize - n) >> order;
        *BLOCKS.lock() |= 1 << (back - 1);
        move_use(usage, Use::Pcp, 1 << order);
        return true;
    }
    FREE[own_share()].0.lock()[n / 64] |= 1 << (n % 64);
    move_use(usage, Use::Pcp, 1);
    true
}

/// The running thread is an actor, and the pocket its memory.
#[inline]
fn is_all() -> bool {
    LEN.load(Ordering::Relaxed) != 0 && point::is_actor()
}

/// Frames that an actor finds free; `None` for anybody else.
#[inline]
pub(super) fn free() -> Option<u32> {
    is_all().then(|| {
        let ones = |free: &Free| free.iter().map(|bits| bits.count_ones()).sum::<u32>();
        FREE.iter().map(|share| ones(&share.0.lock())).sum()
    })
}

/// The watermarks that an actor finds; `None` for anybody else.
#[inline]
pub(super) fn watermarks() -> Option<(u32, u32, u32)> {
    is_all().then(|| {
        let all = WANTED.load(Ordering::Relaxed);
        (all, all, all)
    })
}

/// The address space is one of actors.
pub(crate) fn has(root: Pfn) -> bool {
    place(root).is_some()
}

/// Until the next rewind, `n` of the free frames are left, and no more than come back.
pub(crate) fn leave(n: usize) {
    let (mut left, mut kept) = (n, [0; MAX / 64]);
    for share in &FREE {
        let mut free = share.0.lock();
        for (kept, bits) in kept.iter_mut().zip(free.iter_mut()) {
            let mut rest = *bits;
            while rest != 0 && left > 0 {
                rest &= rest - 1;
                left -= 1;
            }
            *kept |= rest;
            *bits &= !rest;
        }
    }
    let mut all = KEPT.lock();
    for (all, kept) in all.iter_mut().zip(kept) {
        *all |= kept;
    }
}

/// Until the next rewind, memory is short below `n` free frames: the one watermark there is.
pub(crate) fn want(n: u32) {
    WANTED.store(n, Ordering::Relaxed);
}

/// Takes a block of `2^order` frames for the pocket, `blocks` blocks for huge pages among them. The
/// calling thread is served from it, as actors are.
///
/// # Errors
/// [`Oom`] when there is no such block.
///
/// # Panics
/// If it is open.
pub(crate) fn open(order: u8, blocks: u32) -> Result<Pfn, Oom> {
    assert!(LEN.load(Ordering::Relaxed) == 0, "two pockets");
    let pfn = alloc(order, Use::Pcp, Gfp::NOWAIT)?.into_pfn();
    frame(pfn).init_refcount(0);
    // Blocks of one frame each from now on.
    for i in 0..1 << order {
        frame(pfn.add(i)).init_flags(0, 0, Use::Pcp);
    }
    poison::fill(pfn, order);
    KEPT_BLOCKS.store(blocks, Ordering::Relaxed);
    BASE.store(pfn.0, Ordering::Relaxed);
    OPENER.store(u32::from(task::current().0), Ordering::Relaxed);
    LEN.store(1 << order, Ordering::Relaxed);
    share_out();
    Ok(pfn)
}

/// Gives the block back, all of whose frames are free.
pub(crate) fn close() {
    let (base, len) = (nth(0), LEN.swap(0, Ordering::Relaxed));
    let mut zone = zone().lock();
    free_locked(&mut zone, base, len.trailing_zeros() as u8);
    publish_free(&zone);
    drop(zone);
    move_use(Use::Pcp, Use::Free, u64::from(len));
}

/// Gives each share its frames: all are free, and enough.
pub(crate) fn share_out() {
    *KEPT.lock() = [0; MAX / 64];
    want(0);
    let blocks = KEPT_BLOCKS.load(Ordering::Relaxed);
    *BLOCKS.lock() = below(blocks as usize) as u32;
    let all = LEN.load(Ordering::Relaxed) as usize;
    let len = all - ((blocks as usize) << super::HUGE_ORDER);
    for (i, share) in FREE.iter().enumerate() {
        let own = i * len / SHARES..(i + 1) * len / SHARES;
        let mut free = share.0.lock();
        for (word, bits) in free.iter_mut().enumerate() {
            let from = own.start.clamp(word * 64, word * 64 + 64) - word * 64;
            let to = own.end.clamp(word * 64, word * 64 + 64) - word * 64;
            *bits = below(to) & !below(from);
        }
    }
}

/// The lowest `n` bits, of 64.
fn below(n: usize) -> u64 {
    1u64.checked_shl(n as u32).map_or(u64::MAX, |bit| bit - 1)
}

/// Calls `f` with each frame that is in use. No frame is handed out or taken back meanwhile.
pub(crate) fn for_each_used(mut f: impl FnMut(Pfn)) {
    let mut free: Free = *KEPT.lock();
    for share in &FREE {
        for (all, bits) in free.iter_mut().zip(share.0.lock().iter()) {
            *all |= bits;
        }
    }
    let blocks = *BLOCKS.lock();
    for i in (0..u32::BITS).filter(|i| blocks & 1 << i != 0) {
        let first = place(block(i)).expect("a frame of the pocket");
        for n in first..first + (1 << super::HUGE_ORDER) {
            free[n / 64] |= 1 << (n % 64);
        }
    }
    let len = LEN.load(Ordering::Relaxed) as usize;
    for (word, bits) in free.iter().enumerate() {
        let mut used = !bits & below(len.saturating_sub(word * 64).min(64));
        while used != 0 {
            f(nth(word * 64 + used.trailing_zeros() as usize));
            used &= used - 1;
        }
    }
}

/// Makes a frame that is in use a free one, whoever still refers to it: nobody will go on.
pub(crate) fn seize(pfn: Pfn) {
    let f = Folio::of(pfn);
    lru::remove(f);
    let (usage, pages) = (f.usage(), f.pages());
    f.clear(flag::ORDER);
    for i in 1..pages {
        // Its other frames follow.
        frame(pfn.add(i)).init_flags(0, 0, usage);
    }
    move_use(f.usage(), Use::Pcp, 1);
    f.init_refcount(0);
    f.init_mapcount(0);
    f.set_mapping(0);
    f.set_private(0);
    debug_assert!(!f.has(flag::LRU));
    f.init_flags(0, 0, Use::Pcp);
    arch::frame_freed(pfn);
    poison::fill(pfn, 0);
}
