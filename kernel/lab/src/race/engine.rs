//! The stage manager: what happens at a point, and the state of every actor between two steps.
//!
//! One token: either one actor runs, or the controller (whoever explores) does. An actor gives it
//! back in [`arch::actor::suspend`] and says before, under the engine's lock, where it stands.
//! Deliveries of TLB interrupts and the disks are actors without a thread: the controller runs
//! them, the former on the CPU of their actor.
//!
//! Locks: the engine's own, a spinning leaf that is never held over a suspend, a resume or an
//! upcall.

mod acting;
mod caught;
mod disks;
mod ending;
mod heard;
mod reach;
mod state;
mod view;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};

use algo::explore::{
    Access, AccessKind, ActorId, ActorState, Choices, Footprint, Point, Violation,
};
use arch::actor;
use arch::upcall::upcalls;
use arch::{Pfn, VirtAddr};
use mm::inspect::frame;
use mm::stats::Use;
use sync::point::{Aside, Explorer, Go, Note, PointKind, Quiet, Slot, Stop, Until, class, object};
use sync::{CpuMask, MAX_CPUS, TaskId};

#[cfg(not(target_os = "none"))]
pub use caught::{hide_verdicts, is_verdict};

use super::disk;
use super::scenario::{Disks, Kinds, Scenario};
use super::shadow::{Outcome, Shadow};
pub(super) use acting::{Acting, actor_main};
pub(super) use state::Logged;

use disks::Role;
use state::{AT_HOME, Actor, Locked, State, Wait, Where};

/// The delivery to the CPU of actor 0; the others follow.
pub(super) const DELIVERY: usize = 8;
/// Points that an actor who is brought to its end passes before others have their turn.
const PATIENCE: u32 = 100;

/// See the module text. There is one, because actors find it from where they are.
pub(super) struct Engine {
    state: spin::Mutex<State>,
    slots: [Slot; actor::MAX_ACTORS],
    /// The actor on each CPU, or [`NOBODY`].
    on_cpu: [AtomicU8; MAX_CPUS],
    cpu_of: [AtomicU8; actor::MAX_ACTORS],
    tasks: [AtomicU16; actor::MAX_ACTORS],
    scenario: spin::Mutex<Option<&'static dyn Scenario>>,
    ending: AtomicBool,
}

const NOBODY: u8 = u8::MAX;
const NO_TASK: u16 = u16::MAX;

pub(super) static ENGINE: Engine = Engine {
    state: spin::Mutex::new(State {
        actors: [AT_HOME; actor::MAX_ACTORS],
        stops: Kinds::USUAL,
        step: None,
        shadow: Shadow::NONE,
        log: Vec::new(),
        violation: None,
        ending: false,
    }),
    slots: [const { Slot::new() }; actor::MAX_ACTORS],
    on_cpu: [const { AtomicU8::new(NOBODY) }; MAX_CPUS],
    cpu_of: [const { AtomicU8::new(NOBODY) }; actor::MAX_ACTORS],
    tasks: [const { AtomicU16::new(NO_TASK) }; actor::MAX_ACTORS],
    scenario: spin::Mutex::new(None),
    ending: AtomicBool::new(false),
};

/// The handler of the TLB interrupt.
fn serve_tlb() {
    if let Some(up) = upcalls() {
        up.tlb_ipi();
    }
}

/// Who runs.
fn me() -> Option<usize> {
    let n = ENGINE.on_cpu[sync::cpu::id()].load(Ordering::Relaxed);
    (n != NOBODY).then_some(usize::from(n))
}

impl Engine {
    fn state(&self) -> Locked {
        let aside = Aside::begin();
        Locked {
            state: ENGINE.state.lock(),
            _aside: aside,
        }
    }

    /// Sets up for `scenario`, played by `actors`; `frames` are watched.
    pub(super) fn open(
        &self,
        scenario: &'static dyn Scenario,
        frames: (Pfn, usize),
        actors: &actor::Actors,
    ) {
        let n = scenario.actors();
        // A set before this one may have had more.
        for c in self.on_cpu.iter().chain(&self.cpu_of) {
            c.store(NOBODY, Ordering::Relaxed);
        }
        for t in &self.tasks {
            t.store(NO_TASK, Ordering::Relaxed);
        }
        for i in 0..n {
            self.on_cpu[actors.cpu(i)].store(i as u8, Ordering::Relaxed);
            self.cpu_of[i].store(actors.cpu(i) as u8, Ordering::Relaxed);
            self.tasks[i].store(actors.task(i).0, Ordering::Relaxed);
        }
        let mut s = self.state();
        s.actors = [AT_HOME; actor::MAX_ACTORS];
        s.stops = scenario.stops();
        s.shadow = Shadow::new(n, frames.0, frames.1);
        s.log.reserve(1024);
        *self.scenario.lock() = Some(scenario);
    }

    /// The state at the start of a run, in which the disks may do what `disks` says.
    pub(super) fn start_run(&self, disks: Disks) {
        self.ending.store(false, Ordering::Relaxed);
        reach::start();
        disk::start_run(disks);
        let mut s = self.state();
        s.shadow.reset();
        s.log.clear();
        s.violation = None;
        s.step = None;
        s.ending = false;
    }

    pub(super) fn violated(&self, oracle: &'static str, detail: String) {
        let mut s = self.state();
        s.note_violation(oracle, detail);
    }

    pub(super) fn take_violation(&self) -> Option<Violation> {
        self.state().violation.take()
    }

    pub(super) fn copy_log(&self, to: &mut Vec<Logged>) {
        to.clear();
        to.extend_from_slice(&self.state().log);
    }

    /// The number of the actor that runs, if one does.
    pub(super) fn running(&self) -> Option<usize> {
        me()
    }

    /// Accesses that the real MMU was asked to make as well, and in how many it agreed.
    pub(super) fn confirmed(&self) -> (u64, u64) {
        let s = self.state();
        (s.shadow.agreed, s.shadow.asked)
    }

    /// The mailbox of the CPU of actor `n`, in footprints.
    fn mailbox(&self, n: usize) -> u32 {
        let cpu = self.cpu_of[n].load(Ordering::Relaxed);
        object(class::MAILBOX, u64::from(cpu))
    }

    /// `who` takes a step; nobody else does anything. Returns what it touched.
    pub(super) fn step(&self, actors: &actor::Actors, who: ActorId) -> Footprint {
        let n = who.index();
        self.begin_step(who);
        let counting = reach::step(n, self.is_ending());
        if let Some(role) = Role::of(n) {
            let _actor = Acting::begin();
            self.disk_step(role);
        } else if n >= DELIVERY {
            self.deliver(n - DELIVERY);
        } else {
            self.resume(actors, n);
        }
        let mut s = self.state();
        let ended = n < actor::MAX_ACTORS && s.actors[n].at == Where::Ended;
        counting.over(ended);
        s.step.take().unwrap_or(Footprint::EVERYTHING)
    }

    fn begin_step(&self, who: ActorId) {
        let n = who.index();
        let mut s = self.state();
        let delivers = n >= DELIVERY && Role::of(n).is_none();
        let (kind, access) = match Role::of(n) {
            Some(role) => role.point(),
            None if n >= DELIVERY => {
                let mailbox = self.mailbox(n - DELIVERY);
                (PointKind::IpiServe, Access::new(AccessKind::Write, mailbox))
            }
            None => (s.actors[n].kind, s.actors[n].access),
        };
        let mut touched = Footprint::of(access);
        if delivers {
            touched.add(Access::new(AccessKind::Read, irq_object(n - DELIVERY)));
        }
        s.step = Some(touched);
        if !s.ending {
            s.log.push(Logged {
                actor: who,
                point: Point {
                    kind,
                    object: access.object,
                },
            });
        }
    }

    /// Lets actor `n` go on to its next point. A panic of the code under test is a violation.
    pub(super) fn resume(&self, actors: &actor::Actors, n: usize) {
        let irq_was = self.state().actors[n].irq_on;
        let mut result = actors.resume(n);
        let mut s = self.state();
        while let actor::Resumed::Panicked(message) = result {
            s.actors[n] = AT_HOME;
            s.note_violation("panic", caught::with_place(message));
            drop(s);
            // To the start of a run, where it waits for the next.
            result = actors.resume(n);
            s = self.state();
        }
        if s.actors[n].irq_on != irq_was {
            s.touch(AccessKind::Write, irq_object(n));
        }
    }

    /// The CPU of actor `n` serves its interrupt.
    pub(super) fn deliver(&self, n: usize) {
        self.state().actors[n].mail = false;
        let cpu = usize::from(self.cpu_of[n].load(Ordering::Relaxed));
        self.handle(|| actor::interrupt(cpu, serve_tlb));
    }

    /// Runs an interrupt handler of the code under test. Its panic is a violation.
    fn handle(&self, f: impl FnOnce()) {
        if let Err(message) = caught::catch(f) {
            self.state().note_violation("panic", message);
        }
    }
}

fn id(n: usize) -> ActorId {
    ActorId::new(n).expect("engine numbers are actor numbers")
}

/// The interrupt flag of the CPU of actor `n`, in footprints.
fn irq_object(n: usize) -> u32 {
    object(class::IRQ, n as u64)
}

/// The running CPU's translations, in footprints.
pub(super) fn tlb_object() -> u32 {
    object(class::TLB, sync::cpu::id() as u64)
}
