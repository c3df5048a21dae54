//! The reader-writer semaphore behind [`crate::Mutex`] and [`crate::RwSem`]: sleeps, fair, no
//! allocation.
//!
//! One word: readers in the low bits, a writer bit, a waiters bit. While anyone waits, newcomers
//! queue behind (a waiting writer stops new readers). The releaser hands the semaphore over, first
//! come first served: a run of readers at the head gets it together. The hand-over is done under
//! the queue's lock: the state word already counts the new owner when its thread wakes, so nobody
//! can overtake and no wake-up can be lost. Acquire on taking pairs with Release on releasing; all
//! are read-modify-writes of one word, so the last of several readers carries the release of the
//! others.

use crate::atomic::AtomicU32;
use crate::point::{self, AccessKind, Go, class};
use crate::rawspin::RawSpin;
use crate::task::{TaskId, wait};
use crate::tasklist::{TaskList, is_waiting};
use crate::twin::{Twin, broken, order_of};
use crate::{Rank, threads};
use core::sync::atomic::Ordering;

const WAITERS: u32 = 1 << 31;
const WRITER: u32 = 1 << 30;
const READERS: u32 = WRITER - 1;
/// Turns to spin for a short holder before queueing. A model goes to the queue at once, which is
/// what it is for.
const fn spins() -> u32 {
    if cfg!(feature = "loom") { 0 } else { 50 }
}
const BATCH: usize = 16;

/// Who holds a semaphore, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SemState {
    /// Readers inside.
    pub readers: u32,
    /// A writer is inside.
    pub writer: bool,
    /// Threads are queued.
    pub waiters: bool,
}

pub(crate) struct RawRwSem {
    state: AtomicU32,
    queue: RawSpin,
    list: TaskList,
}

/// How a thread wants the semaphore.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    Write,
}

impl Mode {
    const fn unit(self) -> u32 {
        match self {
            Mode::Read => 1,
            Mode::Write => WRITER,
        }
    }
    /// With `state` a newcomer may enter.
    const fn enters(self, state: u32) -> bool {
        match self {
            Mode::Read => state & (WRITER | WAITERS) == 0,
            Mode::Write => state == 0,
        }
    }
    /// With `state` somebody is inside in this mode.
    const fn is_inside(self, state: u32) -> bool {
        match self {
            Mode::Read => state & READERS != 0,
            Mode::Write => state & WRITER != 0,
        }
    }
    const fn access(self) -> (AccessKind, AccessKind) {
        match self {
            Mode::Read => (AccessKind::LockShared, AccessKind::UnlockShared),
            Mode::Write => (AccessKind::Lock, AccessKind::Unlock),
        }
    }
    const fn wait_kind(self) -> u8 {
        match self {
            Mode::Read => wait::READER,
            Mode::Write => wait::WRITER,
        }
    }
}

impl RawRwSem {
    pub(crate) const fn new() -> Self {
        Self {
            state: AtomicU32::new(0),
            queue: RawSpin::new(),
            list: TaskList::new(),
        }
    }

    pub(crate) fn state(&self) -> SemState {
        let s = self.state.load(Ordering::Relaxed);
        SemState {
            readers: s & READERS,
            writer: s & WRITER != 0,
            waiters: s & WAITERS != 0,
        }
    }

    fn object(&self) -> u32 {
        point::object_at(class::LOCK, &self.state)
    }

    /// See `RwSem::poll_readable`.
    pub(crate) fn poll_readable(&self) -> bool {
        point::spin(|| self.object(), || !self.state().writer)
    }

    /// Takes the semaphore if it can be had.
    #[inline]
    pub(crate) fn try_down(&self, mode: Mode, rank: Rank) -> bool {
        point::try_lock(rank, || self.object());
        let got = self.enter(mode);
        if got {
            point::tried(rank, mode.access().0, || self.object());
        }
        got
    }

    #[inline]
    fn enter(&self, mode: Mode) -> bool {
        let mut s = self.state.load(Ordering::Relaxed);
        while mode.enters(s) {
            match self.state.compare_exchange_weak(
                s,
                s + mode.unit(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => s = now,
            }
        }
        false
    }

    #[inline]
    pub(crate) fn down(&self, mode: Mode, rank: Rank) {
        let free = || mode.enters(self.state.load(Ordering::Relaxed));
        let go = point::lock(rank, mode.access().0, || self.object(), free);
        // Who is forced goes on without it: see `up`.
        if go == Go::Free && !self.enter(mode) {
            self.down_slow(mode, rank);
        }
    }

    #[cold]
    fn down_slow(&self, mode: Mode, rank: Rank) {
        rank.count_contended();
        for spins in 0..spins() {
            if self.state.load(Ordering::Relaxed) & WAITERS != 0 {
                break;
            }
            threads().relax(spins);
            if self.enter(mode) {
                return;
            }
        }
        let Some(me) = self.enqueue(mode) else {
            return;
        };
        rank.count_slept();
        while is_waiting(me) {
            threads().park();
        }
    }

    /// Queues the running thread, or `None` if the semaphore could be had after all.
    fn enqueue(&self, mode: Mode) -> Option<TaskId> {
        let _g = self.queue.lock_irq(Rank::WaitQueue);
        let mut s = self.state.load(Ordering::Relaxed);
        loop {
            let enters = mode.enters(s) && !broken(Twin::SemQueueBlind);
            let new = match enters {
                true => s + mode.unit(),
                // Somebody is inside or queued, so a release will come and see the bit.
                false => s | WAITERS,
            };
            match self
                .state
                .compare_exchange_weak(s, new, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) if enters => return None,
                Ok(_) => return Some(self.list.push_current(mode.wait_kind())),
                Err(now) => s = now,
            }
        }
    }

    #[inline]
    pub(crate) fn up(&self, mode: Mode, rank: Rank) {
        point::unlock(rank, mode.access().1, || self.object());
        if !self.is_lost(mode) {
            self.release(mode);
        }
        point::unlocked(rank);
    }

    /// The running actor, or another, was forced to go on without the semaphore, and one of them
    /// has given it back already.
    #[inline]
    fn is_lost(&self, mode: Mode) -> bool {
        point::exploring() && !mode.is_inside(self.state.load(Ordering::Relaxed))
    }

    #[inline]
    fn release(&self, mode: Mode) {
        let order = order_of(Twin::SemUpRelaxed, Ordering::Release);
        let old = self.state.fetch_sub(mode.unit(), order);
        debug_assert!(mode.is_inside(old), "semaphore released but not held");
        // Readers leave it to the last of them.
        if old & WAITERS != 0
            && (mode == Mode::Write || old & READERS == 1 && !broken(Twin::SemLastReader))
        {
            self.hand_over();
        }
    }

    /// The holding writer becomes a reader, and lets queued readers in.
    pub(crate) fn downgrade(&self, rank: Rank) {
        point::unlock(rank, AccessKind::Unlock, || self.object());
        if !self.is_lost(Mode::Write) {
            self.share();
        }
        point::tried(rank, AccessKind::LockShared, || self.object());
        point::unlocked(rank);
    }

    #[inline]
    fn share(&self) {
        let old = match broken(Twin::DowngradeGap) {
            true => {
                let old = self.state.fetch_sub(WRITER, Ordering::Release);
                self.state.fetch_add(1, Ordering::Relaxed);
                old
            }
            false => self.state.fetch_sub(WRITER - 1, Ordering::Release),
        };
        debug_assert!(old & WRITER != 0, "downgrade of a semaphore not held");
        if old & WAITERS != 0 && !broken(Twin::DowngradeAlone) {
            self.hand_over();
        }
    }

    /// Gives the semaphore to the head of the queue as far as it is free, then wakes the new
    /// owners.
    #[cold]
    fn hand_over(&self) {
        loop {
            let mut batch = [TaskId(0); BATCH];
            let n = self.grant(&mut batch);
            for &t in &batch[..n] {
                threads().unpark(t);
            }
            if n < BATCH {
                return;
            }
        }
    }

    fn grant(&self, batch: &mut [TaskId; BATCH]) -> usize {
        let _g = self.queue.lock_irq(Rank::WaitQueue);
        let mut n = 0;
        // With the waiters bit set and the queue's lock held nobody enters; readers may still
        // leave.
        while n < BATCH {
            let Some((_, kind)) = self.list.first() else {
                break;
            };
            let s = self.state.load(Ordering::Relaxed);
            let (free, unit) = match kind {
                wait::READER => (s & WRITER == 0, 1),
                _ => (s & (WRITER | READERS) == 0, WRITER),
            };
            if !free && !broken(Twin::SemGrantBlind) {
                break;
            }
            // Acquire takes over what the last holder released; the `pop` passes it on.
            let order = order_of(Twin::SemGrantRelaxed, Ordering::Acquire);
            self.state.fetch_add(unit, order);
            if let Some(t) = self.list.pop() {
                batch[n] = t;
                n += 1;
            }
        }
        if self.list.is_empty() {
            self.state.fetch_and(!WAITERS, Ordering::Relaxed);
        }
        n
    }
}
