//! The flusher: a thread that writes what is old, and what is too much.
//!
//! When it is called, and where writers wait for it, says `balance`. Locks: `Rank::FilePass` for a
//! pass; nothing while asleep. Needs no memory.

use super::balance::{PERIOD_NS, all_clean, bell, passed, too_much, written};
use super::writeback;
use crate::pagecache::{each, tree};
use alloc::boxed::Box;
use arch::thread::{Spawn, SpawnError};
use core::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "lab")]
use sync::point::{self, AccessKind, class};
use sync::{Mutex, MutexGuard, Rank};

/// How old is old.
const AGE_NS: u64 = 3_000_000_000;
static RUNNING: AtomicBool = AtomicBool::new(false);
static PASS: Mutex<()> = Mutex::new(Rank::FilePass, ());

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

/// For the explorer, while the machine's flusher stands still: makes a pass whenever somebody wants
/// one, as the flusher does, until it is `over`, which [`call`] makes it look at. Sleeps.
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
    super::balance::wake();
}

/// Writes every file, or those that are old. One pass at a time: the caller holds [`PASS`], or has
/// the explored world.
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
