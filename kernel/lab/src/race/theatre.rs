//! The world that is explored: actors on CPUs of their own, frames and a disk of their own, and a
//! way back to the start.
//!
//! A run begins and ends with nothing on the stage, and undoes itself by ordinary operations; what
//! then still differs from the first run (the order of free lists and the like) is put back by
//! [`mm::explore`]. So object numbers, frame numbers and slots are those of the first run in every
//! run.
//!
//! Sleeps; one at a time (see [`Theatre::open`]).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use algo::explore::{ActorId, ActorState, Footprint, MAX_ACTORS, Violation, World};
use arch::Pfn;
use arch::actor::Actors;
use mm::buddy::HUGE_ORDER;
use mm::explore::{self, Pocket};
use mm::inspect::{flag, frame};
use mm::knobs::{self, Knob};
use mm::stats::Use;
use sync::TaskId;

use super::disk;
use super::engine::{Acting, ENGINE, Logged, actor_main};
use super::oracles;
use super::scenario::Scenario;
use super::stage::STAGE;

/// Frames for the actors' pages and tables, where there are `blocks` huge pages among them.
fn frames_with(blocks: u32) -> usize {
    const FEW: usize = 256;
    FEW.max((2 * blocks as usize) << HUGE_ORDER)
}

/// Somebody explores.
static BUSY: AtomicBool = AtomicBool::new(false);

/// The one thread that explores. It stays on one CPU, the same each time: LRU lists, slots and
/// frames go by CPU, and so does being an actor (see [`Acting`]).
struct OnlyOne;

impl OnlyOne {
    fn take() -> Option<Self> {
        if BUSY.swap(true, Ordering::Acquire) {
            return None;
        }
        arch::thread::migrate_to(0);
        Some(Self)
    }
}

impl Drop for OnlyOne {
    fn drop(&mut self) {
        arch::thread::unpin();
        BUSY.store(false, Ordering::Release);
    }
}

/// The real swap area is away while actors swap to their own disk.
struct OwnDisk {
    had_swap: bool,
}

impl OwnDisk {
    fn new() -> Result<Self, String> {
        let had_swap = mm::swap::enabled();
        if had_swap {
            crate::startup::swap_off()?;
        }
        disk::SWAP.prepare();
        let made = mm::swap::mkswap(&disk::SWAP, "race", &[]);
        let made = made.map_err(|e| format!("the scenario's disk is not used: {e}"));
        match made.and_then(|()| disk::swap_again()) {
            Ok(()) => Ok(Self { had_swap }),
            Err(e) => {
                if had_swap {
                    crate::startup::swap_on()?;
                }
                Err(e)
            }
        }
    }
}

impl Drop for OwnDisk {
    fn drop(&mut self) {
        // Nothing is on it: neither can fail but for want of memory, and then the machine goes on
        // without swap.
        let off = mm::ops::swapoff::swapoff().map_err(|e| format!("swapoff: {e}"));
        let back = off.and_then(|()| match self.had_swap {
            true => crate::startup::swap_on(),
            false => Ok(()),
        });
        if let Err(e) = back {
            crate::startup::say(&format!(
                "race: the machine's swap area does not come back: {e}"
            ));
        }
    }
}

/// See the module text.
pub struct Theatre {
    scenario: &'static dyn Scenario,
    knobs: Vec<(Knob, bool)>,
    states: [ActorState; MAX_ACTORS],
    log: Vec<Logged>,
    tasks: Vec<TaskId>,
    /// The actors are home and the stage is empty.
    clear: bool,
    failed_setup: Option<String>,
    // Dropped in this order.
    actors: Actors,
    pocket: Pocket,
    _files: explore::Lent,
    _disk: OwnDisk,
    _only: OnlyOne,
}

impl Theatre {
    /// Takes what exploring `scenario` needs: CPUs, frames, the swap area. `off_or_on` are the
    /// fixes as the actors shall find them.
    ///
    /// # Errors
    /// A sentence saying what is missing.
    pub fn open(
        scenario: &'static dyn Scenario,
        off_or_on: &[(Knob, bool)],
    ) -> Result<Self, String> {
        let only =
            OnlyOne::take().ok_or_else(|| String::from("another exploration is under way"))?;
        sync::point::set_explorer(&ENGINE);
        let disk = OwnDisk::new()?;
        disk::DATA.prepare();
        let files = explore::lend(&disk::DATA)
            .map_err(|e| format!("the machine's files cannot be put aside: {e:?}"))?;
        let blocks = scenario.huge_pages();
        let frames = frames_with(blocks);
        let pocket = explore::open(frames, blocks)
            .map_err(|e| format!("no {frames} frames in a row for the actors: {e:?}"))?;
        let actors = Actors::start(scenario.actors(), actor_main).map_err(|e| format!("{e}"))?;
        let tasks = (0..scenario.actors()).map(|i| actors.task(i)).collect();
        ENGINE.open(scenario, (pocket.base(), pocket.frames()), &actors);
        Ok(Self {
            scenario,
            knobs: off_or_on.to_vec(),
            states: [ActorState::Done; MAX_ACTORS],
            log: Vec::new(),
            tasks,
            clear: true,
            failed_setup: None,
            actors,
            pocket,
            _files: files,
            _disk: disk,
            _only: only,
        })
    }

    /// The seed of whatever is random in the scenario, from the next run on.
    pub fn set_seed(&mut self, seed: u64) {
        STAGE.set_seed(seed);
    }

    /// The steps of the last run.
    pub fn log(&mut self) -> &[Logged] {
        ENGINE.copy_log(&mut self.log);
        &self.log
    }

    /// User accesses that the real MMU made as well, and in how many of them it agreed with the
    /// shadow (on the simulator none).
    pub fn confirmed(&self) -> (u64, u64) {
        ENGINE.confirmed()
    }

    fn n(&self) -> usize {
        self.scenario.actors()
    }

    fn set_fixes(&self) {
        for (knob, on) in &self.knobs {
            knobs::set(*knob, *on);
        }
    }

    fn keep_rules(&self) {
        for (knob, _) in &self.knobs {
            knobs::set(*knob, knob.usual());
        }
    }

    fn look(&mut self) {
        ENGINE.actor_states(self.n(), &mut self.states);
    }

    /// Everyone goes home and the stage is cleared. What is left over then has leaked.
    fn clear_up(&mut self) -> Result<(), String> {
        if self.clear {
            return Ok(());
        }
        self.clear = true;
        ENGINE.end_run(&self.actors, self.n());
        self.keep_rules();
        for i in 0..self.n() {
            ENGINE.go_home(&self.actors, i);
        }
        let acting = Acting::begin();
        STAGE.clear();
        // What nobody maps any more may wait in the swap cache for reclaim, if reclaim can find it.
        let lost = self.lost_in_cache();
        mm::reclaim::settle();
        drop(acting);
        let swapping = disk::swap_again();
        for i in 0..self.n() {
            // Only a space that was lost is still loaded somewhere.
            let cpu = self.actors.cpu(i);
            if mm::inspect::cpu_state(cpu).loaded.is_some() {
                arch::actor::interrupt(cpu, explore::leave_root);
            }
        }
        match (lost, self.pocket.rewind().and(swapping)) {
            (None, rewound) => rewound,
            (Some(pfn), _) => Err(format!("{pfn:?} is in the swap cache and on no list")),
        }
    }

    fn lost_in_cache(&self) -> Option<Pfn> {
        (0..self.pocket.frames() as u32)
            .map(|i| Pfn(self.pocket.base().0 + i))
            .find(|pfn| {
                let f = frame(*pfn);
                f.usage() == Use::Anon && f.has(flag::SWAPCACHE) && !f.has(flag::LRU)
            })
    }

    fn set_up(&mut self) {
        self.clear = false;
        let acting = Acting::begin();
        let ready = self.scenario.setup(&STAGE);
        drop(acting);
        self.failed_setup = ready.err().map(|e| format!("{e:?}"));
        if self.failed_setup.is_some() {
            return;
        }
        for i in 0..self.n() {
            ENGINE.resume(&self.actors, i);
        }
        self.set_fixes();
    }
}

impl World for Theatre {
    fn reset(&mut self) {
        // What the last run left over was that run's violation; a run that was given up half-way
        // has no verdict.
        drop(self.clear_up());
        ENGINE.start_run(self.scenario.disks(&STAGE));
        self.set_up();
        self.look();
    }

    fn actors(&self) -> &[ActorState] {
        &self.states
    }

    fn step(&mut self, actor: ActorId) -> Footprint {
        let touched = ENGINE.step(&self.actors, actor);
        self.look();
        touched
    }

    fn check_step(&mut self) -> Option<Violation> {
        if let Some(e) = self.failed_setup.take() {
            return Some(Violation {
                oracle: "setup",
                detail: e,
            });
        }
        ENGINE.take_violation().or_else(|| {
            let watch = self.scenario.watches_rmap();
            let detail = watch.then(|| ENGINE.untracked()).flatten()?;
            Some(Violation {
                oracle: "rmap",
                detail,
            })
        })
    }

    fn check_end(&mut self) -> Option<Violation> {
        if let Some(v) = self.check_step() {
            return Some(v);
        }
        let end = oracles::End {
            tasks: &self.tasks,
            frames: (self.pocket.base(), self.pocket.frames()),
        };
        let found = oracles::at_end(&end).or_else(|| {
            let wrong = self.scenario.check(&STAGE).err()?;
            Some(Violation {
                oracle: "scenario",
                detail: wrong,
            })
        });
        let left = self.clear_up();
        found.or_else(|| {
            let detail = left.err()?;
            Some(Violation {
                oracle: "accounting",
                detail,
            })
        })
    }
}

impl Drop for Theatre {
    fn drop(&mut self) {
        drop(self.clear_up());
        self.keep_rules();
    }
}
