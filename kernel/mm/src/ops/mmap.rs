//! mmap of anonymous memory and of files: a new area, or a neighbour made longer.
//!
//! Takes `mmap_lock` exclusively, inside it the locks of reverse maps; sleeps; allocates records,
//! never frames. Every area that may hold anonymous pages has its anon_vma from the start, so that
//! a fault needs nothing from the heap.

use super::args::{MapFlags, Prot, Range};
use super::munmap::{self, OldTables};
use super::write;
use crate::error::MmError;
use crate::file::{self, Opener};
use crate::handle::MmRef;
use crate::pagecache::opened::OpenFile;
use crate::vma::set::{MMAP_TOP, VmaSet};
use crate::vma::{anon, edit, vm, vma};
use arch::addr::{PAGE_SIZE, USER_MIN, USER_TOP, page_align_up};
use arch::{PAGE_SHIFT, VirtAddr};

impl MmRef {
    /// Maps `len` bytes (rounded up to pages) of zeroes; SHARED ones are one memory for whoever is
    /// forked. Without FIXED the hint is only tried, and a place is looked for from the top down;
    /// with it, what was mapped there goes.
    ///
    /// # Errors
    /// Invalid: empty, SHARED and GROWSDOWN, FIXED without an aligned hint at or above
    /// [`USER_MIN`]. Exists: FIXED_NOREPLACE, and the range is not free. NoRoom: no such range is
    /// free. TooMany areas. NoMemory. Killed.
    pub fn mmap(
        &self,
        hint: Option<VirtAddr>,
        len: u64,
        prot: Prot,
        flags: MapFlags,
    ) -> Result<VirtAddr, MmError> {
        if flags.has(MapFlags::SHARED) {
            // As much of a file in memory, which goes with the last area that shows it (Linux:
            // `shmem_zero_setup`).
            let zeroes = file::shmem(page_align_up(len.min(USER_TOP)))?;
            return self.mmap_file(hint, len, prot, flags, &zeroes, 0);
        }
        let mut vm_flags = prot.vm();
        if flags.has(MapFlags::GROWSDOWN) {
            vm_flags |= vm::GROWSDOWN;
        }
        self.map_what(hint, len, flags, vm_flags, &What::Zeroes)
    }

    /// Maps `len` bytes (rounded up to pages) of a file from its page `first` on; as
    /// [`MmRef::mmap`] otherwise. The mapping may reach beyond the end of the file: an access there
    /// fails with `Bus`. The open file stays in use until the last area that maps it goes.
    ///
    /// # Errors
    /// As [`MmRef::mmap`]. Invalid: also page numbers that do not fit 32 bits, or GROWSDOWN.
    pub fn mmap_file(
        &self,
        hint: Option<VirtAddr>,
        len: u64,
        prot: Prot,
        flags: MapFlags,
        file: &Opener,
        first: u32,
    ) -> Result<VirtAddr, MmError> {
        let pages = page_align_up(len.min(USER_TOP)) >> PAGE_SHIFT;
        if u64::from(first) + pages > 1 << 32 || flags.has(MapFlags::GROWSDOWN) {
            return Err(MmError::Invalid);
        }
        let mut vm_flags = prot.vm();
        if flags.has(MapFlags::SHARED) {
            vm_flags |= vm::SHARED;
        }
        self.map_what(
            hint,
            len,
            flags,
            vm_flags,
            &What::File(&file.share(), first),
        )
    }

    fn map_what(
        &self,
        hint: Option<VirtAddr>,
        len: u64,
        flags: MapFlags,
        vm_flags: u32,
        what: &What<'_>,
    ) -> Result<VirtAddr, MmError> {
        if len == 0 {
            return Err(MmError::Invalid);
        }
        if len > USER_TOP - USER_MIN {
            return Err(MmError::NoRoom);
        }
        let len = page_align_up(len);
        let mut set = write(self)?;
        let range = place(&set, hint, len, flags)?;
        map(self, &mut set, range, vm_flags, what)?;
        self.total_vm.add((len >> PAGE_SHIFT) as i64);
        Ok(VirtAddr(range.start))
    }
}

/// What a new area shows.
pub(super) enum What<'a> {
    Zeroes,
    /// This file, from this page on.
    File(&'a OpenFile, u32),
}

impl What<'_> {
    /// The page index of an area's first page.
    fn pgoff(&self, start: u64) -> u32 {
        match self {
            Self::Zeroes => VirtAddr(start).page_index(),
            Self::File(_, first) => *first,
        }
    }

    /// Lets a neighbour show the range as well; true when one does.
    fn absorb(&self, set: &mut VmaSet, range: Range, flags: u32) -> bool {
        let Range { start, end } = range;
        matches!(self, Self::Zeroes) && edit::absorb(set, start, end, self.pgoff(start), flags)
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
        let range = Range::new(va, len, MmError::NoRoom)?.ok_or(MmError::Invalid)?;
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
/// [`MmError::NoRoom`] when there is none.
pub(super) fn find_room(set: &VmaSet, len: u64) -> Result<Range, MmError> {
    debug_assert!(len.is_multiple_of(PAGE_SIZE));
    let start = set
        .find_gap(len, USER_MIN, MMAP_TOP)
        .or_else(|| set.find_gap(len, USER_MIN, USER_TOP))
        .ok_or(MmError::NoRoom)?;
    Ok(Range {
        start,
        end: start + len,
    })
}

/// Puts the area in, in place of what is there.
pub(super) fn map(
    mm: &MmRef,
    set: &mut VmaSet,
    range: Range,
    flags: u32,
    what: &What<'_>,
) -> Result<(), MmError> {
    let Range { start, end } = range;
    if set.overlapping(start, end).next().is_some() {
        return replace(mm, set, range, flags, what);
    }
    if what.absorb(set, range, flags) {
        return Ok(());
    }
    let id = edit::create(set, mm.id(), start, end, what.pgoff(start), flags)?;
    let ready = match what {
        What::Zeroes => edit::attach(set, id),
        What::File(..) => edit::prepare_file(id),
    };
    if let Err(e) = ready {
        edit::discard(id);
        return Err(e);
    }
    insert(set, id, what);
    Ok(())
}

/// As [`map`], where something is mapped. The new area is made before the old ones go, and given
/// back if a neighbour turns out to take the range in.
fn replace(
    mm: &MmRef,
    set: &mut VmaSet,
    range: Range,
    flags: u32,
    what: &What<'_>,
) -> Result<(), MmError> {
    let Range { start, end } = range;
    let id = edit::create(set, mm.id(), start, end, what.pgoff(start), flags)?;
    let ready = match what {
        What::Zeroes => anon::prepare(id),
        What::File(..) => edit::prepare_file(id),
    };
    if let Err(e) = ready.and_then(|()| munmap::unmap(mm, set, range, OldTables::Keep)) {
        edit::discard(id);
        return Err(e);
    }
    if what.absorb(set, range, flags) {
        edit::discard(id);
    } else {
        insert(set, id, what);
    }
    Ok(())
}

/// Puts a new area in. One that goes on where a neighbour ends in the same file becomes part of it.
fn insert(set: &mut VmaSet, id: u32, what: &What<'_>) {
    let (start, end) = (vma(id).start(), vma(id).end());
    let What::File(file, _) = what else {
        set.insert(id);
        return;
    };
    edit::attach_file(id, file.share());
    set.insert(id);
    edit::heal(set, start);
    edit::heal(set, end);
}
