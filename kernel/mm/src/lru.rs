//! The LRU lists: active and inactive, of anonymous and of file folios, sharded.
//!
//! A folio belongs to the shard of the CPU that first mapped it (or read it from a file), so that
//! faults on different CPUs share no lock. Reclaim goes round the shards. Locks: `Rank::LruLock` of
//! one shard; nothing inside. Never sleeps. A folio with the LRU flag is on the list that its
//! ACTIVE and SWAPBACKED flags name, in the shard it names; all three flags change under the
//! shard's lock while it is listed.
//!
//! The age of the lists is the number of folios that left them by eviction or were moved to an
//! active one: the difference between two moments is how far an inactive folio has moved towards
//! its eviction (see `workingset`).

use crate::frame::{Folio, Frame, FrameLinks, flag};
use algo::list::List;
use arch::Pfn;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::{Rank, SpinGuard, SpinLock};

/// Shards; a folio's is in its flags.
pub(crate) const SHARDS: usize = 16;

/// Which pair of lists: what must be written to swap before it can go, or what need not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// SWAPBACKED.
    Anon = 0,
    /// Of files, and lazily freed.
    File = 1,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Anon, Self::File];

    /// The flags of this kind's folios.
    #[inline]
    const fn flags(self, active: bool) -> u32 {
        let backed = match self {
            Self::Anon => flag::SWAPBACKED,
            Self::File => 0,
        };
        if active {
            backed | flag::ACTIVE
        } else {
            backed
        }
    }
}

/// The list for folios with these flags.
#[inline]
const fn number(flags: u32) -> usize {
    const { assert!(flag::SWAPBACKED == flag::ACTIVE << 1) };
    ((flags / flag::ACTIVE) & 3) as usize
}

/// How many pages the lists of one kind hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// On the active list.
    pub active: u64,
    /// On the inactive list.
    pub inactive: u64,
}

impl Counts {
    /// On both.
    pub fn all(&self) -> u64 {
        self.active + self.inactive
    }
}

impl Huge {
    /// Of a listed one, whose fields stay as they are for as long as it is; its shard is locked.
    fn listed(folio: Folio) -> Self {
        Self {
            pfn: folio.pfn(),
            anon: folio.mapping() - 1,
            index: folio.index(),
        }
    }
}

/// For the explorer: the huge folio in `pfn`, if there is one.
#[cfg(feature = "lab")]
pub(crate) fn huge_in(pfn: Pfn) -> Option<Huge> {
    let folio = Folio::of(pfn);
    let _lists = lock(folio.shard());
    let is_one = folio.has(flag::LRU) && folio.order() != 0;
    is_one.then(|| Huge::listed(folio))
}

/// One shard's lists. New folios go to the front, reclaim looks at the back.
pub(crate) struct Lists {
    lists: [List; 4],
    /// Pages of each list beyond one for each folio.
    tails: [u32; 4],
}

/// What is at the old end of a list.
pub(crate) enum Oldest {
    /// A folio of one page, off its list now, with a reference for the caller.
    Page(Folio),
    /// A huge folio. It was put to the young end, and nothing keeps it but its entry.
    Huge(Huge),
    /// One that is just being freed. It was put to the young end.
    Dying,
}

/// What was known of a huge folio while it was listed: enough to find it again, if it still is one.
#[derive(Clone, Copy)]
pub(crate) struct Huge {
    /// Its first frame.
    pub(crate) pfn: Pfn,
    /// Its anon_vma's id.
    pub(crate) anon: u32,
    /// Its first page's index there.
    pub(crate) index: u32,
}

#[repr(align(64))]
struct Shard(SpinLock<Lists>);

static LRU: [Shard; SHARDS] = [const {
    Shard(SpinLock::new(
        Rank::LruLock,
        Lists {
            lists: [const { List::new() }; 4],
            tails: [0; 4],
        },
    ))
}; SHARDS];

static AGE: AtomicU32 = AtomicU32::new(0);

/// The age of the lists now; it wraps.
pub(crate) fn age() -> u32 {
    AGE.load(Ordering::Relaxed)
}

/// For the explorer: the lists are as young as they ever were.
#[cfg(feature = "lab")]
pub(crate) fn forget_age() {
    AGE.store(0, Ordering::Relaxed);
}

/// `n` folios were evicted, or became active.
pub(crate) fn grow_old(n: u32) {
    AGE.fetch_add(n, Ordering::Relaxed);
}

/// The shard for folios first mapped on this CPU.
#[inline]
pub(crate) fn local_shard() -> u32 {
    (sync::cpu::id() % SHARDS) as u32
}

/// Locks one shard.
#[inline]
pub(crate) fn lock(shard: usize) -> SpinGuard<'static, Lists> {
    LRU[shard].0.lock()
}

/// Folios in all shards, by [`Kind`].
pub fn counts() -> [Counts; 2] {
    let mut all = [Counts::default(); 2];
    for shard in &LRU {
        let lists = shard.0.lock();
        for kind in Kind::ALL {
            let sum = &mut all[kind as usize];
            sum.active += u64::from(lists.len(kind, true));
            sum.inactive += u64::from(lists.len(kind, false));
        }
    }
    all
}

impl Lists {
    #[inline]
    fn list(&mut self, flags: u32) -> &mut List {
        &mut self.lists[number(flags)]
    }
    /// Pages on a list.
    pub(crate) fn len(&self, kind: Kind, active: bool) -> u32 {
        let number = number(kind.flags(active));
        self.lists[number].len() + self.tails[number]
    }
    /// A folio of several pages, with these flags, came (`sign` 1) or went (-1).
    #[cold]
    fn count_tails(&mut self, flags: u32, sign: i32) {
        let tails = (1 << Frame::order_in(flags)) - 1;
        let sum = &mut self.tails[number(flags)];
        *sum = sum.wrapping_add_signed(sign * tails);
    }
    /// Puts a folio of this shard on a list, at the young end.
    #[inline]
    pub(crate) fn add(&mut self, folio: Folio, active: bool) {
        let before = folio.flags();
        debug_assert!(before & flag::LRU == 0, "{folio:?} is on a list already");
        if active {
            folio.set(flag::LRU | flag::ACTIVE);
        } else {
            if before & flag::ACTIVE != 0 {
                folio.clear(flag::ACTIVE);
            }
            folio.set(flag::LRU);
        }
        let active = if active { flag::ACTIVE } else { 0 };
        let now = before & !flag::ACTIVE | active;
        self.list(now).push_front(&FrameLinks, folio.pfn().0);
        if now & flag::ORDER != 0 {
            self.count_tails(now, 1);
        }
    }
    /// Takes a folio of this shard off its list; false when it is on none.
    #[inline]
    pub(crate) fn del(&mut self, folio: Folio) -> bool {
        let was = folio.clear(flag::LRU);
        if was & flag::LRU == 0 {
            return false;
        }
        self.list(was).remove(&FrameLinks, folio.pfn().0);
        if was & flag::ORDER != 0 {
            self.count_tails(was, -1);
        }
        true
    }
    /// Looks at the oldest folio of a list, and takes it off if it is of one page.
    pub(crate) fn isolate_oldest(&mut self, kind: Kind, active: bool) -> Option<Oldest> {
        let list = self.list(kind.flags(active));
        let number = list.pop_back(&FrameLinks)?;
        let folio = Folio::of(Pfn(number));
        if folio.order() != 0 {
            list.push_front(&FrameLinks, number);
            return Some(Oldest::Huge(Huge::listed(folio)));
        }
        if folio.try_get() {
            folio.clear(flag::LRU);
            Some(Oldest::Page(folio))
        } else {
            list.push_front(&FrameLinks, number);
            Some(Oldest::Dying)
        }
    }
}

/// Puts a new folio on the inactive or active list of its shard.
#[inline]
pub(crate) fn add(folio: Folio, active: bool) {
    lock(folio.shard()).add(folio, active);
}

/// A huge folio, frozen, becomes one of a single page, and `init` makes each of its tails such a
/// folio, given its record and its place. They are on the LRU afterwards, at the old end of their
/// inactive list: reclaim which has split it for its pages finds them next. `init` is given the
/// flags that a listed one has beside its own.
pub(crate) fn replace_by_pages(head: Folio, init: impl Fn(Folio, u32, u32)) {
    let pages = head.pages();
    let mut lists = lock(head.shard());
    let was_listed = lists.del(head);
    debug_assert!(was_listed, "a huge folio is on no list");
    head.clear(flag::ORDER | flag::ACTIVE);
    for i in 1..pages {
        init(Folio::of(head.pfn().add(i)), i, flag::LRU);
    }
    let flags = head.set(flag::LRU);
    lists
        .list(flags)
        .push_back_run(&FrameLinks, head.pfn().0, pages);
}

/// Takes a folio off its list if it is on one. True when it was.
#[inline]
pub(crate) fn remove(folio: Folio) -> bool {
    folio.has(flag::LRU) && lock(folio.shard()).del(folio)
}

/// For the explorer: the folio is on the list that its flags name. O(n).
#[cfg(feature = "lab")]
pub(crate) fn is_listed(folio: Folio) -> bool {
    let mut lists = lock(folio.shard());
    let (flags, number) = (folio.flags(), folio.pfn().0);
    flags & flag::LRU != 0 && lists.list(flags).iter(&FrameLinks).any(|i| i == number)
}

/// Moves a folio to the young end of its inactive list, if it is on the active one.
pub(crate) fn deactivate(folio: Folio) {
    if folio.has(flag::LRU | flag::ACTIVE) {
        let mut lists = lock(folio.shard());
        if folio.has(flag::ACTIVE) && lists.del(folio) {
            lists.add(folio, false);
        }
    }
}

/// Moves a folio to the young end of its active list, if it is on the inactive one.
pub(crate) fn activate(folio: Folio) {
    if folio.flags() & (flag::LRU | flag::ACTIVE) == flag::LRU {
        let mut lists = lock(folio.shard());
        if !folio.has(flag::ACTIVE) && lists.del(folio) {
            lists.add(folio, true);
            drop(lists);
            grow_old(1);
        }
    }
}

/// The folio, which the caller has a reference or a mapping of, was used: the second time since
/// reclaim looked, it becomes active (Linux: `folio_mark_accessed`). May be called under a PTL.
#[inline]
pub(crate) fn mark_used(folio: Folio) {
    if folio.has(flag::ACTIVE) {
        return;
    }
    if folio.set(flag::REFERENCED) & flag::REFERENCED != 0 {
        folio.clear(flag::SIGNS);
        activate(folio);
    }
}

/// As [`mark_used`], of many pages at a time under a PTL: no list is touched, but reclaim finds the
/// signs when it comes to the folio (as with Linux's multi-generational LRU).
#[inline]
pub(crate) fn sign_used(folio: Folio) {
    let flags = folio.flags();
    if flags & (flag::ACTIVE | flag::USED) != 0 {
        return;
    }
    let sign = match flags & flag::REFERENCED {
        0 => flag::REFERENCED,
        _ => flag::USED,
    };
    folio.set(sign);
}

/// Makes a listed folio one that reclaim may drop without writing it: inactive, not SWAPBACKED.
/// False when it is on no list. Under the folio lock.
pub(crate) fn make_lazy(folio: Folio) -> bool {
    let mut lists = lock(folio.shard());
    if !lists.del(folio) {
        return false;
    }
    folio.clear(flag::SWAPBACKED | flag::SIGNS);
    lists.add(folio, false);
    true
}
