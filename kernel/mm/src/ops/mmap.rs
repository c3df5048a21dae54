//! mmap of anonymous private memory: a new area, or a neighbour made longer.
//!
//! Takes `mmap_lock` exclusively; sleeps; allocates records, never frames. Every area has its anon_vma
//! from the start, so that a fault needs nothing from the heap.

use super::args::{MapFlags, Prot, Range};
use super::munmap::{self, OldTables};
use super::write;
use crate::error::MmError;
use crate::handle::MmRef;
use crate::vma::set::{MMAP_TOP, VmaSet};
use crate::vma::{anon, edit, vm};
use arch::addr::{PAGE_SIZE, USER_MIN, USER_TOP, page_align_up};
use arch::{PAGE_SHIFT, VirtAddr};

impl MmRef {
    /// Maps `len` bytes (rounded up to pages) of zeroes. Without FIXED the hint is only tried, and a
    /// place is looked for from the top down; with it, what was mapped there goes.
    ///
    /// # Errors
    /// Invalid: empty, FIXED without an aligned hint at or above [`USER_MIN`]. Exists: FIXED_NOREPLACE, and the
    /// range is not free. NoMemory: no room in the address space, or no memory for the records. Killed.
    pub fn mmap(
        &self,
        hint: Option<VirtAddr>,
        len: u64,
        prot: Prot,
        flags: MapFlags,
    ) -> Result<VirtAddr, MmError> {
        if len == 0 {
            return Err(MmError::Invalid);
        }
        if len > USER_TOP - USER_MIN {
            return Err(MmError::NoMemory);
        }
        let len = page_align_up(len);
        let mut set = write(self)?;
        let range = place(&set, hint, len, flags)?;
        let mut vm_flags = prot.vm();
        if flags.has(MapFlags::GROWSDOWN) {
            vm_flags |= vm::GROWSDOWN;
        }
        map(self, &mut set, range, vm_flags)?;
        self.total_vm.add((len >> PAGE_SHIFT) as i64);
        Ok(VirtAddr(range.start))
    }
}

/// Where the mapping goes.
fn place(
    set: &VmaSet,
    hint: Option<VirtAddr>,
    len: u64,
    flags: MapFlags,
) -> Result<Range, MmError> {
    let only = flags.has(MapFlags::FIXED_NOREPLACE);
    if only || flags.has(MapFlags::FIXED) {
        let va = hint.filter(|va| va.0 >= USER_MIN).ok_or(MmError::Invalid)?;
        let range = Range::new(va, len, MmError::NoMemory)?.ok_or(MmError::Invalid)?;
        if only && set.overlapping(range.start, range.end).next().is_some() {
            return Err(MmError::Exists);
        }
        return Ok(range);
    }
    if let Some(start) = hint.map(|va| va.page().0.max(USER_MIN))
        && start <= USER_TOP - len
        && set.is_free(start, start + len)
    {
        return Ok(Range {
            start,
            end: start + len,
        });
    }
    find_room(set, len)
}

/// A free range of `len` bytes, as high as possible.
///
/// # Errors
/// [`MmError::NoMemory`] when there is none.
pub(super) fn find_room(set: &VmaSet, len: u64) -> Result<Range, MmError> {
    debug_assert!(len.is_multiple_of(PAGE_SIZE));
    let start = set
        .find_gap(len, USER_MIN, MMAP_TOP)
        .or_else(|| set.find_gap(len, USER_MIN, USER_TOP))
        .ok_or(MmError::NoMemory)?;
    Ok(Range {
        start,
        end: start + len,
    })
}

/// Puts the area in, in place of what is there.
fn map(mm: &MmRef, set: &mut VmaSet, range: Range, flags: u32) -> Result<(), MmError> {
    let Range { start, end } = range;
    let pgoff = VirtAddr(start).page_index();
    if set.overlapping(start, end).next().is_some() {
        return replace(mm, set, range, flags);
    }
    if edit::absorb(set, start, end, pgoff, flags) {
        return Ok(());
    }
    let id = edit::create(mm.id(), start, end, pgoff, flags)?;
    if let Err(e) = edit::attach(set, id) {
        edit::discard(id);
        return Err(e);
    }
    set.insert(id);
    Ok(())
}

/// As [`map`], where something is mapped. The new area is made before the old ones go, and given back if a
/// neighbour turns out to take the range in.
fn replace(mm: &MmRef, set: &mut VmaSet, range: Range, flags: u32) -> Result<(), MmError> {
    let Range { start, end } = range;
    let pgoff = VirtAddr(start).page_index();
    let id = edit::create(mm.id(), start, end, pgoff, flags)?;
    let ready = anon::prepare(id);
    if let Err(e) = ready.and_then(|()| munmap::unmap(mm, set, range, OldTables::Keep)) {
        edit::discard(id);
        return Err(e);
    }
    if edit::absorb(set, start, end, pgoff, flags) {
        edit::discard(id);
    } else {
        set.insert(id);
    }
    Ok(())
}
