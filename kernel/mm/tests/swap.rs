//! Swapping on the simulated machine: what goes out comes back, whatever the disk does.
//!
//! One machine per process: the tests take turns on it.

use arch::block::{Bio, BlockDevice, Busy, Op, SECTOR};
use arch::simctl::{self, Config, DiskFault, FaultKind};
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::inspect::{flag, frame};
use mm::stats::{Event, Use, total, use_pages};
use mm::{Advice, MapFlags, MmRef, Prot, buddy, explore, reclaim, swap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const BASE: VirtAddr = VirtAddr(0x4000_0000);
const RAM: u64 = 32 << 20;
const SWAP: u64 = 64 << 20;

/// Runs `f` as a kernel thread of the machine, which has swap and kswapd.
fn on_machine<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let config = Config {
        ram: RAM,
        swap: SWAP,
        ..Config::default()
    };
    let first = simctl::boot(config);
    simctl::run(move || {
        if first {
            mm::init().expect("32 MiB are enough");
            reclaim::kswapd::start().expect("there are threads");
        }
        let disk = arch::swap_disk().expect("the machine has a disk");
        if swap::enabled() {
            // A test before this one failed.
            let _ = mm::ops::swapoff::swapoff();
        }
        swap::mkswap(disk, "test", &[]).expect("mkswap");
        swap::swapon(disk).expect("swapon");
        let r = f();
        simctl::swap_disk().clear_faults();
        reclaim::settle();
        mm::ops::swapoff::swapoff().expect("swapoff");
        mm::check().expect("accounting");
        assert!(simctl::take_violations().is_empty());
        r
    })
}

fn at(page: u64) -> VirtAddr {
    VirtAddr(BASE.0 + page * PAGE_SIZE)
}

fn space(pages: u64) -> MmRef {
    let mm = MmRef::new().expect("memory for an address space");
    let at = mm.mmap(Some(BASE), pages * PAGE_SIZE, Prot::RW, MapFlags::FIXED);
    assert_eq!(at, Ok(BASE));
    mm
}

/// Every page gets words that tell it apart.
fn fill(pages: u64, stamp: u64) {
    for i in 0..pages {
        for word in [0, 8, 2048, 4088] {
            user::store(VirtAddr(at(i).0 + word), stamp ^ (i << 16) ^ word).expect("store");
        }
    }
}

fn verify(pages: core::ops::Range<u64>, stamp: u64) {
    for i in pages {
        for word in [0, 8, 2048, 4088] {
            let found = user::load(VirtAddr(at(i).0 + word)).expect("load");
            assert_eq!(found, stamp ^ (i << 16) ^ word, "page {i}, byte {word}");
        }
    }
}

fn page_out(mm: &MmRef, pages: u64) {
    mm.madvise(BASE, pages * PAGE_SIZE, Advice::PageOut)
        .expect("madvise");
}

#[test]
fn out_and_back() {
    on_machine(|| {
        let mm = space(100);
        let adopted = mm.adopt();
        fill(100, 7);
        let (out, reads) = (total(Event::PswpOut), total(Event::PswpIn));
        page_out(&mm, 100);
        assert_eq!(mm.swap_entries.get(), 100);
        assert_eq!(mm.anon_pages.get(), 0);
        assert_eq!(total(Event::PswpOut) - out, 100);
        verify(0..100, 7);
        assert_eq!(total(Event::PswpIn) - reads, 100);
        assert_eq!((mm.anon_pages.get(), mm.swap_entries.get()), (100, 0));
        // Read only: the copies on disk are still good.
        page_out(&mm, 100);
        assert_eq!(total(Event::PswpOut) - out, 100, "clean pages were written");
        fill(100, 9);
        page_out(&mm, 100);
        verify(0..100, 9);
        drop(adopted);
    });
}

#[test]
fn more_than_memory() {
    on_machine(|| {
        let pages = 10_000;
        let mm = space(pages);
        let _adopted = mm.adopt();
        fill(pages, 1);
        verify(0..pages, 1);
        fill(pages, 2);
        verify(0..pages, 2);
    });
}

fn inject(op: Op, kind: FaultKind, once: bool) {
    let disk = arch::swap_disk().expect("the machine has a disk");
    // Not the header.
    let sectors = 8..disk.sectors();
    simctl::swap_disk().inject(DiskFault {
        op,
        sectors,
        kind,
        once,
    });
}

#[test]
fn forked_pages_are_shared_on_disk() {
    on_machine(|| {
        let parent = space(50);
        let adopted = parent.adopt();
        fill(50, 3);
        page_out(&parent, 50);
        let used = swap::stats().used;
        let child = parent.fork().expect("fork");
        assert_eq!(child.swap_entries.get(), 50);
        assert_eq!(swap::stats().used, used, "a fork takes no slots");
        drop(adopted);
        {
            let _adopted = child.adopt();
            verify(0..50, 3);
            fill(25, 4);
            verify(0..25, 4);
            verify(25..50, 3);
        }
        let _adopted = parent.adopt();
        verify(0..50, 3);
        drop(child);
        verify(0..50, 3);
        assert_eq!(parent.swap_entries.get(), 0);
    });
}

#[test]
fn resident_shared_pages_go_out_for_both() {
    on_machine(|| {
        let parent = space(20);
        let adopted = parent.adopt();
        fill(20, 5);
        let child = parent.fork().expect("fork");
        // Shared pages are nobody's to page out by advice: memory pressure takes them.
        let hog = space(12_000);
        drop(adopted);
        {
            let _adopted = hog.adopt();
            fill(12_000, 6);
            fill(12_000, 7);
        }
        assert!(parent.swap_entries.get() > 0);
        assert_eq!(parent.swap_entries.get(), child.swap_entries.get());
        for mm in [&child, &parent] {
            let _adopted = mm.adopt();
            verify(0..20, 5);
        }
    });
}

#[test]
fn failed_writes_lose_nothing_and_retire_the_slots() {
    on_machine(|| {
        let mm = space(40);
        let _adopted = mm.adopt();
        fill(40, 8);
        let (errors, bad) = (total(Event::SwapWriteError), swap::stats().bad);
        inject(Op::Write, FaultKind::Error, false);
        page_out(&mm, 40);
        assert!(total(Event::SwapWriteError) - errors >= 40);
        assert_eq!(mm.swap_entries.get(), 40, "the entries name the slots");
        verify(0..40, 8);
        assert_eq!(swap::stats().bad - bad, 40, "the slots are not used again");
        // The disk recovers: other slots serve.
        simctl::swap_disk().clear_faults();
        page_out(&mm, 40);
        assert_eq!(mm.swap_entries.get(), 40);
        verify(0..40, 8);
        assert_eq!(swap::stats().bad - bad, 40);
    });
}

/// The frames of pages that are in the swap cache and that nothing maps.
fn cached_frames() -> Vec<arch::Pfn> {
    let all = (0..mm::inspect::max_pfn() as u32).map(arch::Pfn);
    all.filter(|&pfn| {
        let f = frame(pfn);
        f.usage() == Use::Anon && f.has(flag::SWAPCACHE) && f.mapcount() == 0
    })
    .collect()
}

#[test]
fn a_slot_whose_write_only_shared_a_failed_request_is_not_retired() {
    on_machine(|| {
        let mm = space(4);
        let _adopted = mm.adopt();
        fill(4, 5);
        page_out(&mm, 4);
        // Into the swap cache, and no further.
        mm.madvise(BASE, 4 * PAGE_SIZE, Advice::WillNeed)
            .expect("madvise");
        while swap::io::in_flight() > 0 {
            arch::thread::yield_now();
        }
        let (cached, bad) = (cached_frames(), swap::stats().bad);
        assert_eq!(cached.len(), 4, "read ahead");
        for &pfn in &cached {
            // As a failed write of several pages leaves them, until each is tried alone.
            explore::set_flags(pfn, flag::DIRTY | flag::ERROR | flag::SUSPECT);
        }
        for i in 0..4 {
            user::store(at(i), 5 ^ (i << 16)).expect("store");
        }
        assert!(cached_frames().is_empty(), "taken over");
        assert_eq!(swap::stats().bad, bad);
        verify(0..4, 5);
    });
}

#[test]
fn a_failed_read_fails_that_access_alone() {
    on_machine(|| {
        let mm = space(10);
        let _adopted = mm.adopt();
        fill(10, 2);
        page_out(&mm, 10);
        inject(Op::Read, FaultKind::Error, false);
        assert_eq!(user::load(at(3)), Err(FaultError::Bus));
        assert_eq!(user::store(at(4), 1), Err(FaultError::Bus));
        simctl::swap_disk().clear_faults();
        // The next access asks the disk again.
        verify(0..10, 2);
    });
}

#[test]
fn pages_that_could_not_be_read_ahead_take_no_memory_for_long() {
    on_machine(|| {
        const PAGES: u64 = 64;
        let mm = space(PAGES);
        let adopted = mm.adopt();
        fill(PAGES, 3);
        page_out(&mm, PAGES);
        inject(Op::Read, FaultKind::Error, false);
        mm.madvise(BASE, PAGES * PAGE_SIZE, Advice::WillNeed)
            .expect("madvise");
        while swap::io::in_flight() > 0 {
            arch::thread::yield_now();
        }
        simctl::swap_disk().clear_faults();
        assert_eq!(swap::stats().cached, PAGES);
        drop(adopted);
        {
            let other = space(10_000);
            let _adopted = other.adopt();
            fill(10_000, 4);
        }
        reclaim::settle();
        assert_eq!(swap::stats().cached, 0);
        let _adopted = mm.adopt();
        verify(0..PAGES, 3);
    });
}

#[test]
fn swapoff_brings_everything_back() {
    on_machine(|| {
        let mm = space(300);
        let adopted = mm.adopt();
        fill(300, 1);
        page_out(&mm, 300);
        let child = mm.fork().expect("fork");
        let reader = arch::thread::spawn(
            arch::thread::Spawn {
                name: "reader",
                cpu: None,
            },
            Box::new({
                let mm = mm.clone();
                move || {
                    let _adopted = mm.adopt();
                    for _ in 0..3 {
                        verify(0..300, 1);
                    }
                }
            }),
        )
        .expect("a thread");
        assert_eq!(mm::ops::swapoff::swapoff(), Ok(()));
        reader.join();
        assert_eq!((mm.swap_entries.get(), child.swap_entries.get()), (0, 0));
        assert!(!swap::enabled());
        assert_eq!(
            mm::ops::swapoff::swapoff(),
            Err(swap::SwapOpError::NotInUse)
        );
        verify(0..300, 1);
        drop(adopted);
        let _adopted = child.adopt();
        verify(0..300, 1);
        swap::swapon(arch::swap_disk().expect("disk")).expect("swapon");
    });
}

#[test]
fn swapoff_fails_cleanly_without_memory() {
    on_machine(|| {
        let pages = 10_000;
        let mm = space(pages);
        let _adopted = mm.adopt();
        fill(pages, 4);
        assert_eq!(
            mm::ops::swapoff::swapoff(),
            Err(swap::SwapOpError::NoMemory)
        );
        assert!(swap::enabled());
        verify(0..pages, 4);
    });
}

#[test]
fn an_area_that_cannot_be_taken_away_goes_on_being_used() {
    on_machine(|| {
        let mm = space(40);
        let _adopted = mm.adopt();
        fill(40, 8);
        page_out(&mm, 20);
        inject(Op::Read, FaultKind::Error, false);
        assert_eq!(
            mm::ops::swapoff::swapoff(),
            Err(swap::SwapOpError::Io),
            "what is on the disk cannot be read"
        );
        simctl::swap_disk().clear_faults();
        page_out(&mm, 40);
        assert_eq!(mm.swap_entries.get(), 40, "no slot was to be had");
        verify(0..40, 8);
    });
}

/// Reclaim asks for slots all the time: none that the header rules out may be handed out, not even
/// while the area is being opened or taken away.
#[test]
fn an_area_is_opened_without_its_bad_slots() {
    const PAGES: u64 = 64;
    const ROUNDS: usize = 300;
    on_machine(|| {
        let disk = arch::swap_disk().expect("the machine has a disk");
        mm::ops::swapoff::swapoff().expect("swapoff");
        // The second cluster is the first to be filled, because the header lies in the first.
        let bad: Vec<u32> = (600..900).chain(256..512).collect();
        swap::mkswap(disk, "bad", &bad).expect("mkswap");
        let stop = Arc::new(AtomicBool::new(false));
        let reclaimer = {
            let stop = stop.clone();
            let run = move || {
                let mm = space(PAGES);
                let _adopted = mm.adopt();
                while !stop.load(Ordering::Relaxed) {
                    fill(PAGES, 5);
                    page_out(&mm, PAGES);
                }
                verify(0..PAGES, 5);
            };
            let opts = arch::thread::Spawn {
                name: "reclaimer",
                cpu: None,
            };
            arch::thread::spawn(opts, Box::new(run)).expect("a thread")
        };
        let ruled_out = |slot| swap::slot_state(slot).is_some_and(|s| s.is_bad());
        let check = || {
            let used: Vec<u32> = bad.iter().copied().filter(|&s| !ruled_out(s)).collect();
            assert!(used.is_empty(), "bad slots were handed out: {used:?}");
            assert!(ruled_out(0), "the header was handed out");
        };
        for _ in 0..ROUNDS {
            let header = swap::swapon(disk).expect("swapon");
            assert_eq!(header.nr_bad as usize, bad.len());
            check();
            // It is used, and still none of them.
            let written = total(Event::PswpOut);
            while total(Event::PswpOut) == written {
                arch::thread::yield_now();
            }
            check();
            mm::ops::swapoff::swapoff().expect("swapoff");
        }
        stop.store(true, Ordering::Relaxed);
        reclaimer.join();
        swap::swapon(disk).expect("swapon");
    });
}

/// A disk that claims to be larger, or smaller, than it is.
struct Claims {
    disk: &'static dyn BlockDevice,
    sectors: u64,
}

impl BlockDevice for Claims {
    fn name(&self) -> &str {
        self.disk.name()
    }
    fn sectors(&self) -> u64 {
        self.sectors
    }
    unsafe fn submit(&self, bio: &'static Bio) -> Result<(), Busy> {
        // SAFETY: the caller's word.
        unsafe { self.disk.submit(bio) }
    }
    fn completed(&self) -> u64 {
        self.disk.completed()
    }
}

#[test]
fn an_area_whose_tables_do_not_fit_is_refused_and_takes_nothing() {
    on_machine(|| {
        let disk = arch::swap_disk().expect("the machine has a disk");
        mm::ops::swapoff::swapoff().expect("swapoff");
        // Pages that must not be lost or killed for it.
        let mm = space(500);
        let _adopted = mm.adopt();
        fill(500, 6);
        let huge: &'static Claims = Box::leak(Box::new(Claims {
            disk,
            sectors: (64 << 30) / SECTOR,
        }));
        swap::mkswap(huge, "huge", &[]).expect("mkswap");
        let uses = || {
            buddy::pcp::drain();
            Use::ALL.map(|(usage, _)| use_pages(usage))
        };
        let (before, kills) = (uses(), total(Event::OomKill));
        for _ in 0..3 {
            let refused = swap::swapon(huge).expect_err("80 MB of tables in 32 MiB");
            assert!(
                matches!(refused, swap::SwapOpError::NoRoom { needed, room }
                    if needed > 80 << 20 && room < RAM),
                "{refused:?}"
            );
            assert!(refused.to_string().contains(" kB of memory, and "));
            assert!(!swap::enabled());
        }
        assert_eq!((uses(), total(Event::OomKill)), (before, kills));
        verify(0..500, 6);
        swap::mkswap(disk, "test", &[]).expect("mkswap");
        swap::swapon(disk).expect("swapon");
    });
}

/// What a batch has taken of the last slots is there for all of it.
#[test]
fn the_last_slots_are_used() {
    const PAGES: u64 = 20;
    on_machine(|| {
        let disk = arch::swap_disk().expect("the machine has a disk");
        mm::ops::swapoff::swapoff().expect("swapoff");
        let small: &'static Claims = Box::leak(Box::new(Claims {
            disk,
            sectors: PAGES * PAGE_SIZE / SECTOR,
        }));
        swap::mkswap(small, "small", &[]).expect("mkswap");
        swap::swapon(small).expect("swapon");
        let mm = space(PAGES);
        let adopted = mm.adopt();
        fill(PAGES, 5);
        page_out(&mm, PAGES);
        assert_eq!(mm.swap_entries.get(), PAGES - 1);
        verify(0..PAGES, 5);
        drop((adopted, mm));
        mm::ops::swapoff::swapoff().expect("swapoff");
        swap::mkswap(disk, "test", &[]).expect("mkswap");
        swap::swapon(disk).expect("swapon");
    });
}

#[test]
fn sequential_faults_read_ahead() {
    on_machine(|| {
        let mm = space(200);
        let _adopted = mm.adopt();
        fill(200, 1);
        page_out(&mm, 200);
        let (major, hits) = (total(Event::PgMajFault), total(Event::SwapRaHit));
        verify(0..200, 1);
        let major = total(Event::PgMajFault) - major;
        assert!(major < 60, "{major} of 200 pages were waited for");
        assert!(total(Event::SwapRaHit) - hits > 140);
        page_out(&mm, 200);
        let before = total(Event::PgMajFault);
        mm.madvise(BASE, 200 * PAGE_SIZE, Advice::WillNeed)
            .expect("madvise");
        verify(0..200, 1);
        assert_eq!(total(Event::PgMajFault), before, "WILLNEED reads all of it");
    });
}

#[test]
fn lazily_freed_pages_go_without_a_write() {
    on_machine(|| {
        let mm = space(60);
        let _adopted = mm.adopt();
        fill(60, 1);
        mm.madvise(BASE, 60 * PAGE_SIZE, Advice::Free)
            .expect("madvise");
        // Written again: an ordinary page from now on.
        fill(20, 2);
        let out = total(Event::PswpOut);
        page_out(&mm, 60);
        verify(0..20, 2);
        for i in 20..60 {
            assert_eq!(user::load(at(i)), Ok(0));
        }
        assert!(
            total(Event::PswpOut) - out <= 20,
            "dropped pages were written"
        );
    });
}

#[test]
fn a_page_being_written_can_be_used() {
    on_machine(|| {
        let mm = space(20);
        let _adopted = mm.adopt();
        fill(20, 1);
        inject(Op::Write, FaultKind::Hang, false);
        let writer = {
            let mm = mm.clone();
            let work = move || page_out(&mm, 20);
            let opts = arch::thread::Spawn {
                name: "writer",
                cpu: None,
            };
            arch::thread::spawn(opts, Box::new(work)).expect("a thread")
        };
        while reclaim::in_laundry() == 0 {
            arch::thread::sleep_ns(100_000);
        }
        // The writes hang, and nobody who wants the pages waits for them.
        verify(0..20, 1);
        fill(10, 2);
        simctl::swap_disk().clear_faults();
        writer.join();
        verify(0..10, 2);
        verify(10..20, 1);
        page_out(&mm, 20);
        verify(0..10, 2);
    });
}

#[test]
fn a_disk_with_bad_parts_loses_nothing_under_pressure() {
    on_machine(|| {
        let disk = arch::swap_disk().expect("the machine has a disk");
        let eighth = disk.sectors() / 8;
        for part in [0, 2, 5] {
            let sectors = (part * eighth).max(8)..(part * eighth + eighth / 4);
            simctl::swap_disk().inject(DiskFault {
                op: Op::Write,
                sectors,
                kind: FaultKind::Error,
                once: false,
            });
        }
        let pages = 9000;
        let mm = space(pages);
        let _adopted = mm.adopt();
        for stamp in 1..4 {
            fill(pages, stamp);
            verify(0..pages, stamp);
        }
        assert!(swap::stats().bad > 0, "no bad slot was met");
    });
}

/// The slot of a page that is on disk.
fn slots_in_use() -> Vec<u64> {
    let pages = arch::swap_disk().expect("disk").sectors() * SECTOR / PAGE_SIZE;
    let used = |slot: &u64| swap::slot_state(*slot as u32).is_some_and(|s| s.count() > 0);
    (1..pages).filter(used).collect()
}

#[test]
fn one_bad_sector_harms_one_page() {
    on_machine(|| {
        let mm = space(32);
        let _adopted = mm.adopt();
        fill(32, 6);
        page_out(&mm, 32);
        // One request wrote all of them; now one sector in the middle can be neither read...
        let slots = slots_in_use();
        assert_eq!(slots.len(), 32);
        let sector = slots[16] * (PAGE_SIZE / SECTOR);
        let fault = |op| DiskFault {
            op,
            sectors: sector..sector + 1,
            kind: FaultKind::Error,
            once: false,
        };
        simctl::swap_disk().inject(fault(Op::Read));
        let unreadable = (0..32)
            .filter(|&i| user::load(at(i)) == Err(FaultError::Bus))
            .count();
        assert_eq!(unreadable, 1);
        simctl::swap_disk().clear_faults();
        verify(0..32, 6);
        // ... nor written.
        fill(32, 7);
        let bad = swap::stats().bad;
        simctl::swap_disk().inject(fault(Op::Write));
        page_out(&mm, 32);
        verify(0..32, 7);
        reclaim::settle();
        assert!(swap::stats().bad - bad <= 1, "good slots were retired");
    });
}
