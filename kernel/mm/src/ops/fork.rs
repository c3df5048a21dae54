//! fork: a copy-on-write copy of an address space.
//!
//! Takes the parent's `mmap_lock` exclusively, then the child's; per pair of PTE tables the
//! parent's PTL, then the child's (nobody else knows the child's tables, but for reverse walks,
//! which take one PTL at a time: no order can be violated). Tables, and frames for the counts of
//! widely shared slots, are allocated with no PTL held. Sleeps.
//!
//! Only tables that the parent has are copied, and no pages of files: the child's faults find those
//! in the page cache. A shared page loses its write bit in both and is no longer EXCLUSIVE; the
//! parent's CPUs are flushed once, before `mmap_lock` is dropped: from then on a write faults and
//! copies. A failure midway leaves the parent as it was, but for write bits that faults bring back;
//! what the child got is torn down with it.

use super::weakened::Weakened;
use super::{Changing, write};
use crate::buddy::Gfp;
use crate::error::MmError;
use crate::folio::Folio;
use crate::frame::flag;
use crate::handle::MmRef;
use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::pt::range::{self, Leaf, Span, Tables};
use crate::pt::split::split_range;
use crate::pt::{Pmd, PmdRef, PteLocked, TableRef, tlb};
use crate::swap::{self, area};
use crate::vma::set::VmaSet;
use crate::vma::{edit, links, pool, vm};
use arch::pte::{self, Entry};
use arch::{PAGE_SHIFT, VirtAddr};
use core::ops::ControlFlow::{Break, Continue};
use core::ops::Range;

impl MmRef {
    /// A new address space with the same areas, sharing every page until one side writes it.
    ///
    /// # Errors
    /// NoMemory: no object or table for the child, or no frame to count the sharers of a swapped
    /// page on in. Killed.
    pub fn fork(&self) -> Result<MmRef, MmError> {
        let child = MmRef::new()?;
        child.set_unborn(true);
        let copied = {
            let set = write(self)?;
            let mut copy = Copy {
                parent: self,
                child: &child,
                weak: Weakened::new(self.id(), self, Knob::WpFlush),
            };
            copy.areas(&set)
        };
        // On failure the child goes here, with no lock held.
        copied?;
        child.set_unborn(false);
        Ok(child)
    }
}

/// A fork under way. Dropping it flushes the parent.
struct Copy<'a> {
    parent: &'a MmRef,
    child: &'a MmRef,
    weak: Weakened<'a>,
}

impl Copy<'_> {
    fn areas(&mut self, set: &VmaSet) -> Result<(), MmError> {
        let mut copies = Changing::new(self.child, self.child.mmap_lock.write_nested());
        for (id, area) in set.iter() {
            let (start, end) = (area.start(), area.end());
            let copy = edit::create(
                &copies,
                self.child.id(),
                start,
                end,
                area.pgoff(),
                area.flags(),
            )?;
            if let Err(e) = links::fork(copy, id) {
                pool().free(copy);
                return Err(e);
            }
            copies.insert(copy);
            self.child
                .total_vm
                .add(((end - start) >> PAGE_SHIFT) as i64);
            if area.has(vm::SHARED) {
                // All of it is in the page cache: the child's faults find it there.
                self.link_late(copy, id);
                continue;
            }
            // Both would map a huge page: it is split first.
            split_range(self.parent.id(), self.parent, start, end);
            for span in Tables::new(self.parent, start, end) {
                if self.parent.is_killed() {
                    // The sooner its lock is free, the sooner its memory is.
                    return Err(MmError::Killed);
                }
                self.table(&span)?;
            }
            self.link_late(copy, id);
        }
        Ok(())
    }

    /// Where the rule is off by which [`links::fork`] does it before the entries are copied.
    #[inline(always)]
    fn link_late(&self, copy: u32, id: u32) {
        if !knobs::on(Knob::ForkLinked) {
            links::link_file(copy, id);
        }
    }

    /// Copies the entries of one PTE table.
    fn table(&mut self, span: &Span) -> Result<(), MmError> {
        let va = VirtAddr(span.start);
        let pmd = PmdRef::lookup_or_alloc(self.child, va)?;
        let to = match pmd.table_or_alloc(self.child.id(), self.child)? {
            Pmd::Table(table) => table,
            huge => huge.unmet(),
        };
        let mut done = Counts::default();
        let mut result = Ok(());
        let mut at = span.start;
        while result.is_ok()
            && let Err(Full { va, slot }) = self.entries(at..span.end, span, to, &mut done)
        {
            at = va;
            result = area::make_room(slot, Gfp::RECLAIM);
        }
        done.add_to(self.child);
        Ok(result?)
    }

    /// Copies the entries of `range`, as far as their swap slots can count the child's.
    fn entries(
        &mut self,
        range: Range<u64>,
        span: &Span,
        to: TableRef,
        done: &mut Counts,
    ) -> Result<(), Full> {
        let va = VirtAddr(range.start);
        let (Ok(mut from), Ok(mut to)) = (span.table.lock(va), to.lock_nested(va)) else {
            unreachable!("a table went away under mmap_lock held exclusively");
        };
        tlb::flush_batched_pending(self.parent.id(), self.parent);
        let full = range::entries(
            &mut from,
            range.start,
            range.end,
            |from, va, entry| match self.entry(from, va, entry, done) {
                Ok(copy) => {
                    to.seek(va);
                    to.set(copy);
                    Continue(())
                }
                Err(slot) => Break(slot),
            },
        );
        match full {
            Continue(()) => Ok(()),
            Break((va, slot)) => Err(Full { va, slot }),
        }
    }

    /// What the child gets for the parent's `entry`, which becomes read-only.
    ///
    /// # Errors
    /// The slot that cannot count one more.
    #[inline]
    fn entry(
        &mut self,
        from: &mut PteLocked,
        va: VirtAddr,
        entry: Entry,
        done: &mut Counts,
    ) -> Result<Entry, u32> {
        let pfn = match Leaf::of(entry) {
            Leaf::Page(pfn) => pfn,
            Leaf::Special => return Ok(entry),
            Leaf::Swap(slot) => {
                area::dup(slot).map_err(|area::NoRoom| slot)?;
                done.swapped += 1;
                return Ok(entry);
            }
            Leaf::Migration => {
                self.child.anon_pages.add(1);
                let shared = share_moving(entry);
                from.set(shared);
                return Ok(shared);
            }
        };
        let f = Folio::of(pfn);
        if f.has(flag::EXCLUSIVE) {
            f.clear(flag::EXCLUSIVE);
        } else if f.is_file() {
            // As in a shared area. The parent's entry is read-only: a private area never maps a
            // file's page writable.
            return Ok(Entry::NONE);
        }
        f.get();
        f.map_inc();
        let entry = if entry.is_write() {
            let old = from.weaken(pte::WRITE);
            // As it was at this very moment: a store that was faster than us has set D, which the
            // child must have too, for its copy may be the one that outlives the other.
            let then = old.before();
            self.weak.note(va, old);
            if knobs::on(Knob::ForkDirty) {
                then
            } else {
                entry
            }
        } else {
            entry
        };
        done.pages += 1;
        Ok(entry.without(pte::WRITE | pte::ACCESSED))
    }
}

/// The entry at `va` could not be copied: `slot` cannot count one more. With no PTL held there is
/// help.
struct Full {
    va: u64,
    slot: u32,
}

/// The migration entry of a page that is no longer one address space's alone, for both.
#[cold]
#[inline(never)]
fn share_moving(entry: Entry) -> Entry {
    if knobs::on(Knob::MigrateShared) {
        entry.without(pte::MIGRATION_EXCLUSIVE)
    } else {
        entry
    }
}

/// What was copied from one table.
#[derive(Default)]
struct Counts {
    pages: i64,
    swapped: i64,
}

impl Counts {
    fn add_to(&self, mm: &Mm) {
        mm.anon_pages.add(self.pages);
        swap::add_entries(mm, self.swapped);
    }
}
