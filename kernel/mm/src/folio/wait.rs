//! Waiting for a folio: its lock, its reads and writes, and entries that will make it dirty.
//!
//! Sleepers are hashed by frame number; a sleeper sets WAITERS before it looks for the last time,
//! and what changes the folio looks at WAITERS in the same operation. The ends (`end_*`) never
//! sleep and may be called from interrupt context.

use super::Folio;
use crate::frame::flag;
use core::sync::atomic::{Ordering, fence};
use sync::WaitQueue;

const QUEUES: usize = 64;
static WAITING: [WaitQueue; QUEUES] = [const { WaitQueue::new() }; QUEUES];

fn queue(folio: Folio) -> &'static WaitQueue {
    &WAITING[folio.pfn().index() % QUEUES]
}

impl Folio {
    /// A bit was cleared in the flags `before`: wakes what waits for that.
    pub(super) fn wake(self, before: u32) {
        if before & flag::WAITERS != 0 {
            self.clear(flag::WAITERS);
            queue(self).wake_all();
        }
    }

    /// Sleeps until none of `bits` is set. The caller holds a reference.
    #[inline]
    pub(super) fn wait_clear(self, bits: u32) {
        if self.flags() & bits != 0 {
            self.wait_clear_slow(bits);
        }
    }

    #[cold]
    fn wait_clear_slow(self, bits: u32) {
        queue(self).wait_until(|| {
            if self.flags() & bits == 0 {
                return true;
            }
            // The waker clears the bit first and looks at WAITERS in the same operation: setting it
            // before looking again means that one of us sees the other.
            self.flags_point();
            self.set(flag::WAITERS);
            self.flags() & bits == 0
        });
    }

    /// Something waits for the folio's lock to go. Under the PTL of a migration entry that names
    /// the folio: it is locked, and an unlocking of it is still to come.
    pub(crate) fn mark_waited_for(self) {
        self.flags_point();
        self.set(flag::WAITERS);
    }

    /// Sleeps until `arrived`, which is asked again after each unlocking of the folio that finds it
    /// marked by [`Folio::mark_waited_for`]. The caller needs no reference.
    pub(crate) fn wait_migrated(self, arrived: impl FnMut() -> bool) {
        queue(self).wait_until(arrived);
    }

    /// Sleeps until no write of the folio is in flight. The caller holds a reference.
    pub(crate) fn wait_writeback(self) {
        self.wait_clear(flag::WRITEBACK);
    }

    /// The write of the folio is done.
    pub(crate) fn end_writeback(self) {
        self.flags_point();
        self.wake(self.clear(flag::WRITEBACK));
    }

    /// Sleeps until no read of the folio is in flight. The caller holds a reference.
    pub(crate) fn wait_read(self) {
        self.wait_clear(flag::READING);
    }

    /// The read of the folio is done: its content is valid, or else flags say why not, before the
    /// waiters are let go.
    pub(crate) fn end_read(self, result: Result<(), u32>) {
        self.set(match result {
            Ok(()) => flag::UPTODATE,
            Err(failed) => failed,
        });
        self.flags_point();
        self.wake(self.clear(flag::READING));
    }

    /// One more entry through which the folio was written is gone and will make it dirty: until
    /// [`Folio::end_pending`], a cleaner of the folio waits. Under the PTL of the entry, whose
    /// reference the caller holds.
    pub(crate) fn begin_pending(self) {
        self.pending_inc();
    }

    /// The folio is dirty for one of those entries.
    pub(crate) fn end_pending(self) {
        if self.pending_dec() {
            self.wake(self.flags());
        }
    }

    /// Sleeps until the folio is dirty for every entry that is gone. The caller holds the folio
    /// lock, and nothing else that an unmapper may wait for.
    pub(crate) fn wait_pending(self) {
        queue(self).wait_until(|| {
            if self.pending() == 0 {
                return true;
            }
            self.flags_point();
            self.set(flag::WAITERS);
            // The other fence is in `pending_dec`: the waker sees the flag, or the look below sees
            // its count.
            fence(Ordering::SeqCst);
            self.pending() == 0
        });
    }
}
