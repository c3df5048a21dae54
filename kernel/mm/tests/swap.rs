//! Swapping on the simulated machine: what goes out comes back, whatever the disk does.
//!
//! One machine per process: the tests take turns on it.

use arch::block::{Op, SECTOR};
use arch::simctl::{self, Config, DiskFault, FaultKind};
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::stats::{Event, total};
use mm::{Advice, MapFlags, MmRef, Prot, reclaim, swap};
use std::sync::{Mutex, PoisonError};

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
        swap::mkswap(disk, "test", &[]).expect("mkswap");
        swap::swapon(disk).expect("swapon");
        let r = f();
        simctl::clear_disk_faults();
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
