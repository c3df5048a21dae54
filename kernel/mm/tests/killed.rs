//! A fault that is under way when its address space is killed.

use arch::simctl::{self, Config};
use arch::thread::{Spawn, spawn, yield_now};
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::explore::mmap_lock;
use mm::{MapFlags, MmRef, Prot};

const BASE: VirtAddr = VirtAddr(0x4000_0000);

/// The page may have been the OOM killer's prey a moment ago: zeros would be a lie.
#[test]
fn a_killed_space_gets_no_fresh_pages() {
    assert!(simctl::boot(Config::default()));
    simctl::run(|| {
        mm::init().expect("there is memory");
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
