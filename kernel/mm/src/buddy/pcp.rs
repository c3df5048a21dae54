//! Per-CPU lists of free frames, for order 0 and for 2 MiB blocks, above the zone's buddy.
//!
//! Locks: `Rank::PcpLock` of one CPU's lists, taken with preemption off so that it is uncontended
//! but for [`drain`]; `Rank::ZoneLock` inside it, once per batch. Never sleeps.

use super::{HUGE_ORDER, poison, zone};
use crate::frame::{FrameLinks, flag, frame};
use crate::stats::{Use, move_use};
use algo::list::List;
use arch::Pfn;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::{MAX_CPUS, Rank, SpinLock, cpu};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Page,
    Huge,
}

struct Lists {
    page: List,
    huge: List,
}

#[repr(align(64))]
struct Pcp(SpinLock<Lists>);

static PCP: [Pcp; MAX_CPUS] = [const {
    Pcp(SpinLock::new(
        Rank::PcpLock,
        Lists {
            page: List::new(),
            huge: List::new(),
        },
    ))
}; MAX_CPUS];

/// Frames moved between a CPU's list and the zone at once, and the most a list keeps.
static BATCH: AtomicU32 = AtomicU32::new(4);
static HIGH: AtomicU32 = AtomicU32::new(8);
static HUGE_HIGH: AtomicU32 = AtomicU32::new(0);

/// Sizes the lists for `pages` frames of memory: all lists together keep at most 1/32 of it in
/// pages and 1/8 in 2 MiB blocks.
pub(super) fn tune(pages: u32, cpus: u32) {
    let high = (pages / 32 / cpus).clamp(8, 186);
    HIGH.store(high, Ordering::Relaxed);
    BATCH.store((high / 6).max(4), Ordering::Relaxed);
    HUGE_HIGH.store(
        (((pages / 8) >> HUGE_ORDER) / cpus).min(2),
        Ordering::Relaxed,
    );
}

/// The list for blocks of this order, if there is one.
fn kind(order: u8) -> Option<Kind> {
    match order {
        0 => Some(Kind::Page),
        HUGE_ORDER => Some(Kind::Huge),
        _ => None,
    }
}

/// A block from this CPU's list; refills a page list while the zone stays above `floor` free
/// frames.
#[inline]
pub(super) fn alloc(order: u8, usage: Use, floor: u32) -> Option<Pfn> {
    let kind = kind(order)?;
    let _pinned = sync::preempt::disable();
    let mut lists = PCP[cpu::id()].0.lock();
    let list = if kind == Kind::Page {
        &mut lists.page
    } else {
        &mut lists.huge
    };
    if list.is_empty() {
        if kind == Kind::Huge {
            return None;
        }
        refill(list, floor);
    }
    let pfn = Pfn(list.pop_front(&FrameLinks)?);
    drop(lists);
    move_use(Use::Pcp, usage, 1 << order);
    Some(pfn)
}

#[cold]
fn refill(list: &mut List, floor: u32) {
    let batch = BATCH.load(Ordering::Relaxed);
    let mut got = 0;
    let mut zone = zone().lock();
    while got < batch && zone.free_pages() > floor {
        let Some(pfn) = zone.alloc(&super::BuddyFrames, 0) else {
            break;
        };
        frame(Pfn(pfn)).init_flags(0, 0, Use::Pcp);
        list.push_back(&FrameLinks, pfn);
        got += 1;
    }
    super::publish_free(&zone);
    drop(zone);
    move_use(Use::Free, Use::Pcp, u64::from(got));
}

/// Puts a block on this CPU's list. False when blocks of this order have no list, or it is full.
#[inline]
pub(super) fn free(pfn: Pfn, order: u8, usage: Use) -> bool {
    let Some(kind) = kind(order) else {
        return false;
    };
    let _pinned = sync::preempt::disable();
    let mut lists = PCP[cpu::id()].0.lock();
    match kind {
        Kind::Huge if lists.huge.len() >= HUGE_HIGH.load(Ordering::Relaxed) => return false,
        Kind::Huge => lists.huge.push_front(&FrameLinks, pfn.0),
        Kind::Page => {
            lists.page.push_front(&FrameLinks, pfn.0);
            if lists.page.len() > HIGH.load(Ordering::Relaxed) {
                spill(&mut lists.page, BATCH.load(Ordering::Relaxed));
            }
        }
    }
    move_use(usage, Use::Pcp, 1 << order);
    true
}

/// Gives the `n` coldest pages of `list` back to the zone.
#[cold]
fn spill(list: &mut List, n: u32) {
    let mut zone = zone().lock();
    let mut given = 0;
    while given < n {
        let Some(pfn) = list.pop_back(&FrameLinks) else {
            break;
        };
        super::free_locked(&mut zone, Pfn(pfn), 0);
        given += 1;
    }
    super::publish_free(&zone);
    drop(zone);
    move_use(Use::Pcp, Use::Free, u64::from(given));
}

/// Gives every CPU's lists back to the zone: when memory is short, and before a full count.
pub fn drain() {
    for pcp in &PCP {
        let mut lists = pcp.0.lock();
        let pages = lists.page.len();
        spill(&mut lists.page, pages);
        while let Some(pfn) = lists.huge.pop_back(&FrameLinks) {
            let mut zone = zone().lock();
            super::free_locked(&mut zone, Pfn(pfn), HUGE_ORDER);
            super::publish_free(&zone);
            drop(zone);
            move_use(Use::Pcp, Use::Free, 1 << HUGE_ORDER);
        }
    }
}

/// Frames in all lists, and the number of lists that hold any.
pub fn pages() -> u64 {
    PCP.iter()
        .map(|p| {
            let lists = p.0.lock();
            u64::from(lists.page.len()) + (u64::from(lists.huge.len()) << HUGE_ORDER)
        })
        .sum()
}

/// Every listed block is free, unmapped and, in debug builds, still poisoned.
///
/// # Errors
/// What is wrong and with which frame.
pub(super) fn validate() -> Result<(), (&'static str, Pfn)> {
    for pcp in &PCP {
        let lists = pcp.0.lock();
        for (list, order) in [(&lists.page, 0), (&lists.huge, HUGE_ORDER)] {
            for pfn in list.iter(&FrameLinks) {
                let f = frame(Pfn(pfn));
                if f.usage() != Use::Pcp || f.refcount() != 0 || f.has(flag::BUDDY) {
                    return Err(("frame in a per-CPU list is in use", Pfn(pfn)));
                }
                poison::check(Pfn(pfn), order)
                    .map_err(|_| ("free frame was written to", Pfn(pfn)))?;
            }
        }
    }
    Ok(())
}
