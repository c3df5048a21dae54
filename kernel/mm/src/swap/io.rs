//! Moving folios between memory and the swap disk.
//!
//! A static pool of requests, so that nothing is allocated; neighbouring slots share a request, and many
//! requests are in flight. Submitting sleeps while the pool or the disk's queue is full, so no spin lock
//! may be held. [`done`] runs in interrupt context on any CPU and takes no lock but wait queues'.
//!
//! State of a folio with I/O in flight: WRITEBACK or READING, cleared by [`done`] after the result is in the
//! flags. A failed write leaves DIRTY and ERROR; a failed read leaves UPTODATE clear. Both flags keep the
//! folio in the swap cache (see `cache`), whose reference keeps the frame.

use super::area;
use crate::folio;
use crate::frame::{flag, frame};
use crate::stats::{Event, count, count_n};
use algo::merge;
use arch::Pfn;
use arch::addr::PAGE_SIZE;
use arch::block::{Bio, BlockDevice, IoError, MAX_SEGMENTS, Op, SECTOR};
use core::sync::atomic::{AtomicU64, Ordering};
use sync::WaitQueue;
use sync::point::{self, AccessKind, class};

/// Requests in flight at most.
const POOL: usize = 64;
const SECTORS_PER_PAGE: u64 = PAGE_SIZE / SECTOR;
/// In a cookie: somebody waits for this request by itself and gives it back, once [`done`] has let go of it.
const WAITED: u64 = 1 << 32;
const LET_GO: u64 = 1 << 33;

static BIOS: [Bio; POOL] = [const { Bio::new() }; POOL];
/// One bit per request that nobody uses.
static IDLE: AtomicU64 = AtomicU64::new(u64::MAX);
/// Completions so far, also of others' requests.
static DONE: AtomicU64 = AtomicU64::new(0);
/// Sleepers for an idle request or any completion.
static WAITERS: WaitQueue = WaitQueue::new();

/// (slot, frame number) of a folio to move.
pub(crate) type PageIo = (u32, u32);

/// For the explorer: the running actor looks at, or changes, which requests are idle or how many completed.
#[inline(always)]
fn touch(access: AccessKind) {
    point::touch(access, || point::object_at(class::DISK, &IDLE));
}

/// Requests in flight now.
pub fn in_flight() -> u32 {
    touch(AccessKind::Read);
    IDLE.load(Ordering::Relaxed).count_zeros()
}

/// Completed requests since boot.
pub(crate) fn completions() -> u64 {
    touch(AccessKind::Read);
    DONE.load(Ordering::Acquire)
}

/// Sleeps until another request than the first `seen` has completed, or none is in flight.
pub(crate) fn wait_progress(seen: u64) {
    WAITERS.wait_until(|| completions() != seen || in_flight() == 0);
}

fn try_take() -> Option<usize> {
    touch(AccessKind::Write);
    // Acquire pairs with the Release in `give`: the last user is done with the request.
    let before = IDLE.try_update(Ordering::Acquire, Ordering::Relaxed, |idle| {
        (idle != 0).then(|| idle & (idle - 1))
    });
    before.ok().map(|idle| idle.trailing_zeros() as usize)
}

/// An idle request. Sleeps until there is one.
fn take() -> usize {
    let mut got = None;
    WAITERS.wait_until(|| {
        got = try_take();
        got.is_some()
    });
    got.unwrap_or_default()
}

fn give(i: usize) {
    touch(AccessKind::Write);
    IDLE.fetch_or(1 << i, Ordering::Release);
    WAITERS.wake_all();
}

/// Hands request `i` to the disk; sleeps while the disk's queue is full.
fn submit(dev: &dyn BlockDevice, i: usize) {
    count(Event::Bio);
    loop {
        // Before the attempt: a queue that was full then has a completion still to come.
        let seen = completions();
        if dev.submit(&BIOS[i]).is_ok() {
            return;
        }
        WAITERS.wait_until(|| completions() != seen);
    }
}

/// Writes or reads `pages`, given by ascending slot, whose folios are marked WRITEBACK or READING. Returns
/// when all is submitted.
pub(crate) fn start(op: Op, pages: &[PageIo]) {
    let Some(dev) = area::device() else {
        for &(_, pfn) in pages {
            finish(op, Pfn(pfn), Err(flag::ERROR));
        }
        return;
    };
    for run in merge::runs(pages, MAX_SEGMENTS) {
        let mut frames = [Pfn(0); MAX_SEGMENTS];
        for (f, &(_, pfn)) in frames.iter_mut().zip(run) {
            *f = Pfn(pfn);
        }
        let i = take();
        BIOS[i].prepare(
            op,
            u64::from(run[0].0) * SECTORS_PER_PAGE,
            &frames[..run.len()],
        );
        BIOS[i].cookie.store(i as u64, Ordering::Relaxed);
        submit(dev, i);
    }
}

/// Moves one page that is no folio and waits for it. Sleeps.
///
/// # Errors
/// [`IoError`] when the disk fails.
pub(super) fn one_page(dev: &dyn BlockDevice, op: Op, page: u64, pfn: Pfn) -> Result<(), IoError> {
    let i = take();
    let bio = &BIOS[i];
    bio.prepare(op, page * SECTORS_PER_PAGE, &[pfn]);
    bio.cookie.store(i as u64 | WAITED, Ordering::Relaxed);
    submit(dev, i);
    // Not for its result, which is there a moment earlier: `done` would take the next user's request for this
    // one. Acquire pairs with the Release in `done`.
    WAITERS.wait_until(|| bio.cookie.load(Ordering::Acquire) & LET_GO != 0);
    let result = bio.result().unwrap_or(Err(IoError));
    give(i);
    result
}

/// A request completed. Interrupt context; requests that are not ours only make room in the disk's queue.
pub(crate) fn done(bio: &'static Bio) {
    touch(AccessKind::Write);
    DONE.fetch_add(1, Ordering::Release);
    let cookie = bio.cookie.load(Ordering::Relaxed);
    let i = cookie as u32 as usize;
    let ours = BIOS.get(i).is_some_and(|b| core::ptr::eq(b, bio));
    if ours && cookie & WAITED != 0 {
        bio.cookie.store(cookie | LET_GO, Ordering::Release);
    }
    if !ours || cookie & WAITED != 0 {
        WAITERS.wake_all();
        return;
    }
    let ok = bio.result() == Some(Ok(()));
    let op = bio.op();
    // Counted first: who waits for a page may look.
    let pages = bio.len() as u64;
    count_n(
        match (op, ok) {
            (Op::Read, true) => Event::PswpIn,
            (Op::Read, false) => Event::SwapReadError,
            (_, true) => Event::PswpOut,
            (_, false) => Event::SwapWriteError,
        },
        pages,
    );
    let alone = bio.len() == 1;
    let failed = if alone {
        flag::ERROR
    } else {
        flag::ERROR | flag::SUSPECT
    };
    for n in 0..bio.len() {
        finish(op, bio.frame(n), if ok { Ok(()) } else { Err(failed) });
    }
    give(i);
}

/// The result of one folio's I/O, `Err` with the flags that say so. It is in the flags before the waiters
/// are let go.
fn finish(op: Op, pfn: Pfn, result: Result<(), u32>) {
    let f = frame(pfn);
    if op == Op::Read {
        f.set(match result {
            Ok(()) => flag::UPTODATE,
            Err(failed) => failed,
        });
        folio::end_read(pfn);
    } else {
        if let Err(failed) = result {
            f.set(flag::DIRTY | failed);
        }
        folio::end_writeback(pfn);
    }
}

/// For the explorer: requests that never completed fail, unknown to whoever waits for them.
#[cfg(feature = "lab")]
pub(crate) fn give_up() {
    let busy = !IDLE.swap(u64::MAX, Ordering::AcqRel);
    for (_, bio) in BIOS.iter().enumerate().filter(|(i, _)| busy & 1 << i != 0) {
        bio.complete(Err(IoError));
    }
}
