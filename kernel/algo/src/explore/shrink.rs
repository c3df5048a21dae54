//! Makes a failing schedule shorter: fewer switches, then fewer steps, and still failing.
//!
//! Delta debugging (Zeller, Hildebrandt, 2002) over the stretches of a schedule. What a schedule
//! leaves open goes on by default, so cutting its end only means not to interfere any more. Every
//! candidate is put to the caller; only those that fail are kept, and each kept one is smaller than
//! the one before, so it ends.

use super::{ActorId, Choices};
use alloc::vec::Vec;

/// The result of [`shrink`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shrunk {
    /// The smallest failing schedule found.
    pub choices: Choices,
    /// Candidates that were tried.
    pub tried: u64,
}

type Stretches = Vec<(ActorId, u32)>;

/// Shrinks `choices`, which fail, trying at most `most` candidates. `fails` says whether a
/// candidate fails in the same way; one that diverges does not.
///
/// With `most` out of the way, the result is minimal in that no stretch can be left out, no two
/// neighbouring stretches can change places with a gain, and no stretch can be one step shorter,
/// without the failure vanishing.
pub fn shrink(choices: &Choices, most: u64, fails: &mut dyn FnMut(&Choices) -> bool) -> Shrunk {
    let mut s = Shrinker {
        best: choices.stretches().to_vec(),
        left: most,
        tried: 0,
        fails,
    };
    loop {
        let before = measure(&s.best);
        s.drop_stretches();
        s.swap_neighbours();
        s.shorten();
        if measure(&s.best) == before || s.left == 0 {
            break;
        }
    }
    Shrunk {
        choices: s.best.into_iter().collect(),
        tried: s.tried,
    }
}

/// Stretches first, then steps.
fn measure(stretches: &[(ActorId, u32)]) -> (usize, u64) {
    (
        stretches.len(),
        stretches.iter().map(|s| u64::from(s.1)).sum(),
    )
}

struct Shrinker<'a> {
    best: Stretches,
    left: u64,
    tried: u64,
    fails: &'a mut dyn FnMut(&Choices) -> bool,
}

impl Shrinker<'_> {
    /// Keeps the candidate if it is smaller and fails.
    fn keep_if_fails(&mut self, candidate: Stretches) -> bool {
        let choices: Choices = candidate.into_iter().collect();
        if self.left == 0 || measure(choices.stretches()) >= measure(&self.best) {
            return false;
        }
        self.left -= 1;
        self.tried += 1;
        let fails = (self.fails)(&choices);
        if fails {
            self.best = choices.stretches().to_vec();
        }
        fails
    }

    /// Leaves out ever smaller groups of stretches, the last ones first.
    fn drop_stretches(&mut self) {
        let mut size = self.best.len();
        while size > 0 {
            let mut end = self.best.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let mut candidate = self.best.clone();
                candidate.drain(start..end);
                self.keep_if_fails(candidate);
                end = start.min(self.best.len());
            }
            size /= 2;
        }
    }

    /// Lets a stretch go before its predecessor, where it then joins one of its own actor.
    fn swap_neighbours(&mut self) {
        let mut i = 1;
        while i < self.best.len() {
            let mut candidate = self.best.clone();
            candidate.swap(i - 1, i);
            if !self.keep_if_fails(candidate) {
                i += 1;
            }
        }
    }

    /// Takes steps off each stretch, as many as go.
    fn shorten(&mut self) {
        let mut i = self.best.len();
        while i > 0 {
            i -= 1;
            let mut cut = self.best[i].1 / 2;
            while cut > 0 {
                let mut candidate = self.best.clone();
                candidate[i].1 -= cut;
                if !self.keep_if_fails(candidate) {
                    cut /= 2;
                }
                let now = self.best.get(i).map_or(0, |s| s.1);
                cut = cut.min(now.saturating_sub(1));
            }
        }
    }
}
