//! Writing dirty folios to the disk, and `sync`: telling that they are there.
//!
//! One folio lock at a time, in ascending order of pages. Folios that were collected (marked
//! WRITEBACK, not submitted) are submitted before this waits for a lock or for somebody else's
//! write: whoever waits for them must not wait for us. Sleeps; needs no memory.

use super::{Opener, io};
use crate::error::MmError;
use crate::folio::{Folio, FolioGuard};
use crate::frame::flag;
use crate::knobs::{self, Knob};
#[cfg(feature = "lab")]
use crate::pagecache::each;
use crate::pagecache::layout::Kind;
use crate::pagecache::opened::OpenFile;
use crate::pagecache::tree::BATCH;
use crate::pagecache::{File, file_of};
use crate::rmap::mkclean::mkclean;
use algo::radix::Mark;
use arch::addr::PAGE_SIZE;
use arch::block::Op;
use core::ops::RangeInclusive;

/// Folios marked WRITEBACK that follow one another and are still to be submitted.
struct Run<'a> {
    file: &'a File,
    pages: [io::PageIo; BATCH],
    n: usize,
}

impl<'a> Run<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            file,
            pages: [(0, 0); BATCH],
            n: 0,
        }
    }

    fn push(&mut self, index: u32, folio: Folio) {
        let follows = |&(before, _): &io::PageIo| before.checked_add(1) == Some(index);
        if self.n == BATCH || !self.pages[..self.n].last().is_none_or(follows) {
            self.submit();
        }
        self.pages[self.n] = (index, folio.pfn().0);
        self.n += 1;
    }

    /// Adds a folio that was marked WRITEBACK.
    fn add(&mut self, index: u32, folio: Folio) {
        if folio.clear(flag::SUSPECT) & flag::SUSPECT == 0 {
            self.push(index, folio);
            return;
        }
        // It failed together with others: alone, it does not spoil theirs again.
        self.submit();
        self.push(index, folio);
        self.submit();
    }

    fn submit(&mut self) {
        io::start(self.file, Op::Write, &self.pages[..self.n]);
        self.n = 0;
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.submit();
    }
}

/// Starts writing what is dirty in `range` now. What gets dirty behind this is left alone. Returns
/// when all is submitted.
pub(crate) fn start(f: &File, range: &RangeInclusive<u32>) {
    let mut from = Some(*range.start());
    while let Some(at) = from {
        from = f.tree.tag(at, *range.end());
    }
    let mut run = Run::new(f);
    let mut from = Some(*range.start());
    while let Some(at) = from {
        let found = f.tree.collect(at, *range.end(), Some(Mark::ToWrite));
        from = found.last().and_then(|last| last.checked_add(1));
        for (index, folio) in found.into_iter() {
            write(&mut run, index, *folio);
        }
    }
}

/// Marks one folio WRITEBACK and adds it to the run, if it still is dirty.
fn write(run: &mut Run<'_>, index: u32, folio: Folio) {
    let guard = match folio.try_lock() {
        Some(guard) => guard,
        None => {
            run.submit();
            folio.lock()
        }
    };
    if folio.has(flag::WRITEBACK) {
        run.submit();
        folio.wait_writeback();
    }
    // Who can store to it has made it dirty: a clean one has no entry to be cleaned.
    if folio.has(flag::DIRTY) && knobs::on(Knob::CleanFirst) {
        mkclean(&guard);
    }
    if run.file.tree.begin_write(folio) {
        run.add(index, folio);
    }
}

/// Writes what is dirty in every file, and flushes nothing: what a power cut finds. Sleeps.
#[cfg(feature = "lab")]
pub fn write_back() {
    for pin in each() {
        let range = all(pin.file());
        start(pin.file(), &range);
        wait(pin.file(), &range);
    }
}

/// For reclaim: marks a dirty folio WRITEBACK that is locked, unmapped and flushed. False when it
/// is not dirty; else [`submit`] must follow.
pub(crate) fn begin_write(guard: &FolioGuard) -> bool {
    file_of(guard.folio()).is_some_and(|f| f.tree.begin_write(guard.folio()))
}

/// Submits the writes of folios of any files that [`begin_write`] was true for.
pub(crate) fn submit(folios: &mut [Folio]) {
    folios.sort_unstable_by_key(|folio| (folio.mapping(), folio.index()));
    for same in folios.chunk_by(|a, b| a.mapping() == b.mapping()) {
        // What is being written stays in its cache.
        if let Some(f) = same.first().copied().and_then(file_of) {
            let mut run = Run::new(f);
            for &folio in same {
                run.add(folio.index(), folio);
            }
        }
    }
}

/// Waits for all writes of pages in `range` that were begun before, by anybody.
pub(super) fn wait(f: &File, range: &RangeInclusive<u32>) {
    let mut from = Some(*range.start());
    while let Some(at) = from {
        let found = f.tree.collect(at, *range.end(), Some(Mark::Writeback));
        from = found.last().and_then(|last| last.checked_add(1));
        for (_, folio) in found.into_iter() {
            folio.wait_writeback();
        }
    }
}

/// All pages of a file.
pub(super) fn all(f: &File) -> RangeInclusive<u32> {
    0..=f.pages().saturating_sub(1)
}

/// The folio cannot be dropped now because its content is not on the disk.
pub(super) fn is_unwritten(folio: Folio) -> bool {
    folio.flags() & (flag::DIRTY | flag::WRITEBACK) != 0
}

impl Opener {
    /// Makes everything durable that was written to the file before. Sleeps.
    ///
    /// # Errors
    /// [`MmError::Io`] when a write to this file, or the flush, has failed since this opener was
    /// last told so (or opened it). What could not be written is still in memory, and is written by
    /// a later call.
    pub fn sync(&self) -> Result<(), MmError> {
        self.sync_range(0, u64::MAX)
    }

    /// As [`Opener::sync`], of `len` bytes from `pos` on. Errors of other parts of the file are
    /// told as well.
    ///
    /// # Errors
    /// As [`Opener::sync`].
    pub fn sync_range(&self, pos: u64, len: u64) -> Result<(), MmError> {
        let end = pos.saturating_add(len).min(self.size());
        sync(&self.0, pages(pos, end))
    }
}

/// The pages that bytes `pos..end` lie in.
fn pages(pos: u64, end: u64) -> Option<RangeInclusive<u32>> {
    (pos < end).then(|| (pos / PAGE_SIZE) as u32..=((end - 1) / PAGE_SIZE) as u32)
}

/// Makes what was written to `range` durable, and tells what has failed since this opening was last
/// told. Sleeps.
///
/// # Errors
/// As [`Opener::sync`].
pub(crate) fn sync(opened: &OpenFile, range: Option<RangeInclusive<u32>>) -> Result<(), MmError> {
    let f = opened.file();
    if f.layout.kind() == Kind::Memory {
        return opened.tell();
    }
    if let Some(range) = range {
        start(f, &range);
        if knobs::on(Knob::SyncWait) {
            wait(f, &range);
        }
    }
    // Also when nothing was dirty: what the flusher wrote may not be durable yet.
    if knobs::on(Knob::SyncFlush) && io::flush().is_err() {
        f.note_error();
    }
    opened.tell()
}
