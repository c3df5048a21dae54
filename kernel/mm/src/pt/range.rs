//! A range of addresses, table by table and entry by entry: what every operation on a range goes
//! by.
//!
//! The caller holds `mmap_lock` at least shared, or a lock of a reverse map, so that no table goes
//! away. [`Tables`] takes no lock; [`locked`] takes the PTL of one table at a time. Never sleeps.

use super::{Pmd, PmdRef, PteLocked, TableRef, UpperRef};
use crate::mm::Mm;
use arch::addr::{PAGE_SIZE, PMD_SIZE, span};
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use core::ops::ControlFlow::{self, Break, Continue};

/// One PTE table, and the part of the range that it covers.
pub(crate) struct Span {
    pub(crate) table: TableRef,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The PTE tables that exist in a range, in order of address.
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
        let span = next_table(self.mm, self.va, self.end)?;
        self.va = span.end;
        Some(span)
    }
}

/// The first table at or after `va` of which some lies before `end`.
#[inline(always)]
fn next_table(mm: &Mm, mut va: u64, end: u64) -> Option<Span> {
    while va < end {
        let Some(pmd) = PmdRef::lookup(mm, VirtAddr(va)) else {
            va = end_of_hole(mm, va);
            continue;
        };
        let table_end = ((va & !(PMD_SIZE - 1)) + PMD_SIZE).min(end);
        match pmd.read() {
            Pmd::Table(table) => {
                return Some(Span {
                    table,
                    start: va,
                    end: table_end,
                });
            }
            Pmd::None => va = table_end,
            huge => huge.unmet(),
        }
    }
    None
}

/// Without an upper table nothing below it exists.
fn end_of_hole(mm: &Mm, va: u64) -> u64 {
    let level = UpperRef::missing_level(mm, VirtAddr(va));
    let hole = span(level);
    (va & !(hole - 1)).saturating_add(hole)
}

/// Calls `each` with each PTE table of `start..end`, locked, and the part of the range that it
/// covers. It returns how far it came, and is called again from there.
#[inline(always)]
pub(crate) fn locked(
    mm: &Mm,
    start: u64,
    end: u64,
    mut each: impl FnMut(PteLocked, u64, u64) -> u64,
) {
    let mut va = start;
    while let Some(span) = next_table(mm, va, end) {
        va = match span.table.lock(VirtAddr(span.start)) {
            Ok(pte) => each(pte, span.start, span.end),
            // The PMD is read again.
            Err(super::Changed) => span.start,
        };
    }
}

/// Calls `each` with the cursor on each entry of `start..end`, all in one table, that is not empty.
/// Stops where it breaks, and says at which address.
#[inline(always)]
pub(crate) fn entries<C: AsMut<PteLocked>, B>(
    cursor: &mut C,
    start: u64,
    end: u64,
    mut each: impl FnMut(&mut C, VirtAddr, Entry) -> ControlFlow<B>,
) -> ControlFlow<(u64, B)> {
    let mut va = start;
    while va < end {
        let pte = cursor.as_mut();
        pte.seek(VirtAddr(va));
        let entry = pte.get();
        if !entry.is_none()
            && let Break(why) = each(cursor, VirtAddr(va), entry)
        {
            return Break((va, why));
        }
        va += PAGE_SIZE;
    }
    Continue(())
}

/// As [`entries`], to the end.
#[inline(always)]
pub(crate) fn every_entry<C: AsMut<PteLocked>>(
    cursor: &mut C,
    start: u64,
    end: u64,
    mut each: impl FnMut(&mut C, VirtAddr, Entry),
) {
    let _ = entries(cursor, start, end, |cursor, va, entry| {
        each(cursor, va, entry);
        Continue::<core::convert::Infallible>(())
    });
}

impl AsMut<Self> for PteLocked {
    #[inline]
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// What an entry of a PTE table that is not empty stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaf {
    /// A page of a folio is mapped, whether the MMU may use it or not.
    Page(Pfn),
    /// A frame without a folio: the shared zero page.
    Special,
    /// The page is in this slot.
    Swap(u32),
    /// The page is on its way from one frame to another: a fault on it waits.
    Migration,
}

impl Leaf {
    /// What `entry`, which is not empty, stands for.
    #[inline(always)]
    pub(crate) fn of(entry: Entry) -> Self {
        if entry.is_mapped() {
            if entry.is_special() {
                Self::Special
            } else {
                Self::Page(entry.pfn())
            }
        } else if entry.is_swap() {
            Self::Swap(entry.swap_slot())
        } else if entry.is_migration() {
            Self::Migration
        } else {
            unknown(entry)
        }
    }
}

#[cold]
#[inline(never)]
fn unknown(entry: Entry) -> ! {
    panic!("{entry:?} is of no kind that an entry can have")
}
