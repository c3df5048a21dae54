//! madvise: what a program says about a range of its memory.
//!
//! Takes `mmap_lock` shared, but for advice on huge pages, then one PTL at a time; sleeps. Advice
//! applies to every mapped part of the range also when there are holes in it, as in Linux.

use super::args::{Advice, Range};
use super::{cold, hugepage, lazyfree, read};
use crate::error::MmError;
use crate::file;
use crate::frame::NIL;
use crate::handle::MmRef;
use crate::pt::gather::Gather;
use crate::pt::range::Tables;
use crate::swap::readahead;
use crate::vma::set::VmaSet;
use crate::vma::vma;
use crate::zap;
use arch::VirtAddr;
use arch::addr::PAGE_SIZE;

impl MmRef {
    /// Gives advice on `len` bytes (rounded up to pages) from `va` on.
    ///
    /// # Errors
    /// Invalid: unaligned, or beyond the user half, or `Free` where a file is mapped. NotMapped:
    /// there are holes; the rest was done. Killed.
    pub fn madvise(&self, va: VirtAddr, len: u64, advice: Advice) -> Result<(), MmError> {
        let Some(range) = Range::new(va, len, MmError::Invalid)? else {
            return Ok(());
        };
        if matches!(advice, Advice::HugePage | Advice::NoHugePage) {
            return hugepage::advise(self, range, advice == Advice::HugePage);
        }
        let set = read(self)?;
        match advice {
            Advice::DontNeed => {
                let mut gather = Gather::new(self.id(), self);
                each_part(&set, range, |part| {
                    zap::all(&mut gather, part.start, part.end)
                })
            }
            Advice::Free => {
                if part_of_file(&set, range) {
                    return Err(MmError::Invalid);
                }
                lazyfree::with(self, |lazy| each_part(&set, range, |part| lazy.range(part)))
            }
            Advice::HugePage | Advice::NoHugePage => unreachable!("needs the lock exclusively"),
            Advice::WillNeed => each_part(&set, range, |part| will_need(self, &set, part)),
            Advice::Cold => each_part(&set, range, |part| cold::deactivate(self, part)),
            Advice::PageOut => each_part(&set, range, |part| cold::page_out(self, part)),
        }
    }
}

/// Some of the range shows a file.
fn part_of_file(set: &VmaSet, range: Range) -> bool {
    set.overlapping(range.start, range.end)
        .any(|id| vma(id).file() != NIL)
}

/// Calls `f` with each mapped part of the range, one area at a time.
///
/// # Errors
/// [`MmError::NotMapped`] when there are holes, after all parts were visited.
fn each_part(set: &VmaSet, range: Range, mut f: impl FnMut(Range)) -> Result<(), MmError> {
    let (mut at, mut holes) = (range.start, false);
    for id in set.overlapping(range.start, range.end) {
        let part = Range {
            start: vma(id).start().max(range.start),
            end: vma(id).end().min(range.end),
        };
        holes |= part.start > at;
        at = part.end;
        f(part);
    }
    if holes || at < range.end {
        Err(MmError::NotMapped)
    } else {
        Ok(())
    }
}

/// Begins to read in what of the range, which lies in one area, is on a disk.
fn will_need(mm: &MmRef, set: &VmaSet, part: Range) {
    readahead::will_need(swapped(mm, part));
    let area = set.find(VirtAddr(part.start));
    if let Some((area, opened)) = area.and_then(|area| Some((area, area.opened()?))) {
        let first = area.index_of(VirtAddr(part.start));
        file::will_need(opened, first, area.index_of(VirtAddr(part.end - PAGE_SIZE)));
    }
}

/// The slots that entries of the range name now. Without a lock: a slot may be out of use when it
/// is looked at.
fn swapped(mm: &MmRef, range: Range) -> impl Iterator<Item = u32> + '_ {
    Tables::beside_huge(mm, range.start, range.end).flat_map(|span| {
        (span.start..span.end)
            .step_by(PAGE_SIZE as usize)
            .map(move |va| span.table.peek(VirtAddr(va)))
            .filter(|entry| entry.is_swap())
            .map(|entry| entry.swap_slot())
    })
}
