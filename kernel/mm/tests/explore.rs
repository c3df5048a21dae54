//! The explorer's pocket: two runs of the same operations get the same frames, objects and slots.
//!
//! One machine per process: the tests take turns on it. The test's thread is an actor in a quiet
//! section, so it is never stopped.

use arch::pte::Entry;
use arch::simctl::{self, Config};
use arch::upcall::Access;
use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::explore::{self, Content, Pocket};
use mm::inspect::{flag, frame};
use mm::{Advice, MapFlags, MmRef, Prot, file, reclaim, swap};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use sync::point::{self, Explorer, Go, Note, Quiet, Stop, Until};
use sync::{CpuMask, TaskId};

const BASE: VirtAddr = VirtAddr(0x4000_0000);

/// Stops nobody; a wait is waited for as interrupts come.
struct Idle;

impl Explorer for Idle {
    fn stop(&self, stop: &Stop<'_>) -> Go {
        if let Until::Lock(done) | Until::Acks(done) | Until::Woken(done) = stop.until {
            while !done() {
                sync::irq::poll();
                std::thread::yield_now();
            }
        }
        Go::Free
    }
    fn touch(&self, _: point::AccessKind, _: u32) {}
    fn note(&self, _: Note) {}
    fn tlb_ipi(&self, to: CpuMask) {
        panic!("one CPU asks {to:?}");
    }
    fn unpark(&self, _: TaskId) -> bool {
        false
    }
}

/// Ends an actor.
struct Actor;

impl Drop for Actor {
    fn drop(&mut self) {
        point::make_actor(false);
    }
}

/// Runs `f` as an actor who is never stopped.
fn as_actor<R>(f: impl FnOnce() -> R) -> R {
    point::make_actor(true);
    let _actor = Actor;
    let _quiet = Quiet::begin();
    f()
}

fn on_machine<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let config = Config {
        ram: 32 << 20,
        swap: 64 * PAGE_SIZE,
        data: 64 * PAGE_SIZE,
        ..Config::default()
    };
    let first = simctl::boot(config);
    simctl::run(move || {
        point::set_explorer(&Idle);
        if first {
            mm::init().expect("32 MiB are enough");
        }
        let disk = arch::swap_disk().expect("the machine has a disk");
        swap::mkswap(disk, "test", &[]).expect("mkswap");
        swap::swapon(disk).expect("swapon");
        mm::check().expect("accounting before");
        let r = f();
        reclaim::settle();
        mm::ops::swapoff::swapoff().expect("swapoff");
        mm::check().expect("accounting after");
        assert!(simctl::take_violations().is_empty());
        r
    })
}

fn at(page: u64) -> VirtAddr {
    VirtAddr(BASE.0 + page * PAGE_SIZE)
}

fn touch(mm: &MmRef, page: u64, access: Access) {
    mm.fault(at(page), access).expect("a fault in an area");
}

fn space(pages: u64) -> MmRef {
    let mm = MmRef::new().expect("memory for an address space");
    mm.mmap(Some(BASE), pages * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
        .expect("mmap");
    mm
}

/// Everything that was handed out: entries and ids.
fn log(into: &mut Vec<(u32, u64, u64)>) {
    explore::each_space(&mut |id, mm| {
        into.push((id, 0, u64::from(mm.root().0)));
        explore::each_entry(mm, &mut |va, entry| into.push((id, va.0, entry.0)));
        for (area, v) in explore::mmap_lock(mm).read().iter() {
            into.push((area, v.start(), u64::from(v.anon())));
        }
    });
}

/// What each frame is mapped by, by a look at every entry, is what its reverse walk and its count
/// say.
fn counts_agree() -> bool {
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    explore::each_space(&mut |_, mm| {
        explore::each_entry(mm, &mut |_, entry: Entry| {
            if entry.is_mapped() && !entry.is_special() {
                *seen.entry(entry.pfn().0).or_default() += 1;
            }
        });
    });
    seen.iter().all(|(&pfn, &n)| {
        let pfn = Pfn(pfn);
        explore::mapped_by_rmap(pfn) == n && frame(pfn).mapcount() as usize == n
    })
}

fn page_out(mm: &MmRef, pages: u64) {
    mm.madvise(BASE, pages * PAGE_SIZE, Advice::PageOut)
        .expect("madvise");
}

/// A bit of everything, within an address space that ends, and one that is left to the caller.
fn mixture() -> (Vec<(u32, u64, u64)>, MmRef) {
    let mut seen = Vec::new();
    let parent = space(12);
    for page in 0..12 {
        touch(&parent, page, Access::Write);
        explore::words(frame_of(&parent, page))[7].store(page, Ordering::Relaxed);
    }
    log(&mut seen);
    let child = parent.fork().expect("fork");
    assert!(counts_agree());
    for page in 0..4 {
        touch(&child, page, Access::Write);
    }
    assert!(counts_agree());
    log(&mut seen);
    page_out(&parent, 12);
    page_out(&child, 12);
    log(&mut seen);
    assert!(counts_agree());
    assert!(child.swap_entries.get() > 0, "nothing was swapped out");
    for page in [9, 2, 3, 4, 5] {
        touch(&child, page, Access::Read);
        touch(&parent, page, Access::Write);
    }
    assert!(counts_agree());
    let grandchild = child.fork().expect("fork");
    log(&mut seen);
    for mm in [&parent, &child, &grandchild] {
        assert_eq!(explore::pending(mm), None);
    }
    grandchild.munmap(at(2), 5 * PAGE_SIZE).expect("munmap");
    drop(child);
    page_out(&grandchild, 2);
    log(&mut seen);
    drop(grandchild);
    (seen, parent)
}

fn entry_of(mm: &MmRef, page: u64) -> Entry {
    let mut found = None;
    explore::each_entry(mm, &mut |va, entry| {
        if va == at(page) {
            found = Some(entry);
        }
    });
    found.expect("an entry")
}

fn frame_of(mm: &MmRef, page: u64) -> Pfn {
    entry_of(mm, page).pfn()
}

fn in_pocket(pocket: &Pocket, pfn: Pfn) -> bool {
    (pocket.base().0..pocket.base().0 + pocket.frames() as u32).contains(&pfn.0)
}

#[test]
fn a_second_run_gets_the_same() {
    on_machine(|| {
        let pocket = explore::open(256, 0).expect("room");
        mm::check().expect("accounting while it is open");
        let run = || {
            let (seen, mm) = as_actor(mixture);
            assert!(in_pocket(&pocket, mm.root()));
            mm::check().expect("accounting during a run");
            drop(mm);
            assert_eq!(pocket.rewind(), Ok(()));
            seen
        };
        let first = run();
        assert!(first.len() > 50);
        for _ in 0..3 {
            assert_eq!(run(), first);
        }
        mm::check().expect("accounting after runs");
    });
}

#[test]
fn what_is_left_behind_is_named_and_taken_back() {
    on_machine(|| {
        let pocket = explore::open(256, 0).expect("room");
        let first = as_actor(|| mixture().0);
        assert_eq!(pocket.rewind(), Ok(()));
        let again = || {
            assert_eq!(as_actor(|| mixture().0), first);
            assert_eq!(pocket.rewind(), Ok(()));
            mm::check().expect("accounting after a leak");
        };
        // A whole address space, in memory and on the disk.
        as_actor(|| {
            let (_, mm) = mixture();
            std::mem::forget(mm);
        });
        let named = pocket.rewind().expect_err("a leak");
        for what in [
            "mm 0",
            "vma ",
            "anon_vma ",
            "swap slots",
            "AnonPages",
            "PageTables",
        ] {
            assert!(named.contains(what), "no {what} in: {named}");
        }
        again();
        // A page.
        as_actor(|| {
            let mm = space(1);
            touch(&mm, 0, Access::Write);
            explore::reference(frame_of(&mm, 0));
        });
        let named = pocket.rewind().expect_err("a leak");
        assert!(
            named.contains("AnonPages, refcount 1, mapcount 0"),
            "{named}"
        );
        assert!(!named.contains(';'), "{named}");
        again();
    });
}

/// A file with a written page that is mapped, and what the page cache made of it.
fn written_file() -> (file::Opener, MmRef, (u32, Pfn, u64)) {
    let opener = file::open(8, 4).expect("an extent of the disk");
    let page = [7; PAGE_SIZE as usize];
    assert_eq!(opener.write(PAGE_SIZE, &page), Ok(page.len()));
    let mm = MmRef::new().expect("memory for an address space");
    let flags = MapFlags::FIXED | MapFlags::SHARED;
    mm.mmap_file(Some(BASE), 4 * PAGE_SIZE, Prot::RW, flags, &opener, 0)
        .expect("mmap");
    touch(&mm, 1, Access::Write);
    let Some(Content::Frame(pfn)) = explore::file_page(&opener, 1) else {
        panic!("it was written");
    };
    let seen = (explore::file_id(&opener), pfn, entry_of(&mm, 1).0);
    (opener, mm, seen)
}

#[test]
fn files_go_back_too_and_nothing_of_them_is_written() {
    on_machine(|| {
        let disk = arch::data_disk().expect("the machine has one");
        let before = disk.completed();
        let lent = explore::lend(disk).expect("nothing is dirty");
        let pocket = explore::open(256, 0).expect("room");
        let run = || {
            as_actor(|| {
                let (opener, mm, seen) = written_file();
                assert!(in_pocket(&pocket, seen.1));
                assert_eq!(explore::mapped_by_rmap(seen.1), 1);
                drop(mm);
                explore::discard(&opener);
                assert_eq!(explore::file_page(&opener, 1), None);
                drop(opener);
                explore::forget_closed();
                seen
            })
        };
        let first = run();
        assert_eq!(pocket.rewind(), Ok(()));
        assert_eq!(run(), first);
        assert_eq!(pocket.rewind(), Ok(()));
        // Left behind, written as it is.
        as_actor(|| {
            let (opener, mm, _) = written_file();
            drop(mm);
            std::mem::forget(opener);
        });
        let named = pocket.rewind().expect_err("a leak");
        for what in ["open file ", "; file ", "node ", "FilePages, refcount 1"] {
            assert!(named.contains(what), "no {what} in: {named}");
        }
        assert_eq!(run(), first);
        assert_eq!(pocket.rewind(), Ok(()));
        drop(pocket);
        drop(lent);
        assert_eq!(disk.completed(), before);
        file::check().expect("accounting of files");
    });
}

/// `f`, while there is no swap area.
fn without_swap<R>(f: impl FnOnce() -> R) -> R {
    explore::swapoff().expect("nothing is there");
    let r = f();
    let disk = arch::swap_disk().expect("the machine has a disk");
    explore::swapon(disk).expect("swapon");
    r
}

#[test]
fn an_empty_pocket_is_out_of_memory() {
    on_machine(|| {
        let pocket = explore::open(16, 0).expect("room");
        let fit = || {
            as_actor(|| {
                let mm = space(64);
                let fits = |page: &u64| mm.fault(at(*page), Access::Write).is_ok();
                (0..64).take_while(fits).count()
            })
        };
        assert_eq!(fit(), 64, "the others are on the disk");
        assert_eq!(pocket.rewind(), Ok(()));
        // A root, two tables below it, and one or two of entries.
        let pages = if arch::addr::entries(0) < 12 { 11 } else { 12 };
        assert_eq!(without_swap(fit), pages);
        assert_eq!(pocket.rewind(), Ok(()));
    });
}

#[test]
fn memory_is_as_short_as_it_is_said_to_be() {
    on_machine(|| {
        let pocket = explore::open(64, 0).expect("room");
        let low = || as_actor(mm::buddy::is_low);
        assert!(!low());
        without_swap(|| {
            as_actor(|| {
                let mm = space(64);
                touch(&mm, 0, Access::Write);
                explore::leave_frames(3);
                let fits = |page: &u64| mm.fault(at(*page), Access::Write).is_ok();
                assert_eq!((1..64).take_while(fits).count(), 3);
                assert!(mm.is_killed(), "for want of memory");
            });
        });
        explore::want_frames(64);
        assert!(low());
        assert!(!mm::buddy::is_low(), "the machine's own memory is another");
        assert_eq!(pocket.rewind(), Ok(()));
        assert!(!low());
    });
}

#[test]
fn one_allocation_of_an_actor_is_refused() {
    on_machine(|| {
        let pocket = explore::open(64, 0).expect("room");
        let new_spaces = || [0; 3].map(|_| MmRef::new().map(drop).is_ok());
        // A space takes an object and a frame.
        for (granted, made) in [(0, [false, true, true]), (3, [true, false, true])] {
            let got = as_actor(|| {
                explore::refuse_after(granted);
                new_spaces()
            });
            assert_eq!(got, made, "after {granted}");
        }
        as_actor(|| explore::refuse_after(0));
        assert_eq!(new_spaces(), [true; 3], "the others are granted theirs");
        assert_eq!(pocket.rewind(), Ok(()));
        assert_eq!(as_actor(new_spaces), [true; 3]);
    });
}

#[test]
fn a_wrong_count_is_noticed() {
    on_machine(|| {
        let pocket = explore::open(64, 0).expect("room");
        as_actor(|| {
            let mm = space(2);
            touch(&mm, 0, Access::Write);
            let child = mm.fork().expect("fork");
            assert!(counts_agree());
            let shared = frame_of(&mm, 0);
            explore::set_mapcount(shared, 1);
            assert!(!counts_agree());
            explore::set_mapcount(shared, 2);
            drop(child);
            assert!(counts_agree());
        });
        assert_eq!(pocket.rewind(), Ok(()));
    });
}

#[test]
fn content_is_found_wherever_it_is() {
    on_machine(|| {
        let pocket = explore::open(64, 0).expect("room");
        as_actor(|| {
            let mm = space(2);
            touch(&mm, 0, Access::Read);
            touch(&mm, 1, Access::Write);
            let pfn = frame_of(&mm, 1);
            assert_eq!(
                explore::content(entry_of(&mm, 0)),
                Some(Content::Frame(frame_of(&mm, 0)))
            );
            assert_eq!(
                explore::content(entry_of(&mm, 1)),
                Some(Content::Frame(pfn))
            );
            page_out(&mm, 2);
            let entry = entry_of(&mm, 1);
            assert_eq!(
                explore::content(entry),
                Some(Content::Slot(entry.swap_slot()))
            );
            // In the swap cache, for the child's entry.
            let child = mm.fork().expect("fork");
            touch(&mm, 1, Access::Read);
            let pfn = frame_of(&mm, 1);
            assert!(entry_of(&child, 1).is_swap());
            assert_eq!(
                explore::content(entry_of(&child, 1)),
                Some(Content::Frame(pfn))
            );
            assert_eq!(explore::content(Entry::NONE), None);
        });
        assert_eq!(pocket.rewind(), Ok(()));
    });
}

#[test]
fn a_folio_that_the_laundry_has_is_not_freed() {
    on_machine(|| {
        let pocket = explore::open(64, 0).expect("room");
        as_actor(|| {
            let mm = space(1);
            touch(&mm, 0, Access::Write);
            page_out(&mm, 1);
            touch(&mm, 0, Access::Read);
            let pfn = frame_of(&mm, 0);
            explore::set_flags(pfn, flag::LAUNDRY);
            explore::reference(pfn);
            page_out(&mm, 1);
            assert!(frame(pfn).refcount() > 0);
        });
        // The reference that was taken stays: the pocket says so.
        assert!(pocket.rewind().is_err());
    });
}
