//! Judging by its progress whether a device still answers.
//!
//! What counts is the time since the last completion while requests are outstanding, not the age of
//! a request: a slow disk with a long queue gets on. Somebody looks once in a while, and only time
//! between two looks counts, at most a step of it: when the whole machine stood still, so did the
//! device, and after the clock's jump it gets its round of grace.

/// The patience with one device. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct Patience {
    limit: u64,
    step: u64,
    /// How long it has been outstanding without progress.
    waited: u64,
    last: Look,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
struct Look {
    now: u64,
    completed: u64,
    outstanding: bool,
}

impl Patience {
    /// It lasts for `limit`; between two looks at most `step` passes. So it takes `limit / step`
    /// looks at least.
    pub const fn new(limit: u64, step: u64) -> Self {
        Self {
            limit,
            step,
            waited: 0,
            last: Look {
                now: 0,
                completed: 0,
                outstanding: false,
            },
        }
    }

    /// A look at time `now`: `completed` requests since ever, and whether any is outstanding. True:
    /// the patience is at its end.
    pub fn is_over(&mut self, now: u64, completed: u64, outstanding: bool) -> bool {
        let look = Look {
            now,
            completed,
            outstanding,
        };
        let before = core::mem::replace(&mut self.last, look);
        if !outstanding || !before.outstanding || completed != before.completed {
            self.waited = 0;
            return false;
        }
        self.waited += now.saturating_sub(before.now).min(self.step);
        self.waited >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::Patience;

    const SEC: u64 = 1_000_000_000;

    fn patience() -> Patience {
        Patience::new(30 * SEC, 2 * SEC)
    }

    /// The first of these seconds at whose end it is over, with what has completed by then.
    fn over(mut of: Patience, completed: impl Fn(u64) -> u64) -> Option<u64> {
        (0..200).find(|s| of.is_over(s * SEC, completed(*s), true))
    }

    #[test]
    fn a_device_that_is_silent_is_given_up() {
        assert_eq!(over(patience(), |_| 7), Some(30));
    }

    /// 32 requests queued, one write a second: the last one is 32 s old before its turn comes.
    #[test]
    fn a_slow_device_is_not() {
        assert_eq!(over(patience(), |s| s), None);
        assert_eq!(over(patience(), |s| s / 29), None);
    }

    #[test]
    fn it_is_given_up_when_its_progress_ends() {
        assert_eq!(over(patience(), |s| s.min(50)), Some(80));
    }

    /// The machine is stopped for 37 s, or a week, and goes on; the interrupt comes a second later.
    #[test]
    fn a_jump_of_the_clock_is_not_its_fault() {
        for jump in [37 * SEC, 7 * 86_400 * SEC] {
            let mut of = patience();
            assert!(!of.is_over(SEC, 5, true));
            assert!(!of.is_over(2 * SEC, 5, true));
            assert!(!of.is_over(2 * SEC + jump, 5, true));
            assert!(!of.is_over(3 * SEC + jump, 6, true));
        }
        // Stopped ever again: each time it gets its round.
        let mut of = patience();
        assert_eq!(
            (0..200).find(|n| of.is_over(n * 100 * SEC, 5, true)),
            Some(15)
        );
    }

    #[test]
    fn what_was_not_asked_owes_nothing() {
        let mut of = patience();
        assert!((0..100).all(|s| !of.is_over(s * SEC, 3, false)));
        // Asked just now: the time before does not count.
        assert!((100..131).all(|s| !of.is_over(s * SEC - 1, 3, s > 100)));
        assert!(of.is_over(132 * SEC, 3, true));
    }

    #[test]
    fn many_looks_in_a_short_time_are_not_much_of_it() {
        let mut of = patience();
        assert!((0..29_999).all(|ms| !of.is_over(ms * 1_000_000, 1, true)));
    }
}
