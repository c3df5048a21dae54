//! Failed writes, told once to everyone who has the file open: one word per file, one per opener.
//!
//! The word of the file holds the last error, a counter, and a bit that says whether anyone has
//! been told. Only an error that somebody has been told makes the next one count, so that a burst
//! of failures between two looks costs one step of the counter. An error that nobody has been told
//! is told to later openers as well. Behaviour as `errseq_t` in Linux.
//!
//! Locks: none for the file's word, any context may set an error; an opener's word is guarded by
//! its owner. Never sleeps. Order: relaxed; a path that records an error before it ends writeback
//! with a release shows it to everyone who waited for that end with an acquire.

use core::num::NonZeroU8;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Somebody has been told.
const SEEN: u32 = 1 << 8;
const CODE: u32 = SEEN - 1;
const COUNT_ONE: u32 = SEEN << 1;

/// The errors of one file.
///
/// Invariant: from the moment `SEEN` is set until the next error the word does not change, and each
/// error after it changes the counter. So a word that an opener has seen with `SEEN` stands for all
/// errors up to then (unless 2^23 that were told come before the opener's next look).
#[derive(Debug, Default)]
pub struct ErrSeq(AtomicU32);

/// Up to where one opener has been told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told(u32);

impl Told {
    /// From [`Told::raw`].
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// For an opener whose word rests in a cell.
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl ErrSeq {
    /// No error so far.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Forgets all errors, for a file nobody has open.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// Records an error.
    pub fn set(&self, code: NonZeroU8) {
        let mut old = self.0.load(Relaxed);
        loop {
            let count = if old & SEEN != 0 { COUNT_ONE } else { 0 };
            let new = (old & !(CODE | SEEN)).wrapping_add(count) | u32::from(code.get());
            match self.0.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    /// Where an opener starts: it is not told errors that others have been told already.
    pub fn sample(&self) -> Told {
        match self.0.load(Relaxed) {
            seen if seen & SEEN != 0 => Told(seen),
            _ => Told(0),
        }
    }

    /// The last error that the opener has not been told, if there is one; it then has been told
    /// all.
    pub fn check_and_advance(&self, told: &mut Told) -> Option<NonZeroU8> {
        if self.0.load(Relaxed) == told.0 {
            return None;
        }
        // One step: an error between the load above and this is told now, a later one counts.
        let now = self.0.fetch_or(SEEN, Relaxed) | SEEN;
        *told = Told(now);
        NonZeroU8::new((now & CODE) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, steps};
    use core::sync::atomic::{AtomicBool, Ordering};
    use proptest::prelude::*;
    use std::vec::Vec;

    const EIO: NonZeroU8 = NonZeroU8::new(5).unwrap();
    const ENOSPC: NonZeroU8 = NonZeroU8::new(28).unwrap();

    #[test]
    fn each_opener_is_told_once() {
        let errors = ErrSeq::new();
        let (mut a, mut b) = (errors.sample(), errors.sample());
        assert_eq!(errors.check_and_advance(&mut a), None);
        errors.set(EIO);
        errors.set(EIO);
        assert_eq!(errors.check_and_advance(&mut a), Some(EIO));
        assert_eq!(errors.check_and_advance(&mut a), None);
        assert_eq!(errors.check_and_advance(&mut b), Some(EIO));
        assert_eq!(errors.check_and_advance(&mut b), None);
        errors.set(EIO);
        assert_eq!(errors.check_and_advance(&mut b), Some(EIO), "a new one");
        errors.set(ENOSPC);
        assert_eq!(errors.check_and_advance(&mut a), Some(ENOSPC), "the last");
        assert_eq!(errors.check_and_advance(&mut a), None);
    }

    #[test]
    fn what_nobody_was_told_waits_for_the_next_opener() {
        let errors = ErrSeq::new();
        errors.set(EIO);
        let (mut a, mut b) = (errors.sample(), errors.sample());
        assert_eq!(errors.check_and_advance(&mut a), Some(EIO));
        let mut late = errors.sample();
        assert_eq!(errors.check_and_advance(&mut late), None, "told already");
        assert_eq!(errors.check_and_advance(&mut b), Some(EIO));
        errors.set(ENOSPC);
        errors.reset();
        assert_eq!(errors.check_and_advance(&mut errors.sample()), None);
    }

    #[test]
    fn the_counter_wraps_without_touching_the_rest() {
        let errors = ErrSeq(AtomicU32::new(u32::MAX));
        let mut a = errors.sample();
        errors.set(EIO);
        assert_eq!(errors.0.load(Relaxed), u32::from(EIO.get()));
        assert_eq!(errors.check_and_advance(&mut a), Some(EIO));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let rounds: u32 = if cfg!(miri) { 20 } else { 20_000 };
        let (errors, done) = (ErrSeq::new(), AtomicBool::new(false));
        let (errors, done) = (&errors, &done);
        std::thread::scope(|s| {
            for _ in 0..2 {
                let mut told = errors.sample();
                s.spawn(move || {
                    let mut reports = 0;
                    // Acquire: with the release below, all errors are set when this ends.
                    while !done.load(Ordering::Acquire) {
                        reports += u32::from(errors.check_and_advance(&mut told).is_some());
                        std::thread::yield_now();
                    }
                    let last = errors.check_and_advance(&mut told);
                    reports += u32::from(last.is_some());
                    assert!(last.is_none() || last == Some(ENOSPC));
                    assert_eq!(errors.check_and_advance(&mut told), None);
                    assert!((1..=rounds + 1).contains(&reports), "{reports} reports");
                });
            }
            for i in 0..rounds {
                errors.set(if i % 3 == 0 { EIO } else { ENOSPC });
            }
            errors.set(ENOSPC);
            done.store(true, Ordering::Release);
        });
    }

    proptest! {
        #![proptest_config(config(300))]
        #[test]
        fn behaves_like_a_list_of_errors_for_each_opener(
            ops in prop::collection::vec((0u8..8, 1u8..=255, any::<prop::sample::Index>()), 0..steps(100)),
        ) {
            let errors = ErrSeq::new();
            // Each opener with what it has not been told, and what nobody has been told.
            let mut openers: Vec<(u32, Option<NonZeroU8>)> = Vec::new();
            let mut untold = None;
            for (op, code, who) in ops {
                match op {
                    0 => openers.push((errors.sample().raw(), untold)),
                    // Often the same error again.
                    1..=3 => {
                        let code = if op == 1 { NonZeroU8::new(code).unwrap() } else { EIO };
                        errors.set(code);
                        openers.iter_mut().for_each(|o| o.1 = Some(code));
                        untold = Some(code);
                    }
                    _ if openers.is_empty() => {}
                    _ => {
                        let who = who.index(openers.len());
                        let (word, pending) = &mut openers[who];
                        let mut told = Told::from_raw(*word);
                        prop_assert_eq!(errors.check_and_advance(&mut told), *pending);
                        *word = told.raw();
                        if pending.take().is_some() {
                            untold = None;
                        }
                    }
                }
            }
        }
    }
}
