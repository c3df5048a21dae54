//! The bracket around what takes entries out, or weakens them: it begins before the first table
//! lock is taken and ends after the last one is dropped (rule 12; Linux:
//! `mmu_notifier_invalidate_range_start` and `_end`).
//!
//! A translation that lives outside of the CPUs' TLBs can be told of a change only where its owner
//! may sleep. Under a PTL it may not: a flush there is inside an [`Invalidation`], which the flush
//! asks for. [`Gather`](super::gather::Gather) and `ops::weakened` are brackets themselves. Debug
//! builds stop where one begins or ends under a lock of a table. Takes no lock.

use super::tlb;
use crate::mm::Mm;
use arch::VirtAddr;
use core::ops::Range;
#[cfg(debug_assertions)]
use sync::Rank;

/// An operation is about to change entries of a part of an address space. While this lives, a
/// translation of that part may come to an end.
pub(crate) struct Invalidation<'a> {
    mm: &'a Mm,
    mm_id: u32,
    part: Range<u64>,
}

impl<'a> Invalidation<'a> {
    /// Begins, for `size` bytes from `va` on. No table is locked.
    #[inline(always)]
    pub(crate) fn begin(mm_id: u32, mm: &'a Mm, va: VirtAddr, size: u64) -> Self {
        assert_no_table_locked();
        Self {
            mm,
            mm_id,
            part: va.0..va.0 + size,
        }
    }

    /// The address space.
    #[inline(always)]
    pub(crate) fn mm(&self) -> &'a Mm {
        self.mm
    }

    /// Makes every CPU forget its translations of `size` bytes from `va` on, which are inside of
    /// what is invalidated. May be called under a PTL.
    pub(super) fn flush(&self, VirtAddr(start): VirtAddr, size: u64) {
        let end = start + size;
        assert_covers(&self.part, start..end);
        tlb::flush_range(self.mm_id, self.mm, start, end, false);
    }
}

#[cfg(debug_assertions)]
impl Drop for Invalidation<'_> {
    fn drop(&mut self) {
        assert_no_table_locked();
    }
}

/// In debug builds: what is flushed was said to be invalidated.
#[inline(always)]
fn assert_covers(part: &Range<u64>, flushed: Range<u64>) {
    debug_assert!(
        part.start <= flushed.start && flushed.end <= part.end,
        "{flushed:#x?} is flushed where {part:#x?} is invalidated"
    );
}

/// Rule 12, in debug builds: here a bracket may begin or end.
#[inline(always)]
pub(crate) fn assert_no_table_locked() {
    #[cfg(debug_assertions)]
    if !sync::unwinding() {
        sync::held(&mut |rank| {
            assert!(
                !matches!(rank, Rank::Pmd | Rank::Ptl),
                "an invalidation begins or ends under the lock of a page table"
            );
        });
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_flush_of_a_part_is_covered() {
        assert_covers(&(0x1000..0x3000), 0x1000..0x3000);
        assert_covers(&(0x1000..0x3000), 0x2000..0x3000);
    }

    #[test]
    #[should_panic(expected = "is flushed where")]
    fn a_flush_beyond_it_is_noticed() {
        assert_covers(&(0x1000..0x3000), 0x2000..0x4000);
    }

    #[test]
    #[should_panic(expected = "is flushed where")]
    fn a_flush_before_it_is_noticed() {
        assert_covers(&(0x1000..0x3000), 0..0x2000);
    }
}
