//! Reading through the page cache. A page is copied out under its folio lock, so it is as one writer left it.
//!
//! What is not in memory is read with as many neighbours as the opener's readahead says (`algo::ondemand`). Sleeps: for memory,
//! for the disk.

use super::copy::copy_out;
use super::write::make_uptodate;
use super::{Opener, io, split};
use crate::buddy::{self, Gfp};
use crate::error::MmError;
use crate::folio::{self, FolioGuard};
use crate::frame::flag;
use crate::lru;
use crate::pagecache::opened::OpenFile;
use crate::pagecache::tree::{BATCH, Cache, Reserve};
use crate::stats::{Event, Use, count};
use algo::ondemand::Plan;
use arch::addr::PAGE_SIZE;
use arch::block::Op;
use core::ops::Range;

/// The folio was used: the second time since reclaim looked, it becomes active.
pub(super) fn mark_used(guard: &FolioGuard) {
    let f = guard.frame();
    if f.has(flag::ACTIVE) {
        return;
    }
    if f.set(flag::REFERENCED) & flag::REFERENCED != 0 {
        f.clear(flag::REFERENCED);
        lru::activate(guard.pfn());
    }
}

/// Folios that are in the cache, marked READING, and still to be submitted.
struct Reads<'a> {
    opener: &'a Opener,
    pages: [io::PageIo; BATCH],
    n: usize,
}

impl Reads<'_> {
    /// Puts a fresh folio into the cache, unless there is one: whether it did.
    fn add(&mut self, index: u32, gfp: Gfp, reserve: &mut Reserve) -> Result<bool, MmError> {
        if self.opener.0.file().tree.find(index).is_some() {
            return Ok(false);
        }
        let page = buddy::alloc(0, Use::File, gfp)?;
        reserve.fill()?;
        let id = self.opener.0.file_id();
        let (folio, fresh) = Cache::insert(id, index, page, flag::READING, reserve)?;
        if fresh {
            self.pages[self.n] = (index, folio.pfn().0);
            self.n += 1;
        }
        if self.n == BATCH {
            self.submit();
        }
        Ok(fresh)
    }

    /// Adds the pages but for the one that is `wanted` and there; fewer when memory is short.
    fn add_all(&mut self, pages: Range<u32>, wanted: Option<u32>, reserve: &mut Reserve) {
        for index in pages.filter(|&i| Some(i) != wanted) {
            if buddy::is_low() {
                return;
            }
            match self.add(index, Gfp::NOWAIT, reserve) {
                Ok(true) => count(Event::FileRa),
                Ok(false) => {}
                Err(_) => return,
            }
        }
    }

    fn submit(&mut self) {
        io::start(self.opener.0.file(), Op::Read, &self.pages[..self.n]);
        self.n = 0;
    }
}

fn pages_of(plan: Plan) -> Range<u32> {
    plan.first..plan.first + plan.pages
}

/// Begins to read in pages `first` to `last`, as far as there is memory to spare. Sleeps for requests only.
pub(crate) fn will_need(opened: OpenFile, first: u32, last: u32) {
    let end = last.saturating_add(1).min(opened.file().pages());
    let opener = Opener(opened);
    opener
        .reads()
        .add_all(first..end, None, &mut Reserve::new());
}

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        self.submit();
    }
}

impl Opener {
    /// Reads from byte `pos` on; how much, less than asked for at the end of the file or when something failed on the way.
    ///
    /// # Errors
    /// When nothing was read: [`MmError::Io`], [`MmError::NoMemory`].
    pub fn read(&self, pos: u64, into: &mut [u8]) -> Result<usize, MmError> {
        let room = self.size().saturating_sub(pos);
        let len = (into.len() as u64).min(room) as usize;
        if len == 0 {
            return Ok(0);
        }
        let (first, last) = (split(pos).0, split(pos + len as u64 - 1).0);
        // One use of a page, however small the pieces are that a reader takes.
        let goes_on = self.0.begin(first, last);
        let mut done = 0;
        while done < len {
            let (index, at) = split(pos + done as u64);
            let n = (PAGE_SIZE as usize - at).min(len - done);
            let used = !(goes_on && index == first);
            match self.read_page(index, last, at, &mut into[done..done + n], used) {
                Ok(()) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Copies out of one page from its byte `at` on; whether that is to count as a use of it, the caller says.
    fn read_page(
        &self,
        index: u32,
        last: u32,
        at: usize,
        into: &mut [u8],
        used: bool,
    ) -> Result<(), MmError> {
        let (folio, _) = self.bring_in(index, last)?;
        // Not under the lock: others look at pages of the same request meanwhile.
        folio::wait_read(folio.pfn());
        let guard = folio::lock(folio.pfn());
        make_uptodate(self.0.file(), index, &guard)?;
        copy_out(folio.pfn(), at, into);
        if used {
            mark_used(&guard);
        }
        Ok(())
    }

    /// The folio of page `index` of a read that ends with page `last`, and whether its own read was begun here; it may be
    /// under way.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub(super) fn bring_in(&self, index: u32, last: u32) -> Result<(folio::Ref, bool), MmError> {
        let pages = self.0.file().pages();
        if let Some(folio) = self.0.file().tree.find(index) {
            if let Some(plan) = self.0.hit(index, pages) {
                self.reads()
                    .add_all(pages_of(plan), None, &mut Reserve::new());
            }
            return Ok((folio, false));
        }
        let plan = self.0.miss(index, last, pages);
        loop {
            let mut reserve = Reserve::new();
            let mut reads = self.reads();
            reads.add(index, Gfp::RECLAIM, &mut reserve)?;
            reads.add_all(pages_of(plan), Some(index), &mut reserve);
            drop(reads);
            // Gone again already, if memory is that short.
            if let Some(folio) = self.0.file().tree.find(index) {
                return Ok((folio, true));
            }
        }
    }

    fn reads(&self) -> Reads<'_> {
        Reads {
            opener: self,
            pages: [(0, 0); BATCH],
            n: 0,
        }
    }
}
