//! Swap: anonymous pages on disk.
//!
//! A page on disk is named by its slot; page-table entries that name it are counted in the area's
//! map, and the swap cache finds its folio while it is in memory too. Rule 7: the slot is allocated
//! and the folio in the cache before any entry names the slot; the frame is freed only after the
//! write has succeeded; a failed write leaves the folio dirty, in memory, and its slot is not used
//! again. See each file for its locks.

pub(crate) mod area;
pub mod cache;
pub mod header;
pub mod io;
mod on;
pub mod readahead;

pub use area::{free_slots, references, state as slot_state, total_slots, validate};
#[cfg(feature = "lab")]
pub(crate) use on::swapon_at_once;
pub use on::{MIN_PAGES, SwapOpError, mkswap, swapon};
pub(crate) use on::{SWAPON, close};

use crate::mm::Mm;
use crate::stats::{Event, total};
use algo::swapmap::Left;

/// A swap area is in use.
pub fn enabled() -> bool {
    total_slots() > 0
}

/// A page-table entry that named `slot` is gone. When it was the last one, the cached folio goes
/// too, unless somebody is busy with it (reclaim finds it then). May be called under a PTL.
pub(crate) fn free_entry(slot: u32) {
    if area::put(slot) == Left::CacheOnly {
        cache::drop_unused(slot);
    }
}

/// What `swap`, `vmstat` and `meminfo` show; in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Usable slots.
    pub total: u64,
    /// Slots in use.
    pub used: u64,
    /// Slots that must not be used, the header apart.
    pub bad: u64,
    /// Folios in the swap cache.
    pub cached: u64,
    /// Pages read since boot.
    pub pages_in: u64,
    /// Pages written since boot.
    pub pages_out: u64,
    /// Pages whose read failed.
    pub read_errors: u64,
    /// Pages whose write failed.
    pub write_errors: u64,
}

/// The numbers now.
pub fn stats() -> Stats {
    let (used, bad) = area::usage();
    Stats {
        total: u64::from(total_slots()),
        used: u64::from(used),
        bad: u64::from(bad),
        cached: cache::len(),
        pages_in: total(Event::PswpIn),
        pages_out: total(Event::PswpOut),
        read_errors: total(Event::SwapReadError),
        write_errors: total(Event::SwapWriteError),
    }
}

/// `n` more entries of `mm` name slots; `n` is negative for fewer. The slots' counts know of them
/// already.
#[inline]
pub(crate) fn add_entries(mm: &Mm, n: i64) {
    mm.swap_entries.add(n);
    area::note_change();
}
