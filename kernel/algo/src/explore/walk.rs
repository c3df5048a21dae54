//! The random walk: any enabled actor, all alike, from a seed.

use super::rng::Rng;
use super::{Choice, Next, Strategy, View};

/// Chooses uniformly among the enabled actors. Never exhausted.
#[derive(Clone, Debug)]
pub struct RandomWalk {
    seed: u64,
    run: u64,
    rng: Rng,
}

impl RandomWalk {
    /// The walk that `seed` determines, run by run.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            run: 0,
            rng: Rng::of_run(seed, 0),
        }
    }
}

impl Strategy for RandomWalk {
    fn next_choice(&mut self, view: &View<'_>) -> Choice {
        let enabled = view.enabled();
        let n = self.rng.below(enabled.len() as u64) as usize;
        match enabled.iter().nth(n) {
            Some(actor) => Choice::Run(actor),
            None => Choice::Redundant,
        }
    }

    fn run_finished(&mut self, _end: &View<'_>) -> Next {
        self.run += 1;
        self.rng = Rng::of_run(self.seed, self.run);
        Next::Continue
    }
}
