//! The explorer's actors on the real machine: one thread each, on a CPU of its own.
//!
//! Each of these CPUs has a [`Place`] whose `turn` says who has the token: [`PARKED`] is the
//! controller, all else the actor. Handing over is a store and a kick, then a wait until the token
//! comes back. An actor that stands still keeps preemption off, and takes interrupts even where the
//! code under test had them off: real handlers take only locks in whose sections no actor is
//! stopped. No other thread is put on its CPU; one that is pinned there runs when the actor does.
//!
//! Locks: none in [`suspend`], [`interrupt`] and [`Actors::resume`], because taking a lock is a
//! point. These may be called with spin locks held and interrupts off. [`Actors::start`] and
//! dropping sleep.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use sync::point::{Delivery, make_actor};
use sync::{TaskId, preempt};
use x86_64::instructions::interrupts;

use super::thread::{self, JoinHandle, Spawn};
use super::{MAX_X86_CPUS, ipi, sched};
use crate::actor::{ActorError, MAX_ACTORS, Resumed};

/// The actor stands still.
const PARKED: u32 = 0;
/// The actor has the token.
const RUNNING: u32 = 1;
/// The actor has it in order to return from its main.
const ENDING: u32 = 2;
/// The actor has returned.
const ENDED: u32 = 3;

/// No function, in [`Place::request`].
const NOTHING: usize = 0;

/// Turns of a bare spin before a halt: some 60 µs under TCG, three times what a wake-up costs.
const SPIN_TURNS: u32 = 20_000;

/// What an actor's CPU shares with those who talk to it.
struct Place {
    /// [`PARKED`], [`RUNNING`], [`ENDING`] or [`ENDED`]. Whoever has the token changes it, with
    /// Release; who waits for the token loads it with Acquire and sees what was done before.
    turn: AtomicU32,
    /// The CPU that waits for the token to come back.
    controller: AtomicU32,
    /// A `fn()` to be run here, or [`NOTHING`]: set and cleared with Release, awaited with Acquire.
    request: AtomicUsize,
    /// The CPU that waits until it is cleared.
    asker: AtomicU32,
}

static PLACES: [Place; MAX_X86_CPUS] = [const {
    Place {
        turn: AtomicU32::new(ENDED),
        controller: AtomicU32::new(0),
        request: AtomicUsize::new(NOTHING),
        asker: AtomicU32::new(0),
    }
}; MAX_X86_CPUS];

/// There are actors: one set at a time.
static EXIST: AtomicBool = AtomicBool::new(false);

/// The CPU that is waited for: an actor elsewhere halts rather than spin, because a host with few
/// cores may have none left for this one.
static HOLDER: AtomicU32 = AtomicU32::new(0);

/// Waits until `cond` holds; spins first, as long as `hope` holds. Whoever makes `cond` true kicks
/// this CPU. Preemption is off. Interrupts are on meanwhile, and afterwards what they were.
fn await_kick(hope: impl Fn() -> bool, cond: &dyn Fn() -> bool) {
    let were_on = sync::irq::enabled();
    interrupts::enable();
    let spin = 0..ipi::turns(SPIN_TURNS);
    if !spin.take_while(|_| hope()).any(|_| cond()) {
        ipi::halt_until(cond);
    }
    if !were_on {
        interrupts::disable();
    }
}

impl Place {
    fn is_parked(&self) -> bool {
        self.turn.load(Ordering::Acquire) == PARKED
    }

    /// The token is the controller's again.
    fn give_back(&self, turn: u32) {
        let controller = self.controller.load(Ordering::Relaxed);
        HOLDER.store(controller, Ordering::Relaxed);
        self.turn.store(turn, Ordering::Release);
        ipi::kick(controller as usize);
    }

    /// The actor of CPU `me`, where this is, stands still until it has the token. False: it shall
    /// end.
    fn stand_still(&self, me: usize) -> bool {
        let may_be_next = || {
            let holder = HOLDER.load(Ordering::Relaxed);
            holder == me as u32 || holder == self.controller.load(Ordering::Relaxed)
        };
        loop {
            await_kick(may_be_next, &|| {
                !self.is_parked() || self.request.load(Ordering::Relaxed) != NOTHING
            });
            self.serve();
            if !self.is_parked() {
                return self.turn.load(Ordering::Relaxed) == RUNNING;
            }
        }
    }

    /// Runs what [`interrupt`] asked for, if it did.
    fn serve(&self) {
        let f = self.request.load(Ordering::Acquire);
        if f == NOTHING {
            return;
        }
        // SAFETY: `interrupt` stored a `fn()`, and nobody stores another before this one is
        // cleared.
        let f: fn() = unsafe { mem::transmute::<usize, fn()>(f) };
        {
            let _delivery = Delivery::begin();
            f();
        }
        let asker = self.asker.load(Ordering::Relaxed);
        self.request.store(NOTHING, Ordering::Release);
        ipi::kick(asker as usize);
    }
}

/// Hands the token to the actor of `cpu` and waits until it is back.
fn hand_over(cpu: usize, turn: u32) {
    let _pinned = preempt::disable();
    let place = &PLACES[cpu];
    let me = sync::cpu::id() as u32;
    place.controller.store(me, Ordering::Relaxed);
    HOLDER.store(cpu as u32, Ordering::Relaxed);
    place.turn.store(turn, Ordering::Release);
    ipi::kick(cpu);
    await_kick(|| true, &|| {
        matches!(place.turn.load(Ordering::Acquire), PARKED | ENDED)
    });
}

/// What an actor's thread does, on its CPU, where it is pinned.
fn body(i: usize, main: fn(usize)) {
    sched::evict();
    let me = sync::cpu::id();
    let called = {
        let _pinned = preempt::disable();
        PLACES[me].stand_still(me)
    };
    if called {
        main(i);
    }
    make_actor(false);
    let _pinned = preempt::disable();
    PLACES[me].give_back(ENDED);
}

/// An actor, or the CPU for one. Ends and gives back when it is dropped.
struct Actor {
    cpu: usize,
    thread: Option<JoinHandle>,
}

impl Actor {
    fn start(&mut self, i: usize, main: fn(usize)) -> Result<(), ActorError> {
        let how = Spawn {
            name: "actor",
            cpu: Some(self.cpu),
        };
        PLACES[self.cpu].turn.store(PARKED, Ordering::Relaxed);
        let thread = thread::spawn(how, Box::new(move || body(i, main)));
        self.thread = Some(thread.map_err(|_| ActorError::NoThread)?);
        hand_over(self.cpu, RUNNING);
        Ok(())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            if PLACES[self.cpu].is_parked() {
                hand_over(self.cpu, ENDING);
            }
            thread.join();
        }
        sched::unreserve(self.cpu);
    }
}

/// Actors and their CPUs. Dropping it ends them; each must then be in its outermost [`suspend`].
pub struct Actors(Vec<Actor>);

impl Actors {
    /// Takes `n` CPUs, none of them the caller's, and starts `main(i)` on each. Returns when each
    /// has called [`suspend`].
    ///
    /// # Errors
    /// [`ActorError`]. While there are other actors no CPU is free.
    ///
    /// # Panics
    /// If `n` is more than [`MAX_ACTORS`].
    pub fn start(n: usize, main: fn(usize)) -> Result<Self, ActorError> {
        assert!(n <= MAX_ACTORS, "{n} actors, {MAX_ACTORS} at most");
        let too_few = |found| ActorError::TooFewCpus { wanted: n, found };
        // Acquire: pairs with the Release when the last ones are dropped, whose CPUs are free then.
        if EXIST.swap(true, Ordering::Acquire) {
            return Err(too_few(0));
        }
        // From here on dropping gives everything back.
        let mut actors = Self(Vec::new());
        let cpus = sched::reserve(n).map_err(too_few)?;
        actors
            .0
            .extend(cpus.iter().map(|cpu| Actor { cpu, thread: None }));
        for (i, actor) in actors.0.iter_mut().enumerate() {
            actor.start(i, main)?;
        }
        Ok(actors)
    }

    /// The CPU of actor `i`.
    pub fn cpu(&self, i: usize) -> usize {
        self.0[i].cpu
    }

    /// The thread of actor `i`.
    ///
    /// # Panics
    /// Never: every actor of a complete set has one.
    pub fn task(&self, i: usize) -> TaskId {
        let thread = self.0[i].thread.as_ref();
        thread.expect("an actor has a thread").task()
    }

    /// Hands the token to actor `i`. Returns when it has called [`suspend`].
    ///
    /// # Panics
    /// If the actor has returned from its main.
    pub fn resume(&self, i: usize) -> Resumed {
        let cpu = self.cpu(i);
        assert!(PLACES[cpu].is_parked(), "actor {i} has ended");
        hand_over(cpu, RUNNING);
        Resumed::Stopped
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        self.0.clear();
        EXIST.store(false, Ordering::Release);
    }
}

/// The running actor gives the token back until it is resumed. False: it shall return from its main
/// now.
pub fn suspend() -> bool {
    let _pinned = preempt::disable();
    let me = sync::cpu::id();
    let place = &PLACES[me];
    if place.turn.load(Ordering::Relaxed) == ENDING {
        return false;
    }
    place.give_back(PARKED);
    place.stand_still(me)
}

/// Runs `f` on `cpu`, in interrupt context with interrupts off, as a [`Delivery`]; returns when it
/// is done. For whoever has the token, while the actor of `cpu` stands still.
///
/// # Panics
/// If no actor stands still there.
pub fn interrupt(cpu: usize, f: fn()) {
    let _pinned = preempt::disable();
    let place = &PLACES[cpu];
    assert!(place.is_parked(), "no actor stands still on CPU {cpu}");
    let me = sync::cpu::id() as u32;
    place.asker.store(me, Ordering::Relaxed);
    place.request.store(f as usize, Ordering::Release);
    HOLDER.store(cpu as u32, Ordering::Relaxed);
    ipi::kick(cpu);
    await_kick(|| true, &|| {
        place.request.load(Ordering::Acquire) == NOTHING
    });
    HOLDER.store(me, Ordering::Relaxed);
}
