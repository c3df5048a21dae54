//! The LRU lists, of anonymous and file folios together: active and inactive, sharded.
//!
//! A folio belongs to the shard of the CPU that first mapped it (or read it from a file), so that faults on different CPUs share
//! no lock. Reclaim goes round the shards. Locks: `Rank::LruLock` of one shard; nothing inside. Never
//! sleeps. A folio with the LRU flag is on the list that its ACTIVE flag names, in the shard it names;
//! both flags change under the shard's lock.

use crate::frame::{FrameLinks, flag, frame};
use algo::list::List;
use arch::Pfn;
use sync::{Rank, SpinGuard, SpinLock};

/// Shards; a folio's is in its flags.
pub const SHARDS: usize = 16;

/// One shard's lists. New folios go to the front, reclaim looks at the back.
pub struct Lists {
    active: List,
    inactive: List,
}

#[repr(align(64))]
struct Shard(SpinLock<Lists>);

static LRU: [Shard; SHARDS] = [const {
    Shard(SpinLock::new(
        Rank::LruLock,
        Lists {
            active: List::new(),
            inactive: List::new(),
        },
    ))
}; SHARDS];

/// The shard for folios first mapped on this CPU.
#[inline]
pub fn local_shard() -> u32 {
    (sync::cpu::id() % SHARDS) as u32
}

/// Locks one shard.
#[inline]
pub fn lock(shard: usize) -> SpinGuard<'static, Lists> {
    LRU[shard].0.lock()
}

/// (active, inactive) folios in all shards.
pub fn counts() -> (u64, u64) {
    LRU.iter().fold((0, 0), |(a, i), s| {
        let lists = s.0.lock();
        (
            a + u64::from(lists.active.len()),
            i + u64::from(lists.inactive.len()),
        )
    })
}

impl Lists {
    /// Length of the active list.
    pub fn active(&self) -> u32 {
        self.active.len()
    }
    /// Length of the inactive list.
    pub fn inactive(&self) -> u32 {
        self.inactive.len()
    }
    fn list(&mut self, active: bool) -> &mut List {
        if active {
            &mut self.active
        } else {
            &mut self.inactive
        }
    }
    /// Puts a folio of this shard on a list, at the young end.
    #[inline]
    pub fn add(&mut self, pfn: Pfn, active: bool) {
        let f = frame(pfn);
        debug_assert!(!f.has(flag::LRU), "{pfn:?} is on a list already");
        if active {
            f.set(flag::LRU | flag::ACTIVE);
        } else {
            f.clear(flag::ACTIVE);
            f.set(flag::LRU);
        }
        self.list(active).push_front(&FrameLinks, pfn.0);
    }
    /// Takes a folio of this shard off its list; false when it is on none.
    #[inline]
    pub fn del(&mut self, pfn: Pfn) -> bool {
        let was = frame(pfn).clear(flag::LRU);
        if was & flag::LRU == 0 {
            return false;
        }
        self.list(was & flag::ACTIVE != 0)
            .remove(&FrameLinks, pfn.0);
        true
    }
    /// Takes the oldest folio off a list, with a reference for the caller. A folio that is just being
    /// freed is put back at the young end and `Err` says so.
    ///
    /// # Errors
    /// `Err(())`: the oldest folio could not be had, look at the next.
    pub fn isolate_oldest(&mut self, active: bool) -> Option<Result<Pfn, ()>> {
        let pfn = Pfn(self.list(active).pop_back(&FrameLinks)?);
        if frame(pfn).try_get() {
            frame(pfn).clear(flag::LRU);
            Some(Ok(pfn))
        } else {
            self.list(active).push_front(&FrameLinks, pfn.0);
            Some(Err(()))
        }
    }
}

/// Puts a new folio on the inactive or active list of its shard.
#[inline]
pub fn add(pfn: Pfn, active: bool) {
    lock(frame(pfn).shard()).add(pfn, active);
}

/// Takes a folio off its list if it is on one. True when it was.
#[inline]
pub fn remove(pfn: Pfn) -> bool {
    frame(pfn).has(flag::LRU) && lock(frame(pfn).shard()).del(pfn)
}

/// Moves a folio to the young end of its inactive list, if it is on the active one.
pub(crate) fn deactivate(pfn: Pfn) {
    let f = frame(pfn);
    if f.has(flag::LRU | flag::ACTIVE) {
        let mut lists = lock(f.shard());
        if f.has(flag::ACTIVE) && lists.del(pfn) {
            lists.add(pfn, false);
        }
    }
}

/// Moves a folio to the young end of its active list, if it is on the inactive one.
pub(crate) fn activate(pfn: Pfn) {
    let f = frame(pfn);
    if f.flags() & (flag::LRU | flag::ACTIVE) == flag::LRU {
        let mut lists = lock(f.shard());
        if !f.has(flag::ACTIVE) && lists.del(pfn) {
            lists.add(pfn, true);
        }
    }
}

/// Makes a listed folio one that reclaim may drop without writing it: inactive, not SWAPBACKED. False when
/// it is on no list. Under the folio lock.
pub(crate) fn make_lazy(pfn: Pfn) -> bool {
    let f = frame(pfn);
    let mut lists = lock(f.shard());
    if !lists.del(pfn) {
        return false;
    }
    f.clear(flag::SWAPBACKED | flag::REFERENCED);
    lists.add(pfn, false);
    true
}
