//! move_pages: the pages of a range go to other frames while their program runs (Linux:
//! `move_pages` with `MPOL_MF_MOVE_ALL`, without a choice of node).
//!
//! Takes `mmap_lock` shared, and one PTL at a time to take folios off the LRU; moves them with no
//! PTL held. Sleeps. Pages of files, shared zero pages and pages on disk stay.

use super::args::Range;
use super::read;
use crate::error::MmError;
use crate::folio::Folio;
use crate::handle::MmRef;
use crate::migrate::{Isolated, Stays};
use crate::pt::PteLocked;
use crate::pt::range::{self, Leaf};
use arch::VirtAddr;
use arch::addr::PAGE_SIZE;
use core::ops::ControlFlow::{Break, Continue};
use heapless::Vec;

/// What became of the pages of a range, by cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// They are in other frames now.
    pub moved: u64,
    /// Somebody had them in hand.
    pub busy: u64,
    /// They are pages of files.
    pub files: u64,
    /// There was no frame for them.
    pub no_memory: u64,
}

/// Folios off the LRU at a time.
type Batch = Vec<Isolated, 32>;

impl MmRef {
    /// Moves each anonymous page that is mapped in `len` bytes (rounded up to pages) from `va` on
    /// to another frame, whoever else maps it. What cannot be had now stays.
    ///
    /// # Errors
    /// Invalid: unaligned, or beyond the user half. Killed.
    pub fn move_pages(&self, va: VirtAddr, len: u64) -> Result<Moved, MmError> {
        let mut done = Moved::default();
        let Some(range) = Range::new(va, len, MmError::Invalid)? else {
            return Ok(done);
        };
        let _set = read(self)?;
        let mut batch = Batch::new();
        range::locked(
            self.id(),
            self,
            range.start,
            range.end,
            |pte, start, end| {
                let reached = collect(pte, start, end, &mut batch, &mut done);
                while let Some(one) = batch.pop() {
                    done.note(one.migrate());
                }
                reached
            },
        );
        Ok(done)
    }
}

impl Moved {
    fn note(&mut self, result: Result<(), Stays>) {
        *match result {
            Ok(()) => &mut self.moved,
            Err(Stays::Busy) => &mut self.busy,
            Err(Stays::File) => &mut self.files,
            Err(Stays::NoMemory) => &mut self.no_memory,
        } += 1;
    }
}

/// Isolates pages of `start..end` until the batch is full; returns how far it came.
fn collect(mut pte: PteLocked, start: u64, end: u64, batch: &mut Batch, done: &mut Moved) -> u64 {
    let full = range::entries(&mut pte, start, end, |_, _, entry| {
        let Leaf::Page(pfn) = Leaf::of(entry) else {
            return Continue(());
        };
        let folio = Folio::of(pfn);
        if folio.is_file() {
            done.note(Err(Stays::File));
            return Continue(());
        }
        match Isolated::take(folio) {
            Some(one) => drop(batch.push(one)),
            None => done.note(Err(Stays::Busy)),
        }
        if batch.is_full() {
            Break(())
        } else {
            Continue(())
        }
    });
    full.break_value().map_or(end, |(va, ())| va + PAGE_SIZE)
}
