//! MADV_HUGEPAGE and MADV_NOHUGEPAGE: what areas say about huge pages.
//!
//! Takes `mmap_lock` exclusively: areas are cut at the ends of the range and joined where they have
//! become alike. Pages stay as they are, but that a huge one is split where its area is cut.
//! Sleeps.

use super::args::Range;
use super::write;
use crate::error::MmError;
use crate::handle::MmRef;
use crate::pt::split::split_ends;
use crate::vma::set::VmaSet;
use crate::vma::{edit, vm, vma};
use arch::VirtAddr;

/// Advises huge pages for the range, or against them.
///
/// # Errors
/// NotMapped: there are holes; the rest was done. NoMemory, TooMany: no record for a new area;
/// nothing is changed then. Killed.
pub(super) fn advise(mm: &MmRef, range: Range, wanted: bool) -> Result<(), MmError> {
    let mut set = write(mm)?;
    split_ends(mm.id(), mm, range.start, range.end);
    edit::cut_all(&mut set, &[range.start, range.end])?;
    let mut mapped = 0;
    for id in set.overlapping(range.start, range.end) {
        let area = vma(id);
        let flag = if wanted { vm::HUGEPAGE } else { vm::NOHUGEPAGE };
        area.set_flags(area.flags() & !(vm::HUGEPAGE | vm::NOHUGEPAGE) | flag);
        mapped += area.end() - area.start();
    }
    join(&mut set, range);
    if mapped < range.len() {
        return Err(MmError::NotMapped);
    }
    Ok(())
}

/// Joins what became alike in the range and at its ends.
fn join(set: &mut VmaSet, range: Range) {
    let mut at = range.start;
    while let Some(area) = set.find(VirtAddr(at)).filter(|a| a.start() < range.end) {
        let start = area.start().max(range.start);
        edit::heal(set, start);
        at = set.find(VirtAddr(start)).map_or(range.end, |a| a.end());
    }
    edit::heal(set, range.end);
}
