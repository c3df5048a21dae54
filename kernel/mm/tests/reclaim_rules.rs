//! Rules 1 and 7 where reclaim keeps them, each also broken on purpose: the same work, and the
//! damage shows.

use arch::block::Op;
use arch::simctl::{self, Config, DiskFault, FaultKind};
use arch::thread::{Spawn, spawn, yield_now};
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::knobs::{self, Knob};
use mm::{Advice, MapFlags, MmRef, Prot, reclaim, swap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const BASE: VirtAddr = VirtAddr(0x4000_0000);
const PAGES: u64 = 8;

fn on_machine(f: impl FnOnce() + Send + 'static) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let first = simctl::boot(Config {
        ram: 32 << 20,
        ..Config::default()
    });
    simctl::run(move || {
        if first {
            mm::init().expect("32 MiB are enough");
            let disk = arch::swap_disk().expect("the machine has a disk");
            swap::mkswap(disk, "test", &[]).expect("mkswap");
            swap::swapon(disk).expect("swapon");
        }
        f();
        reclaim::settle();
    });
}

/// Runs `damage` with `knob` on, when it must find none, and off, when it must find some.
fn kept_and_broken(knob: Knob, damage: fn() -> bool) {
    on_machine(move || {
        assert!(
            !damage(),
            "{}: damage although the rule is kept",
            knob.name()
        );
        knobs::set(knob, false);
        let found = damage();
        knobs::set(knob, true);
        assert!(found, "{}: broken, and nothing was damaged", knob.name());
    });
}

fn space() -> MmRef {
    let mm = MmRef::new().expect("memory for an address space");
    mm.mmap(Some(BASE), PAGES * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
        .expect("mmap");
    mm
}

fn at(page: u64) -> VirtAddr {
    VirtAddr(BASE.0 + page * PAGE_SIZE + 8 * page)
}

fn fill(stamp: u64) {
    for i in 0..PAGES {
        user::store(at(i), stamp + i).expect("store");
    }
}

/// Some page has not the content that it should have.
fn is_damaged(stamp: u64) -> bool {
    (0..PAGES).any(|i| user::load(at(i)) != Ok(stamp + i))
}

fn page_out(mm: &MmRef) {
    mm.madvise(BASE, PAGES * PAGE_SIZE, Advice::PageOut)
        .expect("madvise");
}

#[test]
fn unmapped_frames_are_flushed_before_they_are_freed() {
    kept_and_broken(Knob::ReclaimFlush, || {
        let mm = space();
        let _adopted = mm.adopt();
        fill(1);
        page_out(&mm);
        !simctl::take_violations().is_empty()
    });
}

#[test]
fn frames_are_freed_after_their_write_succeeded() {
    kept_and_broken(Knob::FreeAfterWrite, || {
        let mm = space();
        let _adopted = mm.adopt();
        fill(1 << 32);
        let sectors = 8..u64::MAX;
        for kind in [FaultKind::Error, FaultKind::Delay(20_000_000)] {
            let sectors = sectors.clone();
            simctl::swap_disk().inject(DiskFault {
                op: Op::Write,
                sectors,
                kind,
                once: false,
            });
        }
        page_out(&mm);
        simctl::swap_disk().clear_faults();
        is_damaged(1 << 32)
    });
}

/// Counts up its own word of every page, `ROUNDS` times or until `over`; true when a count was
/// lost.
fn count_up(word: u64, over: &AtomicBool) -> bool {
    for round in 0..ROUNDS {
        for page in 0..PAGES {
            if user::fetch_add(VirtAddr(at(page).0 + 1024 + 8 * word), 1) != Ok(round) {
                return true;
            }
        }
        if over.load(Ordering::Relaxed) {
            break;
        }
        arch::thread::sleep_ns(100_000);
    }
    false
}

const ROUNDS: u64 = 300;

#[test]
fn entries_name_slots_that_the_cache_knows() {
    kept_and_broken(Knob::SlotBeforePte, || {
        let mm = space();
        let damaged = Arc::new(AtomicBool::new(false));
        let counter = |name, word| {
            let (mm, damaged) = (mm.clone(), damaged.clone());
            let work = move || {
                let _adopted = mm.adopt();
                if count_up(word, &damaged) {
                    damaged.store(true, Ordering::Relaxed);
                }
            };
            spawn(Spawn { name, cpu: None }, Box::new(work)).expect("a thread")
        };
        let counters = [counter("counter 1", 1), counter("counter 2", 2)];
        while !counters.iter().all(|c| c.is_finished()) {
            page_out(&mm);
        }
        counters.into_iter().for_each(|c| c.join());
        damaged.load(Ordering::Relaxed)
    });
}

/// An mprotect that has taken the rights away and not flushed yet (here: never) keeps no reclaim
/// out.
#[test]
fn entries_without_rights_are_flushed_too() {
    on_machine(|| {
        let mm = space();
        let _adopted = mm.adopt();
        fill(1);
        knobs::set(Knob::WpFlush, false);
        mm.mprotect(BASE, PAGES * PAGE_SIZE, Prot::NONE)
            .expect("mprotect");
        knobs::set(Knob::WpFlush, true);
        page_out(&mm);
        assert!(simctl::take_violations().is_empty());
    });
}

/// A page that went after MADV_FREE leaves an empty entry, which may be filled before the batch's
/// flush (here: there is none). From then on every CPU reads the new page.
#[test]
fn a_page_that_reclaim_dropped_is_old_nowhere_once_it_is_new() {
    on_machine(|| {
        let mm = space();
        let _adopted = mm.adopt();
        fill(1);
        mm.madvise(BASE, PAGES * PAGE_SIZE, Advice::Free)
            .expect("madvise");
        let turn = Arc::new(AtomicU32::new(0));
        let wait_for = |turn: &AtomicU32, n| {
            while turn.load(Ordering::Acquire) < n {
                yield_now();
            }
        };
        let reader = {
            let (mm, turn) = (mm.clone(), turn.clone());
            let work = move || {
                let _adopted = mm.adopt();
                assert!(!is_damaged(1));
                turn.store(1, Ordering::Release);
                wait_for(&turn, 2);
                assert!(!is_damaged(1 << 16));
            };
            let how = Spawn {
                name: "reader",
                cpu: None,
            };
            spawn(how, Box::new(work)).expect("a thread")
        };
        wait_for(&turn, 1);
        knobs::set(Knob::ReclaimFlush, false);
        page_out(&mm);
        knobs::set(Knob::ReclaimFlush, true);
        // That the frames were freed early is the knob's doing.
        simctl::take_violations();
        fill(1 << 16);
        turn.store(2, Ordering::Release);
        reader.join();
        assert!(simctl::take_violations().is_empty());
    });
}
