//! What no operation can meet yet is refused loudly: a huge page, one that is being split, one that
//! is being moved, put where a PTE table was. To skip it would lose pages; to take it for a table
//! would free one.
//!
//! One machine for all, one address space for each operation. A space whose operation was refused
//! midway is left as it is.

use arch::pte::{self, Entry};
use arch::simctl::{self, Config};
use arch::upcall::Access;
use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::{Advice, MapFlags, MmRef, Prot, RemapFlags, explore, reclaim, swap};
use std::panic::{AssertUnwindSafe, catch_unwind};

const BASE: VirtAddr = VirtAddr(0x4000_0000);
const ELSEWHERE: VirtAddr = VirtAddr(0x8000_0000);
const PAGES: u64 = 4;

/// An operation on the pages at [`BASE`], the first of which is in the frame.
type Operation = fn(&MmRef, Pfn);

const OPERATIONS: [(&str, Operation); 11] = [
    ("fault", |mm, _| _ = mm.fault(BASE, Access::Read)),
    ("mprotect", |mm, _| {
        _ = mm.mprotect(BASE, PAGES * PAGE_SIZE, Prot::READ)
    }),
    ("fork", |mm, _| _ = mm.fork()),
    ("dontneed", |mm, _| advise(mm, Advice::DontNeed)),
    ("free", |mm, _| advise(mm, Advice::Free)),
    ("cold", |mm, _| advise(mm, Advice::Cold)),
    ("pageout", |mm, _| advise(mm, Advice::PageOut)),
    ("mremap", |mm, _| {
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let len = PAGES * PAGE_SIZE;
        _ = mm.mremap(BASE, len, len, flags, Some(ELSEWHERE));
    }),
    ("a reverse walk", |_, pfn| reclaim::one(pfn)),
    ("munmap", |mm, _| _ = mm.munmap(BASE, PAGES * PAGE_SIZE)),
    ("a look", |mm, _| _ = mm.areas().with_entry(BASE, |_| ())),
];

fn advise(mm: &MmRef, advice: Advice) {
    _ = mm.madvise(BASE, PAGES * PAGE_SIZE, advice);
}

/// What the operation says when it meets `pmd`.
fn refusal(operation: Operation, pmd: Entry) -> Option<String> {
    let mm = MmRef::new().expect("memory for an address space");
    mm.mmap(Some(BASE), PAGES * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
        .expect("mmap");
    mm.fault(BASE, Access::Write).expect("a fault in an area");
    let first = explore::entry(&mm, BASE).expect("a table").pfn();
    explore::set_pmd(&mm, BASE, pmd);
    let done = catch_unwind(AssertUnwindSafe(|| operation(&mm, first)));
    std::mem::forget(mm);
    done.err()?.downcast_ref::<String>().cloned()
}

#[test]
fn a_huge_page_is_neither_skipped_nor_taken_for_a_table() {
    let config = Config {
        ram: 32 << 20,
        swap: 64 * PAGE_SIZE,
        ..Config::default()
    };
    simctl::boot(config);
    simctl::run(|| {
        mm::init().expect("32 MiB are enough");
        let disk = arch::swap_disk().expect("the machine has a disk");
        swap::mkswap(disk, "test", &[]).expect("mkswap");
        swap::swapon(disk).expect("swapon");
        std::panic::set_hook(Box::new(|_| ()));
        let bits = pte::WRITE | pte::USER | pte::HUGE;
        let kinds = [
            (Entry::new(Pfn(0x200), bits), "a huge page, "),
            (
                Entry::from_bits(Pfn(0x200), pte::HUGE | pte::PROT_NONE),
                "a huge page, ",
            ),
            (
                Entry::from_bits(Pfn(0x200), bits),
                "is split that cannot be here",
            ),
            (
                Entry::from_bits(Pfn(0x200), pte::SWAP_MARK),
                "is moved that cannot be here",
            ),
        ];
        for (pmd, says) in kinds {
            for (name, operation) in OPERATIONS {
                let said = refusal(operation, pmd)
                    .unwrap_or_else(|| panic!("{name} went on over {pmd:?}"));
                assert!(said.contains(says), "{name} over {pmd:?}: {said}");
            }
        }
        _ = std::panic::take_hook();
    });
}
