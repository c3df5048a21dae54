//! mprotect: the areas of a range get new rights, and so do their entries.
//!
//! Takes `mmap_lock` exclusively, one PTL at a time inside; sleeps. A right that was taken away is
//! flushed before `mmap_lock` is dropped; an upgrade needs no flush. An entry that becomes writable
//! in principle gets its write bit at once when the folio is this address space's alone (Linux
//! commit 64fe24a3); others wait for the write fault to copy them.

use super::args::{Prot, Range};
use super::weakened::Weakened;
use super::write;
use crate::error::MmError;
use crate::folio::Folio;
use crate::handle::MmRef;
use crate::knobs::Knob;
use crate::pt::range::{self, Leaf, Locked};
use crate::pt::split::split_ends;
use crate::pt::{KEPT, PmdLocked, PteLocked, tlb};
use crate::rmap::sole;
use crate::vma::set::VmaSet;
use crate::vma::{Vma, edit, vm, vma};
use arch::pte::{self, Entry};
use arch::{Pfn, VirtAddr};

impl MmRef {
    /// Sets the protection of `len` bytes (rounded up to pages) from `va` on.
    ///
    /// # Errors
    /// Invalid: unaligned. NoMemory, TooMany: no record for a new area. Killed. Nothing is changed
    /// then. NotMapped: part of the range is not mapped, or lies beyond the user half; what lies in
    /// front of the first such page has its new protection then (as on Linux).
    pub fn mprotect(&self, va: VirtAddr, len: u64, prot: Prot) -> Result<(), MmError> {
        let Some((range, whole)) = Range::clipped(va, len, MmError::NotMapped)? else {
            return Ok(());
        };
        let mut set = write(self)?;
        let mapped = Range {
            end: mapped_up_to(&set, range),
            ..range
        };
        if mapped.start < mapped.end {
            set_rights(self, &mut set, mapped, prot)?;
        }
        if whole && mapped == range {
            Ok(())
        } else {
            Err(MmError::NotMapped)
        }
    }
}

/// Gives a range that is mapped its protection: as a whole, or not at all.
fn set_rights(mm: &MmRef, set: &mut VmaSet, range: Range, prot: Prot) -> Result<(), MmError> {
    split_ends(mm.id(), mm, range.start, range.end);
    let mut weak = Weakened::new(mm.id(), mm, Knob::WpFlush);
    if shift_boundary(set, range, prot) {
        change(mm, &mut weak, area_at(set, range.start), range);
        return Ok(());
    }
    edit::cut_all(set, &[range.start, range.end])?;
    for id in set.overlapping(range.start, range.end) {
        let area = vma(id);
        let flags = area.flags() & !vm::PROT | prot.vm();
        if flags != area.flags() {
            area.set_flags(flags);
            let whole = Range {
                start: area.start(),
                end: area.end(),
            };
            change(mm, &mut weak, area, whole);
        }
    }
    drop(weak);
    join(set, range);
    Ok(())
}

fn area_at(set: &VmaSet, va: u64) -> &'static Vma {
    match set.find(VirtAddr(va)) {
        Some(area) if area.start() <= va => area,
        _ => unreachable!("the range was found mapped"),
    }
}

/// Where the first hole in the range begins, or its end without one.
fn mapped_up_to(set: &VmaSet, range: Range) -> u64 {
    let mut at = range.start;
    for id in set.overlapping(range.start, range.end) {
        if vma(id).start() > at {
            return at;
        }
        at = vma(id).end().min(range.end);
    }
    at
}

/// One end of an area is to become like the neighbour there: only the boundary moves (a heap that
/// grows into its reserve). False when it is not that case.
fn shift_boundary(set: &mut VmaSet, range: Range, prot: Prot) -> bool {
    let Some(id) = set.find_id(VirtAddr(range.start)) else {
        return false;
    };
    let area = vma(id);
    let flags = area.flags() & !vm::PROT | prot.vm();
    if flags == area.flags() || range.end > area.end() {
        return false;
    }
    let at_start = range.start == area.start();
    let at_end = range.end == area.end();
    if at_start == at_end {
        return false;
    }
    let (near, below, above) = if at_start {
        match set.prev(id) {
            Some(prev) => (prev, prev, id),
            None => return false,
        }
    } else {
        match set.next(id) {
            Some(next) => (next, id, next),
            None => return false,
        }
    };
    if vma(near).flags() != flags || !edit::continues(below, above) {
        return false;
    }
    edit::shift(
        set,
        below,
        above,
        if at_start { range.end } else { range.start },
    );
    true
}

/// Joins what became alike in the range and at its ends.
fn join(set: &mut VmaSet, range: Range) {
    let mut at = range.start;
    while at < range.end {
        edit::heal(set, at);
        at = area_at(set, at).end();
    }
    edit::heal(set, range.end.min(at));
}

/// Gives the entries of the range, which lies in `area`, the area's rights.
#[inline(always)]
fn change(mm: &MmRef, weak: &mut Weakened<'_>, area: &Vma, range: Range) {
    let rights = Rights {
        bits: area.entry_bits(),
        write: area.has(vm::WRITE),
    };
    range::locked_or_huge(mm.id(), mm, range.start, range.end, |part| {
        match part {
            Locked::Table(mut pte, start, end) => {
                tlb::flush_batched_pending(mm.id(), mm);
                // A file that is cut off meanwhile needs no `mmap_lock` to empty entries here.
                tlb::flush_gathered_pending(mm.id(), mm);
                range::every_entry(&mut pte, start, end, |pte, va, old| {
                    change_entry(weak, pte, va, old, rights);
                });
                end
            }
            Locked::Huge(pmd, va) => {
                change_huge(weak, pmd, va, rights);
                va.0
            }
        }
    });
}

/// As [`change_entry`], of a huge page: it is the area's alone.
#[cold]
#[inline(never)]
fn change_huge(weak: &mut Weakened<'_>, mut pmd: PmdLocked, va: VirtAddr, rights: Rights) {
    let write = if rights.write { pte::WRITE } else { 0 };
    match pmd.set_rights(rights.bits | write) {
        Some(weaker) => weak.note(va, weaker),
        None => weak.upgraded(),
    }
}

/// What an area allows.
#[derive(Clone, Copy)]
struct Rights {
    /// Without the write bit.
    bits: u64,
    write: bool,
}

impl Rights {
    /// The bits for an entry that maps `pfn`: writable only if the folio belongs to this address
    /// space alone.
    #[inline]
    fn of_page(self, pfn: Pfn) -> u64 {
        if self.write && sole::is_exclusive(Folio::of(pfn)) {
            self.bits | pte::WRITE
        } else {
            self.bits
        }
    }
}

#[inline]
fn change_entry(
    weak: &mut Weakened<'_>,
    pte: &mut PteLocked,
    va: VirtAddr,
    old: Entry,
    rights: Rights,
) {
    let bits = match Leaf::of(old) {
        Leaf::Page(pfn) => rights.of_page(pfn),
        Leaf::Special => rights.bits,
        // Carry no rights; what brings the page back asks the area.
        Leaf::Swap(_) | Leaf::Migration => return,
    };
    if !old.is_present() {
        // No TLB has it, and the MMU leaves it alone.
        pte.set(Entry(old.0 & KEPT | bits));
    } else if old.0 & !KEPT != bits {
        match pte.set_rights(bits) {
            Some(weaker) => weak.note(va, weaker),
            None => weak.upgraded(),
        }
    }
}
