//! The flusher: a thread that writes what is old, and what is too much; and the limit where writers wait for it.
//!
//! Above the background limit it writes until it is below. Above the hard limit [`wait_room`] makes writers
//! wait. A disk that takes nothing does not keep them for ever: after two whole passes in which writes failed and no page
//! was written they get the error. Locks: `Rank::FilePass` for a pass; nothing while asleep. Needs no memory, so that reclaim may wait for it.

use super::writeback;
use crate::buddy;
use crate::error::MmError;
use crate::pagecache::{each, tree};
use crate::stats::{Event, count, total};
use alloc::boxed::Box;
use arch::thread::{Spawn, SpawnError};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::point::{self, AccessKind, class};
use sync::{Mutex, MutexGuard, Rank, WaitQueue};

/// How often it looks for old pages while there are dirty ones.
const PERIOD_NS: u64 = 500_000_000;
/// How old is old.
const AGE_NS: u64 = 3_000_000_000;
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
static RUNNING: AtomicBool = AtomicBool::new(false);
/// Passes done.
static PASSES: AtomicU64 = AtomicU64::new(0);
static PASS: Mutex<()> = Mutex::new(Rank::FilePass, ());
/// Where writers wait.
static ROOM: WaitQueue = WaitQueue::new();

/// What calls the flusher.
struct Bell {
    /// Somebody wants a pass over everything.
    wanted: AtomicBool,
    /// Where it sleeps.
    idle: WaitQueue,
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
fn bell() -> &'static Bell {
    &BELLS[usize::from(point::exploring())]
}

/// The limits now. By default a fifth of what files could have: free memory and what the cache holds.
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

/// Sets the hard limit in pages, and the background limit to half of it; `None`: by the memory there is.
pub fn set_limits(hard: Option<u64>) {
    HARD.store(hard.map_or(0, |h| h.max(2)), Ordering::Relaxed);
}

/// Starts the thread, once.
pub(super) fn start() -> Result<(), SpawnError> {
    if RUNNING.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    let opts = Spawn {
        name: "flusher",
        cpu: None,
    };
    let started = arch::thread::spawn(opts, Box::new(run));
    if started.is_err() {
        RUNNING.store(false, Ordering::Release);
    }
    started.map(|_| ())
}

/// Something is dirty that was not: it looks at the clock from now on. Any context.
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

/// The flusher begins no pass while this lives.
#[must_use = "it goes on when this is dropped"]
pub struct Paused {
    _pass: MutexGuard<'static, ()>,
}

/// Keeps the flusher from working, for those who count what is dirty. Sleeps until a pass that is
/// under way has ended. The caller writes less than the limits allow meanwhile, and calls nothing
/// that does the same (`check`).
pub fn pause() -> Paused {
    Paused { _pass: PASS.lock() }
}

/// Nothing waits to be written.
fn all_clean() -> bool {
    tree::unwritten().dirty == 0
}

fn too_much() -> bool {
    tree::unwritten().dirty > limits().background
}

fn run() {
    let bell = bell();
    loop {
        bell.idle.wait_until(|| !all_clean());
        let wanted = || bell.wanted.load(Ordering::Acquire) || too_much();
        bell.idle.wait_until_timeout(PERIOD_NS, wanted);
        let everything = bell.wanted.swap(false, Ordering::AcqRel) || too_much();
        let before = written();
        {
            let _pass = PASS.lock();
            pass(everything);
        }
        passed();
        if everything && written() == before {
            // The disk takes nothing: not at once again.
            arch::thread::sleep_ns(PERIOD_NS / 5);
        }
    }
}

/// Another pass is over.
fn passed() {
    // Release: who sees the pass counted sees what it did.
    PASSES.fetch_add(1, Ordering::Release);
    ROOM.wake_all();
}

/// For the explorer, while the machine's flusher stands still: makes a pass whenever somebody wants one, as the flusher does, until
/// it is `over`, which [`call`] makes it look at. Sleeps.
#[cfg(feature = "lab")]
pub fn as_flusher(over: impl Fn() -> bool) {
    let bell = bell();
    loop {
        bell.idle.wait_until(|| {
            point::touch(AccessKind::Write, || {
                point::object_at(class::FILE, &bell.wanted)
            });
            bell.wanted.swap(false, Ordering::AcqRel)
        });
        if over() {
            return;
        }
        pass(true);
        passed();
    }
}

/// For the explorer: asks for a pass, or whether it is over.
#[cfg(feature = "lab")]
pub fn call() {
    wake();
}

/// For the explorer: nobody has called.
#[cfg(feature = "lab")]
pub(crate) fn forget() {
    BELLS[1].wanted.store(false, Ordering::Relaxed);
}

/// Writes every file, or those that are old. One pass at a time: the caller holds [`PASS`], or has the explored world.
fn pass(everything: bool) {
    for pin in each() {
        let f = pin.file();
        let now = arch::now_ns();
        let old = now.saturating_sub(tree::since(f)) >= AGE_NS;
        let range = writeback::all(f);
        if tree::has_dirty(f) && (everything || old) {
            f.since.store(now, Ordering::Relaxed);
            writeback::start(f, &range);
        }
        // Also for what others write: whoever waits for room waits for that as well.
        writeback::wait(f, &range);
    }
}

/// Pages written since boot.
pub(crate) fn written() -> u64 {
    total(Event::FileWritten)
}

/// Pages whose write failed since boot.
fn failed() -> u64 {
    total(Event::FileWriteError)
}

/// For reclaim that has found nothing: where there is something to write, waits for more than `seen` pages written, for a
/// while. False when none were. Sleeps.
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
