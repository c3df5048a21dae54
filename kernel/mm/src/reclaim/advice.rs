//! Reclaim by request: MADV_PAGEOUT.
//!
//! The caller collects folios under their PTLs ([`Pages::isolate`] takes the LRU lock inside), then
//! drops the PTL and evicts them ([`Pages::evict`] sleeps for the disk).

use super::evict::{References, evict_folios};
use super::laundry;
use super::scan::{By, Scan};
use crate::folio::Folio;
use crate::lru;
use crate::pt::gather::Room;
use crate::rmap::batch::BATCH;
use heapless::Vec;

/// Folios taken off the LRU to be evicted, each with a reference.
pub(crate) struct Pages(Vec<Folio, BATCH>);

impl Pages {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes a folio that the caller's locked entry maps. Folios that others have in hand are left
    /// alone.
    pub(crate) fn isolate(&mut self, folio: Folio) -> Room {
        if lru::remove(folio) {
            folio.get();
            return self.take(folio);
        }
        self.room()
    }

    /// Takes a folio that is off the LRU, with the caller's reference.
    ///
    /// # Panics
    /// If the last one was told that there is no room.
    pub(super) fn take(&mut self, folio: Folio) -> Room {
        self.0.push(folio).expect("room for a folio");
        self.room()
    }

    fn room(&self) -> Room {
        if self.0.is_full() {
            Room::Full
        } else {
            Room::Left
        }
    }

    /// Unmaps the folios, writes them and frees their frames; those in the way of that stay. Does
    /// not wait for the writes: see [`finish`].
    pub(crate) fn evict(&mut self) {
        let mut scan = Scan::new(By::Direct);
        scan.writes_files = true;
        evict_folios(&self.0, &mut scan, References::Ignore);
        self.0.clear();
        if laundry::is_full() {
            laundry::wait_one(&mut scan);
        }
    }

    /// For the explorer: as kswapd evicts what it finds.
    #[cfg(feature = "lab")]
    pub(super) fn evict_as_kswapd(&mut self) {
        let mut scan = Scan::new(By::Kswapd);
        evict_folios(&self.0, &mut scan, References::Heed);
        self.0.clear();
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        debug_assert!(
            self.0.is_empty() || sync::unwinding(),
            "isolated folios were not evicted"
        );
    }
}

/// Waits for what was written and frees it.
pub(crate) fn finish() {
    laundry::drain(&mut Scan::new(By::Direct));
}
