//! How much may be dirty (Linux: `balance_dirty_pages`): limits, the bell that calls the flusher,
//! and the place where writers wait for it.
//!
//! Above the background limit the flusher writes until it is below. Above the hard limit
//! [`wait_room`] makes writers wait. A disk that takes nothing does not keep them for ever: after
//! two whole passes in which writes failed and no page was written they get the error. No lock but
//! wait queues'. Needs no memory, so that reclaim may wait here.

use crate::buddy;
use crate::error::MmError;
use crate::pagecache::tree;
use crate::stats::{Event, count, total};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::WaitQueue;
use sync::point::{self, AccessKind, class};

/// How often the flusher looks for old pages while there are dirty ones.
pub(super) const PERIOD_NS: u64 = 500_000_000;
/// The hard limit is never below this, in pages.
const LEAST: u64 = 64;

/// From where on dirty pages are written at once, and from where on writers wait; in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The flusher works.
    pub background: u64,
    /// Writers wait.
    pub hard: u64,
}

/// Set by hand; 0: by the memory there is.
static HARD: AtomicU64 = AtomicU64::new(0);
/// Passes done.
static PASSES: AtomicU64 = AtomicU64::new(0);
/// Where writers wait.
static ROOM: WaitQueue = WaitQueue::new();

/// What calls the flusher.
pub(super) struct Bell {
    /// Somebody wants a pass over everything.
    pub(super) wanted: AtomicBool,
    /// Where the flusher sleeps.
    pub(super) idle: WaitQueue,
}

impl Bell {
    const fn new() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            idle: WaitQueue::new(),
        }
    }
}

/// The machine's, and that of the explored world, whose flusher is an actor.
static BELLS: [Bell; 2] = [const { Bell::new() }; 2];

/// The one of the flusher that works for the running thread.
pub(super) fn bell() -> &'static Bell {
    &BELLS[usize::from(point::exploring())]
}

/// The limits now. By default a fifth of what files could have: free memory and what the cache
/// holds.
pub fn limits() -> Limits {
    let hard = match HARD.load(Ordering::Relaxed) {
        0 => {
            // In this order: what a file takes meanwhile is missed, not counted twice.
            let cached = tree::cached();
            ((u64::from(buddy::free_pages()) + cached) / 5).max(LEAST)
        }
        set => set,
    };
    Limits {
        background: hard / 2,
        hard,
    }
}

/// Sets the hard limit in pages, and the background limit to half of it; `None`: by the memory
/// there is.
pub fn set_limits(hard: Option<u64>) {
    HARD.store(hard.map_or(0, |h| h.max(2)), Ordering::Relaxed);
}

/// Something is dirty that was not: the flusher looks at the clock from now on. Any context.
pub(super) fn note_dirty() {
    bell().idle.wake_one();
}

/// Asks for a pass over everything. Any context.
pub(crate) fn wake() {
    let bell = bell();
    point::touch(AccessKind::Write, || {
        point::object_at(class::FILE, &bell.wanted)
    });
    bell.wanted.store(true, Ordering::Release);
    bell.idle.wake_one();
}

/// A request is done: there may be room. Any context.
pub(super) fn room() {
    ROOM.wake_all();
}

/// Nothing waits to be written.
pub(super) fn all_clean() -> bool {
    tree::unwritten().dirty == 0
}

/// The flusher is to write until it is less.
pub(super) fn too_much() -> bool {
    tree::unwritten().dirty > limits().background
}

/// Another pass of the flusher is over.
pub(super) fn passed() {
    // Release: who sees the pass counted sees what it did.
    PASSES.fetch_add(1, Ordering::Release);
    ROOM.wake_all();
}

/// For the explorer: nobody has called.
#[cfg(feature = "lab")]
pub(crate) fn forget() {
    BELLS[1].wanted.store(false, Ordering::Relaxed);
}

/// Pages written since boot.
pub(crate) fn written() -> u64 {
    total(Event::FileWritten)
}

/// Pages whose write failed since boot.
fn failed() -> u64 {
    total(Event::FileWriteError)
}

/// For reclaim that has found nothing: where there is something to write, waits for more than
/// `seen` pages written, for a while. False when none were. Sleeps.
pub(crate) fn wait_written(seen: u64) -> bool {
    let none_left = || tree::unwritten().all() == 0;
    if !none_left() {
        wake();
        ROOM.wait_until_timeout(PERIOD_NS, || written() != seen || none_left());
    }
    written() != seen
}

/// A writer need not wait.
pub(super) fn has_room() -> bool {
    tree::unwritten().all() < limits().hard
}

/// Waits while too much is dirty. Sleeps; the caller holds no lock that the flusher needs.
///
/// # Errors
/// [`MmError::Io`] when the disk takes nothing.
pub(super) fn wait_room() -> Result<(), MmError> {
    let waiting = tree::unwritten();
    // Below every limit that is not set by hand.
    if waiting.all() < LEAST / 2 && HARD.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let limits = limits();
    if waiting.dirty > limits.background {
        bell().idle.wake_one();
    }
    if waiting.all() < limits.hard {
        return Ok(());
    }
    wait_below()
}

/// See [`wait_room`], which found none.
#[cold]
fn wait_below() -> Result<(), MmError> {
    count(Event::FileThrottled);
    loop {
        let before = (written(), failed());
        // The first pass to end may have begun before.
        for _ in 0..2 {
            let seen = PASSES.load(Ordering::Acquire);
            wake();
            // As it was found: another writer may take the room before a second look.
            let mut found = false;
            ROOM.wait_until(|| {
                found = has_room();
                found || PASSES.load(Ordering::Acquire) != seen
            });
            if found {
                return Ok(());
            }
        }
        // Not for want of luck: something was tried, and nothing went through.
        if written() == before.0 && failed() != before.1 {
            return Err(MmError::Io);
        }
    }
}
