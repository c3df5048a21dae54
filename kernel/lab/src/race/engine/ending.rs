//! Bringing a run to its end: actors hardly stop any more, and no violation is noted.
//!
//! Takes the engine's lock for a moment each; resumes actors with none held.

use super::{ActorState, Choices, Engine, Where, actor, disk};
use core::sync::atomic::Ordering;
use sync::point::Go;

/// Steps by which everyone who is brought to an end has come there.
const LONGEST_END: usize = 200_000;
impl Engine {
    /// A run is being brought to its end: actors hardly stop but where they have to wait.
    pub(in crate::race) fn start_end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        disk::obey();
        self.state().ending = true;
    }

    pub(in crate::race) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Actor `n`, which has ended, leaves its address space.
    pub(in crate::race) fn go_home(&self, actors: &actor::Actors, n: usize) {
        let ended = self.state().actors[n].at == Where::Ended;
        if ended {
            self.resume(actors, n);
        }
    }

    /// Everyone who has not ended is brought there, in turns; those who wait for what cannot come
    /// go on without it.
    ///
    /// # Panics
    /// If they do not come there: they have stacks and CPUs that cannot be taken from them, so
    /// nothing can be explored any more. The message has the steps of the run.
    pub(in crate::race) fn end_run(&self, actors: &actor::Actors, n: usize) {
        self.start_end();
        let mut states = [ActorState::Done; algo::explore::MAX_ACTORS];
        let mut last = 0;
        for _ in 0..LONGEST_END {
            self.actor_states(n, &mut states);
            let view = algo::explore::View::new(&states);
            // In turn: one may go round in circles until another has done something.
            let enabled = view.enabled();
            let next = enabled.iter().find(|a| a.index() > last);
            if let Some(next) = next.or(enabled.first()) {
                last = next.index();
                self.step(actors, next);
            } else if view.all_ended() {
                return;
            } else {
                self.force(actors, &states[..n]);
            }
        }
        let steps: Choices = self.state().log.iter().map(|l| (l.actor, 1)).collect();
        panic!("the actors of the run {steps} cannot be brought to an end: {states:?}");
    }

    fn force(&self, actors: &actor::Actors, states: &[ActorState]) {
        let masked = {
            let s = self.state();
            (0..states.len()).find(|i| s.actors[*i].mail)
        };
        if let Some(i) = masked {
            return self.deliver(i);
        }
        let stuck = states.iter().position(|s| !s.may_end());
        if let Some(i) = stuck {
            self.state().actors[i].go = Go::Forced;
            self.resume(actors, i);
        }
    }
}
