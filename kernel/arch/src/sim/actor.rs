//! Actors on the simulated machine: coroutines, all played by the OS thread that started them.
//!
//! An actor takes a simulated CPU as a kernel thread does. Whoever plays it sits down on that CPU,
//! goes on in its coroutine, and gets up when the coroutine suspends; in between the CPU's own OS
//! thread serves its mailbox. The interrupts of the CPU that the player left meanwhile are served
//! when the actor waits ([`poll_left`]).
//!
//! Takes no lock; a seat is waited for only while the CPU's own thread serves an interrupt. No
//! allocation but at the start and for the message of a panic.

use super::board::machine;
use super::cpu::{SimCpu, lock, this_cpu};
use super::{ipi, thread};
use crate::actor::{ActorError, MAX_ACTORS, Resumed};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::panic::catch_unwind;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Relaxed, Release};
use sync::host::{become_cpu, parker};
use sync::point::Delivery;
use sync::{MAX_CPUS, TaskId, cpu};

/// Takes whether to go on; gives the message of a panic, or nothing at [`suspend`].
type Body = Coroutine<bool, Option<String>, ()>;
type Pause = Yielder<bool, Option<String>>;

/// Bytes of an actor's stack; the host backs what is touched.
const STACK: usize = 1 << 20;

/// How many more calls of [`suspend`] an actor may make after it was told to end.
const DEPTH: usize = 64;

/// How the actor of each CPU gives the token back. Used by the OS thread that plays it only.
static PAUSES: [AtomicPtr<Pause>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

thread_local! {
    /// The CPU that this OS thread left to play an actor.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The calling OS thread is playing an actor, whose panic [`Actors::resume`] reports.
pub fn is_playing() -> bool {
    LEFT.get().is_some()
}

/// Serves the interrupts of the CPU that this OS thread left to play an actor, if it did.
pub(super) fn poll_left() {
    if let Some(left) = LEFT.get()
        && ipi::pending(left)
    {
        let me = cpu::id();
        become_cpu(left);
        sync::irq::poll();
        become_cpu(me);
    }
}

/// This OS thread runs as another CPU until it is dropped, then again as the one it was.
struct Playing {
    cpu: &'static SimCpu,
    me: usize,
}

impl Playing {
    fn begin(cpu: &'static SimCpu) -> Self {
        let me = cpu::id();
        assert!(me != cpu.id, "CPU {me} is asked to play itself");
        cpu.sit();
        become_cpu(cpu.id);
        Self { cpu, me }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        become_cpu(self.me);
        self.cpu.rise();
    }
}

struct Actor {
    cpu: &'static SimCpu,
    /// Emptied only by a drop that failed.
    body: RefCell<Option<Body>>,
}

impl Actor {
    fn new(cpu: &'static SimCpu, i: usize, main: fn(usize)) -> Result<Self, ActorError> {
        let stack = DefaultStack::new(STACK).map_err(|_| ActorError::NoThread)?;
        let body = Body::with_stack(stack, move |pause, go| run(pause, go, i, main));
        Ok(Self {
            cpu,
            body: RefCell::new(Some(body)),
        })
    }

    fn resume(&self, go: bool) -> CoroutineResult<Option<String>, ()> {
        let mut body = self.body.borrow_mut();
        let body = body.as_mut().expect("the actor has not ended");
        let playing = Playing::begin(self.cpu);
        let outer = LEFT.replace(Some(playing.me));
        let result = body.resume(go);
        LEFT.set(outer);
        result
    }
}

/// An actor's life, on its CPU: `main`, anew after each panic.
fn run(pause: &Pause, mut go: bool, i: usize, main: fn(usize)) {
    PAUSES[cpu::id()].store(ptr::from_ref(pause).cast_mut(), Relaxed);
    while go {
        let result = catch_unwind(|| main(i));
        sync::host::restart();
        thread::leave_space();
        let Err(panic) = result else {
            break;
        };
        go = pause.suspend(Some(thread::message(&*panic).to_owned()));
    }
    PAUSES[cpu::id()].store(ptr::null_mut(), Relaxed);
}

/// Actors that run on simulated CPUs of their own, played by the OS thread that started them.
pub struct Actors {
    actors: Vec<Actor>,
}

impl Actors {
    /// Takes `n` CPUs that nobody else uses and starts `main(i)` on each; returns when each has
    /// called [`suspend`] for the first time.
    ///
    /// # Errors
    /// [`ActorError`].
    ///
    /// # Panics
    /// If `n` is above [`MAX_ACTORS`], the caller is no simulated CPU, or `main` panics or returns.
    pub fn start(n: usize, main: fn(usize)) -> Result<Self, ActorError> {
        assert!(n <= MAX_ACTORS, "{n} actors: at most {MAX_ACTORS} can be");
        let _ = this_cpu();
        let all = machine().cpus.iter();
        let claimed: Vec<_> = all.filter(|c| thread::claim(c)).take(n).collect();
        let give_back = |cpus: &[&SimCpu]| cpus.iter().for_each(|c| c.taken.store(false, Release));
        if claimed.len() < n {
            give_back(&claimed);
            let (wanted, found) = (n, claimed.len());
            return Err(ActorError::TooFewCpus { wanted, found });
        }
        let made = claimed.iter().enumerate();
        let made: Result<Vec<_>, _> = made.map(|(i, cpu)| Actor::new(cpu, i, main)).collect();
        let actors = made.inspect_err(|_| give_back(&claimed))?;
        for actor in &actors {
            *lock(&actor.cpu.name) = "actor";
            parker(actor.cpu.task()).clear();
        }
        let this = Self { actors };
        for i in 0..n {
            if let Resumed::Panicked(message) = this.resume(i) {
                panic!("actor {i} panicked at its start: {message}");
            }
        }
        Ok(this)
    }

    /// The CPU of actor `i`.
    pub fn cpu(&self, i: usize) -> usize {
        self.actors[i].cpu.id
    }

    /// The thread that actor `i` is.
    pub fn task(&self, i: usize) -> TaskId {
        self.actors[i].cpu.task()
    }

    /// Hands the token to actor `i` and returns when it has called [`suspend`] again, or has
    /// panicked.
    ///
    /// # Panics
    /// If `main` has returned, or from inside the actor.
    pub fn resume(&self, i: usize) -> Resumed {
        match self.actors[i].resume(true) {
            CoroutineResult::Yield(None) => Resumed::Stopped,
            CoroutineResult::Yield(Some(message)) => Resumed::Panicked(message),
            CoroutineResult::Return(()) => panic!("actor {i} has returned from its main"),
        }
    }
}

impl Drop for Actors {
    /// Every actor stands in the outermost [`suspend`] of its main, or has panicked: they are told
    /// to end, and the CPUs are given back.
    ///
    /// # Panics
    /// If one goes on nevertheless; its CPU is lost.
    fn drop(&mut self) {
        for (i, actor) in self.actors.iter().enumerate() {
            let done = |body: &RefCell<Option<Body>>| body.borrow().as_ref().is_none_or(Body::done);
            for _ in 0..DEPTH {
                if !done(&actor.body) {
                    actor.resume(false);
                }
            }
            if done(&actor.body) {
                // Release pairs with the Acquire of who takes the CPU next.
                actor.cpu.taken.store(false, Release);
                continue;
            }
            // Its stack cannot be unwound from here, nor its CPU be used again.
            std::mem::forget(actor.body.take());
            assert!(
                std::thread::panicking(),
                "actor {i} does not return from its main when told to"
            );
        }
    }
}

/// The running actor gives the token back until it is resumed. False: it shall return from its main
/// now.
///
/// # Panics
/// If the caller is no actor, or an interrupt handler on top of one.
#[must_use = "an actor that is told to end shall do so"]
#[inline]
pub fn suspend() -> bool {
    let pause = PAUSES[cpu::id()].load(Relaxed);
    assert!(
        !pause.is_null() && !sync::irq::in_handler(),
        "suspend() by a thread that is no actor, or by a handler"
    );
    // SAFETY: `run` of this CPU's coroutine stored it and takes it away before it returns. Outside
    // of handlers nobody but that coroutine runs on this CPU, so `run` is below the caller on this
    // very stack.
    unsafe { &*pause }.suspend(None)
}

/// Runs `f` on `cpu`, whose actor stands still, as the handler of an interrupt (see [`Delivery`]).
/// For who has the token: the controller or another actor.
///
/// # Panics
/// With `f`'s own panic, after which the caller is on its CPU again; if `cpu` is the caller's, or
/// no CPU.
pub fn interrupt(cpu: usize, f: fn()) {
    let _playing = Playing::begin(&machine().cpus[cpu]);
    let _delivery = Delivery::begin();
    f();
}
