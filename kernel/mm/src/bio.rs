//! A pool of disk requests: static, so that nothing is allocated, and many are in flight.
//!
//! Submitting sleeps while the pool or the disk's queue is full, so no spin lock may be held.
//! [`Pool::completed`] runs in interrupt context on any CPU and takes no lock but wait queues'.

#![expect(unsafe_code, reason = "a frame is given to a device")]

use crate::frame::flag;
use crate::stats::{Event, count};
use arch::Pfn;
use arch::block::{Bio, BlockDevice, IoError, Op};
use core::sync::atomic::{AtomicU64, Ordering};
use sync::WaitQueue;
use sync::point::{self, AccessKind, class};

/// Requests in flight at most: one bit each in [`Pool::idle`].
const POOL: usize = 64;
/// In a cookie: somebody waits for this request by itself and gives it back, once it has been let
/// go of.
const WAITED: u64 = 1 << 32;
const LET_GO: u64 = 1 << 33;

/// Requests of one user.
pub(crate) struct Pool {
    bios: [Bio; POOL],
    /// One bit per request that nobody uses.
    idle: AtomicU64,
    /// Completions so far, also of others' requests.
    done: AtomicU64,
    /// Sleepers for an idle request or any completion.
    waiters: WaitQueue,
}

/// Whose request it was that completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Completed {
    /// The pool's: the owner handles the result and calls [`Pool::give`].
    Ours(usize),
    /// The pool's, and its waiter has been told.
    Waited,
    /// Somebody else's.
    Foreign,
}

/// What a completed request means for each of its pages; the flags of the folio say so. One of
/// several that failed together may be as good as not.
pub(crate) fn result(bio: &Bio) -> Result<(), u32> {
    match bio.result() {
        Some(Ok(())) => Ok(()),
        _ if bio.len() == 1 => Err(flag::ERROR),
        _ => Err(flag::ERROR | flag::SUSPECT),
    }
}

impl Pool {
    /// All idle.
    pub(crate) const fn new() -> Self {
        Self {
            bios: [const { Bio::new() }; POOL],
            idle: AtomicU64::new(u64::MAX),
            done: AtomicU64::new(0),
            waiters: WaitQueue::new(),
        }
    }

    /// For the explorer: the running actor looks at, or changes, which requests are idle or how
    /// many completed.
    #[inline(always)]
    fn touch(&self, access: AccessKind) {
        point::touch(access, || point::object_at(class::DISK, &self.idle));
    }

    /// Requests in flight now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.touch(AccessKind::Read);
        self.idle.load(Ordering::Relaxed).count_zeros()
    }

    /// Completed requests since boot.
    pub(crate) fn completions(&self) -> u64 {
        self.touch(AccessKind::Read);
        self.done.load(Ordering::Acquire)
    }

    /// Sleeps until another request than the first `seen` has completed, or none is in flight.
    pub(crate) fn wait_progress(&self, seen: u64) {
        self.waiters
            .wait_until(|| self.completions() != seen || self.in_flight() == 0);
    }

    fn try_take(&self) -> Option<usize> {
        self.touch(AccessKind::Write);
        // Acquire pairs with the Release in `give`: the last user is done with the request.
        let before = self
            .idle
            .try_update(Ordering::Acquire, Ordering::Relaxed, |idle| {
                (idle != 0).then(|| idle & (idle - 1))
            });
        before.ok().map(|idle| idle.trailing_zeros() as usize)
    }

    /// An idle request. Sleeps until there is one.
    fn take(&self) -> usize {
        let mut got = None;
        self.waiters.wait_until(|| {
            got = self.try_take();
            got.is_some()
        });
        got.unwrap_or_default()
    }

    /// Request `i` is idle again.
    pub(crate) fn give(&self, i: usize) {
        self.touch(AccessKind::Write);
        self.idle.fetch_or(1 << i, Ordering::Release);
        self.waiters.wake_all();
    }

    /// Hands request `i` to the disk; sleeps while the disk's queue is full.
    fn submit(&'static self, dev: &dyn BlockDevice, i: usize) {
        count(Event::Bio);
        loop {
            // Before the attempt: a queue that was full then has a completion still to come.
            let seen = self.completions();
            // SAFETY: the request was taken and prepared by this caller, and whoever made it keeps
            // its frames until `completed` has told of it.
            if unsafe { dev.submit(&self.bios[i]) }.is_ok() {
                return;
            }
            self.waiters.wait_until(|| self.completions() != seen);
        }
    }

    /// Starts a request. Sleeps until it is submitted.
    pub(crate) fn start(&'static self, dev: &dyn BlockDevice, op: Op, sector: u64, frames: &[Pfn]) {
        let i = self.take();
        self.bios[i].prepare(op, sector, frames);
        self.bios[i].cookie.store(i as u64, Ordering::Relaxed);
        self.submit(dev, i);
    }

    /// Makes a request and waits for it. Sleeps.
    ///
    /// # Errors
    /// [`IoError`] when the disk fails.
    pub(crate) fn run(
        &'static self,
        dev: &dyn BlockDevice,
        op: Op,
        sector: u64,
        frames: &[Pfn],
    ) -> Result<(), IoError> {
        let i = self.take();
        let bio = &self.bios[i];
        bio.prepare(op, sector, frames);
        bio.cookie.store(i as u64 | WAITED, Ordering::Relaxed);
        self.submit(dev, i);
        // Not for its result, which is there a moment earlier: `completed` would take the next
        // user's request for this one. Acquire pairs with the Release in `completed`.
        self.waiters
            .wait_until(|| bio.cookie.load(Ordering::Acquire) & LET_GO != 0);
        let result = bio.result().unwrap_or(Err(IoError));
        self.give(i);
        result
    }

    /// A request completed. Interrupt context; requests that are not ours only make room in the
    /// disk's queue.
    pub(crate) fn completed(&self, bio: &'static Bio) -> Completed {
        self.touch(AccessKind::Write);
        self.done.fetch_add(1, Ordering::Release);
        let cookie = bio.cookie.load(Ordering::Relaxed);
        let i = cookie as u32 as usize;
        let ours = self.bios.get(i).is_some_and(|b| core::ptr::eq(b, bio));
        if ours && cookie & WAITED == 0 {
            return Completed::Ours(i);
        }
        if ours {
            bio.cookie.store(cookie | LET_GO, Ordering::Release);
        }
        self.waiters.wake_all();
        if ours {
            Completed::Waited
        } else {
            Completed::Foreign
        }
    }

    /// For the explorer: requests that never completed fail, unknown to whoever waits for them.
    #[cfg(feature = "lab")]
    pub(crate) fn give_up(&self) {
        let busy = !self.idle.swap(u64::MAX, Ordering::AcqRel);
        for (_, bio) in self
            .bios
            .iter()
            .enumerate()
            .filter(|(i, _)| busy & 1 << i != 0)
        {
            // SAFETY: the explorer's disk is gone, and nobody runs.
            unsafe { bio.complete(Err(IoError)) };
        }
    }
}
