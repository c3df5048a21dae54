//! Where the count of a slot goes on that more than [`MAX_COUNT`] entries refer to (Linux: swap
//! count continuation).
//!
//! A cluster with such a slot has a page, lent by the caller, with a cell for each of its slots.
//! The byte stays the low digit: at its limit [`CARRY`] references move to the cell in one step,
//! and back when the byte would say none, so that a zero in the byte always means that nothing
//! refers to the slot. Most changes of the count touch the byte alone.
//!
//! A page is lent ([`SwapMap::make_room`]) where memory may be waited for, with no other lock held:
//! a slot that has been made room for never refuses an entry again, and its cell stays until the
//! slot is free. The page goes back with its last cell. So neither the reclaimer, who counts under
//! a page-table lock, nor an unmapping ever needs memory here, and slots that few entries share
//! cost nothing. (A wider count for every slot, or a side table made at swapon, would cost memory
//! that most areas never need, or have a bound of its own.)
//!
//! Locks: as for the map. Does not sleep, does not allocate.

use super::{CLUSTER_SLOTS, Cluster, SwapError, SwapMap};
use crate::NIL;
use core::ops::Deref;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

#[cfg(doc)]
use super::MAX_COUNT;

/// References that one unit of a cell stands for. About half of what the byte counts, so that a
/// count that goes up and down around the limit does not touch the cell each time.
pub(super) const CARRY: u8 = 32;

/// The pages that counts go on in, by the id under which the caller lends them (never [`NIL`]).
pub trait Pages {
    /// Cell `i` (below [`CLUSTER_SLOTS`]) of a lent page.
    fn cell(&self, page: u32, i: u32) -> &AtomicU64;
    /// The map has no use for the page any more: it is the caller's again.
    fn release(&self, page: u32);
}

/// In a cell: the slot has none; else one more than the units it stands for.
const NONE: u64 = 0;
const EMPTY: u64 = 1;

impl<M: Deref<Target = [AtomicU8]>, C: Deref<Target = [Cluster]>> SwapMap<M, C> {
    /// From now on, until it is free, `slot` counts any number of references. Where its cluster has
    /// no page yet it takes the one in `page`, whose content does not matter.
    ///
    /// # Errors
    /// `OutOfRange`, `Free`, `Bad`; `NoRoom` when a page is needed and none was lent.
    pub fn make_room<P: Pages>(
        &mut self,
        slot: u32,
        page: &mut Option<u32>,
        pages: &P,
    ) -> Result<(), SwapError> {
        self.in_use(slot)?;
        let record = &self.clusters[(slot / CLUSTER_SLOTS) as usize];
        if record.more.load(Relaxed) == NIL {
            let fresh = page.take().ok_or(SwapError::NoRoom)?;
            (0..CLUSTER_SLOTS).for_each(|i| pages.cell(fresh, i).store(NONE, Relaxed));
            record.more.store(fresh, Relaxed);
        }
        let cell = pages.cell(record.more.load(Relaxed), slot % CLUSTER_SLOTS);
        if cell.load(Relaxed) == NONE {
            cell.store(EMPTY, Relaxed);
            record
                .continued
                .store(record.continued.load(Relaxed) + 1, Relaxed);
        }
        Ok(())
    }

    /// All references to `slot` by entries: what its byte counts and what goes on elsewhere. 0 for
    /// a slot that is not in use.
    pub fn references<P: Pages>(&self, slot: u32, pages: &P) -> u64 {
        let low = self.state(slot).map_or(0, |state| u64::from(state.count()));
        let units = self
            .cell(slot, pages)
            .map_or(0, |cell| cell.load(Relaxed).max(EMPTY) - EMPTY);
        low + units * u64::from(CARRY)
    }

    /// The cell of a slot of this area, if its cluster has a page.
    fn cell<'p, P: Pages>(&self, slot: u32, pages: &'p P) -> Option<&'p AtomicU64> {
        let record = self.clusters.get((slot / CLUSTER_SLOTS) as usize)?;
        let page = record.more.load(Relaxed);
        (page != NIL).then(|| pages.cell(page, slot % CLUSTER_SLOTS))
    }

    /// References move from the byte, which is at its limit, to the cell: how many.
    #[cold]
    pub(super) fn carry<P: Pages>(&mut self, slot: u32, pages: &P) -> Result<u8, SwapError> {
        // The page may have been lent for another slot of the cluster.
        self.make_room(slot, &mut None, pages)?;
        let cell = self.cell(slot, pages).ok_or(SwapError::NoRoom)?;
        cell.store(cell.load(Relaxed) + 1, Relaxed);
        Ok(CARRY)
    }

    /// References move back to the byte, which is about to say none: how many.
    pub(super) fn borrow<P: Pages>(&mut self, slot: u32, pages: &P) -> u8 {
        let Some(cell) = self.cell(slot, pages) else {
            return 0;
        };
        let units = cell.load(Relaxed);
        if units <= EMPTY {
            return 0;
        }
        cell.store(units - 1, Relaxed);
        CARRY
    }

    /// The slot is in nobody's use any more.
    pub(super) fn drop_room<P: Pages>(&mut self, slot: u32, pages: &P) {
        let Some(cell) = self.cell(slot, pages) else {
            return;
        };
        if cell.load(Relaxed) == NONE {
            return;
        }
        cell.store(NONE, Relaxed);
        let record = &self.clusters[(slot / CLUSTER_SLOTS) as usize];
        let left = record.continued.load(Relaxed) - 1;
        record.continued.store(left, Relaxed);
        if left == 0 {
            pages.release(record.more.swap(NIL, Relaxed));
        }
    }

    /// Gives every lent page back, whatever counts in it.
    pub(super) fn release_all<P: Pages>(&mut self, pages: &P) {
        for record in self.clusters.iter() {
            record.continued.store(0, Relaxed);
            let page = record.more.swap(NIL, Relaxed);
            if page != NIL {
                pages.release(page);
            }
        }
    }
}
