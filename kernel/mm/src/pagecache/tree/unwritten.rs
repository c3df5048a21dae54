//! How many folios of files wait to be written, and how many are being written, as one number that
//! is read in one step.
//!
//! A folio goes from one to the other and, when its write fails, back. Who looks at two counters
//! one after the other may miss it in both, or see it in both: a writer would pass the limit, a
//! reclaimer would find nothing to wait for. So a move is one addition, and the sum is never wrong.
//! No lock.

use core::sync::atomic::{AtomicU64, Ordering};
use sync::point::{self, AccessKind, class};

/// Both counts; in the low half what is dirty.
static BOTH: AtomicU64 = AtomicU64::new(0);
const DIRTY: u64 = 1;
const WRITEBACK: u64 = 1 << 32;

/// Folios of all files on disks that are newer than the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unwritten {
    /// And not being written.
    pub dirty: u64,
    /// And being written.
    pub writeback: u64,
}

impl Unwritten {
    /// Both.
    pub const fn all(self) -> u64 {
        self.dirty + self.writeback
    }
}

/// The counts at one moment.
#[inline]
pub fn unwritten() -> Unwritten {
    touch(AccessKind::Read);
    let both = BOTH.load(Ordering::Relaxed);
    Unwritten {
        dirty: both % WRITEBACK,
        writeback: both / WRITEBACK,
    }
}

/// More folios are dirty (fewer, if negative), and more are being written. Each half counts frames,
/// of which there are fewer than fit.
#[inline]
pub(super) fn change(dirty: i64, writeback: i64) {
    let by = (dirty as u64)
        .wrapping_mul(DIRTY)
        .wrapping_add((writeback as u64).wrapping_mul(WRITEBACK));
    touch(AccessKind::Write);
    BOTH.fetch_add(by, Ordering::Relaxed);
}

/// For the explorer: the running actor looks at the counts, or changes them.
#[inline(always)]
fn touch(access: AccessKind) {
    point::touch(access, || point::object_at(class::FILE, &BOTH));
}
