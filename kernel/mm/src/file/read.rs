//! Reading through the page cache. A page is copied out under its folio lock, so it is as one
//! writer left it.
//!
//! What is not in memory is read with as many neighbours as the opener's readahead says
//! (`algo::ondemand`). Sleeps: for memory, for the disk.

use super::copy::copy_out;
use super::mapped::{self, NoPage};
use super::{Opener, io, memory, split};
use crate::buddy::{self, Gfp};
use crate::error::MmError;
use crate::folio;
use crate::frame::flag;
use crate::lru;
use crate::pagecache::layout::Kind;
use crate::pagecache::opened::OpenFile;
use crate::pagecache::tree::{BATCH, Cache, Inserted, Reserve, Within};
use crate::stats::{Event, Use, count};
use algo::ondemand::Plan;
use arch::addr::PAGE_SIZE;
use arch::block::Op;
use core::ops::Range;

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
        if !reserve.is_ready() {
            if gfp == Gfp::NOWAIT {
                return Err(MmError::NoMemory);
            }
            // Growing a pool may sleep for memory: not with pages that look as if the disk had
            // them.
            self.submit();
            reserve.fill()?;
        }
        let id = self.opener.0.file_id();
        let inserted = Cache::insert(id, index, page, flag::READING, reserve, Within::Size)?;
        let Inserted::Fresh(folio) = inserted else {
            return Ok(false);
        };
        self.pages[self.n] = (index, folio.pfn().0);
        self.n += 1;
        if self.n == BATCH {
            self.submit();
        }
        Ok(true)
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

/// Begins to read in pages `first` to `last` from the file's disk, as far as there is memory to
/// spare. Sleeps for requests only.
pub(crate) fn will_need(opened: OpenFile, first: u32, last: u32) {
    let f = opened.file();
    if f.layout.kind() == Kind::Memory {
        return;
    }
    let end = last.saturating_add(1).min(f.pages());
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
    /// Reads from byte `pos` on; how much, less than asked for at the end of the file or when
    /// something failed on the way.
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
                Ok(true) => done += n,
                Ok(false) => break,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Copies out of one page from its byte `at` on; whether that is to count as a use of it, the
    /// caller says. False when the page lies beyond the end by now.
    fn read_page(
        &self,
        index: u32,
        last: u32,
        at: usize,
        into: &mut [u8],
        used: bool,
    ) -> Result<bool, MmError> {
        let (id, f) = (self.0.file_id(), self.0.file());
        loop {
            if f.layout.kind() == Kind::Memory && f.tree.look(index).is_none() {
                into.fill(0);
                return Ok(true);
            }
            let Some((folio, _)) = self.bring_in(index, last)? else {
                return Ok(false);
            };
            match mapped::lock(id, index, *folio) {
                Ok(guard) => {
                    copy_out(&folio, at, into);
                    if used {
                        lru::mark_used(*guard);
                    }
                    return Ok(true);
                }
                Err(NoPage::Moved) => {}
                Err(NoPage::Beyond) => return Ok(false),
                Err(NoPage::Unreadable) => return Err(MmError::Io),
            }
        }
    }

    /// The folio of page `index` of a read that ends with page `last`, and whether its own read was
    /// begun here; it may be under way. `None` beyond the end.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; [`MmError::Io`] when the page is on the swap disk and cannot be read.
    pub(super) fn bring_in(
        &self,
        index: u32,
        last: u32,
    ) -> Result<Option<(folio::Ref, bool)>, MmError> {
        let f = self.0.file();
        if f.layout.kind() == Kind::Memory {
            return memory::bring_in(self.0.file_id(), index, Within::Size, Gfp::RECLAIM);
        }
        let pages = f.pages();
        if index >= pages {
            return Ok(None);
        }
        if let Some(folio) = f.tree.find(index) {
            if let Some(plan) = self.0.hit(index, pages) {
                self.reads()
                    .add_all(pages_of(plan), None, &mut Reserve::new());
            }
            return Ok(Some((folio, false)));
        }
        let plan = self.0.miss(index, last, pages);
        // Gone again already, if memory is that short, or cut off.
        while index < f.pages() {
            let mut reserve = Reserve::new();
            let mut reads = self.reads();
            reads.add(index, Gfp::RECLAIM, &mut reserve)?;
            reads.add_all(pages_of(plan), Some(index), &mut reserve);
            drop(reads);
            if let Some(folio) = f.tree.find(index) {
                return Ok(Some((folio, true)));
            }
        }
        Ok(None)
    }

    fn reads(&self) -> Reads<'_> {
        Reads {
            opener: self,
            pages: [(0, 0); BATCH],
            n: 0,
        }
    }
}
