//! Files in memory: holes, sharing, their end; on swap and back, by fault, read and swapoff, also
//! with errors and under pressure.

use arch::{PAGE_SIZE, VirtAddr, user};
use mm::file::{self, Opener};
use mm::stats::{Event, Use, total, use_pages};
use mm::{MapFlags, MmError};

use super::file::{PAGE, expect, write};
use super::reclaim::{PAGES, need_swap, word};
use super::{BASE, Outcome, in_parallel, several, without_leak};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::space::{Advice, Prot, Space, at};
use crate::stress::memory::{Balloon, mib};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "shmem",
    tests: tests![
        what_was_never_written_is_zeroes,
        who_maps_it_shares_it,
        it_goes_with_its_last_user,
        room_can_be_reserved,
        pages_go_to_swap_and_back,
        slots_go_with_their_pages,
        swapoff_brings_pages_back,
        #[cfg(feature = "lab")]
        write_errors_lose_nothing,
        #[cfg(feature = "lab")]
        read_errors_are_for_who_reads,
        more_than_memory,
        holes_and_pressure,
        a_sparse_file_may_have_as_many_nodes_as_it_needs,
    ],
};

/// Runs `f` with a file in memory of [`PAGES`] pages, mapped shared at [`BASE`] by the address
/// space that the thread is in. After it nothing is left of the file, in memory or on swap.
fn with_shmem(f: impl FnOnce(&Opener, &Space) -> Outcome) -> Outcome {
    super::file::empty_cache()?;
    without_leak(|| {
        let before = mm::swap::stats().used;
        {
            let file = file::shmem(PAGES as u64 * PAGE_SIZE)?;
            let space = Space::new()?;
            space.map_file(BASE, PAGES, Prot::RW, MapFlags::SHARED, &file, 0)?;
            let _adopted = space.enter();
            f(&file, &space)?;
        }
        mm::reclaim::settle();
        check_eq!((use_pages(Use::File), mm::swap::stats().used), (0, before));
        file::check().map_err(Failure::new)
    })
}

/// Each page begins and ends with its word.
fn fill() -> Outcome {
    for i in 0..PAGES {
        user::store(at(BASE, i), word(i))?;
        user::store(last(i), !word(i))?;
    }
    Ok(())
}

fn last(i: usize) -> VirtAddr {
    VirtAddr(at(BASE, i + 1).0 - 8)
}

/// What [`fill`] did is there for loads.
fn verify(pages: core::ops::Range<usize>) -> Outcome {
    for i in pages {
        check_eq!(
            (user::load(at(BASE, i))?, user::load(last(i))?),
            (word(i), !word(i))
        );
    }
    Ok(())
}

/// Sends the mapped pages to swap; how many went.
fn send_out(space: &Space) -> Result<u64, Failure> {
    let before = total(Event::PswpOut);
    space.advise(BASE, PAGES, Advice::PageOut)?;
    mm::reclaim::settle();
    let out = total(Event::PswpOut) - before;
    check!(out >= PAGES as u64 / 2, "{out} pages were written");
    check!(
        use_pages(Use::File) <= PAGES as u64 / 2,
        "pages stayed in the file"
    );
    file::check().map_err(Failure::new)?;
    Ok(out)
}

fn what_was_never_written_is_zeroes(_: &mut TestCtx<'_>) -> Outcome {
    super::file::empty_cache()?;
    without_leak(|| {
        let (size, far) = (1 << 40, 700 << 30);
        let file = file::shmem(size)?;
        expect(&file, far, &[0; 100])?;
        check_eq!(use_pages(Use::File), 0);
        write(&file, far + PAGE - 1, &[1, 2])?;
        expect(&file, far + PAGE - 2, &[0, 1, 2, 0])?;
        check_eq!(use_pages(Use::File), 2);
        check_eq!(file.size(), size);
        write(&file, size as usize, &[3])?;
        check_eq!(file.size(), size + 1);
        check_eq!(file.sync(), Ok(()));
        check_eq!(file::unwritten().dirty, 0);
        check_eq!(file::shmem(u64::MAX).err(), Some(MmError::Invalid));
        Ok(())
    })?;
    check_eq!(use_pages(Use::File), 0);
    Ok(())
}

fn who_maps_it_shares_it(_: &mut TestCtx<'_>) -> Outcome {
    with_shmem(|file, space| {
        fill()?;
        verify(0..PAGES)?;
        let child = space.fork()?;
        let private = Space::new()?;
        private.map_file(BASE, PAGES, Prot::RW, MapFlags::NONE, file, 0)?;
        let (one, two) = (child.clone(), private.clone());
        in_parallel(1, move |_, _| {
            {
                let _adopted = one.enter();
                verify(0..PAGES)?;
                user::store(at(BASE, 1), 77)?;
            }
            let _adopted = two.enter();
            user::store(at(BASE, 2), 88)?;
            check_eq!(user::load(at(BASE, 1))?, 77);
            Ok(())
        })?;
        check_eq!(user::load(at(BASE, 1))?, 77);
        check_eq!(user::load(at(BASE, 2))?, word(2));
        expect(file, PAGE, &77_u64.to_le_bytes())?;
        check_eq!(private.mm().anon_pages.get(), 1);
        // Neither the flusher's nor the disk's.
        check_eq!(file::unwritten().dirty, 0);
        check_eq!(space.sync(BASE, PAGES), Ok(()));
        Ok(())
    })
}

fn it_goes_with_its_last_user(_: &mut TestCtx<'_>) -> Outcome {
    super::file::empty_cache()?;
    without_leak(|| {
        let file = file::shmem(4 * PAGE_SIZE)?;
        let other = file.again()?;
        write(&file, 0, &[1; 4 * PAGE])?;
        drop(file);
        check_eq!(use_pages(Use::File), 4);
        let space = Space::new()?;
        space.map_file(BASE, 4, Prot::RW, MapFlags::SHARED, &other, 0)?;
        drop(other);
        let _adopted = space.enter();
        check_eq!(user::load(at(BASE, 3))?, 0x0101_0101_0101_0101);
        space.unmap(BASE, 2)?;
        check_eq!(use_pages(Use::File), 4);
        space.unmap(BASE, 4)?;
        check_eq!(use_pages(Use::File), 0);
        Ok(())
    })
}

fn room_can_be_reserved(_: &mut TestCtx<'_>) -> Outcome {
    with_shmem(|file, _| {
        file.truncate(PAGE_SIZE)?;
        file.reserve(PAGE_SIZE / 2, 8 * PAGE_SIZE)?;
        check_eq!(
            (file.size(), use_pages(Use::File)),
            (8 * PAGE_SIZE + 2048, 9)
        );
        let faults = total(Event::FileFault);
        for i in 0..9 {
            check_eq!(user::load(at(BASE, i))?, 0);
        }
        check!(
            total(Event::FileFault) - faults <= 2,
            "reserved pages were not there"
        );
        Ok(())
    })
}

fn pages_go_to_swap_and_back(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    with_shmem(|file, space| {
        fill()?;
        let out = send_out(space)?;
        check!(
            space.mm().file_pages.get() + out >= PAGES as u64,
            "{out} pages are out"
        );
        let before = total(Event::PswpIn);
        // By reads, some; and a part of a page that is written.
        for i in (0..PAGES).step_by(3) {
            expect(file, i * PAGE, &word(i).to_le_bytes())?;
        }
        write(file, PAGE + 8, &[9; 8])?;
        check_eq!(
            user::load(VirtAddr(at(BASE, 1).0 + 8))?,
            0x0909_0909_0909_0909
        );
        verify(0..PAGES)?;
        check!(total(Event::PswpIn) > before, "nothing was read back");
        check_eq!(use_pages(Use::File), PAGES as u64);
        // Once more: what is new must come back.
        for i in 0..PAGES {
            user::store(VirtAddr(at(BASE, i).0 + 16), i as u64)?;
        }
        send_out(space)?;
        for i in (0..PAGES).rev() {
            check_eq!(user::load(VirtAddr(at(BASE, i).0 + 16))?, i as u64);
        }
        verify(0..PAGES)
    })
}

fn slots_go_with_their_pages(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    with_shmem(|file, space| {
        let before = mm::swap::stats().used;
        fill()?;
        send_out(space)?;
        let half = PAGES / 2;
        file.truncate(half as u64 * PAGE_SIZE)?;
        file.punch(PAGE_SIZE, 4 * PAGE_SIZE)?;
        mm::reclaim::settle();
        let used = mm::swap::stats().used - before;
        check!(used <= half as u64 - 4, "{used} slots in use");
        verify(0..1)?;
        verify(5..half)?;
        for i in 1..5 {
            check_eq!(user::load(at(BASE, i))?, 0);
        }
        // The rest goes while it is out.
        send_half_out(space)
    })
}

fn send_half_out(space: &Space) -> Outcome {
    space.advise(BASE, PAGES / 2, Advice::PageOut)?;
    mm::reclaim::settle();
    Ok(())
}

fn swapoff_brings_pages_back(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    with_shmem(|_, space| {
        fill()?;
        send_out(space)?;
        crate::startup::swap_off().map_err(Failure::new)?;
        let pages = use_pages(Use::File);
        let read = total(Event::PswpIn);
        let result = verify(0..PAGES);
        let read = total(Event::PswpIn) - read;
        crate::startup::swap_on().map_err(Failure::new)?;
        result?;
        check_eq!((pages, read), (PAGES as u64, 0));
        Ok(())
    })
}

#[cfg(feature = "lab")]
fn write_errors_lose_nothing(_: &mut TestCtx<'_>) -> Outcome {
    use super::disk::with_errors;
    need_swap()?;
    let before = total(Event::SwapWriteError);
    with_shmem(|_, space| {
        fill()?;
        with_errors(arch::block::Op::Write, 10, || {
            space.advise(BASE, PAGES, Advice::PageOut)?;
            mm::reclaim::settle();
            let errors = total(Event::SwapWriteError) - before;
            check!(errors >= 10, "{errors} errors were noticed");
            verify(0..PAGES)
        })
    })
}

#[cfg(feature = "lab")]
fn read_errors_are_for_who_reads(_: &mut TestCtx<'_>) -> Outcome {
    use super::disk::with_errors;
    use arch::upcall::FaultError;
    need_swap()?;
    with_shmem(|file, space| {
        fill()?;
        send_out(space)?;
        with_errors(arch::block::Op::Read, u64::MAX, || {
            let mut failed = 0;
            for i in 0..PAGES {
                let mut bytes = [0; 8];
                let read = file.read((i * PAGE) as u64, &mut bytes);
                match user::load(at(BASE, i)) {
                    Ok(found) => check_eq!((found, read), (word(i), Ok(8))),
                    Err(FaultError::Bus) => {
                        check_eq!(read, Err(MmError::Io));
                        failed += 1;
                    }
                    Err(e) => return Err(e.into()),
                }
            }
            check!(failed >= PAGES / 2, "{failed} pages could not be read");
            crate::faulty::SWAP.clear();
            verify(0..PAGES)
        })
    })
}

/// Pages of a file that is larger than memory.
const MANY: usize = 3000;

fn more_than_memory(ctx: &mut TestCtx<'_>) -> Outcome {
    if mm::swap::stats().total < 4000 {
        return Err(Failure::Skip("needs a swap disk of 16 MiB".into()));
    }
    let before = total(Event::PswpOut);
    without_leak(|| {
        let used = mm::swap::stats().used;
        {
            let _balloon = Balloon::leave(mib(4));
            let (file, round) = (file::shmem(0)?, ctx.seed);
            for i in 0..MANY {
                write(&file, i * PAGE + 40, &(round ^ i as u64).to_le_bytes())?;
            }
            for i in 0..MANY {
                expect(&file, i * PAGE + 40, &(round ^ i as u64).to_le_bytes())?;
            }
        }
        mm::reclaim::settle();
        check_eq!(mm::swap::stats().used, used);
        Ok(())
    })?;
    let out = total(Event::PswpOut) - before;
    check!(out >= MANY as u64 / 2, "{out} pages were written to swap");
    Ok(())
}

/// Each thread has pages of its own in one file, stores, loads, reads, and makes holes, while there
/// is too little memory.
fn holes_and_pressure(ctx: &mut TestCtx<'_>) -> Outcome {
    if mm::swap::stats().total < 4000 {
        return Err(Failure::Skip("needs a swap disk of 16 MiB".into()));
    }
    let seed = ctx.seed;
    without_leak(move || {
        let used = mm::swap::stats().used;
        {
            let _balloon = Balloon::leave(mib(3));
            let file = file::shmem(MANY as u64 * PAGE_SIZE)?;
            let space = Space::new()?;
            space.map_file(BASE, MANY, Prot::RW, MapFlags::SHARED, &file, 0)?;
            let n = several();
            in_parallel(n, move |me, _| {
                let _adopted = space.enter();
                own_pages(&file, me, n, seed)
            })?;
        }
        mm::reclaim::settle();
        check_eq!(mm::swap::stats().used, used);
        Ok(())
    })
}

fn own_pages(file: &Opener, me: usize, n: usize, seed: u64) -> Outcome {
    let value = |round: u64, i: usize| seed ^ (round << 32) ^ (i as u64 + 1);
    for round in 1..4 {
        for i in (me..MANY).step_by(n) {
            if i % 7 == 3 {
                file.punch((i * PAGE) as u64, PAGE_SIZE)?;
            } else if i % 2 == 0 {
                user::store(at(BASE, i), value(round, i))?;
            } else {
                write(file, i * PAGE, &value(round, i).to_le_bytes())?;
            }
        }
        for i in (me..MANY).step_by(n) {
            let expected = if i % 7 == 3 { 0 } else { value(round, i) };
            if i % 3 == 0 {
                expect(file, i * PAGE, &expected.to_le_bytes())?;
            } else {
                check_eq!(user::load(at(BASE, i))?, expected);
            }
        }
    }
    Ok(())
}

/// Pages that lie far apart need a node of the tree each. As long as there is memory there are
/// nodes, and another address space that needs some at the same time gets them.
fn a_sparse_file_may_have_as_many_nodes_as_it_needs(_: &mut TestCtx<'_>) -> Outcome {
    const NODES: u64 = 70_000;
    const APART: u64 = 64;
    if u64::from(mm::buddy::free_pages()) < NODES + NODES / 4 {
        return Err(Failure::Skip("needs 400 MiB of free memory".into()));
    }
    super::file::empty_cache()?;
    without_leak(|| {
        let kills = total(Event::OomKill);
        let sparse = file::shmem(NODES * APART * PAGE_SIZE)?;
        let small = file::shmem(NODES * PAGE_SIZE)?;
        let innocent = Space::new()?;
        innocent.map_file(BASE, NODES as usize, Prot::RW, MapFlags::SHARED, &small, 0)?;
        let _adopted = innocent.enter();
        for i in 0..NODES {
            check_eq!(sparse.write(i * APART * PAGE_SIZE, &[1])?, 1);
            if i % 1000 == 0 {
                user::store(at(BASE, i as usize), i)?;
            }
        }
        for i in (0..NODES).step_by(1000) {
            check_eq!(user::load(at(BASE, i as usize))?, i);
        }
        check_eq!(total(Event::OomKill), kills);
        Ok(())
    })
}
