//! Moving folios between a file's cache and the disk.
//!
//! Neighbours share a request, many are in flight. Submitting sleeps, so no spin lock may be held.
//! [`done`] runs in interrupt context; it takes the file's `Rank::FileTree` and wait queues' locks.

#![expect(unsafe_code, reason = "a folio that the cache keeps")]

use crate::bio::{self, Completed, Pool};
use crate::buddy::{self, Gfp};
use crate::content::Kept;
use crate::error::MmError;
use crate::folio::Folio;
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::pagecache::{File, file_of};
use crate::stats::{Event, Use, count_n};
use algo::merge;
use arch::Pfn;
use arch::addr::PAGE_SIZE;
use arch::block::{Bio, BlockDevice, IoError, MAX_SEGMENTS, Op, SECTOR};
#[cfg(feature = "lab")]
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;

pub(super) const SECTORS_PER_PAGE: u64 = PAGE_SIZE / SECTOR;

static REQUESTS: Pool = Pool::new();
static DEVICE: Once<&'static dyn BlockDevice> = Once::new();

/// (page index, frame number) of a folio to move.
pub(super) type PageIo = (u32, u32);

/// The disk for files, from now on; the first one stays.
pub(super) fn set_device(disk: &'static dyn BlockDevice) {
    DEVICE.call_once(|| disk);
}

pub(super) fn device() -> Option<&'static dyn BlockDevice> {
    #[cfg(feature = "lab")]
    if LENT.load(Ordering::Relaxed) {
        return EXPLORERS.get().copied();
    }
    DEVICE.get().copied()
}

/// The explorer's disk.
#[cfg(feature = "lab")]
static EXPLORERS: Once<&'static dyn BlockDevice> = Once::new();
/// It is the one for files.
#[cfg(feature = "lab")]
static LENT: AtomicBool = AtomicBool::new(false);

/// The disk for files is the explorer's, always the same one, until [`take_back`].
#[cfg(feature = "lab")]
pub(super) fn lend(disk: &'static dyn BlockDevice) {
    EXPLORERS.call_once(|| disk);
    LENT.store(true, Ordering::Relaxed);
}

/// It is the machine's again.
#[cfg(feature = "lab")]
pub(super) fn take_back() {
    LENT.store(false, Ordering::Relaxed);
}

/// Requests in flight now.
#[cfg(feature = "lab")]
pub(crate) fn in_flight() -> u32 {
    REQUESTS.in_flight()
}

/// For the explorer: requests that never completed fail, unknown to whoever waits for them.
#[cfg(feature = "lab")]
pub(crate) fn give_up() {
    REQUESTS.give_up();
}

/// Reads or writes `pages` of the file, by ascending index, which are marked READING or WRITEBACK.
/// Returns when all is submitted. Pages that lie nowhere on the disk fail.
pub(super) fn start(f: &File, op: Op, pages: &[PageIo]) {
    for mut run in merge::runs(pages, MAX_SEGMENTS) {
        while let Some(&(index, _)) = run.first() {
            let place = device().zip(f.layout.place(index));
            let n = place.map_or(1, |(_, (_, follow))| run.len().min(follow as usize));
            let (now, rest) = run.split_at(n);
            match place {
                Some((dev, (page, _))) => request(dev, op, page, now),
                None => finish(op, Folio::of(Pfn(now[0].1)), Err(flag::ERROR)),
            }
            run = rest;
        }
    }
}

/// Starts one request for pages that follow each other from `page` of the disk on.
fn request(dev: &'static dyn BlockDevice, op: Op, page: u32, pages: &[PageIo]) {
    let mut frames = [Pfn(0); MAX_SEGMENTS];
    for (to, &(_, pfn)) in frames.iter_mut().zip(pages) {
        *to = Pfn(pfn);
    }
    let sector = u64::from(page) * SECTORS_PER_PAGE;
    REQUESTS.start(dev, op, sector, &frames[..pages.len()]);
}

/// Makes what was written before durable. Sleeps.
///
/// # Errors
/// [`IoError`] when the disk fails.
pub(super) fn flush() -> Result<(), IoError> {
    REQUESTS.run(device().ok_or(IoError)?, Op::Flush, 0, &[])
}

/// A page of the disk as it is there, past every cache, for tests. Sleeps.
///
/// # Errors
/// [`MmError::Io`] when the disk fails, [`MmError::NoMemory`], [`MmError::Invalid`] for a page that
/// is not there.
pub fn read_raw(page: u32, into: &mut [u8; PAGE_SIZE as usize]) -> Result<(), MmError> {
    if page >= super::disk_pages() {
        return Err(MmError::Invalid);
    }
    let buffer = buddy::alloc(0, Use::Misc, Gfp::RECLAIM)?;
    let dev = device().ok_or(MmError::Io)?;
    let sector = u64::from(page) * SECTORS_PER_PAGE;
    REQUESTS
        .run(dev, Op::Read, sector, &[buffer.pfn()])
        .map_err(|IoError| MmError::Io)?;
    super::copy::copy_out(&buffer, 0, into);
    Ok(())
}

/// A request completed; whether it was one of files'. Interrupt context.
pub(crate) fn done(bio: &'static Bio) -> bool {
    let i = match REQUESTS.completed(bio) {
        Completed::Ours(i) => i,
        other => return other == Completed::Waited,
    };
    let result = bio::result(bio);
    let op = bio.op();
    // Counted first: who waits for a page may look.
    let event = match (op, result) {
        (Op::Read, Ok(())) => Event::FileRead,
        (Op::Read, Err(_)) => Event::FileReadError,
        (_, Ok(())) => Event::FileWritten,
        (_, Err(_)) => Event::FileWriteError,
    };
    count_n(event, bio.len() as u64);
    for n in 0..bio.len() {
        finish(op, Folio::of(bio.frame(n)), result);
    }
    REQUESTS.give(i);
    super::balance::room();
    true
}

/// The result of one folio's I/O, `Err` with the flags that say so. It is there before the waiters
/// are let go.
fn finish(op: Op, folio: Folio, result: Result<(), u32>) {
    // The cache has a reference on it: it stays its file's.
    let Some(of) = file_of(folio) else {
        unreachable!("a folio left the cache while its I/O was under way");
    };
    if op == Op::Read {
        if result.is_ok() {
            zero_beyond_end(of, folio);
        }
        folio.end_read(result);
        return;
    }
    if result.is_err() {
        of.note_error();
    }
    let kept = if knobs::on(Knob::FailedDirty) {
        result
    } else {
        Ok(())
    };
    of.tree.end_write(folio, kept);
    if result.is_err() {
        super::balance::note_dirty();
    }
    folio.end_writeback();
}

/// What the disk has behind the end of the file does not show. (The file may grow or shrink
/// meanwhile; who makes it do so comes after the read, and zeroes what he has to himself.)
fn zero_beyond_end(f: &File, folio: Folio) {
    let used = f
        .size()
        .saturating_sub(u64::from(folio.index()) * PAGE_SIZE);
    if used < PAGE_SIZE {
        let used = used as usize;
        // SAFETY: the read that just ended keeps the folio in the page cache.
        let kept = unsafe { Kept::new(folio.pfn()) };
        super::copy::zero(&kept, used, PAGE_SIZE as usize - used);
    }
}
