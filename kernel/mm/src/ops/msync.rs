//! msync: what was stored to shared mappings of files becomes durable.
//!
//! Takes `mmap_lock` shared to find the areas, and lets go of it for the disk: each is found anew
//! from where the one before ended, as others may have changed the address space meanwhile. Sleeps.

use super::args::{Range, Sync};
use super::read;
use crate::error::MmError;
use crate::file::writeback;
use crate::handle::MmRef;
use crate::pagecache::opened::OpenFile;
use crate::vma::{Vma, vm};
use arch::VirtAddr;
use arch::addr::PAGE_SIZE;
use core::ops::RangeInclusive;

impl MmRef {
    /// Writes what was stored through shared mappings of `len` bytes (rounded up to pages) from
    /// `va` on. With [`Sync::Wait`] all of it is durable afterwards, if all of it could be written.
    ///
    /// # Errors
    /// Invalid: unaligned, or beyond the user half. NotMapped: there are holes; the rest was
    /// written. Io: a write to one of the files has failed since the open file behind the mapping
    /// was last told so. Killed.
    pub fn msync(&self, va: VirtAddr, len: u64, how: Sync) -> Result<(), MmError> {
        let Some(range) = Range::new(va, len, MmError::Invalid)? else {
            return Ok(());
        };
        let (mut at, mut holes, mut result) = (range.start, false, Ok(()));
        while at < range.end {
            let Some(part) = self.part(at, range.end)? else {
                holes = true;
                break;
            };
            holes |= part.start > at;
            at = part.end;
            let wrote = part.write(how);
            result = result.and(wrote);
        }
        result.and(if holes {
            Err(MmError::NotMapped)
        } else {
            Ok(())
        })
    }

    /// What is mapped first in `from..to`.
    fn part(&self, from: u64, to: u64) -> Result<Option<Part>, MmError> {
        let set = read(self)?;
        let area = set.find(VirtAddr(from)).filter(|area| area.start() < to);
        Ok(area.map(|area| Part::new(area, from, to)))
    }
}

/// What of the range lies in one area.
struct Part {
    start: u64,
    end: u64,
    /// Of a shared area: the open file and the pages.
    file: Option<(OpenFile, RangeInclusive<u32>)>,
}

impl Part {
    fn new(area: &Vma, from: u64, to: u64) -> Self {
        let (start, end) = (area.start().max(from), area.end().min(to));
        let pages = area.index_of(VirtAddr(start))..=area.index_of(VirtAddr(end - PAGE_SIZE));
        let opened = area.opened().filter(|_| area.has(vm::SHARED));
        Self {
            start,
            end,
            file: opened.map(|opened| (opened, pages)),
        }
    }

    fn write(self, how: Sync) -> Result<(), MmError> {
        let Some((opened, pages)) = self.file else {
            return Ok(());
        };
        match how {
            Sync::Start => {
                writeback::start(opened.file(), &pages);
                Ok(())
            }
            Sync::Wait => writeback::sync(&opened, Some(pages)),
        }
    }
}
