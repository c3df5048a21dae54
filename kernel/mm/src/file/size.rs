//! The size of a file, and which of its pages there are: truncation, growth, holes (Linux:
//! `truncate.c`, `shmem_fallocate`).
//!
//! Cutting off (rule 10): the size is set → entries that map what is beyond are zapped → each folio
//! is locked, its I/O waited for, unmapped once more where a fault was faster, and removed →
//! private copies that faults made meanwhile are zapped. A page enters the cache only below the
//! size, which the tree's lock decides, and is mapped only under its folio lock after a look at the
//! size: so none appears behind the truncation's back.
//!
//! Growing: the bytes of the last page beyond the old end are zeroed first (mappings may have
//! stored there, which is nobody's data); what follows is zeroes, before the size says that it is
//! there.
//!
//! Locks: the file's `resize` (`Rank::FileSize`), inside it folio locks, inside those what
//! unmapping takes. Sleeps.

use super::mapped::{self, NoPage};
use super::uptodate::{make_uptodate, make_zero, mark_dirty};
use super::{Opener, balance, copy, memory, split};
use crate::error::MmError;
use crate::folio;
use crate::knobs::{self, Knob};
use crate::pagecache::layout::Kind;
use crate::pagecache::tree::{Held, Reserve, Within, set_size};
use crate::pagecache::{File, file};
use crate::zap;
use arch::addr::PAGE_SIZE;
use core::ops::Range;

impl Opener {
    /// Makes the file `size` bytes long. What is beyond is lost, also where it is mapped: an access
    /// there fails with `Bus`. What is new is zeroes. Sleeps.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for a file whose size is its extent's, or a size that does not fit.
    /// [`MmError::NoMemory`] and [`MmError::Io`] when a page that is to be partly zeroes cannot be
    /// brought in: a file that was to grow is as before then, one that was to shrink has its new
    /// size.
    pub fn truncate(&self, size: u64) -> Result<(), MmError> {
        let f = self.0.file();
        let _resize = f.resize.lock();
        if f.layout.kind() == Kind::Fixed || size > f.limit() {
            return Err(MmError::Invalid);
        }
        let old = f.size();
        if size <= old {
            return self.cut(size);
        }
        let grown = self.grow(old, size);
        if grown.is_err() {
            // It grows page by page; what there was stays.
            let _ = self.cut(old);
        }
        grown
    }

    /// Makes `len` bytes from `pos` on, as far as the file has them, zeroes, for readers and
    /// mappings; private copies stay. Of a file in memory the pages that lie wholly in there are
    /// given back. Sleeps.
    ///
    /// # Errors
    /// [`MmError::NoMemory`], [`MmError::Io`] when a page cannot be brought in: the rest was done.
    pub fn punch(&self, pos: u64, len: u64) -> Result<(), MmError> {
        let f = self.0.file();
        let _resize = f.resize.lock();
        let end = pos.saturating_add(len).min(f.size());
        if pos >= end {
            return Ok(());
        }
        if f.layout.kind() != Kind::Memory {
            return self.write_zeroes(pos..end);
        }
        let pages = inner_pages(f, pos, end);
        let (first, behind) = if pages.is_empty() {
            let behind = (pos + 1).next_multiple_of(PAGE_SIZE).min(end);
            (behind, behind)
        } else {
            (page_start(pages.start), page_start(pages.end).min(end))
        };
        let edges = self.zero_part(pos..first);
        let edges = edges.and(self.zero_part(behind..end));
        self.remove(&pages, false);
        edges
    }

    /// Makes sure that `len` bytes from `pos` on can be written without more room (Linux:
    /// `fallocate`); the file grows to the end of them. Sleeps.
    ///
    /// # Errors
    /// [`MmError::Invalid`] when they do not fit. [`MmError::NoMemory`], [`MmError::Io`]: a part
    /// may have been reserved.
    pub fn reserve(&self, pos: u64, len: u64) -> Result<(), MmError> {
        let f = self.0.file();
        let end = pos.checked_add(len).ok_or(MmError::Invalid)?;
        let _resize = f.resize.lock();
        if len == 0 || end > f.limit() {
            return Err(MmError::Invalid);
        }
        let old = f.size();
        if end > old {
            self.grow(old, end)?;
        }
        if f.layout.kind() == Kind::Memory {
            let pages = split(pos).0..=split(end - 1).0;
            pages.into_iter().try_for_each(|index| self.fill(index))?;
        }
        Ok(())
    }

    /// Forgets what is in memory of the pages that lie wholly in `len` bytes from `pos` on, **also
    /// what was not written to the disk yet**; the next access reads the disk. For file systems
    /// that give pages of the disk to somebody else. Sleeps.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for a file in memory.
    pub fn invalidate(&self, pos: u64, len: u64) -> Result<(), MmError> {
        let f = self.0.file();
        let _resize = f.resize.lock();
        if f.layout.kind() == Kind::Memory {
            return Err(MmError::Invalid);
        }
        let end = pos.saturating_add(len).min(f.size());
        if pos < end {
            self.remove(&inner_pages(f, pos, end), false);
        }
        Ok(())
    }

    /// The file ends at `size`, where it reaches as far. The caller holds `resize`.
    fn cut(&self, size: u64) -> Result<(), MmError> {
        let f = self.0.file();
        let pages = size.div_ceil(PAGE_SIZE) as u32..u32::MAX;
        let size_first = knobs::on(Knob::TruncateSize);
        if size_first {
            set_size(f, size);
        }
        let (last, used) = split(size);
        // What is not in memory will be read with zeroes behind the end.
        let tail = if used > 0 && f.tree.look(last).is_some() {
            self.zero_part(size..page_start(pages.start))
        } else {
            Ok(())
        };
        self.remove(&pages, true);
        if !size_first {
            set_size(f, size);
        }
        tail
    }

    /// Removes pages from the cache, and every entry that maps them; with `even_cows` private
    /// copies too. The caller holds `resize`.
    fn remove(&self, pages: &Range<u32>, even_cows: bool) {
        if pages.is_empty() {
            return;
        }
        let (id, last) = (self.0.file_id(), pages.end - 1);
        zap::file_range(id, pages.start, last, even_cows);
        remove_folios(id, pages.start, last);
        if even_cows && knobs::on(Knob::TruncateCopies) {
            // A fault that held a folio's lock may have copied it since.
            zap::file_range(id, pages.start, last, true);
        }
        balance::room();
    }

    /// The file grows from `old` bytes to `new`, which fit; all that is new is zeroes. The caller
    /// holds `resize`.
    ///
    /// # Errors
    /// [`MmError::NoMemory`], [`MmError::Io`]: it may have grown in part.
    pub(super) fn grow(&self, old: u64, new: u64) -> Result<(), MmError> {
        let f = self.0.file();
        if split(old).1 > 0 {
            self.zero_part(old..old.next_multiple_of(PAGE_SIZE))?;
        }
        if f.layout.kind() == Kind::Memory {
            set_size(f, new);
            return Ok(());
        }
        // What the disk has there is somebody's old data.
        for index in f.pages()..new.div_ceil(PAGE_SIZE) as u32 {
            balance::wait_room()?;
            self.fill(index)?;
            set_size(f, page_start(index + 1).min(new));
        }
        set_size(f, new);
        Ok(())
    }

    /// Page `index` is in memory and dirty: zeroes, if the file did not have it. The caller holds
    /// `resize`.
    fn fill(&self, index: u32) -> Result<(), MmError> {
        let (id, f) = (self.0.file_id(), self.0.file());
        let mut reserve = Reserve::new();
        loop {
            // Within the limit everything can be put into the cache.
            let Some(folio) = self.to_write(index, &mut reserve, Within::Limit)? else {
                return Err(MmError::Invalid);
            };
            let guard = folio.lock();
            match mapped::check(id, index, &guard) {
                Err(NoPage::Moved) => continue,
                Err(_) => make_zero(&guard),
                Ok(()) => {}
            }
            mark_dirty(f, *folio);
            return Ok(());
        }
    }

    /// Makes `bytes`, which lie in one page of the file, zeroes. The caller holds `resize`.
    fn zero_part(&self, bytes: Range<u64>) -> Result<(), MmError> {
        let (id, f) = (self.0.file_id(), self.0.file());
        let (index, at) = split(bytes.start);
        let is_hole = f.layout.kind() == Kind::Memory && f.tree.look(index).is_none();
        if bytes.is_empty() || is_hole {
            return Ok(());
        }
        loop {
            let Some((folio, _)) = self.bring_in(index, index)? else {
                return Ok(());
            };
            folio.wait_read();
            let guard = folio.lock();
            match mapped::check(id, index, &guard) {
                Err(NoPage::Moved) => continue,
                Err(_) => return Ok(()),
                Ok(()) => make_uptodate(f, index, &guard)?,
            }
            folio.wait_writeback();
            copy::zero(&guard, at, (bytes.end - bytes.start) as usize);
            mark_dirty(f, *folio);
            return Ok(());
        }
    }

    /// Writes zeroes over `bytes` of the file, which keeps its size; goes on after an error, and
    /// tells the first. The caller holds `resize`.
    fn write_zeroes(&self, bytes: Range<u64>) -> Result<(), MmError> {
        const ZEROES: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
        let mut reserve = Reserve::new();
        let (mut at, mut result) = (bytes.start, Ok(()));
        let mut in_vain = false;
        while at < bytes.end {
            let end = (at + 1).next_multiple_of(PAGE_SIZE).min(bytes.end);
            let zeroes = &ZEROES[..(end - at) as usize];
            // A disk that took nothing once is not waited for again.
            let room = if in_vain && !balance::has_room() {
                Err(MmError::Io)
            } else {
                balance::wait_room()
            };
            in_vain |= room.is_err();
            let page = room.and_then(|()| self.write_page(at, zeroes, &mut reserve, Within::Size));
            result = result.and(page.map(|_| ()));
            at = end;
        }
        result
    }
}

/// The first byte of a page.
fn page_start(index: u32) -> u64 {
    u64::from(index) * PAGE_SIZE
}

/// The pages of which `pos..end` has everything that the file has.
fn inner_pages(f: &File, pos: u64, end: u64) -> Range<u32> {
    let behind = if end == f.size() {
        f.pages()
    } else {
        split(end).0
    };
    pos.div_ceil(PAGE_SIZE) as u32..behind
}

/// Takes everything from page `first` to `last` out of the cache, written or not. The caller has
/// unmapped it, and sees to it that it does not come back.
pub(super) fn remove_folios(id: u32, first: u32, last: u32) {
    let f = file(id);
    let mut from = Some(first);
    while let Some(at) = from
        && let Some((index, held)) = f.tree.next(at, last)
    {
        let gone = match held {
            Held::Slot(slot) => memory::drop_slot(f, index, slot),
            Held::Folio(folio) => remove_folio(id, index, &folio),
        };
        // What moved between memory and swap is looked at again.
        from = if gone {
            index.checked_add(1)
        } else {
            Some(index)
        };
    }
}

/// Removes one folio, if it still is page `index`.
fn remove_folio(id: u32, index: u32, folio: &folio::Ref) -> bool {
    folio.wait_read();
    let _guard = folio.lock();
    if folio.mapping() != id + 1 || folio.index() != index {
        return false;
    }
    // Somebody may read it anew under its lock, which we have.
    folio.wait_writeback();
    if folio.mapcount() > 0 && knobs::on(Knob::TruncateUnmap) {
        // A fault had it locked when the size was set.
        zap::file_range(id, index, index, false);
    }
    file(id).tree.remove(**folio);
    true
}
