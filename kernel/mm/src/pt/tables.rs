//! The PTE tables that exist in a range, in order of address.
//!
//! The caller holds `mmap_lock` at least shared, so that no table goes away. Takes no lock, never sleeps.

use super::{PmdRef, UpperRef};
use crate::mm::Mm;
use arch::VirtAddr;
use arch::addr::{PAGE_SIZE, PMD_SIZE};

/// One PTE table, and the part of the range that it covers.
pub(crate) struct Span {
    pub(crate) pmd: PmdRef,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// See the module text.
pub(crate) struct Tables<'a> {
    mm: &'a Mm,
    va: u64,
    end: u64,
}

impl<'a> Tables<'a> {
    /// The tables of `start..end`.
    pub(crate) fn new(mm: &'a Mm, start: u64, end: u64) -> Self {
        Self { mm, va: start, end }
    }
}

impl Iterator for Tables<'_> {
    type Item = Span;

    #[inline]
    fn next(&mut self) -> Option<Span> {
        while self.va < self.end {
            let start = self.va;
            let Some(pmd) = PmdRef::lookup(self.mm, VirtAddr(start)) else {
                let level = UpperRef::missing_level(self.mm, VirtAddr(start));
                let hole = PAGE_SIZE << (9 * level);
                self.va = (start & !(hole - 1)).saturating_add(hole);
                continue;
            };
            let end = ((start & !(PMD_SIZE - 1)) + PMD_SIZE).min(self.end);
            self.va = end;
            if pmd.table().is_some() {
                return Some(Span { pmd, start, end });
            }
        }
        None
    }
}
