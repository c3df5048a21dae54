//! What a CPU may still use although its entry is gone, or weaker: rules 1 and 3 as types.
//!
//! [`PteLocked::unhook`] is the only way to take a present entry out. The [`Unhooked`] that it
//! gives goes to a flush: the gather's, the batch's of reclaim, or one made at once under the lock,
//! as a copy on write does. [`PteLocked::weaken`] gives a [`Weaker`], which goes to `ops::weakened`
//! or to a flush at once. Debug builds stop where one is dropped. Takes no lock.
//!
//! [`PteLocked::unhook`]: super::PteLocked::unhook
//! [`PteLocked::weaken`]: super::PteLocked::weaken

use super::Invalidation;
use crate::knobs::{self, Knob};
use arch::VirtAddr;
use arch::addr::PAGE_SIZE;
use arch::pte::Entry;
use core::mem;

/// An entry that was taken out of its table. Holds the reference that the entry had on its folio.
/// If it was present, a CPU may still translate by it. `SIZE` is what it mapped.
#[must_use = "what was taken out must be flushed"]
pub(crate) struct Unhooked<const SIZE: u64 = PAGE_SIZE> {
    entry: Entry,
}

impl<const SIZE: u64> Unhooked<SIZE> {
    #[inline]
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry }
    }

    /// The entry as it was.
    #[inline]
    pub(crate) fn entry(&self) -> Entry {
        self.entry
    }

    /// Bytes that it mapped.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        SIZE
    }

    /// The entry, of which a flush knows that is still to come.
    #[inline]
    pub(crate) fn noted(self) -> Entry {
        let entry = self.entry;
        mem::forget(self);
        entry
    }

    /// The entry, which the MMU could not use: no CPU has a translation of it.
    #[inline]
    pub(crate) fn never_used(self) -> Entry {
        debug_assert!(!self.entry.is_present());
        self.noted()
    }

    /// The entry, to be put back where it was taken out.
    #[inline]
    pub(super) fn forgiven(self) -> Entry {
        self.noted()
    }

    /// Makes every CPU forget the translation of `va`, under the PTL. The flush belongs to `rule`,
    /// which a test may break.
    pub(crate) fn flush_at_once(
        self,
        within: &Invalidation<'_>,
        va: VirtAddr,
        rule: Knob,
    ) -> Entry {
        flush(within, va, self.size(), rule);
        self.noted()
    }
}

/// A present entry as it was before it lost rights, or its dirty bit, in place: a CPU may still use
/// it so.
#[must_use = "what lost a right must be flushed"]
pub(crate) struct Weaker<const SIZE: u64 = PAGE_SIZE> {
    before: Entry,
}

impl<const SIZE: u64> Weaker<SIZE> {
    #[inline]
    pub(super) fn new(before: Entry) -> Self {
        Self { before }
    }

    /// The entry before.
    #[inline]
    pub(crate) fn before(&self) -> Entry {
        self.before
    }

    /// A flush knows of it that is still to come. Returns the bytes that the entry maps.
    #[inline]
    pub(crate) fn noted(self) -> u64 {
        mem::forget(self);
        SIZE
    }

    /// As [`Unhooked::flush_at_once`].
    pub(crate) fn flush_at_once(self, within: &Invalidation<'_>, va: VirtAddr, rule: Knob) {
        let size = self.noted();
        flush(within, va, size, rule);
    }
}

fn flush(within: &Invalidation<'_>, va: VirtAddr, size: u64, rule: Knob) {
    if knobs::on(rule) {
        within.flush(va, size);
    }
}

#[cfg(debug_assertions)]
impl<const SIZE: u64> Drop for Unhooked<SIZE> {
    fn drop(&mut self) {
        dropped("an entry was taken out");
    }
}

#[cfg(debug_assertions)]
impl<const SIZE: u64> Drop for Weaker<SIZE> {
    fn drop(&mut self) {
        dropped("an entry lost a right");
    }
}

#[cfg(debug_assertions)]
#[cold]
fn dropped(what: &str) {
    assert!(sync::unwinding(), "{what}, and no flush was told");
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "an entry was taken out, and no flush was told")]
    fn what_was_taken_out_is_not_forgotten() {
        drop(Unhooked::<PAGE_SIZE>::new(Entry::NONE));
    }

    #[test]
    #[should_panic(expected = "an entry lost a right, and no flush was told")]
    fn what_lost_a_right_is_not_forgotten() {
        drop(Weaker::<PAGE_SIZE>::new(Entry::NONE));
    }

    #[test]
    #[should_panic(expected = "is_present")]
    fn what_a_cpu_may_use_was_used() {
        let _ = Unhooked::<PAGE_SIZE>::new(Entry(arch::pte::PRESENT)).never_used();
    }
}
