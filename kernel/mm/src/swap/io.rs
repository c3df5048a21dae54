//! Moving folios between memory and the swap disk.
//!
//! Neighbouring slots share a request, and many requests are in flight. Submitting sleeps while the
//! pool (`bio`) or the disk's queue is full, so no spin lock may be held. [`done`] runs in
//! interrupt context on any CPU and takes no lock but wait queues'.
//!
//! State of a folio with I/O in flight: WRITEBACK or READING, cleared by [`done`] after the result
//! is in the flags. A failed write leaves DIRTY and ERROR; a failed read leaves UPTODATE clear.
//! Both flags keep the folio in the swap cache (see `cache`), whose reference keeps the frame.

use super::area;
use crate::bio::{self, Completed, Pool};
use crate::folio::Folio;
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::stats::{Event, count_n};
use algo::merge;
use arch::Pfn;
use arch::addr::PAGE_SIZE;
use arch::block::{Bio, BlockDevice, IoError, MAX_SEGMENTS, Op, SECTOR};

const SECTORS_PER_PAGE: u64 = PAGE_SIZE / SECTOR;

static REQUESTS: Pool = Pool::new();

/// (slot, frame number) of a folio to move.
pub(crate) type PageIo = (u32, u32);

/// Requests in flight now.
pub fn in_flight() -> u32 {
    REQUESTS.in_flight()
}

/// Completed requests since boot.
pub(crate) fn completions() -> u64 {
    REQUESTS.completions()
}

/// Sleeps until another request than the first `seen` has completed, or none is in flight.
pub(crate) fn wait_progress(seen: u64) {
    REQUESTS.wait_progress(seen);
}

/// Writes or reads `pages`, given by ascending slot, whose folios are marked WRITEBACK or READING.
/// Returns when all is submitted.
pub(crate) fn start(op: Op, pages: &[PageIo]) {
    let Some(dev) = area::device() else {
        for &(_, pfn) in pages {
            finish(op, Folio::of(Pfn(pfn)), Err(flag::ERROR));
        }
        return;
    };
    for run in merge::runs(pages, MAX_SEGMENTS) {
        let mut frames = [Pfn(0); MAX_SEGMENTS];
        for (f, &(_, pfn)) in frames.iter_mut().zip(run) {
            *f = Pfn(pfn);
        }
        let sector = u64::from(run[0].0) * SECTORS_PER_PAGE;
        REQUESTS.start(dev, op, sector, &frames[..run.len()]);
    }
}

/// Moves one page that is no folio and waits for it. Sleeps.
///
/// # Errors
/// [`IoError`] when the disk fails.
pub(super) fn one_page(dev: &dyn BlockDevice, op: Op, page: u64, pfn: Pfn) -> Result<(), IoError> {
    REQUESTS.run(dev, op, page * SECTORS_PER_PAGE, &[pfn])
}

/// A request completed; whether it was one of swap's. Interrupt context.
pub(crate) fn done(bio: &'static Bio) -> bool {
    let i = match REQUESTS.completed(bio) {
        Completed::Ours(i) => i,
        other => return other == Completed::Waited,
    };
    let result = bio::result(bio);
    let op = bio.op();
    // Counted first: who waits for a page may look.
    let event = match (op, result) {
        (Op::Read, Ok(())) => Event::PswpIn,
        (Op::Read, Err(_)) => Event::SwapReadError,
        (_, Ok(())) => Event::PswpOut,
        (_, Err(_)) => Event::SwapWriteError,
    };
    count_n(event, bio.len() as u64);
    for n in 0..bio.len() {
        finish(op, Folio::of(bio.frame(n)), result);
    }
    REQUESTS.give(i);
    true
}

/// The result of one folio's I/O, `Err` with the flags that say so. It is in the flags before the
/// waiters are let go.
fn finish(op: Op, folio: Folio, result: Result<(), u32>) {
    let result = match op {
        Op::Write if !knobs::on(Knob::FailedDirty) => Ok(()),
        _ => result,
    };
    if op == Op::Read {
        folio.end_read(result);
        return;
    }
    if let Err(failed) = result {
        folio.set(flag::DIRTY | failed);
    }
    folio.end_writeback();
}

/// For the explorer: requests that never completed fail, unknown to whoever waits for them.
#[cfg(feature = "lab")]
pub(crate) fn give_up() {
    REQUESTS.give_up();
}
