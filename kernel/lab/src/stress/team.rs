//! A team of actors: kernel threads that work until the time is up, one of them fails, or Ctrl-C.
//!
//! The calling thread only watches: it prints progress and raises the stop flag. Actors report
//! through [`Team`], which is all atomics but for the text of the first failure. Everything here
//! may sleep.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::thread::{self, JoinHandle, Spawn};
use fastrand::Rng;

use super::Env;

/// How often the watcher looks, in nanoseconds.
const WATCH_NS: u64 = 50_000_000;
/// How often it prints, in nanoseconds.
const PROGRESS_NS: u64 = 10_000_000_000;

/// Why an actor ended before its time.
#[derive(Debug)]
pub enum Stop {
    /// The stop flag is up: nothing is wrong.
    Over,
    /// The OOM killer ended the actor's address space.
    Killed,
    /// Something was wrong: what was found, what was expected.
    Wrong(String),
}

impl Stop {
    /// A failure with this message.
    pub fn wrong(message: impl Into<String>) -> Self {
        Self::Wrong(message.into())
    }
}

/// What the actors share.
pub struct Team {
    stop: AtomicBool,
    failure: sync::Mutex<Option<String>>,
    /// Actors that the OOM killer ended.
    pub killed: AtomicU64,
    /// Pages whose whole content was compared and right.
    pub verified: AtomicU64,
    /// Pages written.
    pub written: AtomicU64,
    /// Pages that the disk could not give back (SIGBUS).
    pub unreadable: AtomicU64,
    /// Operations on address spaces done.
    pub operations: AtomicU64,
    /// Operations that were refused for want of memory.
    pub refused: AtomicU64,
}

impl Team {
    /// A team at its start.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            stop: AtomicBool::new(false),
            failure: sync::Mutex::new(sync::Rank::Command, None),
            killed: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            written: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Whether actors shall end.
    pub fn stopping(&self) -> bool {
        // Relaxed: the flag publishes nothing but itself.
        self.stop.load(Ordering::Relaxed)
    }

    /// `Err(Stop::Over)` once actors shall end.
    ///
    /// # Errors
    /// See above.
    pub fn go_on(&self) -> Result<(), Stop> {
        if self.stopping() {
            Err(Stop::Over)
        } else {
            Ok(())
        }
    }

    /// Fails if the OOM killer ended an actor, where what they need fits memory and swap.
    ///
    /// # Errors
    /// See above.
    pub fn nobody_killed(&self) -> Result<(), String> {
        match self.killed.load(Ordering::Relaxed) {
            0 => Ok(()),
            killed => Err(format!(
                "the OOM killer ended {killed} actors of a set that fits memory and swap"
            )),
        }
    }

    /// Asks every actor to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Keeps the first failure and ends the run.
    pub fn fail(&self, message: String) {
        self.failure.lock().get_or_insert(message);
        self.stop();
    }

    fn ended(&self, result: Result<(), Stop>) {
        match result {
            Ok(()) | Err(Stop::Over) => {}
            Err(Stop::Killed) => {
                self.killed.fetch_add(1, Ordering::Relaxed);
            }
            Err(Stop::Wrong(message)) => self.fail(message),
        }
    }
}

/// One actor's view: the team, its number, its own randomness.
pub struct Actor {
    /// What all share.
    pub team: Arc<Team>,
    /// 0, 1, …
    pub index: usize,
    /// Seeded from the run's seed and the index.
    pub rng: Rng,
}

/// What an actor does.
pub type Body = Box<dyn FnOnce(&mut Actor) -> Result<(), Stop> + Send>;

/// Runs `bodies`, one thread each, until all have ended; after `env.secs` they are asked to. Actor
/// `i` is pinned to CPU `i` (modulo their number) if `pinned`.
///
/// # Errors
/// The first failure of an actor, or a thread that could not be spawned.
pub fn run(env: &Env<'_>, team: &Arc<Team>, bodies: Vec<Body>, pinned: bool) -> Result<(), String> {
    let running = Arc::new(AtomicU64::new(0));
    env.began.store(true, Ordering::Relaxed);
    let mut handles = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.into_iter().enumerate() {
        let mut actor = Actor {
            team: team.clone(),
            index,
            rng: Rng::with_seed(env.seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        let left = running.clone();
        running.fetch_add(1, Ordering::Relaxed);
        let work = Box::new(move || {
            let result = body(&mut actor);
            actor.team.ended(result);
            left.fetch_sub(1, Ordering::Relaxed);
        });
        let cpu = pinned.then(|| index % env.cpus);
        match thread::spawn(Spawn { name: "actor", cpu }, work) {
            Ok(handle) => handles.push(handle),
            Err(e) => {
                running.fetch_sub(1, Ordering::Relaxed);
                team.fail(format!("cannot start actor {index}: {e:?}"));
                break;
            }
        }
    }
    watch(env, team, &running);
    handles.into_iter().for_each(JoinHandle::join);
    match team.failure.lock().take() {
        None => Ok(()),
        Some(message) => Err(message),
    }
}

/// Prints progress and raises the stop flag in time; returns when every actor has ended.
fn watch(env: &Env<'_>, team: &Team, running: &AtomicU64) {
    let started = arch::now_ns();
    let mut next_report = started + PROGRESS_NS;
    let mut told = false;
    while running.load(Ordering::Relaxed) > 0 {
        thread::sleep_ns(WATCH_NS);
        let now = arch::now_ns();
        if env.cancel.requested() && running.load(Ordering::Relaxed) > 0 && !told {
            told = true;
            writeln!(
                env.out,
                "stress {}: interrupted; every actor finishes what it is at, and checks its pages once more",
                env.name
            );
        }
        if env.cancel.requested() || now - started >= env.secs * 1_000_000_000 {
            team.stop();
        }
        if now >= next_report {
            next_report = now + PROGRESS_NS;
            progress(env, team, (now - started) / 1_000_000_000);
        }
    }
}

fn progress(env: &Env<'_>, team: &Team, secs: u64) {
    let phase = if team.stopping() { ", last check" } else { "" };
    writeln!(
        env.out,
        "stress {}: {secs} s{phase}: {} pages verified, {} written, {} operations",
        env.name,
        team.verified.load(Ordering::Relaxed),
        team.written.load(Ordering::Relaxed),
        team.operations.load(Ordering::Relaxed),
    );
}

/// The text of any error, for a failure's message.
pub fn text(e: impl ToString) -> String {
    e.to_string()
}
