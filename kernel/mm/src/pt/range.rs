//! A range of addresses, table by table and entry by entry: what every operation on a range goes
//! by.
//!
//! The caller holds `mmap_lock` at least shared, or a lock of a reverse map, so that no table goes
//! away. [`Tables`] takes no lock; [`locked`] takes the PTL of one table at a time, or the lock of
//! one PMD table. Never sleeps.

use super::split::split;
use super::{Pmd, PmdLocked, PmdRef, PteLocked, TableRef, UpperRef};
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
    passes_huge: bool,
}

impl<'a> Tables<'a> {
    /// The tables of `start..end`, where no huge page is mapped.
    pub(crate) fn new(mm: &'a Mm, start: u64, end: u64) -> Self {
        Self {
            mm,
            va: start,
            end,
            passes_huge: false,
        }
    }

    /// The tables of `start..end`, for a caller to which huge pages do not matter.
    pub(crate) fn beside_huge(mm: &'a Mm, start: u64, end: u64) -> Self {
        Self {
            passes_huge: true,
            ..Self::new(mm, start, end)
        }
    }
}

impl Iterator for Tables<'_> {
    type Item = Span;

    #[inline]
    fn next(&mut self) -> Option<Span> {
        loop {
            match next_part(self.mm, self.va, self.end)? {
                Part::Table(span) => {
                    self.va = span.end;
                    return Some(span);
                }
                Part::Huge(_, va) if self.passes_huge => self.va = end_of_table(va, self.end),
                Part::Huge(pmd, _) => pmd.read().unmet(),
            }
        }
    }
}

/// What is mapped by one PMD.
enum Part {
    Table(Span),
    /// A huge page, or one that is being split: its PMD, and where the range goes on in it.
    Huge(PmdRef, u64),
}

/// The part of the PMD's range from `va` on ends here.
fn end_of_table(va: u64, end: u64) -> u64 {
    ((va & !(PMD_SIZE - 1)) + PMD_SIZE).min(end)
}

/// The first table or huge page at or after `va` of which some lies before `end`.
#[inline(always)]
fn next_part(mm: &Mm, mut va: u64, end: u64) -> Option<Part> {
    while va < end {
        let Some(pmd) = PmdRef::lookup(mm, VirtAddr(va)) else {
            va = end_of_hole(mm, va);
            continue;
        };
        let table_end = end_of_table(va, end);
        match pmd.read() {
            Pmd::Table(table) => {
                return Some(Part::Table(Span {
                    table,
                    start: va,
                    end: table_end,
                }));
            }
            Pmd::None => va = table_end,
            Pmd::Huge(_) | Pmd::Invalid(_) => return Some(Part::Huge(pmd, va)),
            moving @ Pmd::Migration(_) => moving.unmet(),
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
/// covers. It returns how far it came, and is called again from there. Huge pages are split.
#[inline(always)]
pub(crate) fn locked(
    mm_id: u32,
    mm: &Mm,
    start: u64,
    end: u64,
    mut each: impl FnMut(PteLocked, u64, u64) -> u64,
) {
    visit::<false>(mm_id, mm, start, end, |part| match part {
        Locked::Table(pte, start, end) => each(pte, start, end),
        Locked::Huge(pmd, _) => pmd.read().unmet(),
    });
}

/// What an operation on a range comes to.
pub(crate) enum Locked {
    /// A PTE table, and the part of the range that it covers.
    Table(PteLocked, u64, u64),
    /// The PMD of a huge page of which all lies in the range, and its first address.
    Huge(PmdLocked, VirtAddr),
}

/// As [`locked`], where a huge page stays one of which all lies in the range: `each` gets its PMD,
/// and what it returns does not count then.
#[inline(always)]
pub(crate) fn locked_or_huge(
    mm_id: u32,
    mm: &Mm,
    start: u64,
    end: u64,
    each: impl FnMut(Locked) -> u64,
) {
    visit::<true>(mm_id, mm, start, end, each);
}

#[inline(always)]
fn visit<const HUGE: bool>(
    mm_id: u32,
    mm: &Mm,
    start: u64,
    end: u64,
    mut each: impl FnMut(Locked) -> u64,
) {
    let mut va = start;
    while let Some(part) = next_part(mm, va, end) {
        va = match part {
            Part::Table(span) => match span.table.lock(VirtAddr(span.start)) {
                Ok(pte) => each(Locked::Table(pte, span.start, span.end)),
                // The PMD is read again.
                Err(super::Changed) => span.start,
            },
            Part::Huge(pmd, at) => match whole::<HUGE>(pmd, at, end) {
                Some(locked) => {
                    each(Locked::Huge(locked, VirtAddr(at)));
                    at + PMD_SIZE
                }
                None => {
                    split(mm_id, mm, VirtAddr(at));
                    at
                }
            },
        };
    }
}

/// The locked PMD of a huge page, if all of it lies in `at..end`, and the caller wants it whole.
#[cold]
#[inline(never)]
fn whole<const HUGE: bool>(pmd: PmdRef, at: u64, end: u64) -> Option<PmdLocked> {
    if !HUGE || !at.is_multiple_of(PMD_SIZE) || end - at < PMD_SIZE {
        return None;
    }
    let locked = pmd.lock();
    matches!(locked.read(), Pmd::Huge(_)).then_some(locked)
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
