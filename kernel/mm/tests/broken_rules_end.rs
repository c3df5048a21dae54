//! Whatever a rule that is off has left behind: faults and operations that come upon it end, with
//! an error.

use arch::block::Op;
use arch::pte::Entry;
use arch::simctl::{self, Config, DiskFault, FaultKind};
use arch::thread::{Spawn, spawn, yield_now};
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::file::Opener;
use mm::inspect::{flag, frame};
use mm::knobs::{self, Knob};
use mm::ops::swapoff::swapoff;
use mm::swap::SwapOpError;
use mm::{Advice, MapFlags, MmRef, Prot, explore, reclaim, swap};

const BASE: VirtAddr = VirtAddr(0x4000_0000);
/// How long the data disk takes for a write.
const SLOW_NS: u64 = 300_000_000;

fn map(file: &Opener) -> MmRef {
    let mm = MmRef::new().expect("memory for an address space");
    let shared = MapFlags::FIXED | MapFlags::SHARED;
    mm.mmap_file(Some(BASE), PAGE_SIZE, Prot::RW, shared, file, 0)
        .expect("mmap");
    mm
}

fn protect(mm: &MmRef, prot: Prot) {
    mm.mprotect(BASE, PAGE_SIZE, prot).expect("mprotect");
}

/// The entry that `mm` has at [`BASE`].
fn entry(mm: &MmRef) -> Entry {
    let entry = mm.areas().with_entry(BASE, |entry| entry);
    entry.expect("a table")
}

fn set_entry(mm: &MmRef, entry: Entry) {
    explore::set_entry(mm, BASE, entry);
}

/// Rule 10: the page leaves the cache while an entry maps it. A store then finds an entry that it
/// may make writable only once its folio is the file's page.
fn a_page_that_is_in_no_cache() {
    let file = mm::file::open(0, 1).expect("a file");
    let mm = map(&file);
    let adopted = mm.adopt();
    user::store(BASE, 1).expect("a store");
    let pfn = entry(&mm).pfn();
    simctl::data_disk().inject(DiskFault {
        op: Op::Write,
        sectors: 0..u64::MAX,
        kind: FaultKind::Delay(SLOW_NS),
        once: false,
    });
    mm.msync(BASE, PAGE_SIZE, mm::Sync::Start).expect("msync");
    mm.madvise(BASE, PAGE_SIZE, Advice::DontNeed)
        .expect("madvise");
    let faulting = {
        let mm = mm.clone();
        let work = move || {
            let _adopted = mm.adopt();
            assert_eq!(user::store(BASE, 2), Ok(()));
        };
        let how = Spawn {
            name: "faulting",
            cpu: None,
        };
        spawn(how, Box::new(work)).expect("a thread")
    };
    // It has the folio locked, and waits for the write.
    while !frame(pfn).has(flag::LOCKED) {
        yield_now();
    }
    file.invalidate(0, PAGE_SIZE).expect("invalidate");
    faulting.join();
    simctl::data_disk().clear_faults();
    assert_eq!(entry(&mm).pfn(), pfn);
    protect(&mm, Prot::READ);
    protect(&mm, Prot::RW);
    assert_eq!(user::store(BASE, 3), Err(FaultError::Bus));
    drop(adopted);
}

/// Rule 4: an entry that names a slot is lost with its table. Nobody will give the slot back.
fn a_slot_that_nothing_names() {
    let mm = MmRef::new().expect("memory for an address space");
    mm.mmap(Some(BASE), PAGE_SIZE, Prot::RW, MapFlags::FIXED)
        .expect("mmap");
    let adopted = mm.adopt();
    user::store(BASE, 1).expect("a store");
    mm.madvise(BASE, PAGE_SIZE, Advice::PageOut)
        .expect("madvise");
    reclaim::settle();
    let lost = entry(&mm);
    assert!(lost.is_swap());
    set_entry(&mm, Entry::NONE);
    assert_eq!(swapoff(), Err(SwapOpError::Lost));
    set_entry(&mm, lost);
    assert_eq!(user::load(BASE), Ok(1));
    drop(adopted);
    drop(mm);
    assert_eq!(swapoff(), Ok(()));
}

fn with_off(rule: Knob, f: fn()) {
    knobs::set(rule, false);
    f();
    knobs::set(rule, true);
}

#[test]
fn whatever_a_broken_rule_leaves_behind_ends() {
    assert!(simctl::boot(Config {
        ram: 32 << 20,
        data: 1 << 20,
        ..Config::default()
    }));
    simctl::run(|| {
        mm::init().expect("32 MiB are enough");
        mm::file::attach(arch::data_disk().expect("the machine has a disk")).expect("attach");
        let disk = arch::swap_disk().expect("the machine has a disk");
        swap::mkswap(disk, "test", &[]).expect("mkswap");
        swap::swapon(disk).expect("swapon");
        with_off(Knob::TruncateUnmap, a_page_that_is_in_no_cache);
        with_off(Knob::PmdRecheck, a_slot_that_nothing_names);
    });
}
