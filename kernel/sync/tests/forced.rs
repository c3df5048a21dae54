//! Actors that are forced past locks they cannot have: a run that is a deadlock is brought to its
//! end that way, and the locks are free afterwards.
#![cfg(feature = "lab")]

use std::sync::atomic::{AtomicBool, Ordering};
use sync::point::{self, AccessKind, Explorer, Go, Note, Quiet, Stop, Until};
use sync::{CpuMask, Rank, RawSpin, RwSem, TaskId};

/// Lets nobody wait for a lock.
struct Impatient;

/// Locks that somebody was forced past.
static FORCED: AtomicBool = AtomicBool::new(false);

impl Explorer for Impatient {
    fn stop(&self, stop: &Stop<'_>) -> Go {
        match stop.until {
            Until::Lock(free) if !free() => {
                FORCED.store(true, Ordering::Relaxed);
                Go::Forced
            }
            _ => Go::Free,
        }
    }
    fn touch(&self, _: AccessKind, _: u32) {}
    fn note(&self, _: Note) {}
    fn tlb_ipi(&self, _: CpuMask) {}
    fn unpark(&self, _: TaskId) -> bool {
        false
    }
}

/// Runs `f` as an actor; true if it was forced past a lock.
fn forced(f: impl FnOnce()) -> bool {
    FORCED.store(false, Ordering::Relaxed);
    point::make_actor(true);
    f();
    assert!(!Quiet::is_on());
    point::make_actor(false);
    FORCED.load(Ordering::Relaxed)
}

#[test]
fn who_is_forced_past_a_lock_leaves_it_free_in_the_end() {
    point::set_explorer(&Impatient);
    let sem = RwSem::new(Rank::MmapLock, ());
    let lock = RawSpin::new();
    assert!(!forced(|| drop(sem.write())));
    // Also three at a time, and given back in another order.
    assert!(forced(|| {
        let (a, b, c) = (sem.write(), sem.write_nested(), sem.write_nested());
        drop((b, a, c));
    }));
    assert!(forced(|| {
        let (a, b) = (sem.read(), sem.write_nested());
        drop((a, b));
    }));
    assert!(forced(|| {
        let (a, b) = (sem.write(), sem.write_nested());
        drop(a);
        drop(b.downgrade());
    }));
    assert!(forced(|| {
        let (a, b) = (lock.lock(Rank::Ptl), lock.lock_nested(Rank::Ptl));
        drop((a, b));
    }));
    let state = sem.state();
    assert!(state.readers == 0 && !state.writer && !state.waiters && !lock.is_locked());
    drop((sem.try_write().expect("free"), lock.try_lock(Rank::Ptl)));
}
