//! Being an actor: what its thread does in a run, and the controller where it does an actor's work.
//!
//! Takes the engine's lock for a moment each; suspends with none held.

use super::{AccessKind, ENGINE, Engine, Where};
use crate::race::stage::STAGE;
use arch::actor;
use sync::point::{Explorer, PointKind, Quiet, Stop, Until, class, object};

/// Until it is dropped the controller is an actor too, in a quiet section: its frames come from the
/// pocket, the interrupts it sends are served at once, and what it touches is seen.
pub(in crate::race) struct Acting {
    _quiet: Quiet,
}

impl Acting {
    pub(in crate::race) fn begin() -> Self {
        sync::point::make_actor(true);
        Self {
            _quiet: Quiet::begin(),
        }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        sync::point::make_actor(false);
    }
}

/// What an actor's thread does: one run after the other.
pub(in crate::race) fn actor_main(me: usize) {
    sync::point::make_actor(true);
    while actor::suspend() {
        ENGINE.play(me);
    }
    sync::point::make_actor(false);
}

impl Engine {
    /// One run of actor `me`.
    fn play(&self, me: usize) {
        let Some(scenario) = *self.scenario.lock() else {
            return;
        };
        let quiet = Quiet::begin();
        let adopted = scenario.space_of(me).map(|s| STAGE.space(s).adopt());
        scenario.enter(&STAGE, me);
        drop(quiet);
        self.stop(&Stop {
            kind: PointKind::Start,
            access: AccessKind::Read,
            object: object(class::OWN, u64::MAX),
            until: Until::Now,
        });
        scenario.run(&STAGE, me);
        {
            let mut s = self.state();
            s.actors[me].at = Where::Ended;
            s.actors[me].irq_on = sync::irq::enabled();
        }
        // The end is a state like any other: the actor is still in its address space.
        let _go = actor::suspend();
        let _quiet = Quiet::begin();
        scenario.leave(&STAGE, me);
        drop(adopted);
        self.state().actors[me].at = Where::Home;
    }
}
