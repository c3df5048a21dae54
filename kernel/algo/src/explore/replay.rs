//! Repeats a given schedule, and says so when the run is not the same.

use super::{
    ActorId, Choice, Choices, Divergence, Footprint, Limits, Next, Strategy, Trace, Verdict, View,
    World, run_once,
};

/// Repeats `choices` in `world`. The verdict is [`Verdict::Diverged`] if that was not possible, or
/// if the run's fingerprint is not `fingerprint`.
pub fn replay(
    world: &mut dyn World,
    choices: &Choices,
    fingerprint: Option<u32>,
    limits: &Limits,
    trace: &mut Trace,
) -> Verdict {
    let mut strategy = Replay::new(choices);
    let verdict = run_once(world, &mut strategy, limits, trace);
    let divergence = match (&verdict, fingerprint) {
        (Verdict::Diverged(_), _) => None,
        (Verdict::Passed, _) if strategy.left() > 0 => Some(Divergence::Ended {
            left: strategy.left(),
        }),
        (_, Some(recorded)) if recorded != trace.fingerprint() => Some(Divergence::Fingerprint {
            recorded,
            found: trace.fingerprint(),
        }),
        _ => None,
    };
    divergence.map_or(verdict, Verdict::Diverged)
}

/// Follows `choices`; after the last of them the actor that runs goes on while it can, then the
/// first that can. One run only.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    choices: &'a Choices,
    /// Which stretch, and how much of it is done.
    stretch: usize,
    taken: u32,
    step: usize,
    last: Option<ActorId>,
}

impl<'a> Replay<'a> {
    /// From the start of `choices`.
    pub fn new(choices: &'a Choices) -> Self {
        Self {
            choices,
            stretch: 0,
            taken: 0,
            step: 0,
            last: None,
        }
    }

    /// Choices that the run has not come to: more than 0 after a run means that it ended too early.
    pub fn left(&self) -> u64 {
        let rest = self.choices.stretches().get(self.stretch..).unwrap_or(&[]);
        rest.iter().map(|s| u64::from(s.1)).sum::<u64>() - u64::from(self.taken)
    }
}

impl Strategy for Replay<'_> {
    fn next_choice(&mut self, view: &View<'_>) -> Choice {
        let Some(&(wanted, _)) = self.choices.stretches().get(self.stretch) else {
            return match view.default_choice(self.last) {
                Some(actor) => Choice::Run(actor),
                None => Choice::Redundant,
            };
        };
        if view.enabled().contains(wanted) {
            Choice::Run(wanted)
        } else {
            Choice::Diverged(Divergence::NotReady {
                step: self.step,
                wanted,
                enabled: view.enabled(),
            })
        }
    }

    fn step_done(&mut self, actor: ActorId, _footprint: &Footprint) {
        self.last = Some(actor);
        self.step += 1;
        if let Some(&(_, count)) = self.choices.stretches().get(self.stretch) {
            self.taken += 1;
            if self.taken == count {
                self.stretch += 1;
                self.taken = 0;
            }
        }
    }

    fn run_finished(&mut self, _end: &View<'_>) -> Next {
        Next::Exhausted
    }
}
