//! Two gathers in one address space at a time.

use arch::simctl::{self, Config};
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::explore::gather;
use mm::knobs::{self, Knob};
use mm::{Advice, MapFlags, MmRef, Prot};

const BASE: VirtAddr = VirtAddr(0x4000_0000);

/// One madvise has dropped a page, but has not flushed, when a second one for the same page finds
/// nothing to drop: it still must not return before the page is gone. ("Not yet" is made to last by
/// a knob that leaves the first one's flush out.)
#[test]
fn dontneed_holds_when_another_has_dropped_the_page_already() {
    simctl::boot(Config {
        ram: 32 << 20,
        ..Config::default()
    });
    simctl::run(|| {
        mm::init().expect("32 MiB are enough");
        let mm = MmRef::new().expect("memory for an address space");
        mm.mmap(Some(BASE), PAGE_SIZE, Prot::RW, MapFlags::FIXED)
            .expect("mmap");
        let dontneed = || mm.madvise(BASE, PAGE_SIZE, Advice::DontNeed);
        let _adopted = mm.adopt();
        user::store(BASE, 7).expect("store");
        let first = gather(&mm);
        knobs::set(Knob::TlbFlush, false);
        dontneed().expect("madvise");
        knobs::set(Knob::TlbFlush, true);
        // Here the frame is freed without a flush; really the first gather would still hold it.
        assert!(!simctl::take_violations().is_empty());
        dontneed().expect("madvise");
        assert_eq!(user::load_nofault(BASE), None);
        drop(first);
        assert_eq!(simctl::take_violations(), []);
    });
}
