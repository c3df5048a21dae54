//! The OOM killer: when nothing more can be reclaimed, one address space ends so that the others go
//! on.
//!
//! It picks the largest by resident pages, pages in swap and page tables (not a child that fork is
//! still making), says so, marks it killed (each of its faults and operations fails from now on)
//! and takes its pages away at once, as MADV_DONTNEED would, under its `mmap_lock` held shared.
//! That lock is only tried: a holder that waits for memory gets its allocation refused, and kswapd
//! tries again until it succeeds, for whoever was killed. As long as the victim's memory has not
//! come back, nobody else is killed, and nobody scans for pages that are not there.
//!
//! Runs in an allocating thread that may hold `mmap_lock`s, so a last handle on an address space
//! must not be dropped here: kswapd does it.

use crate::adopt;
use crate::buddy::{self, KSWAPD, Progress};
use crate::exit;
use crate::handle::MmRef;
use crate::heap;
use crate::mm::{Mm, by_id, id_limit};
use crate::stats::{Event, count};
use crate::swap;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use spin::Once;
use sync::WaitQueue;
use sync::point::{self, AccessKind, PointKind, class};

/// Who was killed, and the state of things; in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kill {
    /// The address space's id.
    pub mm: u32,
    /// Its mapped size.
    pub total_vm: u64,
    /// Its resident pages.
    pub rss: u64,
    /// Its pages in swap.
    pub swap: u64,
    /// Its page tables.
    pub tables: u64,
    /// Free frames of the machine.
    pub free: u64,
    /// Frames of the machine.
    pub managed: u64,
    /// Free swap slots.
    pub swap_free: u64,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kb = |pages: u64| pages * (arch::PAGE_SIZE >> 10);
        write!(
            f,
            "oom-kill: mm {} total-vm:{}kB anon-rss:{}kB swap:{}kB pgtables:{}kB; \
             machine: {}kB free of {}kB, swap {}kB free",
            self.mm,
            kb(self.total_vm),
            kb(self.rss),
            kb(self.swap),
            kb(self.tables),
            kb(self.free),
            kb(self.managed),
            kb(self.swap_free)
        )
    }
}

/// How long a thread waits before it looks again, ns.
const PAUSE_NS: u64 = 1_000_000;
/// Pauses after which a victim that cannot be reaped no longer protects the others.
const PATIENCE: u32 = 1000;
/// Pauses after which a thread that may itself be in the victim's way gives up.
const MANNERS: u32 = 20;

static HOOK: Once<fn(&Kill)> = Once::new();
/// One thread decides at a time.
static BUSY: AtomicBool = AtomicBool::new(false);
/// Id + 1 of the address space whose memory is still to come back, or 0.
static VICTIM: AtomicU32 = AtomicU32::new(0);
/// Pauses since it was picked.
static WAITED: AtomicU32 = AtomicU32::new(0);
/// Nobody wakes it: pauses end by time.
static PAUSE: WaitQueue = WaitQueue::new();

/// Registers who tells the user; once. The hook runs in the allocating thread: no allocation, no
/// lock of the memory manager's.
pub fn set_hook(f: fn(&Kill)) {
    HOOK.call_once(|| f);
}

/// The running thread must not wait for memory: the address space that it has adopted was killed,
/// or it keeps the victim's memory from coming back.
pub(super) fn must_give_up() -> bool {
    adopt::current().is_some_and(|id| by_id(id).is_killed()) || is_in_the_way()
}

fn is_in_the_way() -> bool {
    victim().is_some_and(|id| by_id(id).is_changed_by_me())
}

/// The address space whose memory is still to come back: to scan for more meanwhile is of no use.
pub(super) fn victim() -> Option<u32> {
    point::touch(AccessKind::Read, || point::object_at(class::SWAP, &VICTIM));
    VICTIM.load(Ordering::Relaxed).checked_sub(1)
}

pub(super) fn pause() {
    PAUSE.wait_until_timeout(PAUSE_NS, || false);
}

/// As [`pause`], until another thread has decided: the explorer's actors have no time that goes by.
fn pause_for_other() {
    if !point::spin(busy_object, || !BUSY.load(Ordering::Relaxed)) {
        pause();
    }
}

fn busy_object() -> u32 {
    point::object_at(class::SWAP, &BUSY)
}

fn set_victim(id: Option<u32>) {
    point::touch(AccessKind::Write, || point::object_at(class::SWAP, &VICTIM));
    VICTIM.store(id.map_or(0, |id| id + 1), Ordering::Relaxed);
}

/// For the explorer: nobody was killed.
#[cfg(feature = "lab")]
pub(super) fn forget() {
    for word in [&VICTIM, &WAITED] {
        word.store(0, Ordering::Relaxed);
    }
    BUSY.store(false, Ordering::Relaxed);
}

/// Nothing can be reclaimed: makes room by ending somebody.
pub(super) fn out_of_memory() -> Progress {
    point::at(PointKind::Space, AccessKind::Write, busy_object);
    if BUSY.swap(true, Ordering::Acquire) {
        pause_for_other();
        return Progress::Retry;
    }
    let progress = decide();
    point::touch(AccessKind::Write, busy_object);
    BUSY.store(false, Ordering::Release);
    progress
}

fn decide() -> Progress {
    if let Some(id) = victim() {
        return wait_for(id);
    }
    // What another thread freed may lie in its CPU's list.
    buddy::pcp::drain();
    if buddy::free_pages() > buddy::watermarks().0 {
        // Another thread has decided since this one looked, and its victim's memory is back.
        return Progress::Retry;
    }
    let Some(id) = largest() else {
        return Progress::GiveUp;
    };
    let Some(mm) = MmRef::by_id_live(id) else {
        return Progress::Retry;
    };
    let kill = describe(id, &mm);
    mm.kill();
    count(Event::OomKill);
    set_victim(Some(id));
    WAITED.store(0, Ordering::Relaxed);
    if let Some(hook) = HOOK.get().filter(|_| !point::exploring()) {
        hook(&kill);
    }
    let progress = wait_for(id);
    put(mm);
    progress
}

/// Takes the victim's memory, or waits for its turn to do so.
fn wait_for(id: u32) -> Progress {
    if exit::reap(id, by_id(id)) {
        set_victim(None);
        return Progress::Retry;
    }
    let waited = WAITED.fetch_add(1, Ordering::Relaxed);
    if waited >= PATIENCE {
        set_victim(None);
    }
    // Whoever changes the victim's areas holds its lock, and may be waiting for memory right here;
    // or it waits for another lock, which a thread without an address space may have, or to grow
    // the heap, as this thread does.
    let may_be_waited_for =
        || heap::keeps_others_waiting() || adopt::current().is_none_or(|me| me == id);
    if is_in_the_way() || waited >= MANNERS && may_be_waited_for() {
        return Progress::GiveUp;
    }
    if !by_id(id).mmap_lock.poll_readable() {
        pause();
    }
    Progress::Retry
}

/// The live address space that would give back most.
fn largest() -> Option<u32> {
    // Gauges are no part of a step otherwise.
    point::touch_all();
    (0..id_limit())
        .map(|id| (id, by_id(id)))
        .filter(|(_, mm)| is_in_reach(mm))
        .filter(|(_, mm)| mm.users.load(Ordering::Relaxed) > 0 && !mm.is_killed())
        // Its pages are its parent's, who is here too, and whose end fails the fork.
        .filter(|(_, mm)| !mm.is_unborn())
        .map(|(id, mm)| (mm.rss() + mm.swap_entries.get() + mm.tables.get(), id))
        .filter(|&(points, _)| points > 0)
        .max()
        .map(|(_, id)| id)
}

/// An actor of the explorer kills nobody outside of the explored world.
#[inline]
fn is_in_reach(_mm: &Mm) -> bool {
    #[cfg(feature = "lab")]
    if point::exploring() {
        return buddy::pocket::has(_mm.root());
    }
    true
}

fn describe(id: u32, mm: &Mm) -> Kill {
    Kill {
        mm: id,
        total_vm: mm.total_vm.get(),
        rss: mm.rss(),
        swap: mm.swap_entries.get(),
        tables: mm.tables.get(),
        free: u64::from(buddy::free_pages()),
        managed: u64::from(buddy::managed_pages()),
        swap_free: u64::from(swap::free_slots()),
    }
}

/// Reaps whoever was killed and has not been reaped, as far as the locks are to be had. With no
/// lock held: a last handle may go.
pub(super) fn reap_killed() {
    for id in 0..id_limit() {
        if by_id(id).is_unreaped()
            && let Some(mm) = MmRef::by_id_live(id)
        {
            exit::reap(id, &mm);
        }
    }
}

/// Ids + 1 of address spaces whose last handle is to be dropped where no lock is held.
static DEAD: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];

/// Drops a handle without tearing the address space down here.
fn put(mm: MmRef) {
    let Err(mm) = mm.put_unless_last() else {
        return;
    };
    if !buddy::kswapd::is_running() {
        return;
    }
    let id = mm.id();
    core::mem::forget(mm);
    while !DEAD.iter().any(|d| {
        d.compare_exchange(0, id + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }) {
        pause();
    }
    KSWAPD.wake_all();
}

/// kswapd has a handle to drop.
pub(super) fn has_dead() -> bool {
    DEAD.iter().any(|d| d.load(Ordering::Relaxed) != 0)
}

/// Drops the handles left by [`put`]. With no lock held.
pub(super) fn bury() {
    for d in &DEAD {
        if let Some(id) = d.swap(0, Ordering::AcqRel).checked_sub(1) {
            drop(MmRef::adopt_handle(id));
        }
    }
}
