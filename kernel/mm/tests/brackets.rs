//! Rule 12: what takes entries out or weakens them neither begins nor ends under the lock of a page
//! table. Debug builds stop there.
#![cfg(debug_assertions)]

use arch::VirtAddr;
use arch::simctl::{self, Config};
use mm::MmRef;
use mm::explore::{gather, invalidation, weakening};
use std::panic::{AssertUnwindSafe, catch_unwind};
use sync::{Rank, SpinLock};

const BASE: VirtAddr = VirtAddr(0x4000_0000);

/// `f` stops for the rule's sake.
fn stops(f: impl FnOnce()) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(f)) else {
        return false;
    };
    simctl::panic_message(&*panic).contains("under the lock of a page table")
}

/// What `begin` gives is fine without a lock, and neither begins nor ends under one of `rank`.
fn is_bracket<T>(rank: Rank, begin: impl Fn() -> T) -> bool {
    drop(begin());
    let table = SpinLock::new(rank, ());
    let begins = stops(|| {
        let locked = table.lock();
        let begun = begin();
        // It ends where it may.
        drop(locked);
        drop(begun);
    });
    let open = begin();
    let ends = stops(|| {
        let _locked = table.lock();
        drop(open);
    });
    begins && ends
}

#[test]
fn nothing_is_taken_out_or_weakened_from_within_a_table_lock() {
    simctl::boot(Config {
        ram: 32 << 20,
        ..Config::default()
    });
    simctl::run(|| {
        mm::init().expect("32 MiB are enough");
        let mm = MmRef::new().expect("memory for an address space");
        for rank in [Rank::Pmd, Rank::Ptl] {
            assert!(is_bracket(rank, || invalidation(&mm, BASE)), "{rank:?}");
            assert!(is_bracket(rank, || weakening(&mm)), "{rank:?}");
            assert!(is_bracket(rank, || gather(&mm)), "{rank:?}");
        }
        // The gathers that were stopped are counted for ever.
        std::mem::forget(mm);
    });
}
