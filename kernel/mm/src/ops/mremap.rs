//! mremap: an area grows, shrinks or moves with its pages.
//!
//! Takes `mmap_lock` exclusively; sleeps. A move keeps the area's record and its page indexes, and
//! only changes the address: the locks of its reverse maps are held exclusively while entries go
//! from table to table, so a reverse walk sees every page at the old place or every page at the new
//! one. Cuts and tables are made before anything moves, so nothing has to be moved back. Per pair
//! of PTE tables both PTLs are held, the lower frame number first. One flush for the whole move,
//! before the anon_vma lock is dropped: until then no frame that moved can be freed.

use super::args::{Range, RemapFlags};
use super::mmap::{self, What, find_room};
use super::munmap::{self, OldTables};
use super::write;
use crate::error::MmError;
use crate::handle::MmRef;
use crate::knobs::{self, Knob};
use crate::pt::gather::Gather;
use crate::pt::range::{self, Span, Tables};
use crate::pt::split::split_range;
use crate::pt::{Changed, Pmd, PmdRef, PteLocked, TableRef, tlb};
use crate::vma::set::VmaSet;
use crate::vma::{edit, links, vm, vma};
use arch::addr::{PAGE_SIZE, PMD_SIZE, USER_MIN, USER_TOP, page_align_up};
use arch::pte::Entry;
use arch::{PAGE_SHIFT, VirtAddr};

impl MmRef {
    /// Makes the mapping of `old_len` bytes at `va` one of `new_len` bytes (both rounded up to
    /// pages), where it is if it can grow there, elsewhere if `flags` allow. Returns where it is
    /// now. `to` is used with FIXED only. With an `old_len` of 0 the area at `va`, which must be a
    /// shared one, stays as it is, and there is a second mapping of its pages from `va` on, if
    /// `flags` allow (as on Linux).
    ///
    /// # Errors
    /// Invalid: unaligned, a `new_len` of 0, an `old_len` of 0 in a private area, FIXED without a
    /// place or with one that meets the old range or lies outside the user half. Fault: the old
    /// range is not mapped, or (unless it only shrinks) not by one area. NoRoom where it may be.
    /// TooMany areas. NoMemory for records or tables. Killed. Nothing is changed then.
    pub fn mremap(
        &self,
        va: VirtAddr,
        old_len: u64,
        new_len: u64,
        flags: RemapFlags,
        to: Option<VirtAddr>,
    ) -> Result<VirtAddr, MmError> {
        let old = Range::new(va, old_len, MmError::Fault)?;
        if new_len == 0 {
            return Err(MmError::Invalid);
        }
        if new_len > USER_TOP - USER_MIN {
            return Err(MmError::NoRoom);
        }
        let new_len = page_align_up(new_len);
        let mut set = write(self)?;
        let Some(old) = old else {
            return duplicate(self, &mut set, va, new_len, flags, to);
        };
        let mut remap = Remap {
            mm: self,
            set: &mut set,
            old,
            new_len,
        };
        let start = if flags.has(RemapFlags::FIXED) {
            remap.place_fixed(to)?
        } else if new_len <= old.len() {
            remap.shrink()?
        } else {
            remap.grow(flags)?
        };
        Ok(VirtAddr(start))
    }
}

/// Maps what the shared area at `va` shows from there on a second time.
fn duplicate(
    mm: &MmRef,
    set: &mut VmaSet,
    va: VirtAddr,
    len: u64,
    flags: RemapFlags,
    to: Option<VirtAddr>,
) -> Result<VirtAddr, MmError> {
    let area = vma(set.find_exact(va).ok_or(MmError::Fault)?);
    let (first, pages) = (area.index_of(va), len >> PAGE_SHIFT);
    let opened = area.opened().filter(|_| area.has(vm::SHARED));
    let opened = opened.ok_or(MmError::Invalid)?;
    if u64::from(first) + pages > 1 << 32 {
        return Err(MmError::Invalid);
    }
    let new = if flags.has(RemapFlags::FIXED) {
        fixed_place(to, len).and_then(|new| match va.0 {
            at if at >= new.start && at < new.end => Err(MmError::Invalid),
            _ => Ok(new),
        })?
    } else if flags.has(RemapFlags::MAYMOVE) {
        find_room(set, len)?
    } else {
        return Err(MmError::NoRoom);
    };
    mmap::map(mm, set, new, area.flags(), &What::File(&opened, first))?;
    mm.total_vm.add(pages as i64);
    Ok(VirtAddr(new.start))
}

/// The range of `len` bytes that the caller wants.
///
/// # Errors
/// [`MmError::Invalid`] when it is none of the user half's.
fn fixed_place(to: Option<VirtAddr>, len: u64) -> Result<Range, MmError> {
    let to = to.filter(|to| to.0 >= USER_MIN).ok_or(MmError::Invalid)?;
    Range::new(to, len, MmError::Invalid)?.ok_or(MmError::Invalid)
}

/// One call.
struct Remap<'a> {
    mm: &'a MmRef,
    set: &'a mut VmaSet,
    old: Range,
    new_len: u64,
}

impl Remap<'_> {
    /// The area that holds the first `len` bytes of the old range.
    fn area(&self, len: u64) -> Result<u32, MmError> {
        let id = self
            .set
            .find_exact(VirtAddr(self.old.start))
            .ok_or(MmError::Fault)?;
        if len > vma(id).end() - self.old.start {
            return Err(MmError::Fault);
        }
        Ok(id)
    }

    /// The page indexes of the area at the new length fit their 32 bits.
    fn check_index(&self, id: u32) -> Result<(), MmError> {
        let first = vma(id).index_of(VirtAddr(self.old.start));
        let pages = self.new_len >> PAGE_SHIFT;
        if u64::from(first) + pages > 1 << 32 {
            Err(MmError::Invalid)
        } else {
            Ok(())
        }
    }

    fn shrink(&mut self) -> Result<u64, MmError> {
        self.area(PAGE_SIZE)?;
        let tail = Range {
            start: self.old.start + self.new_len,
            end: self.old.end,
        };
        if tail.start < tail.end {
            munmap::unmap(self.mm, self.set, tail, OldTables::Free)?;
        }
        Ok(self.old.start)
    }

    fn grow(&mut self, flags: RemapFlags) -> Result<u64, MmError> {
        let id = self.area(self.old.len())?;
        self.check_index(id)?;
        let end = self.old.start.saturating_add(self.new_len);
        if vma(id).end() == self.old.end && end <= USER_TOP && self.set.is_free(self.old.end, end) {
            edit::grow(self.set, id, end);
            self.count_growth(self.old.len());
            return Ok(self.old.start);
        }
        if !flags.has(RemapFlags::MAYMOVE) {
            return Err(MmError::NoRoom);
        }
        let new = find_room(self.set, self.new_len)?;
        self.move_to(new)
    }

    fn place_fixed(&mut self, to: Option<VirtAddr>) -> Result<u64, MmError> {
        let new = fixed_place(to, self.new_len)?;
        if new.meets(self.old) {
            return Err(MmError::Invalid);
        }
        let id = self.area(self.old.len().min(self.new_len))?;
        self.check_index(id)?;
        self.move_to(new)
    }

    /// Adds what the mapping grew from `len` bytes to the statistics.
    fn count_growth(&self, len: u64) {
        let pages = |bytes: u64| (bytes >> PAGE_SHIFT) as i64;
        self.mm.total_vm.add(pages(self.new_len) - pages(len));
    }

    /// Moves the old range, or as much as fits, to the start of `new`; what is mapped there goes,
    /// and what does not fit goes too.
    fn move_to(&mut self, new: Range) -> Result<u64, MmError> {
        let old = self.old;
        let kept = Range {
            start: old.start,
            end: old.start + old.len().min(self.new_len),
        };
        // What moves, moves by its PTEs.
        split_range(self.mm.id(), self.mm, old.start, old.end);
        // And where they go to, there are tables.
        split_range(self.mm.id(), self.mm, new.start, new.end);
        edit::cut_all(
            self.set,
            &[kept.start, kept.end, old.end, new.start, new.end],
        )?;
        if let Err(e) = self.make_tables(kept, new.start) {
            let mut gather = Gather::new(self.mm.id(), self.mm);
            free_spare_tables(&mut gather, self.set, new);
            drop(gather);
            for at in [kept.start, kept.end, old.end, new.start, new.end] {
                edit::heal(self.set, at);
            }
            return Err(e);
        }
        // Every cut is made: nothing below allocates.
        munmap::unmap(self.mm, self.set, new, OldTables::Keep)?;
        let id = self.area(kept.len())?;
        self.rehome(id, kept, new);
        if kept.end < old.end {
            let rest = Range {
                start: kept.end,
                end: old.end,
            };
            munmap::unmap(self.mm, self.set, rest, OldTables::Free)?;
        }
        edit::heal(self.set, new.start);
        edit::heal(self.set, new.end);
        self.count_growth(kept.len());
        Ok(new.start)
    }

    /// Makes what the move needs at the new place: tables for the entries of every one that `old`
    /// has, or the levels above where a table can move as a whole.
    fn make_tables(&self, old: Range, to: u64) -> Result<(), MmError> {
        for span in Tables::new(self.mm, old.start, old.end) {
            let at = to + (span.start - old.start);
            if is_whole(&span, at) {
                PmdRef::lookup_or_alloc(self.mm, VirtAddr(at))?;
                continue;
            }
            let last = at + (span.end - span.start) - 1;
            for va in [at, last] {
                let pmd = PmdRef::lookup_or_alloc(self.mm, VirtAddr(va))?;
                match pmd.table_or_alloc(self.mm.id(), self.mm)? {
                    Pmd::Table(_) => {}
                    huge => huge.unmet(),
                }
            }
        }
        Ok(())
    }

    /// Gives the area `id`, which covers exactly `old`, its new place, and moves its entries there.
    fn rehome(&mut self, id: u32, old: Range, new: Range) {
        let area = vma(id);
        let mut gather = Gather::new(self.mm.id(), self.mm);
        self.set.remove(id);
        links::adjust(&[id], || {
            for span in Tables::new(self.mm, old.start, old.end) {
                move_table(&mut gather, &span, new.start.wrapping_sub(old.start));
            }
            area.set_start(new.start);
            area.set_end(new.end);
            self.set.insert(id);
            // No area is at the old place any more, and reverse walks wait for the lock that is
            // held here.
            munmap::free_tables(&mut gather, self.set, old.start, old.end);
            if knobs::on(Knob::MoveFlush) {
                gather.flush();
            }
        });
    }
}

/// The part is a whole table's, here and at its new place `to`.
fn is_whole(span: &Span, to: u64) -> bool {
    (span.start | span.end | to).is_multiple_of(PMD_SIZE)
}

/// Moves one old table, or its entries, which go to one or two new ones.
fn move_table(gather: &mut Gather<'_>, span: &Span, distance: u64) {
    let to = span.start.wrapping_add(distance);
    if is_whole(span, to) && move_whole(gather, span, to) {
        return;
    }
    let mut va = span.start;
    while va < span.end {
        let to = va.wrapping_add(distance);
        let room = PMD_SIZE - (to & (PMD_SIZE - 1));
        let end = span.end.min(va + room);
        move_entries(gather, span.table, va, end, to);
        va = end;
    }
}

/// Moves a table as a whole, unless what was mapped at the new place left one there.
fn move_whole(gather: &mut Gather<'_>, span: &Span, to: u64) -> bool {
    let mm = gather.mm();
    let dest = PmdRef::lookup(mm, VirtAddr(to));
    let moved = dest.is_some_and(|dest| span.table.move_to(dest));
    if moved {
        // Reclaim cannot add to the batch now: it would need the anon_vma lock that is held here.
        tlb::flush_batched_pending(gather.mm_id(), mm);
        gather.note_range(span.start, span.end);
    }
    moved
}

/// Moves the entries of `va..end`, all in one table, to `to` and on, all in one table.
fn move_entries(gather: &mut Gather<'_>, from: TableRef, va: u64, end: u64, to: u64) {
    let mm = gather.mm();
    let dest = match PmdRef::read_at(mm, VirtAddr(to)) {
        Pmd::Table(table) => table,
        Pmd::None => unreachable!("the tables were made before"),
        huge => huge.unmet(),
    };
    let Ok((mut src, mut other)) = lock_both(from, VirtAddr(va), dest, VirtAddr(to)) else {
        unreachable!("a table went away under mmap_lock held exclusively");
    };
    tlb::flush_batched_pending(gather.mm_id(), mm);
    range::every_entry(&mut src, va, end, |src, at, _| {
        let entry = gather.note_moved(at, src.unhook(Entry::NONE));
        let dst = other.as_mut().unwrap_or(src);
        dst.seek(VirtAddr(to + (at.0 - va)));
        dst.set(entry);
    });
}

/// Locks both tables, the lower frame number first; one lock when they are the same table.
fn lock_both(
    a: TableRef,
    a_va: VirtAddr,
    b: TableRef,
    b_va: VirtAddr,
) -> Result<(PteLocked, Option<PteLocked>), Changed> {
    if a.pfn() == b.pfn() {
        return Ok((a.lock(a_va)?, None));
    }
    if a.pfn() < b.pfn() {
        let first = a.lock(a_va)?;
        Ok((first, Some(b.lock_nested(b_va)?)))
    } else {
        let first = b.lock(b_va)?;
        Ok((a.lock_nested(a_va)?, Some(first)))
    }
}

/// Frees the tables of `range` that cover no area: they were made for a move that does not happen.
fn free_spare_tables(gather: &mut Gather<'_>, set: &VmaSet, range: Range) {
    let mut at = range.start;
    while at < range.end {
        let next = set.find(VirtAddr(at));
        let gap_end = next.map_or(range.end, |area| area.start().min(range.end));
        if at < gap_end {
            munmap::free_tables(gather, set, at, gap_end);
        }
        at = next.map_or(range.end, |area| area.end());
    }
}
