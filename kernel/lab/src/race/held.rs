//! What something may be, as far as it is known from what was done to it and when.
//!
//! A step changes it at once; an operation changes it at some moment between its beginning and its
//! end. So there may be several things that it is, until a later change or a look tells them apart.
//! What it was is remembered with the moment at which that was over: who began earlier may have
//! seen it.
//!
//! Pure: no lock, never sleeps.

use alloc::vec::Vec;

/// What was told to a model so far: moments are counted.
pub(super) type Moment = u32;

/// One of the things that it may be, or may have been.
#[derive(Clone, Copy, Debug)]
struct Held<T> {
    is: T,
    born: Moment,
    gone: Option<Moment>,
}

/// Whether what something was is over once it is something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Before {
    /// Nobody finds it any more.
    Over,
    /// There may be two of it for now: one that is being given up, and the one that comes after.
    MayLast,
}

/// See the module text.
#[derive(Clone, Debug)]
pub(super) struct Maybe<T>(Vec<Held<T>>);

impl<T: Copy + PartialEq> Maybe<T> {
    /// Nothing but `is`, since ever.
    pub(super) fn new(is: T) -> Self {
        let mut new = Self(Vec::new());
        new.add(is, 0);
        new
    }

    /// What it may be now.
    pub(super) fn now(&self) -> impl Iterator<Item = T> + '_ {
        self.0.iter().filter(|h| h.gone.is_none()).map(|h| h.is)
    }

    /// What it may have been at some moment from `begin` on.
    pub(super) fn since(&self, begin: Moment) -> impl Iterator<Item = T> + '_ {
        let seen = move |h: &&Held<T>| h.gone.is_none_or(|gone| gone >= begin);
        self.0.iter().filter(seen).map(|h| h.is)
    }

    /// What it may have become at `begin` or later, and be still.
    pub(super) fn become_since(&self, begin: Moment) -> impl Iterator<Item = T> + '_ {
        let new = move |h: &&Held<T>| h.gone.is_none() && h.born >= begin;
        self.0.iter().filter(new).map(|h| h.is)
    }

    /// It may be `is` as well, from `at` on.
    pub(super) fn add(&mut self, is: T, at: Moment) {
        if let Some(h) = self.0.iter_mut().find(|h| h.is == is && h.gone.is_none()) {
            // The last moment at which it may have become so.
            h.born = at;
            return;
        }
        self.0.push(Held {
            is,
            born: at,
            gone: None,
        });
    }

    /// It may have been `is` for a moment before `at`.
    pub(super) fn was(&mut self, is: T, at: Moment) {
        self.0.push(Held {
            is,
            born: at,
            gone: Some(at),
        });
    }

    fn end_all(&mut self, at: Moment, mut which: impl FnMut(T, Moment) -> bool) {
        let live = self.0.iter_mut().filter(|h| h.gone.is_none());
        for h in live.filter(|h| which(h.is, h.born)) {
            h.gone = Some(at);
        }
    }

    /// A step at `at` makes it `is`.
    pub(super) fn becomes(&mut self, is: T, at: Moment, before: Before) {
        if before == Before::Over {
            self.end_all(at, |_, _| true);
        }
        self.add(is, at);
    }

    /// An operation that began at `begin` is over at `at`: what it was before has become what
    /// `change` says, in between.
    pub(super) fn changed(
        &mut self,
        begin: Moment,
        at: Moment,
        before: Before,
        change: impl Fn(T) -> T,
    ) {
        let new: Vec<T> = self.now().map(&change).collect();
        if before == Before::Over {
            self.end_all(at, |_, born| born < begin);
        }
        new.into_iter().for_each(|is| self.add(is, at));
    }

    /// The same where it has become one of `those`, whatever it was.
    pub(super) fn replaced(
        &mut self,
        begin: Moment,
        at: Moment,
        those: impl IntoIterator<Item = T>,
    ) {
        self.end_all(at, |_, born| born < begin);
        those.into_iter().for_each(|is| self.add(is, at));
    }

    /// A look at `at` says that it is one of which `fits` is true.
    pub(super) fn seen(&mut self, at: Moment, fits: impl Fn(T) -> bool) {
        self.end_all(at, |is, _| !fits(is));
    }

    /// What somebody who began at `begin` may take it for who ends now, for a copy of it.
    pub(super) fn copy_since(&self, begin: Moment, at: Moment) -> Self {
        let mut copy = Self(Vec::new());
        self.since(begin).for_each(|is| copy.add(is, at));
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(m: &Maybe<u32>) -> Vec<u32> {
        let mut all: Vec<u32> = m.now().collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn what_it_was_for_a_moment_is_known_to_those_who_began_before() {
        let mut m = Maybe::new(1);
        m.was(2, 5);
        assert_eq!(now(&m), [1]);
        assert_eq!(m.since(5).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(m.since(6).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_step_settles_it_unless_there_are_two_of_it() {
        let mut m = Maybe::new(1);
        m.becomes(2, 5, Before::Over);
        assert_eq!(now(&m), [2]);
        m.becomes(3, 6, Before::MayLast);
        assert_eq!(now(&m), [2, 3]);
        m.seen(7, |is| is == 3);
        assert_eq!(now(&m), [3]);
        assert_eq!(m.since(6).count(), 2, "2 was there at 6");
        assert_eq!(m.since(8).count(), 1);
        assert_eq!(m.since(5).count(), 3, "and 1 until 5");
    }

    #[test]
    fn what_was_before_an_operation_is_over_after_it() {
        let mut m = Maybe::new(1);
        // It began at 4; meanwhile somebody stored.
        m.becomes(2, 6, Before::MayLast);
        m.changed(4, 8, Before::Over, |_| 0);
        assert_eq!(now(&m), [0, 2]);
        // One that began at 5 is over too: what the first left may be what the second found.
        m.changed(5, 9, Before::Over, |_| 0);
        assert_eq!(now(&m), [0, 2]);
        m.changed(7, 10, Before::Over, |_| 0);
        assert_eq!(now(&m), [0], "2 was there before it began");
    }

    #[test]
    fn an_operation_may_change_a_part() {
        let mut m = Maybe::new(0x11);
        m.becomes(0x22, 6, Before::Over);
        m.changed(5, 7, Before::Over, |is| is & 0xf0);
        assert_eq!(now(&m), [0x20, 0x22]);
    }

    #[test]
    fn a_copy_has_what_was_there_while_it_was_made() {
        let mut m = Maybe::new(1);
        m.becomes(2, 5, Before::Over);
        m.becomes(3, 9, Before::Over);
        assert_eq!(now(&m.copy_since(6, 10)), [2, 3]);
        assert_eq!(now(&m.copy_since(5, 10)), [1, 2, 3]);
        m.replaced(8, 11, [0]);
        assert_eq!(now(&m), [0, 3]);
    }
}
