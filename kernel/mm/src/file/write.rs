//! Writing into the page cache. A page is changed under its folio lock, never while it is being
//! written to the disk; a page of which only a part is written is read first.
//!
//! Sleeps: for memory, for reads, for the page's writeback, and for the flusher when too much is
//! dirty.

use super::copy::copy_in;
use super::mapped::{self, NoPage};
use super::uptodate::{became_uptodate, make_uptodate, make_zero, mark_dirty};
use super::{Opener, balance, memory, split};
use crate::buddy::{self, Gfp};
use crate::error::MmError;
use crate::folio;
use crate::lru;
use crate::pagecache::layout::Kind;
use crate::pagecache::tree::{Cache, Inserted, Reserve, Within, set_size};
use crate::stats::Use;
use arch::addr::PAGE_SIZE;

impl Opener {
    /// Writes `data` at byte `pos`; how much of it, less than all where there is no more room or
    /// when something failed on the way. A file that can grow does, and what is between its old end
    /// and `pos` is zeroes. Durable after [`Opener::sync`] only.
    ///
    /// # Errors
    /// When nothing was written: [`MmError::NoMemory`]; [`MmError::Io`] when a page could not be
    /// read, or too much waits to be written and the disk takes nothing; [`MmError::Invalid`] when
    /// the room was taken away meanwhile. (The file may have grown towards `pos` all the same.)
    pub fn write(&self, pos: u64, data: &[u8]) -> Result<usize, MmError> {
        let room = self.limit().saturating_sub(pos);
        let len = (data.len() as u64).min(room) as usize;
        let mut reserve = Reserve::new();
        let mut done = 0;
        while done < len {
            let at = pos + done as u64;
            let n = (PAGE_SIZE as usize - split(at).1).min(len - done);
            match self.write_part(at, &data[done..done + n], &mut reserve) {
                Ok(()) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Writes what lies in one page.
    fn write_part(&self, pos: u64, data: &[u8], reserve: &mut Reserve) -> Result<(), MmError> {
        let (f, end) = (self.0.file(), pos + data.len() as u64);
        if f.layout.kind() != Kind::Memory {
            balance::wait_room()?;
        }
        if end <= f.size() && self.write_page(pos, data, reserve, Within::Size)? {
            return Ok(());
        }
        let _resize = f.resize.lock();
        if end > f.limit() {
            // Room was taken away meanwhile.
            return Err(MmError::Invalid);
        }
        let old = f.size();
        if pos > old {
            self.grow(old, pos)?;
        }
        self.write_page(pos, data, reserve, Within::Limit)?;
        Ok(())
    }

    /// Writes what lies in one page; false when that is beyond the end and may not be. Otherwise
    /// the file reaches that far afterwards.
    pub(super) fn write_page(
        &self,
        pos: u64,
        data: &[u8],
        reserve: &mut Reserve,
        within: Within,
    ) -> Result<bool, MmError> {
        let (id, f) = (self.0.file_id(), self.0.file());
        let (index, at) = split(pos);
        loop {
            let Some(folio) = self.to_write(index, reserve, within)? else {
                return Ok(false);
            };
            let guard = folio.lock();
            match mapped::check(id, index, &guard) {
                Err(NoPage::Moved) => continue,
                Err(_) if within == Within::Size => return Ok(false),
                // Nobody but us puts a page there: what the disk has does not count.
                Err(_) => make_zero(&guard),
                Ok(()) if data.len() < PAGE_SIZE as usize => make_uptodate(f, index, &guard)?,
                Ok(()) => folio.wait_read(),
            }
            folio.wait_writeback();
            copy_in(&guard, at, data);
            became_uptodate(&guard);
            mark_dirty(f, *folio);
            lru::mark_used(*folio);
            let end = pos + data.len() as u64;
            if end > f.size() && within == Within::Limit {
                set_size(f, end);
            }
            return Ok(true);
        }
    }

    /// The folio of page `index`, which need not have been read. `None` beyond the end.
    pub(super) fn to_write(
        &self,
        index: u32,
        reserve: &mut Reserve,
        within: Within,
    ) -> Result<Option<folio::Ref>, MmError> {
        let (id, f) = (self.0.file_id(), self.0.file());
        if f.layout.kind() == Kind::Memory {
            let found = memory::bring_in(id, index, within, Gfp::RECLAIM)?;
            return Ok(found.map(|(folio, _)| folio));
        }
        loop {
            if let Some(folio) = f.tree.find(index) {
                return Ok(Some(folio));
            }
            let page = buddy::alloc(0, Use::File, Gfp::RECLAIM)?;
            reserve.fill()?;
            match Cache::insert(id, index, page, 0, reserve, within)? {
                Inserted::Fresh(folio) | Inserted::Other(folio) => return Ok(Some(folio)),
                Inserted::Beyond => return Ok(None),
                Inserted::Slot => {}
            }
        }
    }
}
