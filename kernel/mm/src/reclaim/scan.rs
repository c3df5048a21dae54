//! One run of reclaim: on whose account it is, and what it has achieved so far. No lock, never
//! sleeps.

use crate::stats::{Event, count_n};

/// On whose account it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Kswapd,
    Direct,
}

/// One run of reclaim.
pub(super) struct Scan {
    pub(super) by: By,
    /// Frames freed so far.
    pub(super) reclaimed: u32,
    /// Folios sent to be written.
    pub(super) written: u32,
    /// Folios of files that could go if they were not dirty.
    pub(super) dirty: u32,
    /// It writes those, and does not leave them to the flusher.
    pub(super) writes_files: bool,
}

impl Scan {
    pub(super) const fn new(by: By) -> Self {
        Self {
            by,
            reclaimed: 0,
            written: 0,
            dirty: 0,
            writes_files: false,
        }
    }
    pub(super) fn freed(&mut self, n: u32) {
        self.reclaimed += n;
        let event = match self.by {
            By::Kswapd => Event::PgStealKswapd,
            By::Direct => Event::PgStealDirect,
        };
        count_n(event, u64::from(n));
    }
    pub(super) fn looked_at(&self, n: u32) {
        let event = match self.by {
            By::Kswapd => Event::PgScanKswapd,
            By::Direct => Event::PgScanDirect,
        };
        count_n(event, u64::from(n));
    }
}
