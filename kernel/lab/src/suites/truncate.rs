//! The sizes of files: growing, truncation, holes, room on the disk; and what readers and mappings
//! see of it, also while faults go on.

use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::file::{self, Extent, Opener};
use mm::stats::{Use, use_pages};
use mm::{MapFlags, MmError};

use super::file::{FIRST, PAGE, bytes, empty_cache, expect, expect_on_disk, with_disk, write};
use super::{BASE, Outcome, in_parallel, without_leak};
use crate::selftest::{Suite, TestCtx};
use crate::space::{Prot, Space, at};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "truncate",
    tests: tests![
        a_file_lies_in_its_extents,
        what_is_cut_off_is_gone,
        what_is_new_is_zeroes,
        mappings_end_with_the_file,
        private_copies_go_too,
        a_hole_is_zeroes,
        an_extent_keeps_its_size,
        room_comes_and_goes,
        what_is_invalidated_is_forgotten,
        faults_and_truncation,
        faults_and_holes,
    ],
};

/// Where the tests' file lies: pages 10 to 14, 4 to 6, and 20 to 51 behind [`FIRST`].
const EXTENTS: [Extent; 3] = [
    Extent {
        first: FIRST + 10,
        pages: 5,
    },
    Extent {
        first: FIRST + 4,
        pages: 3,
    },
    Extent {
        first: FIRST + 20,
        pages: 32,
    },
];
/// Pages in all of them.
const ROOM: usize = 40;

/// Runs `f` with a file of `size` bytes in [`EXTENTS`], where the disk is full of something else.
fn with_listed(size: u64, f: impl FnOnce(&Opener) -> Outcome) -> Outcome {
    with_disk(64, || {
        let disk = file::open(FIRST, 64)?;
        write(&disk, 0, &vec![0xee; 64 * PAGE])?;
        disk.sync()?;
        drop(disk);
        empty_cache()?;
        let opener = file::open_extents(size, &EXTENTS)?;
        f(&opener)?;
        Ok(opener.sync()?)
    })
}

/// Zeroes from byte `pos` on.
fn expect_zeroes(file: &Opener, pos: usize, len: usize) -> Outcome {
    expect(file, pos, &vec![0; len])
}

fn a_file_lies_in_its_extents(_: &mut TestCtx<'_>) -> Outcome {
    with_listed(0, |file| {
        check_eq!((file.size(), file.limit()), (0, (ROOM * PAGE) as u64));
        let all = bytes(0, ROOM * PAGE, 1);
        // The last write has no room for all of it.
        write(file, 0, &all[..9 * PAGE + 7])?;
        check_eq!(file.size(), (9 * PAGE + 7) as u64);
        check_eq!(
            file.write((9 * PAGE + 7) as u64, &vec![0; ROOM * PAGE])?,
            31 * PAGE - 7
        );
        check_eq!(file.write(file.limit(), &[1])?, 0);
        write(file, 0, &all)?;
        file.sync()?;
        expect_on_disk(10, &all[..5 * PAGE])?;
        expect_on_disk(4, &all[5 * PAGE..8 * PAGE])?;
        expect_on_disk(20, &all[8 * PAGE..])?;
        empty_cache()?;
        expect(&file.again()?, 0, &all)
    })
}

fn what_is_cut_off_is_gone(_: &mut TestCtx<'_>) -> Outcome {
    with_listed(0, |file| {
        let all = bytes(0, 20 * PAGE, 2);
        write(file, 0, &all)?;
        file.sync()?;
        // Clean pages, dirty ones, and some that are not in memory.
        empty_cache()?;
        expect(file, 15 * PAGE, &all[15 * PAGE..])?;
        write(file, 3 * PAGE, &all[3 * PAGE..14 * PAGE])?;
        let end = 6 * PAGE + 100;
        file.truncate(end as u64)?;
        check_eq!(file.size(), end as u64);
        check_eq!(use_pages(Use::File), 4);
        check_eq!(file.read(end as u64, &mut [0; 8])?, 0);
        let mut rest = [0; 200];
        check_eq!(file.read(end as u64 - 60, &mut rest)?, 60);
        file.sync()?;
        expect_on_disk(10, &all[..5 * PAGE])?;
        // Longer again: nothing of what was cut off comes back, not even from the disk.
        file.truncate(20 * PAGE as u64)?;
        expect(file, 0, &all[..end])?;
        expect_zeroes(file, end, 20 * PAGE - end)?;
        file.sync()?;
        empty_cache()?;
        expect(file, 0, &all[..end])?;
        expect_zeroes(file, end, 20 * PAGE - end)?;
        file.truncate(0)?;
        check_eq!((file.size(), use_pages(Use::File)), (0, 0));
        Ok(())
    })
}

fn what_is_new_is_zeroes(_: &mut TestCtx<'_>) -> Outcome {
    // The disk is full of something behind byte 10.
    with_listed(10, |file| {
        write(file, 0, &[5; 10])?;
        check_eq!(file.size(), 10);
        write(file, 3 * PAGE + 5, &[7; 10])?;
        check_eq!(file.size(), (3 * PAGE + 15) as u64);
        expect(file, 0, &[5; 10])?;
        expect_zeroes(file, 10, 3 * PAGE - 5)?;
        expect(file, 3 * PAGE + 5, &[7; 10])?;
        file.truncate(7 * PAGE as u64 + 1)?;
        expect_zeroes(file, 3 * PAGE + 15, 4 * PAGE - 14)?;
        file.sync()?;
        empty_cache()?;
        expect_zeroes(file, 10, 3 * PAGE - 5)?;
        expect_zeroes(file, 3 * PAGE + 15, 4 * PAGE - 14)?;
        check_eq!(file.truncate(file.limit() + 1), Err(MmError::Invalid));
        // What a mapping stores behind the end is nobody's, and gone when the file grows.
        let space = Space::new()?;
        space.map_file(BASE, 8, Prot::RW, MapFlags::SHARED, file, 0)?;
        let _adopted = space.enter();
        user::store(VirtAddr(at(BASE, 7).0 + 8), 77)?;
        file.truncate(8 * PAGE as u64)?;
        check_eq!(user::load(VirtAddr(at(BASE, 7).0 + 8))?, 0);
        expect_zeroes(file, 7 * PAGE, PAGE)
    })
}

fn mappings_end_with_the_file(_: &mut TestCtx<'_>) -> Outcome {
    with_listed(0, |file| {
        write(file, 0, &[1; 16 * PAGE])?;
        let (one, other) = (Space::new()?, Space::new()?);
        one.map_file(BASE, 16, Prot::RW, MapFlags::SHARED, file, 0)?;
        other.map_file(BASE, 8, Prot::RW, MapFlags::SHARED, file, 8)?;
        {
            let _adopted = other.enter();
            for i in 0..8 {
                user::store(at(BASE, i), 2)?;
            }
        }
        let _adopted = one.enter();
        for i in 0..16 {
            user::load(at(BASE, i))?;
        }
        file.truncate(9 * PAGE as u64 + 16)?;
        check_eq!(one.mm().file_pages.get(), 10);
        check_eq!(other.mm().file_pages.get(), 2);
        for i in 10..16 {
            check_eq!(user::load(at(BASE, i)), Err(FaultError::Bus));
            check_eq!(user::store(at(BASE, i), 3), Err(FaultError::Bus));
        }
        check_eq!(user::load(at(BASE, 9))?, 2);
        check_eq!(user::load(VirtAddr(at(BASE, 9).0 + 16))?, 0);
        file.truncate(16 * PAGE as u64)?;
        for i in 10..16 {
            check_eq!(user::load(at(BASE, i))?, 0);
        }
        user::store(at(BASE, 12), 4)?;
        expect(file, 12 * PAGE, &[4, 0, 0, 0])
    })
}

fn private_copies_go_too(_: &mut TestCtx<'_>) -> Outcome {
    with_listed(0, |file| {
        without_leak(|| {
            write(file, 0, &[1; 8 * PAGE])?;
            let space = Space::new()?;
            space.map_file(BASE, 8, Prot::RW, MapFlags::NONE, file, 0)?;
            let _adopted = space.enter();
            for i in 0..8 {
                user::store(at(BASE, i), 2)?;
            }
            // A hole leaves them, truncation does not.
            file.punch(6 * PAGE_SIZE, PAGE_SIZE)?;
            check_eq!(space.mm().anon_pages.get(), 8);
            check_eq!(user::load(at(BASE, 6))?, 2);
            file.truncate(3 * PAGE_SIZE)?;
            check_eq!(space.mm().anon_pages.get(), 3);
            check_eq!(user::load(at(BASE, 3)), Err(FaultError::Bus));
            check_eq!(user::load(at(BASE, 2))?, 2);
            Ok(())
        })
    })
}

fn a_hole_is_zeroes(_: &mut TestCtx<'_>) -> Outcome {
    with_disk(16, || {
        let disk = file::open(FIRST, 16)?;
        hole_in(&disk)?;
        disk.sync()?;
        expect_on_disk(2, &vec![0; 3 * PAGE])
    })?;
    without_leak(|| {
        let memory = file::shmem(16 * PAGE_SIZE)?;
        hole_in(&memory)?;
        check_eq!(use_pages(Use::File), 13);
        Ok(())
    })
}

/// A hole from the middle of page 1 to the middle of page 5, and a small one in page 9 and 10.
fn hole_in(file: &Opener) -> Outcome {
    let all = bytes(0, 16 * PAGE, 4);
    write(file, 0, &all)?;
    let space = Space::new()?;
    space.map_file(BASE, 16, Prot::RW, MapFlags::SHARED, file, 0)?;
    let _adopted = space.enter();
    user::load(at(BASE, 3))?;
    let (start, len) = (PAGE + 50, 4 * PAGE);
    file.punch(start as u64, len as u64)?;
    expect(file, 0, &all[..start])?;
    expect_zeroes(file, start, len)?;
    expect(file, start + len, &all[start + len..])?;
    check_eq!(user::load(at(BASE, 3))?, 0);
    file.punch(10 * PAGE_SIZE - 8, 16)?;
    expect_zeroes(file, 10 * PAGE - 8, 16)?;
    expect(file, 10 * PAGE + 8, &all[10 * PAGE + 8..])?;
    // Beyond the end there is nothing to do.
    file.punch(15 * PAGE_SIZE, u64::MAX)?;
    expect_zeroes(file, 15 * PAGE, PAGE)?;
    check_eq!(file.punch(u64::MAX, u64::MAX), Ok(()));
    check_eq!(file.size(), 16 * PAGE_SIZE);
    Ok(())
}

fn an_extent_keeps_its_size(_: &mut TestCtx<'_>) -> Outcome {
    with_disk(8, || {
        let disk = file::open(FIRST, 8)?;
        for size in [0, PAGE_SIZE, 8 * PAGE_SIZE, 9 * PAGE_SIZE] {
            check_eq!(disk.truncate(size), Err(MmError::Invalid));
        }
        check_eq!(disk.reserve(0, 8 * PAGE_SIZE), Ok(()));
        check_eq!(disk.reserve(1, 8 * PAGE_SIZE), Err(MmError::Invalid));
        check_eq!(disk.reserve(0, 0), Err(MmError::Invalid));
        check_eq!(disk.cut_extents(0), Err(MmError::Invalid));
        check_eq!(disk.add_extent(EXTENTS[0]), Err(MmError::Invalid));
        Ok(())
    })
}

fn room_comes_and_goes(_: &mut TestCtx<'_>) -> Outcome {
    with_disk(64, || {
        let none = Extent { first: 0, pages: 0 };
        let beyond = Extent {
            first: file::disk_pages(),
            pages: 1,
        };
        for bad in [none, beyond] {
            check_eq!(file::open_extents(0, &[bad]).err(), Some(MmError::Invalid));
        }
        check_eq!(file::open_extents(1, &[]).err(), Some(MmError::Invalid));
        let file = file::open_extents(0, &[])?;
        check_eq!((file.limit(), file.write(0, &[1])?), (0, 0));
        let all = bytes(0, 8 * PAGE, 5);
        file.add_extent(EXTENTS[0])?;
        check_eq!(file.write(0, &all)?, 5 * PAGE);
        file.add_extent(EXTENTS[1])?;
        write(&file, 5 * PAGE, &all[5 * PAGE..])?;
        check_eq!(file.cut_extents(7), Err(MmError::Invalid));
        file.sync()?;
        expect_on_disk(4, &all[5 * PAGE..])?;
        file.truncate(PAGE_SIZE + 1)?;
        file.cut_extents(2)?;
        check_eq!(file.limit(), 2 * PAGE_SIZE);
        check_eq!(file.add_extent(beyond), Err(MmError::Invalid));
        file.reserve(PAGE_SIZE, PAGE_SIZE)?;
        expect_zeroes(&file, PAGE + 1, PAGE - 1)?;
        check_eq!(
            file.reserve(PAGE_SIZE, PAGE_SIZE + 1),
            Err(MmError::Invalid)
        );
        file.sync()?;
        Ok(())
    })
}

fn what_is_invalidated_is_forgotten(_: &mut TestCtx<'_>) -> Outcome {
    with_disk(16, || {
        let disk = file::open(FIRST, 16)?;
        let (old, new) = (bytes(0, 16 * PAGE, 6), bytes(0, 16 * PAGE, 7));
        write(&disk, 0, &old)?;
        disk.sync()?;
        write(&disk, 0, &new)?;
        // Pages 5 to 8 lie in there.
        disk.invalidate(4 * PAGE_SIZE + 1, 5 * PAGE_SIZE)?;
        expect(&disk, 0, &new[..5 * PAGE])?;
        expect(&disk, 5 * PAGE, &old[5 * PAGE..9 * PAGE])?;
        expect(&disk, 9 * PAGE, &new[9 * PAGE..])?;
        disk.sync()?;
        expect_on_disk(5, &old[5 * PAGE..9 * PAGE])?;
        check_eq!(file::shmem(1)?.invalidate(0, 1), Err(MmError::Invalid));
        Ok(())
    })
}

/// Pages of the file that is truncated under faults.
const RACED: usize = 24;

/// Truncation to nothing while faults go on leaves no page: in no cache, and mapped nowhere.
fn faults_and_truncation(ctx: &mut TestCtx<'_>) -> Outcome {
    let cut = |file: &Opener, round: usize| {
        // Somewhere in the middle first.
        file.truncate((round * 997 % (RACED * PAGE)) as u64)?;
        Ok(file.truncate(0)?)
    };
    with_listed(0, |file| race(file, ctx.seed, cut, nothing_left))?;
    without_leak(|| race(&file::shmem(0)?, ctx.seed, cut, nothing_left))
}

/// A page that was in a hole is mapped as what the file has there now, or not at all.
fn faults_and_holes(ctx: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let punch = |file: &Opener, _| Ok(file.punch(0, u64::MAX)?);
        race(&file::shmem(0)?, ctx.seed, punch, what_is_shown_is_there)
    })
}

/// Rounds of: a file of [`RACED`] pages is mapped shared and private, loads and stores go on, and
/// `change` is made; when they have ended, `look` is to find everything in order.
fn race(
    file: &Opener,
    seed: u64,
    change: fn(&Opener, usize) -> Outcome,
    look: fn(&Opener, &[Space; 2]) -> Outcome,
) -> Outcome {
    const ROUNDS: usize = 40;
    const FAULTERS: usize = 3;
    let spaces = [Space::new()?, Space::new()?];
    let [shared, private] = &spaces;
    shared.map_file(BASE, RACED, Prot::RW, MapFlags::SHARED, file, 0)?;
    private.map_file(BASE, RACED, Prot::RW, MapFlags::NONE, file, 0)?;
    let (file, changed) = (file.again()?, Arc::new(AtomicBool::new(false)));
    in_parallel(1 + FAULTERS, move |me, meeting| {
        for round in 0..ROUNDS {
            if me == 0 {
                changed.store(false, Ordering::Relaxed);
                write(&file, 0, &vec![round as u8 | 1; RACED * PAGE])?;
            }
            meeting.wait(3 * round)?;
            if me == 0 {
                change(&file, round)?;
                changed.store(true, Ordering::Relaxed);
            } else {
                let _adopted = spaces[me % 2].enter();
                let mut page = me + round + seed as usize;
                while !changed.load(Ordering::Relaxed) && !meeting.is_broken() {
                    page = (page * 5 + 1) % RACED;
                    touch(at(BASE, page), page.is_multiple_of(2))?;
                }
            }
            meeting.wait(3 * round + 1)?;
            if me == 0 {
                look(&file, &spaces)?;
            }
            meeting.wait(3 * round + 2)?;
        }
        Ok(())
    })
}

/// A load or a store, which may find the file too short.
fn touch(va: VirtAddr, store: bool) -> Outcome {
    let done = if store {
        user::store(va, 1)
    } else {
        user::load(va).map(drop)
    };
    match done {
        Ok(()) | Err(FaultError::Bus) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn nothing_left(_: &Opener, spaces: &[Space; 2]) -> Outcome {
    for space in spaces {
        let mm = space.mm();
        check_eq!((mm.file_pages.get(), mm.anon_pages.get()), (0, 0));
    }
    check_eq!(use_pages(Use::File), 0);
    check!(file::unwritten().dirty == 0, "a page that is gone is dirty");
    Ok(())
}

fn what_is_shown_is_there(file: &Opener, [shared, _]: &[Space; 2]) -> Outcome {
    let _adopted = shared.enter();
    for i in 0..RACED {
        let word = u64::from_le_bytes([i as u8 + 100; 8]);
        write(file, i * PAGE + 8, &word.to_le_bytes())?;
        check_eq!(user::load(VirtAddr(at(BASE, i).0 + 8))?, word);
    }
    Ok(())
}
