//! The invariants of a swap map, checked. Locks: as for the map. Does not sleep.

use super::slot::{BAD, COUNT, FAILING};
use super::{CLUSTER_SLOTS, Cluster, ON_CURRENT, ON_FREE, ON_PARTIAL, Pages, SlotState, SwapMap};
use crate::{Corrupt, NIL, ensure};
use core::ops::{Deref, Range};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

impl<M: Deref<Target = [AtomicU8]>, C: Deref<Target = [Cluster]>> SwapMap<M, C> {
    /// Recounts everything: each slot, each cluster, each list, each counter. O(slots).
    ///
    /// # Errors
    /// The first rule that does not hold; `at` is a cluster where the rule is about one, else a
    /// slot.
    pub fn validate<P: Pages>(&self, pages: &P) -> Result<(), Corrupt> {
        let (mut free, mut bad) = (0, 0);
        let mut members = [0u32; 3];
        for (c, record) in (0..).zip(self.clusters.iter()) {
            let begin = c * CLUSTER_SLOTS;
            let end = self.slots().min(begin + CLUSTER_SLOTS);
            let mut used = CLUSTER_SLOTS - (end - begin);
            for slot in begin..end {
                let byte = self.map[slot as usize].load(Relaxed);
                let legal = byte == BAD || (byte & COUNT != COUNT && byte != FAILING);
                ensure(legal, "swap map: impossible slot state", slot)?;
                bad += u32::from(byte == BAD);
                free += u32::from(byte == 0);
                used += u32::from(byte != 0);
            }
            ensure(
                record.used() == used,
                "swap map: cluster use count wrong",
                c,
            )?;
            self.validate_room(c, begin..end, pages)?;
            let state = record.state.load(Relaxed);
            let fits = match state {
                ON_FREE => used == 0,
                ON_PARTIAL => used > 0 && used < CLUSTER_SLOTS,
                ON_CURRENT => used < CLUSTER_SLOTS,
                _ => used == CLUSTER_SLOTS,
            };
            ensure(fits, "swap map: cluster in the wrong state", c)?;
            if let Some(n) = members.get_mut(usize::from(state)) {
                *n += 1;
            }
        }
        for (state, list) in (0u8..).zip(&self.lists) {
            list.validate(&*self.clusters)?;
            for c in list.iter(&*self.clusters) {
                let listed = self.clusters[c as usize].state.load(Relaxed) == state;
                ensure(listed, "swap map: cluster on the wrong list", c)?;
            }
            let all = list.len() == members[usize::from(state)];
            ensure(all, "swap map: cluster on no list", NIL)?;
        }
        ensure(free == self.free, "swap map: free count wrong", NIL)?;
        ensure(bad == self.bad, "swap map: bad count wrong", NIL)
    }

    /// The page in which the counts of cluster `c` go on has a cell for no free slot, and none that
    /// says more than the slot's byte allows.
    fn validate_room<P: Pages>(&self, c: u32, slots: Range<u32>, pages: &P) -> Result<(), Corrupt> {
        let record = &self.clusters[c as usize];
        let page = record.more.load(Relaxed);
        let mut continued = 0;
        for slot in slots.filter(|_| page != NIL) {
            let state = SlotState::load(&self.map[slot as usize]);
            let cell = pages.cell(page, slot % CLUSTER_SLOTS).load(Relaxed);
            let idle = state.is_free() || state.is_bad();
            ensure(
                cell == 0 || !idle,
                "swap map: a slot nobody uses counts on",
                slot,
            )?;
            let borrowed = cell <= 1 || state.count() > 0;
            ensure(borrowed, "swap map: a count was not carried back", slot)?;
            continued += u16::from(cell != 0);
        }
        let counted = continued == record.continued.load(Relaxed);
        ensure(
            counted,
            "swap map: counts that go on elsewhere miscounted",
            c,
        )?;
        let kept = (page == NIL) == (continued == 0);
        ensure(kept, "swap map: a page that no count goes on in", c)
    }
}
