//! Loops that look again until others have changed something.
//!
//! With every rule of order kept such a loop ends, because each of its rounds was made in vain by
//! somebody who got on. A rule that is switched off can leave a state behind in which nobody will:
//! a page that is mapped and in no cache, a slot that is counted and named nowhere. [`Rounds`] lets
//! the loop give up there, so that a run ends whatever a broken rule does.
//!
//! Without the `lab` feature no rule can be off, and this is nothing. Under the explorer it never
//! gives up: that finds loops by itself, and its runs must not depend on a clock. Takes no lock;
//! the caller may hold any.

#[cfg(feature = "lab")]
use crate::knobs;

/// Rounds that are too few to look at the clock.
#[cfg(feature = "lab")]
const FEW: u32 = 256;
/// How long rounds may be in vain. Others may be kept from the CPU for a good part of a second.
#[cfg(feature = "lab")]
const PATIENCE_NS: u64 = 3_000_000_000;

/// The rounds of one loop since something came of them.
pub(crate) struct Rounds {
    #[cfg(feature = "lab")]
    n: u32,
    /// When there had been [`FEW`].
    #[cfg(feature = "lab")]
    since: u64,
}

impl Rounds {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self {
            #[cfg(feature = "lab")]
            n: 0,
            #[cfg(feature = "lab")]
            since: 0,
        }
    }

    /// A round was in vain: whether another one is worth it. False only where a rule is off.
    #[cfg(feature = "lab")]
    #[cold]
    #[must_use]
    pub(crate) fn go_on(&mut self) -> bool {
        if self.n < FEW {
            self.n += 1;
            self.since = 0;
            return true;
        }
        if knobs::all_kept() || sync::point::exploring() {
            return true;
        }
        let now = arch::now_ns();
        if self.since == 0 {
            self.since = now;
        }
        now.saturating_sub(self.since) < PATIENCE_NS
    }

    /// A round was in vain: another one is worth it.
    #[cfg(not(feature = "lab"))]
    #[inline(always)]
    #[must_use]
    pub(crate) const fn go_on(&mut self) -> bool {
        true
    }
}
