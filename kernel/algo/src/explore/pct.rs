//! Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010).
//!
//! Every actor gets a random priority; the enabled actor of the highest priority runs; at `depth -
//! 1` random steps the actor that is about to run falls below all others. A bug that needs `depth`
//! ordering constraints is hit by a run with probability at least 1 / (n k^(depth-1)), n actors and
//! k steps.

use super::rng::Rng;
use super::{ActorId, ActorSet, Choice, Footprint, MAX_ACTORS, Next, Strategy, View};
use alloc::vec::Vec;

/// Priority-based random search. Never exhausted.
#[derive(Clone, Debug)]
pub struct Pct {
    seed: u64,
    depth: u32,
    actors: usize,
    /// Steps of a run: the longest so far, at first an estimate.
    steps: usize,
    run: u64,
    step: usize,
    /// By actor; higher runs first. The starting ones are above `depth`.
    priority: [u32; MAX_ACTORS],
    /// Steps before which the runner falls, ascending, and the priority it falls to.
    changes: Vec<(usize, u32)>,
    fallen: usize,
}

impl Pct {
    /// Searches for bugs of `depth` (at least 1) among `actors` actors that take about `steps`
    /// steps together. A run that is longer raises the estimate for the next.
    pub fn new(seed: u64, depth: u32, actors: usize, steps: usize) -> Self {
        let mut pct = Self {
            seed,
            depth: depth.max(1),
            actors: actors.clamp(1, MAX_ACTORS),
            steps: steps.max(1),
            run: 0,
            step: 0,
            priority: [0; MAX_ACTORS],
            changes: Vec::new(),
            fallen: 0,
        };
        pct.draw();
        pct
    }

    /// The chance that one run hits a given bug of this depth, at least, in runs of up to `steps`
    /// steps.
    pub fn bound(&self) -> f64 {
        let k = self.steps as f64;
        (1..self.depth).fold(1.0 / self.actors as f64, |p, _| p / k)
    }

    fn draw(&mut self) {
        let mut rng = Rng::of_run(self.seed, self.run);
        for (i, p) in self.priority.iter_mut().enumerate() {
            *p = self.depth + i as u32;
        }
        // Fisher and Yates, over the actors there are; the others come last.
        for i in (1..self.actors).rev() {
            self.priority.swap(i, rng.below(i as u64 + 1) as usize);
        }
        self.changes.clear();
        for priority in 1..self.depth {
            let step = rng.below(self.steps as u64) as usize;
            self.changes.push((step, priority));
        }
        self.changes.sort_unstable();
        self.step = 0;
        self.fallen = 0;
    }

    fn highest(&self, among: ActorSet) -> Option<ActorId> {
        among.iter().max_by_key(|a| self.priority[a.index()])
    }
}

impl Strategy for Pct {
    fn next_choice(&mut self, view: &View<'_>) -> Choice {
        while let Some(actor) = self.highest(view.enabled()) {
            match self.changes.get(self.fallen) {
                Some(&(step, priority)) if step == self.step => {
                    self.fallen += 1;
                    self.priority[actor.index()] = priority;
                }
                _ => return Choice::Run(actor),
            }
        }
        Choice::Redundant
    }

    fn step_done(&mut self, _actor: ActorId, _footprint: &Footprint) {
        self.step += 1;
    }

    fn run_finished(&mut self, _end: &View<'_>) -> Next {
        self.steps = self.steps.max(self.step);
        self.run += 1;
        self.draw();
        Next::Continue
    }
}
