//! Actors, where they differ from those of the real machine: panics, and other OS threads beside
//! them.

use super::*;
use crate::actor::{ActorError, Actors, MAX_ACTORS, Resumed, interrupt, suspend};
use ::sync::{preempt, task};

fn ids() -> (usize, usize) {
    (cpu::id(), task::current().index())
}

#[test]
fn a_panic_is_reported_and_the_actor_starts_anew_on_a_clean_cpu() {
    static STARTS: AtomicU32 = AtomicU32::new(0);
    static CLEAN: AtomicBool = AtomicBool::new(true);
    static LOCK: ::sync::SpinLock<()> = ::sync::SpinLock::new(::sync::Rank::Ptl, ());
    fn main(_: usize) {
        STARTS.fetch_add(1, SeqCst);
        let mut held = 0;
        ::sync::held(&mut |_| held += 1);
        let clean = preempt::count() == 0
            && irq::enabled()
            && held == 0
            && thread_api::adopted() == 0
            && !::sync::point::is_actor();
        CLEAN.fetch_and(clean, SeqCst);
        ::sync::point::make_actor(true);
        adopt(7);
        if suspend() {
            let _guard = LOCK.lock();
            // What unwinding does not give back.
            std::mem::forget(preempt::disable());
            std::mem::forget(irq::disable());
            panic!("number {}", STARTS.load(SeqCst));
        }
    }
    alone(|| {
        let actors = Actors::start(1, main).unwrap();
        for n in 1..4 {
            let me = ids();
            let found = actors.resume(0);
            assert_eq!(found, Resumed::Panicked(format!("number {n}")));
            assert_eq!((me, preempt::count(), irq::enabled()), (ids(), 0, true));
            assert_eq!(actors.resume(0), Resumed::Stopped);
            assert_eq!(STARTS.load(SeqCst), n + 1);
        }
        assert!(CLEAN.load(SeqCst));
        assert!(LOCK.try_lock().is_some());
    });
}

#[test]
fn interrupts_from_outside_reach_actors_and_who_plays_them() {
    static TASKS: AtomicU32 = AtomicU32::new(0);
    fn mark(_: usize) {
        TASKS.fetch_or(1 << cpu::id(), SeqCst);
    }
    fn main(_: usize) {
        let off = irq::disable();
        assert!(suspend());
        drop(off);
        while suspend() {
            // The CPU of the one who plays this actor answers too.
            call_on(online(), mark, 0);
        }
    }
    alone(|| {
        let actors = Actors::start(3, main).unwrap();
        // They stand still with interrupts off, then on, then have called everybody.
        for _ in 0..3 {
            for _ in 0..20 {
                TASKS.store(0, SeqCst);
                call_on(online(), mark, 0);
                assert_eq!(TASKS.load(SeqCst), online().bits());
            }
            TASKS.store(0, SeqCst);
            (0..3).for_each(|i| assert_eq!(actors.resume(i), Resumed::Stopped));
            assert!([0, online().bits()].contains(&TASKS.load(SeqCst)));
        }
    });
}

#[test]
fn the_panic_of_a_handler_reaches_who_asked_for_it() {
    fn main(_: usize) {
        while suspend() {}
    }
    alone(|| {
        let actors = Actors::start(1, main).unwrap();
        let me = ids();
        let asked = actors.cpu(0);
        let result = std::panic::catch_unwind(|| interrupt(asked, || panic!("in the handler")));
        assert!(result.is_err());
        assert_eq!(
            (me, irq::enabled(), irq::in_handler()),
            (ids(), true, false)
        );
        assert_eq!(actors.resume(0), Resumed::Stopped);
    });
}

#[test]
fn too_few_cpus_are_an_error_and_take_none() {
    fn main(_: usize) {
        while suspend() {}
    }
    alone(|| {
        let mut all = Vec::new();
        let error = loop {
            match Actors::start(MAX_ACTORS, main) {
                Ok(actors) => all.push(actors),
                Err(e) => break e,
            }
        };
        assert!(all.len() >= 2);
        let ActorError::TooFewCpus { wanted, found } = error else {
            panic!("{error}");
        };
        assert!(wanted == MAX_ACTORS && found < MAX_ACTORS);
        drop(all);
        Actors::start(MAX_ACTORS, main).unwrap();
    });
}
