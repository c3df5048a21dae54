//! Entries that lost rights in place: the range that must be flushed before anyone relies on it
//! (rule 3).
//!
//! Takes no lock. Dropping it flushes, with no spin lock held and interrupts on; the operation
//! keeps `mmap_lock` until then. No allocation, never sleeps.

use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::pt::{Weaker, assert_no_table_locked, tlb};
use crate::stats::{Event, count, count_n};
use arch::VirtAddr;

/// The smallest range around all entries of one address space that an operation weakened.
pub(crate) struct Weakened<'a> {
    mm_id: u32,
    mm: &'a Mm,
    rule: Knob,
    start: u64,
    end: u64,
    /// Entries in it.
    nr: u64,
    changed: bool,
}

impl<'a> Weakened<'a> {
    /// Nothing yet; no table is locked (rule 12). The flush belongs to `rule`, which a test may
    /// break.
    pub(crate) fn new(mm_id: u32, mm: &'a Mm, rule: Knob) -> Self {
        assert_no_table_locked();
        Self {
            mm_id,
            mm,
            rule,
            start: u64::MAX,
            end: 0,
            nr: 0,
            changed: false,
        }
    }

    /// The present entry of `va` lost a right, or its dirty bit.
    #[inline]
    pub(crate) fn note<const SIZE: u64>(&mut self, va: VirtAddr, old: Weaker<SIZE>) {
        self.start = self.start.min(va.0);
        self.end = self.end.max(va.0 + old.noted());
        self.nr += 1;
    }

    /// An entry was changed in a way that needs no flush: a CPU that still has the weaker
    /// translation faults, and finds the stronger one.
    #[inline]
    pub(crate) fn upgraded(&mut self) {
        self.changed = true;
    }
}

impl Drop for Weakened<'_> {
    fn drop(&mut self) {
        assert_no_table_locked();
        if self.start < self.end {
            if knobs::on(self.rule) {
                count_n(Event::TlbFlushPages, self.nr);
                tlb::flush_range(self.mm_id, self.mm, self.start, self.end, false);
            }
        } else if self.changed {
            count(Event::TlbAvoided);
        }
    }
}
