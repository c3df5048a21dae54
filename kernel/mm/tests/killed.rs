//! A fault that is under way when its address space is killed.

use arch::simctl::{self, Config};
use arch::thread::{Spawn, spawn, yield_now};
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::explore::mmap_lock;
use mm::{MapFlags, MmRef, Prot, reclaim};
use std::sync::{Mutex, PoisonError};

const BASE: VirtAddr = VirtAddr(0x4000_0000);

fn on_machine(f: impl FnOnce() + Send + 'static) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let first = simctl::boot(Config::default());
    simctl::run(move || {
        if first {
            mm::init().expect("there is memory");
            reclaim::kswapd::start().expect("there are threads");
        }
        f();
        mm::check().expect("accounting");
        assert!(simctl::take_violations().is_empty());
    });
}

/// Whoever has killed it, and whatever its areas were being used for at that moment.
#[test]
fn a_killed_space_is_reaped() {
    on_machine(|| {
        const PAGES: u64 = 100;
        let mm = MmRef::new().expect("memory for an address space");
        mm.mmap(Some(BASE), PAGES * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
            .expect("mmap");
        {
            let _adopted = mm.adopt();
            for i in 0..PAGES {
                user::store(VirtAddr(BASE.0 + i * PAGE_SIZE), i).expect("a page");
            }
        }
        let lock = mmap_lock(&mm).write();
        mm.kill();
        assert_eq!(mm.rss(), PAGES, "the areas are being changed");
        drop(lock);
        reclaim::settle();
        assert_eq!(mm.rss(), 0);
    });
}

/// The page may have been the OOM killer's prey a moment ago: zeros would be a lie.
#[test]
fn a_killed_space_gets_no_fresh_pages() {
    on_machine(|| {
        for access in [|| user::load(BASE).map(drop), || user::store(BASE, 1)] {
            let mm = MmRef::new().expect("memory for an address space");
            mm.mmap(Some(BASE), PAGE_SIZE, Prot::RW, MapFlags::FIXED)
                .expect("mmap");
            let lock = mmap_lock(&mm).write();
            let faulting = {
                let mm = mm.clone();
                let work = move || {
                    let _adopted = mm.adopt();
                    assert_eq!(access(), Err(FaultError::Killed));
                };
                let how = Spawn {
                    name: "faulting",
                    cpu: None,
                };
                spawn(how, Box::new(work)).expect("a thread")
            };
            // It has found the space alive, and waits to look at the areas.
            while !mmap_lock(&mm).state().waiters {
                yield_now();
            }
            mm.kill();
            drop(lock);
            faulting.join();
            assert_eq!(mm.rss(), 0);
        }
    });
}
