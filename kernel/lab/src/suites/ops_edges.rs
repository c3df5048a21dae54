//! Operations where areas, tables and swap meet at their edges: what merges, what moves, what fails
//! midway.

use arch::addr::PGD_SIZE;
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::{Advice, MapFlags, MmError, MmRef, Prot, RemapFlags};

use super::{FAR, TABLE};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "ops_edges",
    tests: tests![
        a_mapping_over_the_middle_merges,
        mprotect_moves_a_boundary,
        mprotect_changes_what_lies_before_a_hole,
        mremap_of_nothing_duplicates_what_is_shared,
        a_part_that_moves_and_comes_back_is_healed,
        pages_move_within_one_table,
        pages_that_could_only_be_read_are_forgotten_where_they_were,
        a_store_outlives_the_right_to_it,
        whole_tables_move,
        a_moved_table_is_forgotten,
        tables_go_with_their_last_area,
        a_remap_over_a_mapping_replaces_it,
        a_page_written_after_free_stays,
        #[cfg(feature = "lab")]
        a_fork_that_fails_leaves_the_parent,
    ],
};

type Outcome = Result<(), Failure>;

/// Two MiB below a gigabyte boundary: the pages above and below lie in tables of their own at two
/// levels.
const EDGE: u64 = 0x4000_0000;

fn page(n: i64) -> VirtAddr {
    VirtAddr(EDGE.wrapping_add_signed(n * PAGE_SIZE as i64))
}

fn bytes(pages: u64) -> u64 {
    pages * PAGE_SIZE
}

/// An address space with pages `-pages/2 .. pages/2` around the edge, each holding its number.
fn numbered(pages: i64) -> Result<MmRef, Failure> {
    let mm = MmRef::new()?;
    mm.mmap(
        Some(page(-pages / 2)),
        bytes(pages as u64),
        Prot::RW,
        MapFlags::FIXED,
    )?;
    let _adopted = mm.adopt();
    for n in -pages / 2..pages / 2 {
        user::store(page(n), n as u64)?;
    }
    drop(_adopted);
    Ok(mm)
}

fn areas(mm: &MmRef) -> usize {
    mm.areas().count()
}

fn a_mapping_over_the_middle_merges(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(16)?;
    mm.mmap(Some(page(-2)), bytes(4), Prot::RW, MapFlags::FIXED)?;
    check_eq!(areas(&mm), 1);
    let _adopted = mm.adopt();
    for n in -8..8i64 {
        let expected = if (-2..2).contains(&n) { 0 } else { n as u64 };
        check_eq!(user::load(page(n))?, expected);
    }
    Ok(())
}

fn mprotect_moves_a_boundary(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(16)?;
    mm.mprotect(page(0), bytes(8), Prot::NONE)?;
    let live = mm::vma::live();
    for (from, pages, prot) in [(0, 3, Prot::RW), (-4, 7, Prot::NONE), (-4, 8, Prot::RW)] {
        mm.mprotect(page(from), bytes(pages), prot)?;
        check_eq!((areas(&mm), mm::vma::live()), (2, live));
    }
    let _adopted = mm.adopt();
    for n in -8..8i64 {
        let expected = if n < 4 {
            Ok(n as u64)
        } else {
            Err(FaultError::Protection)
        };
        check_eq!(user::load(page(n)), expected);
    }
    let areas = mm.areas();
    areas.validate().map_err(Failure::new)
}

/// As on Linux: what is in front of the first hole has its new rights, and the caller is told of
/// the hole.
fn mprotect_changes_what_lies_before_a_hole(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(16)?;
    mm.munmap(page(2), bytes(2))?;
    let denied = Err(FaultError::Protection);
    let expect = |expected: &dyn Fn(i64) -> Result<u64, FaultError>| -> Outcome {
        let _adopted = mm.adopt();
        for n in (-8..2).chain(4..8) {
            check_eq!(user::load(page(n)), expected(n));
        }
        Ok(())
    };
    let hole = Err(MmError::NotMapped);
    // Begins in the hole, or ends at no address: nothing is changed.
    check_eq!(mm.mprotect(page(2), bytes(4), Prot::NONE), hole);
    let no_address = mm.mprotect(page(-4), u64::MAX, Prot::NONE);
    check_eq!(no_address, hole);
    expect(&|n| Ok(n as u64))?;
    check_eq!(mm.mprotect(page(-4), bytes(10), Prot::NONE), hole);
    expect(&|n| {
        if (-4..2).contains(&n) {
            denied
        } else {
            Ok(n as u64)
        }
    })?;
    check_eq!(areas(&mm), 3);
    // The range ends above the user half.
    let beyond = arch::USER_TOP - page(5).0 + bytes(1);
    check_eq!(mm.mprotect(page(5), beyond, Prot::NONE), hole);
    let changed = |n| (-4..2).contains(&n) || n >= 5;
    expect(&|n| if changed(n) { denied } else { Ok(n as u64) })?;
    // And back, over the hole's edge again.
    check_eq!(mm.mprotect(page(-8), bytes(16), Prot::RW), hole);
    expect(&|n| if n >= 5 { denied } else { Ok(n as u64) })?;
    let areas = mm.areas();
    areas.validate().map_err(Failure::new)
}

fn mremap_of_nothing_duplicates_what_is_shared(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(16)?;
    let shared = FAR;
    let at = |n: u64| VirtAddr(shared.0 + bytes(n));
    let how = MapFlags::FIXED | MapFlags::SHARED;
    mm.mmap(Some(shared), bytes(8), Prot::RW, how)?;
    let adopted = mm.adopt();
    for n in 0..8 {
        user::store(at(n), 100 + n)?;
    }
    drop(adopted);
    let pages = mm.total_vm.get();
    let nothing = |va, flags, to| mm.mremap(va, 0, bytes(4), flags, to);
    let (may, none) = (RemapFlags::MAYMOVE, RemapFlags::NONE);
    // What is private cannot be, nor what is not mapped; and there must be a place.
    check_eq!(nothing(page(0), may, None), Err(MmError::Invalid));
    check_eq!(nothing(page(100), may, None), Err(MmError::Fault));
    check_eq!(nothing(at(2), none, None), Err(MmError::NoRoom));
    let over = nothing(at(2), RemapFlags::FIXED, Some(at(1)));
    check_eq!(over, Err(MmError::Invalid));
    check_eq!(mm.total_vm.get(), pages);
    let second = nothing(at(2), may, None)?;
    let third = nothing(at(6), RemapFlags::FIXED, Some(page(-2)))?;
    check_eq!(third, page(-2));
    check_eq!(mm.total_vm.get(), pages + 4);
    let _adopted = mm.adopt();
    for n in 0..4 {
        let va = VirtAddr(second.0 + bytes(n));
        check_eq!(user::load(va)?, 102 + n);
        user::store(va, 200 + n)?;
        check_eq!(user::load(at(2 + n))?, 200 + n);
    }
    // It may reach beyond the pages that there are.
    check_eq!((user::load(page(-2))?, user::load(page(-1))?), (106, 107));
    check_eq!(user::load(page(0)), Err(FaultError::Bus));
    // The first goes, the second stays.
    mm.munmap(shared, bytes(8))?;
    check_eq!(user::load(second)?, 200);
    let areas = mm.areas();
    areas.validate().map_err(Failure::new)
}

fn a_part_that_moves_and_comes_back_is_healed(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(16)?;
    let away = FAR;
    mm.mremap(page(-3), bytes(6), bytes(6), RemapFlags::FIXED, Some(away))?;
    check_eq!(areas(&mm), 3);
    let adopted = mm.adopt();
    check_eq!(user::load(page(0)), Err(FaultError::Unmapped));
    check_eq!(user::load(VirtAddr(away.0 + bytes(5)))?, 2);
    drop(adopted);
    mm.mremap(away, bytes(6), bytes(6), RemapFlags::FIXED, Some(page(-3)))?;
    check_eq!(areas(&mm), 1);
    let _adopted = mm.adopt();
    for n in -8..8i64 {
        check_eq!(user::load(page(n))?, n as u64);
    }
    Ok(())
}

fn pages_move_within_one_table(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(16)?;
    // Up by 10 pages, then down by 20: source and target share their table, then span two each.
    let to = mm.mremap(
        page(1),
        bytes(4),
        bytes(4),
        RemapFlags::FIXED,
        Some(page(11)),
    )?;
    check_eq!(to, page(11));
    mm.mremap(
        page(-8),
        bytes(8),
        bytes(12),
        RemapFlags::FIXED,
        Some(page(20)),
    )?;
    let _adopted = mm.adopt();
    for n in 0..4 {
        check_eq!(user::load(page(11 + n))?, 1 + n as u64);
    }
    for n in 0..8 {
        check_eq!(user::load(page(20 + n))?, (n - 8) as u64);
        check_eq!(user::load(page(n - 8)), Err(FaultError::Unmapped));
    }
    check_eq!(user::load(page(31))?, 0);
    Ok(())
}

/// The CPU that has loaded from them still translates the old addresses, until the move flushes it.
fn pages_that_could_only_be_read_are_forgotten_where_they_were(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(8)?;
    mm.mprotect(page(-4), bytes(8), Prot::READ)?;
    let _adopted = mm.adopt();
    for n in -4..4 {
        check_eq!(user::load(page(n))?, n as u64);
    }
    let away = page(100);
    mm.mremap(page(-2), bytes(4), bytes(4), RemapFlags::FIXED, Some(away))?;
    for n in -2..2 {
        check_eq!(user::load(page(n)), Err(FaultError::Unmapped));
        check_eq!(user::load(page(102 + n))?, n as u64);
    }
    Ok(())
}

/// A page that came from the disk clean and was stored to is dirty, whatever becomes of its rights.
fn a_store_outlives_the_right_to_it(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(4)?;
    let (all, len) = (page(-2), bytes(4));
    mm.madvise(all, len, Advice::PageOut)?;
    let _adopted = mm.adopt();
    for n in -2..2 {
        check_eq!(user::load(page(n))?, n as u64);
        user::store(page(n), 100)?;
    }
    for prot in [Prot::NONE, Prot::RW] {
        mm.mprotect(all, len, prot)?;
    }
    mm.madvise(all, len, Advice::PageOut)?;
    check_eq!(mm.rss(), 0);
    for n in -2..2 {
        check_eq!(user::load(page(n))?, 100);
    }
    Ok(())
}

/// Three tables and a bit on either side go to a place of the same alignment, over something that
/// left a table there, and to one of another alignment: the pages must not care.
fn whole_tables_move(_: &mut TestCtx<'_>) -> Outcome {
    const PAGES: i64 = 3 * TABLE as i64 + 6;
    let (first, len) = (page(-3), bytes(PAGES as u64));
    let mm = MmRef::new()?;
    mm.mmap(Some(first), len, Prot::RW, MapFlags::FIXED)?;
    let aligned = VirtAddr(first.0 + (1 << 30));
    let second_table = VirtAddr(aligned.0 + bytes(3 + TABLE as u64 + 7));
    mm.mmap(Some(second_table), bytes(2), Prot::RW, MapFlags::FIXED)?;
    let _adopted = mm.adopt();
    user::store(second_table, 77)?;
    for n in (0..PAGES).step_by(5) {
        user::store(page(n - 3), 1 + n as u64)?;
    }
    mm.madvise(page(0), bytes(TABLE.min(64) as u64), Advice::PageOut)?;
    let places = [aligned, VirtAddr(aligned.0 + (1 << 32) + bytes(1)), first];
    let mut at = first;
    for to in places {
        let tables = mm.tables.get();
        mm.mremap(at, len, len, RemapFlags::FIXED, Some(to))?;
        check!(
            mm.tables.get() <= tables + 3,
            "{} tables after a move, {tables} before",
            mm.tables.get()
        );
        for n in 0..PAGES as u64 {
            let expected = if n % 5 == 0 { n + 1 } else { 0 };
            check_eq!(user::load(VirtAddr(to.0 + bytes(n)))?, expected);
        }
        check_eq!(user::load(at), Err(FaultError::Unmapped));
        let last = VirtAddr(at.0 + len - PAGE_SIZE);
        check_eq!(user::load(last), Err(FaultError::Unmapped));
        at = to;
    }
    Ok(())
}

/// Exactly one table moves, and its neighbours keep the tables above: only the flush for the move
/// itself can make the CPU forget the old place.
fn a_moved_table_is_forgotten(_: &mut TestCtx<'_>) -> Outcome {
    let mm = MmRef::new()?;
    const PAGES: i64 = TABLE as i64;
    let to = page(2 * PAGES);
    let len = bytes(PAGES as u64);
    for first in [page(-PAGES), page(PAGES), page(0)] {
        mm.mmap(Some(first), len, Prot::RW, MapFlags::FIXED)?;
    }
    mm.mprotect(page(PAGES), len, Prot::READ)?;
    let _adopted = mm.adopt();
    let some = [0, PAGES / 2, PAGES - 1];
    for n in some {
        user::store(page(n), 1 + n as u64)?;
    }
    mm.mremap(page(0), len, len, RemapFlags::FIXED, Some(to))?;
    for n in some {
        check_eq!(user::load(page(n)), Err(FaultError::Unmapped));
        check_eq!(user::load(page(2 * PAGES + n))?, 1 + n as u64);
    }
    Ok(())
}

fn tables_go_with_their_last_area(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(4)?;
    // The root, two tables of each level of which one ends at the edge, and else one.
    let all = if EDGE.is_multiple_of(PGD_SIZE) { 7 } else { 6 };
    check_eq!(mm.tables.get(), all);
    mm.munmap(page(0), bytes(1))?;
    check_eq!(mm.tables.get(), all);
    mm.munmap(page(1), bytes(1))?;
    check_eq!(mm.tables.get(), 4);
    // A move takes the old tables along.
    mm.mremap(
        page(-2),
        bytes(2),
        bytes(2),
        RemapFlags::FIXED,
        Some(page(600)),
    )?;
    check_eq!(mm.tables.get(), 4);
    mm.munmap(VirtAddr(0x1_0000), arch::USER_TOP - 0x1_0000)?;
    check_eq!((mm.tables.get(), mm.total_vm.get(), mm.rss()), (1, 0, 0));
    Ok(())
}

fn a_remap_over_a_mapping_replaces_it(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(16)?;
    // Longer than the source, over the end of the area and beyond it; the rest of the source goes
    // too.
    mm.mremap(
        page(-8),
        bytes(6),
        bytes(4),
        RemapFlags::FIXED,
        Some(page(6)),
    )?;
    check_eq!(mm.total_vm.get(), 12);
    let _adopted = mm.adopt();
    for n in -8..-2 {
        check_eq!(user::load(page(n)), Err(FaultError::Unmapped));
    }
    for n in 0..4 {
        check_eq!(user::load(page(6 + n))?, (n - 8) as u64);
    }
    check_eq!(user::load(page(5))?, 5);
    check_eq!(user::load(page(10)), Err(FaultError::Unmapped));
    Ok(())
}

/// MADV_FREE cleans the entries. A CPU that went on thinking them dirty would write without a
/// trace, and reclaim would take the pages for unused.
fn a_page_written_after_free_stays(_: &mut TestCtx<'_>) -> Outcome {
    let mm = numbered(16)?;
    let _adopted = mm.adopt();
    for n in -8..8i64 {
        user::store(page(n), 1)?;
    }
    mm.madvise(page(-8), bytes(16), Advice::Free)?;
    for n in 0..8i64 {
        user::store(page(n), 1000 + n as u64)?;
    }
    mm.madvise(page(-8), bytes(16), Advice::PageOut)?;
    for n in 0..8i64 {
        check_eq!(user::load(page(n))?, 1000 + n as u64);
    }
    for n in -8..0i64 {
        let found = user::load(page(n))?;
        check!(found <= 1, "page {n} holds {found}, expected 0 or 1");
    }
    Ok(())
}

/// Each table that the child needs is refused once: whatever the fork has done until then is
/// undone.
#[cfg(feature = "lab")]
fn a_fork_that_fails_leaves_the_parent(_: &mut TestCtx<'_>) -> Outcome {
    use mm::MmError;
    use mm::buddy::refuse;
    use mm::stats::Use;

    const MOST: u32 = 20;
    let mm = numbered(16)?;
    mm.madvise(page(4), bytes(1), Advice::PageOut)?;
    let swapped = mm.swap_entries.get();
    let counts = || (mm::mm::live(), mm::vma::live(), mm::vma::anon::live());
    let before = counts();
    let mut failed = 0;
    loop {
        check!(failed < MOST, "a child of two areas needs {MOST} tables");
        let refused = refuse::after(Use::Table, failed);
        match mm.fork() {
            // The countdown was not at its end.
            Ok(_) => break,
            Err(MmError::NoMemory) => failed += 1,
            Err(e) => return Err(e.into()),
        }
        drop(refused);
        check_eq!(counts(), before);
    }
    // The root, and a table for each side of the edge at two levels at least.
    check!(failed >= 5, "only {failed} tables could be refused");
    check_eq!(mm.swap_entries.get(), swapped);
    let _adopted = mm.adopt();
    for n in -8..8i64 {
        check_eq!(user::load(page(n))?, n as u64);
        user::store(page(n), 100)?;
    }
    check_eq!((mm.rss(), mm.swap_entries.get()), (16, 0));
    Ok(())
}
