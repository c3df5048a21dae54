//! Huge pages where memory is short: a first touch without a block, or without the table that a
//! split will need, falls back to one page; a split needs nothing. And what cannot be there yet, a
//! PMD that is being moved, is refused loudly by every operation.
//!
//! One machine for all, one address space for each operation. A space whose operation was refused
//! midway is left as it is.

use arch::addr::{HPAGE_PMD_ORDER, PMD_SIZE};
use arch::pte::{self, Entry};
use arch::simctl::{self, Config};
use arch::upcall::Access;
use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::stats::{Event, Use, total, use_pages};
use mm::{Advice, MapFlags, MmRef, Prot, RemapFlags, buddy, explore, reclaim, swap};
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

fn a_huge_page_that_moves_is_refused() {
    std::panic::set_hook(Box::new(|_| ()));
    let pmd = Entry::from_bits(Pfn(0x200), pte::SWAP_MARK);
    for (name, operation) in OPERATIONS {
        let said = refusal(operation, pmd).unwrap_or_else(|| panic!("{name} went on over {pmd:?}"));
        let says = "is moved that cannot be here";
        assert!(said.contains(says), "{name} over {pmd:?}: {said}");
    }
    _ = std::panic::take_hook();
}

/// An area that may have a huge page.
fn advised() -> MmRef {
    let mm = MmRef::new().expect("memory for an address space");
    mm.mmap(Some(BASE), PMD_SIZE, Prot::RW, MapFlags::FIXED)
        .expect("mmap");
    mm.madvise(BASE, PMD_SIZE, Advice::HugePage)
        .expect("madvise");
    mm
}

/// Anonymous pages, page tables.
fn in_use() -> (u64, u64) {
    (use_pages(Use::Anon), use_pages(Use::Table))
}

/// The first allocation is the block, the next one the table of the split; the page and the table
/// of the fall-back come after them.
fn without_a_block_there_is_a_page() {
    let idle = in_use();
    for (usage, granted) in [(Use::Anon, 0), (Use::Table, 2)] {
        let mm = advised();
        // The tables above are there.
        mm.fault(VirtAddr(BASE.0 + PMD_SIZE), Access::Read)
            .expect_err("nothing is mapped there");
        let events = || (total(Event::ThpFaultAlloc), total(Event::ThpFaultFallback));
        let before = events();
        {
            let _refused = buddy::refuse::after(usage, granted);
            mm.fault(BASE, Access::Write).expect("one page");
        }
        let after = events();
        assert_eq!(after, (before.0, before.1 + 1), "without a {usage:?}");
        assert_eq!((mm.anon_huge.get(), mm.rss()), (0, 1));
        drop(mm);
        assert_eq!(
            in_use(),
            idle,
            "a refused {usage:?} leaves something behind"
        );
    }
}

/// Pages that share no alignment with the huge one whose place they take, nor its table.
fn what_moves_may_replace_a_huge_page() {
    let idle = in_use();
    let mm = advised();
    mm.fault(BASE, Access::Write).expect("a huge page");
    let from = VirtAddr(ELSEWHERE.0 + PAGE_SIZE);
    mm.mmap(Some(from), PMD_SIZE, Prot::RW, MapFlags::FIXED)
        .expect("mmap");
    mm.fault(from, Access::Write).expect("a page");
    let page = explore::entry(&mm, from).expect("a table").pfn();
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    mm.mremap(from, PMD_SIZE, PMD_SIZE, flags, Some(BASE))
        .expect("mremap");
    assert_eq!((mm.anon_huge.get(), mm.rss()), (0, 1));
    let moved = explore::entry(&mm, BASE).expect("a table").pfn();
    assert_eq!(moved, page, "the page did not move");
    drop(mm);
    assert_eq!(in_use(), idle);
}

/// No allocation at all is granted to a split, nor is one needed.
fn a_split_needs_no_memory() {
    let idle = in_use();
    let mm = advised();
    mm.fault(BASE, Access::Write).expect("a huge page");
    assert_eq!(mm.anon_huge.get(), 1);
    let before = in_use();
    {
        let _refused = buddy::refuse::after(Use::Table, 0);
        mm.madvise(BASE, PAGE_SIZE, Advice::Cold).expect("madvise");
    }
    assert_eq!((mm.anon_huge.get(), in_use()), (0, before));
    let pages = 1 << HPAGE_PMD_ORDER;
    assert_eq!(mm.rss(), pages);
    for i in 0..pages {
        let va = VirtAddr(BASE.0 + i * PAGE_SIZE);
        let pfn = explore::entry(&mm, va).expect("a table").pfn();
        assert!(explore::is_listed(pfn), "page {i} is on no list");
        assert_eq!(explore::mapped_by_rmap(pfn), 1, "page {i}");
    }
    drop(mm);
    assert_eq!(in_use(), idle);
}

#[test]
fn huge_pages_where_memory_is_short() {
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
        without_a_block_there_is_a_page();
        a_split_needs_no_memory();
        what_moves_may_replace_a_huge_page();
        a_huge_page_that_moves_is_refused();
    });
}
