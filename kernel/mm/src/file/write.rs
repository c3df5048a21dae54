//! Writing into the page cache. A page is changed under its folio lock, never while it is being written to the
//! disk; a page of which only a part is written is read first.
//!
//! Sleeps: for memory, for reads, for the page's writeback, and for the flusher when too much is dirty.

use super::copy::copy_in;
use super::{Opener, flusher, io, split};
use crate::buddy::{self, Gfp};
use crate::error::MmError;
use crate::folio::{self, FolioGuard};
use crate::frame::flag;
use crate::pagecache::File;
use crate::pagecache::tree::{Cache, Reserve};
use crate::stats::Use;
use arch::Pfn;
use arch::addr::PAGE_SIZE;
use arch::block::Op;

impl Opener {
    /// Writes `data` at byte `pos`; how much of it, less than all at the end of the file or when something failed on
    /// the way. Durable after [`Opener::sync`] only.
    ///
    /// # Errors
    /// When nothing was written: [`MmError::NoMemory`]; [`MmError::Io`] when a page could not be read, or too much waits to be
    /// written and the disk takes nothing.
    pub fn write(&self, pos: u64, data: &[u8]) -> Result<usize, MmError> {
        let room = self.size().saturating_sub(pos);
        let len = (data.len() as u64).min(room) as usize;
        let mut reserve = Reserve::new();
        let mut done = 0;
        while done < len {
            let (index, at) = split(pos + done as u64);
            let n = (PAGE_SIZE as usize - at).min(len - done);
            let wrote = flusher::wait_room()
                .and_then(|()| self.write_page(index, at, &data[done..done + n], &mut reserve));
            match wrote {
                Ok(()) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write_page(
        &self,
        index: u32,
        at: usize,
        data: &[u8],
        reserve: &mut Reserve,
    ) -> Result<(), MmError> {
        let f = self.0.file();
        let folio = match f.tree.find(index) {
            Some(folio) => folio,
            None => {
                let page = buddy::alloc(0, Use::File, Gfp::RECLAIM)?;
                reserve.fill()?;
                Cache::insert(self.0.file_id(), index, page, 0, reserve)?.0
            }
        };
        let guard = folio::lock(folio.pfn());
        if data.len() < PAGE_SIZE as usize {
            make_uptodate(f, index, &guard)?;
        }
        folio::wait_read(folio.pfn());
        folio::wait_writeback(folio.pfn());
        copy_in(folio.pfn(), at, data);
        let state = guard.frame();
        if state.set(flag::UPTODATE) & flag::UPTODATE == 0 {
            // A read that failed is of no interest any more.
            state.clear(flag::ERROR | flag::SUSPECT);
        }
        mark_dirty(f, folio.pfn());
        super::read::mark_used(&guard);
        Ok(())
    }
}

/// The content of the locked folio is newer than the disk's: the flusher looks after it from now on.
pub(super) fn mark_dirty(f: &File, pfn: Pfn) {
    if f.set_dirty(pfn) {
        flusher::note_dirty();
    }
}

/// The locked folio holds what the disk holds, or newer: reads it, alone, if it was not read or that failed. Sleeps.
///
/// # Errors
/// [`MmError::Io`] when the disk fails.
pub(super) fn make_uptodate(f: &File, index: u32, guard: &FolioGuard) -> Result<(), MmError> {
    let (pfn, state) = (guard.pfn(), guard.frame());
    folio::wait_read(pfn);
    if state.has(flag::UPTODATE) {
        return Ok(());
    }
    state.clear(flag::ERROR | flag::SUSPECT);
    state.set(flag::READING);
    io::start(f, Op::Read, &[(index, pfn.0)]);
    folio::wait_read(pfn);
    if state.has(flag::UPTODATE) {
        Ok(())
    } else {
        Err(MmError::Io)
    }
}
