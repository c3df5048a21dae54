//! The swap map: which slots of one swap area are free, how many page-table entries refer to each
//! other slot, whether the swap cache holds its page, and which slots the disk has refused.
//!
//! Slots are handed out by cluster: each CPU fills a cluster of its own, so that what one CPU swaps
//! out together lies together on disk; when no cluster is wholly free, partly used ones are filled
//! up. Every operation but a scan inside one cluster is O(1), near-full areas included.
//!
//! A slot's byte counts to [`MAX_COUNT`]; beyond that the count goes on in a page that the caller
//! lends for the slot's cluster (`more`).
//!
//! Locks: the swap map lock, around every call that takes `&mut self`. One slot may be read without
//! it through [`SlotState::load`]: a relaxed snapshot, good for hints only. Never sleeps.

use crate::{Links, List, NIL};
use core::ops::Deref;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};

mod check;
mod more;
mod slot;

pub use more::Pages;
use slot::{BAD, COUNT, FAILING, HAS_CACHE};
pub use slot::{MAX_COUNT, SlotState};

/// Slots in a cluster.
pub const CLUSTER_SLOTS: u32 = 256;
/// Most slots of a map: whole clusters, so that the end of the last one is a `u32` too.
pub const MAX_SLOTS: u32 = u32::MAX - u32::MAX % CLUSTER_SLOTS;
/// Cluster records needed for an area of `slots` slots.
pub const fn clusters_for(slots: u32) -> usize {
    slots.div_ceil(CLUSTER_SLOTS) as usize
}

/// Why an operation on a slot was refused. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapError {
    /// No such slot in this area.
    OutOfRange,
    /// The slot is free: the entry that named it is stale.
    Free,
    /// The slot is bad.
    Bad,
    /// [`SwapMap::set_cache`]: the swap cache has the page already.
    AlreadyCached,
    /// [`SwapMap::clear_cache`]: the swap cache does not have the page.
    NotCached,
    /// [`SwapMap::put`]: no entry refers to the slot.
    NoReference,
    /// [`SwapMap::dup`]: [`MAX_COUNT`] is reached, and the slot's cluster has no page to count on
    /// in: [`SwapMap::make_room`] lends one.
    NoRoom,
}

/// What still uses a slot after one user has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Entries refer to it.
    Referenced,
    /// Only the swap cache: the slot can be had by dropping the page from the cache.
    CacheOnly,
    /// Nothing: the slot is free.
    Free,
    /// Nothing: the slot was failing and is bad now.
    Retired,
}

/// [`SwapMap::new`] was lent storage that does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadStorage {
    /// More slots than [`MAX_SLOTS`].
    TooManySlots,
    /// Another number of cluster records than [`clusters_for`] asks for.
    Clusters {
        /// How many it asks for.
        needed: usize,
    },
    /// A slot listed as bad lies behind the end of the area.
    NoSuchSlot(u32),
}

const ON_FREE: u8 = 0;
const ON_PARTIAL: u8 = 1;
const ON_CURRENT: u8 = 2;
const FULL: u8 = 3;

/// The record of one cluster: 20 bytes, lent to [`SwapMap::new`], which resets it.
#[derive(Debug, Default)]
pub struct Cluster {
    next: AtomicU32,
    prev: AtomicU32,
    /// Slots that cannot be allocated: in use, bad, or behind the end of the area.
    used: AtomicU16,
    state: AtomicU8,
    /// The page in which its slots' counts go on, and how many of them have a cell in it.
    more: AtomicU32,
    continued: AtomicU16,
}

impl Cluster {
    /// A record for [`SwapMap::new`].
    pub const fn new() -> Self {
        Self {
            next: AtomicU32::new(NIL),
            prev: AtomicU32::new(NIL),
            used: AtomicU16::new(0),
            state: AtomicU8::new(FULL),
            more: AtomicU32::new(NIL),
            continued: AtomicU16::new(0),
        }
    }

    fn used(&self) -> u32 {
        u32::from(self.used.load(Relaxed))
    }
}

impl Links for [Cluster] {
    fn next(&self, i: u32) -> u32 {
        self[i as usize].next.load(Relaxed)
    }
    fn set_next(&self, i: u32, to: u32) {
        self[i as usize].next.store(to, Relaxed);
    }
    fn prev(&self, i: u32) -> u32 {
        self[i as usize].prev.load(Relaxed)
    }
    fn set_prev(&self, i: u32, to: u32) {
        self[i as usize].prev.store(to, Relaxed);
    }
}

/// Where a CPU allocates next. A hint: any value is safe with any map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor(u32);

impl Cursor {
    /// No cluster chosen yet.
    pub const fn new() -> Self {
        Self(NIL)
    }
    /// From [`Cursor::raw`].
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }
    /// For a cursor that rests in a cell.
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl Default for Cursor {
    fn default() -> Self {
        Self::new()
    }
}

/// The map of one swap area over storage that the caller lends or gives: a byte for each slot, and
/// a record for each cluster.
///
/// Invariant: a cluster is full exactly when all its slots are used; a cluster on the free list has
/// none used; one on the partial list has some; one that a CPU fills is on the current list.
#[derive(Debug)]
pub struct SwapMap<M, C> {
    map: M,
    clusters: C,
    /// Free, partial, current: indexed by the state of their clusters.
    lists: [List; 3],
    free: u32,
    bad: u32,
}

impl<M: Deref<Target = [AtomicU8]>, C: Deref<Target = [Cluster]>> SwapMap<M, C> {
    /// A map with every slot free but those in `bad`, which are never handed out: the header's page
    /// is one of them. Overwrites what the storage held.
    ///
    /// # Errors
    /// [`BadStorage`] when there is another number of cluster records than needed, too many slots,
    /// or a bad slot that is none.
    pub fn new(
        map: M,
        clusters: C,
        bad: impl IntoIterator<Item = u32>,
    ) -> Result<Self, BadStorage> {
        let slots = u32::try_from(map.len()).ok().filter(|&n| n <= MAX_SLOTS);
        let needed = clusters_for(slots.ok_or(BadStorage::TooManySlots)?);
        if clusters.len() != needed {
            return Err(BadStorage::Clusters { needed });
        }
        let mut new = Self {
            map,
            clusters,
            lists: [const { List::new() }; 3],
            free: 0,
            bad: 0,
        };
        new.start(bad)?;
        Ok(new)
    }

    /// Every slot becomes free but those in `bad`.
    fn start(&mut self, bad: impl IntoIterator<Item = u32>) -> Result<(), BadStorage> {
        self.lists = [const { List::new() }; 3];
        (self.free, self.bad) = (self.slots(), 0);
        self.map.iter().for_each(|byte| byte.store(0, Relaxed));
        for c in 0..self.clusters.len() as u32 {
            let record = &self.clusters[c as usize];
            let real = CLUSTER_SLOTS.min(self.slots() - c * CLUSTER_SLOTS);
            record.used.store((CLUSTER_SLOTS - real) as u16, Relaxed);
            record.state.store(FULL, Relaxed);
            record.more.store(NIL, Relaxed);
            record.continued.store(0, Relaxed);
            self.settle(c);
        }
        for slot in bad {
            self.mark_bad(slot)
                .map_err(|_| BadStorage::NoSuchSlot(slot))?;
        }
        Ok(())
    }

    /// As new, over the same storage: every slot is free but those in `bad`. Pages that were lent
    /// go back.
    ///
    /// # Panics
    /// If a bad slot is none of this map's.
    pub fn reset<P: Pages>(&mut self, bad: impl IntoIterator<Item = u32>, pages: &P) {
        self.release_all(pages);
        self.start(bad).expect("bad slots are slots of this map");
    }

    /// Slots of the area, bad ones included.
    pub fn slots(&self) -> u32 {
        self.map.len() as u32
    }

    /// Slots that can be allocated.
    pub const fn free(&self) -> u32 {
        self.free
    }

    /// Slots that are bad (failing ones not yet included).
    pub const fn bad(&self) -> u32 {
        self.bad
    }

    /// Slots in use.
    pub fn used(&self) -> u32 {
        self.slots() - self.free - self.bad
    }

    /// The state of `slot`, `None` outside the area.
    pub fn state(&self, slot: u32) -> Option<SlotState> {
        self.map.get(slot as usize).map(SlotState::load)
    }

    /// The first slot from `from` on that is in use, for emptying the area. O(slots passed).
    pub fn next_in_use(&self, from: u32) -> Option<u32> {
        let rest = self.map.get(from as usize..)?;
        let at = rest
            .iter()
            .map(SlotState::load)
            .position(|s| !s.is_free() && !s.is_bad())?;
        Some(from + at as u32)
    }

    /// Allocates up to `out.len()` slots, as far as possible consecutive ones in ascending order,
    /// writes them to `out` and returns how many: fewer only when no more are free. Each is then in
    /// the state "cached, no references", and becomes free by [`SwapMap::clear_cache`].
    pub fn alloc(&mut self, cursor: &mut Cursor, out: &mut [u32]) -> usize {
        let mut got = 0;
        while got < out.len() {
            let foreign = if cursor.0 < self.slots() {
                None
            } else if let Some(c) = self.claim() {
                cursor.0 = c * CLUSTER_SLOTS;
                None
            } else if let Some(c) = self.lists[usize::from(ON_CURRENT)].front() {
                // All that is free lies in clusters that other CPUs are filling.
                Some(c * CLUSTER_SLOTS)
            } else {
                break;
            };
            let (n, next) = self.fill(foreign.unwrap_or(cursor.0), &mut out[got..]);
            got += n;
            if foreign.is_none() {
                match next {
                    Some(slot) => cursor.0 = slot,
                    None => self.release(cursor),
                }
            }
        }
        got
    }

    /// Gives the cursor's cluster up to other CPUs, as when the CPU goes offline.
    pub fn release(&mut self, cursor: &mut Cursor) {
        let c = cursor.0 / CLUSTER_SLOTS;
        if cursor.0 < self.slots() && self.clusters[c as usize].state.load(Relaxed) == ON_CURRENT {
            self.leave_list(c);
            self.settle(c);
        }
        *cursor = Cursor::new();
    }

    /// One more entry refers to `slot`.
    ///
    /// # Errors
    /// `OutOfRange`, `Free`, `Bad`, `NoRoom`.
    pub fn dup<P: Pages>(&mut self, slot: u32, pages: &P) -> Result<(), SwapError> {
        let old = self.in_use(slot)?;
        let carried = if old & COUNT < MAX_COUNT {
            0
        } else {
            self.carry(slot, pages)?
        };
        self.map[slot as usize].store(old + 1 - carried, Relaxed);
        Ok(())
    }

    /// One entry fewer refers to `slot`.
    ///
    /// # Errors
    /// `OutOfRange`, `Free`, `Bad`, `NoReference`.
    pub fn put<P: Pages>(&mut self, slot: u32, pages: &P) -> Result<Left, SwapError> {
        let old = self.in_use(slot)?;
        match old & COUNT {
            0 => Err(SwapError::NoReference),
            1 => {
                let borrowed = self.borrow(slot, pages);
                Ok(self.store(slot, old - 1 + borrowed, pages))
            }
            _ => Ok(self.store(slot, old - 1, pages)),
        }
    }

    /// The swap cache now holds the page of `slot`: whoever succeeds may add it, and reads it in.
    ///
    /// # Errors
    /// `OutOfRange`, `Free`, `Bad`, `AlreadyCached`.
    pub fn set_cache(&mut self, slot: u32) -> Result<(), SwapError> {
        let old = self.in_use(slot)?;
        if old & HAS_CACHE != 0 {
            return Err(SwapError::AlreadyCached);
        }
        self.map[slot as usize].store(old | HAS_CACHE, Relaxed);
        Ok(())
    }

    /// The swap cache no longer holds the page of `slot`.
    ///
    /// # Errors
    /// `OutOfRange`, `Free`, `Bad`, `NotCached`.
    pub fn clear_cache<P: Pages>(&mut self, slot: u32, pages: &P) -> Result<Left, SwapError> {
        let old = self.in_use(slot)?;
        if old & HAS_CACHE == 0 {
            return Err(SwapError::NotCached);
        }
        Ok(self.store(slot, old & !HAS_CACHE, pages))
    }

    /// `slot` is never to be allocated again: its write failed. A slot in use stays in use as
    /// "failing". Marking twice is no error.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub fn mark_bad(&mut self, slot: u32) -> Result<(), SwapError> {
        let byte = self.map.get(slot as usize).ok_or(SwapError::OutOfRange)?;
        match byte.load(Relaxed) {
            BAD => {}
            0 => {
                byte.store(BAD, Relaxed);
                self.bad += 1;
                self.free -= 1;
                self.change_used(slot / CLUSTER_SLOTS, 1);
            }
            old => byte.store(old | FAILING, Relaxed),
        }
        Ok(())
    }

    /// The byte of a slot that is in use.
    fn in_use(&self, slot: u32) -> Result<u8, SwapError> {
        let byte = self.map.get(slot as usize).ok_or(SwapError::OutOfRange)?;
        match byte.load(Relaxed) {
            0 => Err(SwapError::Free),
            BAD => Err(SwapError::Bad),
            old => Ok(old),
        }
    }

    /// Stores the state of a slot that one user has left.
    fn store<P: Pages>(&mut self, slot: u32, new: u8, pages: &P) -> Left {
        let byte = &self.map[slot as usize];
        let (kept, left) = match new {
            0 => (0, Left::Free),
            FAILING => (BAD, Left::Retired),
            _ if new & COUNT != 0 => (new, Left::Referenced),
            _ => (new, Left::CacheOnly),
        };
        byte.store(kept, Relaxed);
        if matches!(left, Left::Free | Left::Retired) {
            self.drop_room(slot, pages);
        }
        match left {
            Left::Free => {
                self.free += 1;
                self.change_used(slot / CLUSTER_SLOTS, -1);
            }
            Left::Retired => self.bad += 1,
            Left::Referenced | Left::CacheOnly => {}
        }
        left
    }

    /// A cluster to fill: a free one, else the partly used one that waited longest.
    fn claim(&mut self) -> Option<u32> {
        let [free, partial, _] = &self.lists;
        let c = free.front().or(partial.front())?;
        self.enter_list(c, ON_CURRENT);
        Some(c)
    }

    /// Allocates free slots of one cluster from slot `from` on. Also returns where to go on, `None`
    /// when the cluster has no more behind.
    fn fill(&mut self, from: u32, out: &mut [u32]) -> (usize, Option<u32>) {
        let c = from / CLUSTER_SLOTS;
        let state = self.clusters[c as usize].state.load(Relaxed);
        if state == FULL {
            return (0, None);
        }
        if state != ON_CURRENT {
            self.enter_list(c, ON_CURRENT);
        }
        let end = self.slots().min((c + 1) * CLUSTER_SLOTS);
        let spare = (CLUSTER_SLOTS - self.clusters[c as usize].used()) as usize;
        let want = out.len().min(spare);
        let (mut slot, mut got) = (from, 0);
        while got < want && slot < end {
            let byte = &self.map[slot as usize];
            if byte.load(Relaxed) == 0 {
                byte.store(HAS_CACHE, Relaxed);
                out[got] = slot;
                got += 1;
            }
            slot += 1;
        }
        self.free -= got as u32;
        self.change_used(c, got as i16);
        (got, (got < spare && slot < end).then_some(slot))
    }

    fn change_used(&mut self, c: u32, by: i16) {
        let used = &self.clusters[c as usize].used;
        used.store(used.load(Relaxed).wrapping_add_signed(by), Relaxed);
        self.settle(c);
    }

    /// Puts a cluster where its use says that it belongs. A current one stays current until full.
    fn settle(&mut self, c: u32) {
        let record = &self.clusters[c as usize];
        let state = record.state.load(Relaxed);
        let belongs = match record.used() {
            CLUSTER_SLOTS => FULL,
            _ if state == ON_CURRENT => ON_CURRENT,
            0 => ON_FREE,
            _ => ON_PARTIAL,
        };
        if belongs != state {
            self.enter_list(c, belongs);
        }
    }

    fn enter_list(&mut self, c: u32, state: u8) {
        self.leave_list(c);
        if let Some(list) = self.lists.get_mut(usize::from(state)) {
            list.push_back(&*self.clusters, c);
        }
        self.clusters[c as usize].state.store(state, Relaxed);
    }

    fn leave_list(&mut self, c: u32) {
        let state = &self.clusters[c as usize].state;
        if let Some(list) = self.lists.get_mut(usize::from(state.load(Relaxed))) {
            list.remove(&*self.clusters, c);
        }
        state.store(FULL, Relaxed);
    }
}

#[cfg(test)]
mod tests;
