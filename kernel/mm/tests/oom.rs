//! Memory and swap are exhausted: one address space ends, and everybody else goes on.

use arch::simctl::{self, Config};
use arch::thread::{Spawn, spawn};
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::buddy::{self, Gfp};
use mm::reclaim::oom::{self, Kill};
use mm::stats::{Event, Use, total};
use mm::{MapFlags, MmError, MmRef, Prot, reclaim, swap};
#[cfg(feature = "lab")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const BASE: VirtAddr = VirtAddr(0x4000_0000);
const RAM: u64 = 16 << 20;
const SWAP: u64 = 4 << 20;
/// More than memory and swap together.
const TOO_MUCH: u64 = (RAM + SWAP) / PAGE_SIZE;

static KILLS: Mutex<Vec<Kill>> = Mutex::new(Vec::new());

fn on_machine(f: impl FnOnce() + Send + 'static) {
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
            mm::init().expect("16 MiB are enough");
            let disk = arch::swap_disk().expect("the machine has a disk");
            swap::mkswap(disk, "test", &[]).expect("mkswap");
            swap::swapon(disk).expect("swapon");
            reclaim::kswapd::start().expect("there are threads");
            oom::set_hook(|kill| KILLS.lock().expect("no panic inside").push(*kill));
        }
        KILLS.lock().expect("no panic inside").clear();
        let killed = total(Event::OomKill);
        f();
        assert_eq!(
            total(Event::OomKill) - killed,
            1,
            "one address space was to go"
        );
        assert_eq!(KILLS.lock().expect("no panic inside").len(), 1);
        reclaim::settle();
        mm::check().expect("accounting");
        assert!(simctl::take_violations().is_empty());
        assert_eq!(swap::stats().used, 0);
    });
}

fn space(pages: u64) -> MmRef {
    let mm = MmRef::new().expect("memory for an address space");
    mm.mmap(Some(BASE), pages * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
        .expect("mmap");
    mm
}

fn at(page: u64) -> VirtAddr {
    VirtAddr(BASE.0 + page * PAGE_SIZE)
}

fn fill(pages: u64, stamp: u64) -> Result<(), FaultError> {
    (0..pages).try_for_each(|i| user::store(at(i), stamp + i))
}

fn verify(pages: u64, stamp: u64) {
    for i in 0..pages {
        assert_eq!(user::load(at(i)), Ok(stamp + i), "page {i}");
    }
}

#[test]
fn the_largest_is_killed_and_its_neighbours_live() {
    on_machine(|| {
        let small = space(500);
        let adopted = small.adopt();
        fill(500, 1 << 32).expect("there is room");
        drop(adopted);
        let hog = space(TOO_MUCH);
        let id = hog.id();
        {
            let _adopted = hog.adopt();
            assert_eq!(fill(TOO_MUCH, 0), Err(FaultError::Killed));
            assert_eq!(
                user::load(at(0)),
                Err(FaultError::Killed),
                "once killed, always"
            );
        }
        assert!(matches!(
            hog.mmap(None, PAGE_SIZE, Prot::RW, MapFlags::NONE),
            Err(MmError::Killed)
        ));
        let kill = KILLS.lock().expect("no panic inside")[0];
        assert_eq!(kill.mm, id);
        assert!(kill.to_string().contains("anon-rss"));
        // One page may have come to the fault that was under way.
        assert!(hog.rss() <= 1, "its memory is back before its end");
        let _adopted = small.adopt();
        verify(500, 1 << 32);
    });
}

#[test]
fn a_bystander_that_runs_out_kills_the_hog_not_itself() {
    on_machine(|| {
        // Just fits.
        let hog = space(TOO_MUCH);
        let adopted = hog.adopt();
        let nearly = TOO_MUCH * 8 / 10;
        fill(nearly, 0).expect("there is room");
        drop(adopted);
        let small = space(1200);
        let _adopted = small.adopt();
        fill(1200, 7).expect("the hog makes room");
        verify(1200, 7);
        assert!(hog.is_killed());
    });
}

#[test]
fn threads_of_the_victim_all_end() {
    on_machine(|| {
        let hog = space(TOO_MUCH);
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let hog = hog.clone();
                let work = move || {
                    let _adopted = hog.adopt();
                    let mut i = n;
                    let error = loop {
                        if let Err(e) = user::store(at(i % TOO_MUCH), i) {
                            break e;
                        }
                        i += 3;
                    };
                    assert_eq!(error, FaultError::Killed);
                };
                spawn(
                    Spawn {
                        name: "hog",
                        cpu: None,
                    },
                    Box::new(work),
                )
                .expect("a thread")
            })
            .collect();
        threads.into_iter().for_each(|t| t.join());
    });
}

/// Memory runs out while a large space is being forked, by a thread that belongs to another one:
/// the large one goes, the fork fails, and nobody else pays for the lock that the fork holds.
#[test]
fn a_fork_that_runs_out_harms_no_bystander() {
    on_machine(|| {
        // Nothing can be reclaimed.
        mm::ops::swapoff::swapoff().expect("nothing is on the disk");
        let bystander = space(500);
        let large = space(2500);
        {
            let _adopted = large.adopt();
            fill(2500, 0).expect("there is room");
        }
        let _adopted = bystander.adopt();
        fill(500, 1 << 32).expect("there is room");
        // All that is left but for the child's upper tables.
        let page = || buddy::alloc(0, Use::Misc, Gfp::NOWAIT).ok();
        let mut rest: Vec<_> = std::iter::from_fn(page).collect();
        rest.truncate(rest.len() - 3);
        let forked = large.fork().map(drop);
        assert!(
            matches!(forked, Err(MmError::NoMemory | MmError::Killed)),
            "{forked:?}"
        );
        assert!(large.is_killed() && !bystander.is_killed());
        verify(500, 1 << 32);
        reclaim::settle();
        assert_eq!(large.rss(), 0);
        drop(rest);
        let disk = arch::swap_disk().expect("the machine has a disk");
        swap::swapon(disk).expect("swapon");
    });
}

/// A thread grows the heap when memory runs out, and the holder of the victim's lock waits to do
/// the same: the one gives up, so that the other's memory comes back, and no bystander pays for it.
#[cfg(feature = "lab")]
#[test]
fn who_grows_the_heap_harms_no_bystander() {
    use mm::heap::KernelHeap;
    use std::alloc::{GlobalAlloc, Layout};
    // More than the heap has mapped, and less than what has pages of its own.
    let grow = || {
        let layout = Layout::from_size_align(100 << 10, 8).expect("a layout");
        // SAFETY: the layout is not empty.
        unsafe { KernelHeap.alloc(layout) }.is_null()
    };
    on_machine(move || {
        // Nothing can be reclaimed.
        mm::ops::swapoff::swapoff().expect("nothing is on the disk");
        let bystander = space(500);
        let large = space(2000);
        {
            let _adopted = large.adopt();
            fill(2000, 0).expect("there is room");
        }
        let adopted = bystander.adopt();
        fill(500, 1 << 32).expect("there is room");
        let page = || buddy::alloc(0, Use::Misc, Gfp::NOWAIT).ok();
        let rest: Vec<_> = std::iter::from_fn(page).collect();
        let killed = total(Event::OomKill);
        let victim = large.clone();
        static LOCKED: AtomicBool = AtomicBool::new(false);
        let holder = move || {
            let _adopted = victim.adopt();
            let areas = mm::explore::mmap_lock(&victim).write();
            LOCKED.store(true, Ordering::Release);
            // By then the other one grows the heap.
            while total(Event::OomKill) == killed {
                arch::thread::sleep_ns(100_000);
            }
            assert!(grow(), "killed, and there is no memory");
            drop(areas);
        };
        let opts = Spawn {
            name: "holder",
            cpu: None,
        };
        let holder = spawn(opts, Box::new(holder)).expect("a thread");
        while !LOCKED.load(Ordering::Acquire) {
            arch::thread::sleep_ns(100_000);
        }
        assert!(grow(), "it is in the way");
        holder.join();
        reclaim::settle();
        assert_eq!(large.rss(), 0);
        assert!(large.is_killed() && !bystander.is_killed());
        verify(500, 1 << 32);
        drop((adopted, rest));
        let disk = arch::swap_disk().expect("the machine has a disk");
        swap::swapon(disk).expect("swapon");
    });
}
