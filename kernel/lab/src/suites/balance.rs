//! Which pages go when memory is short: what is read once pushes out nothing that is in use, a new
//! working set replaces an old one, and pages of files that are mapped go like others, without a
//! store being lost. Counted in pages that came from the disk, never in time.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

#[cfg(feature = "lab")]
use arch::block::Op;
use arch::{VirtAddr, user};
use mm::MapFlags;
#[cfg(feature = "lab")]
use mm::MmError;
use mm::file::{self, Opener};
use mm::stats::{Event, Use, total, use_pages};

#[cfg(feature = "lab")]
use super::file::with_errors;
use super::file::{FIRST, PAGE, empty_cache, expect_on_disk, with_file};
use super::mapfile::{page_of, value, word};
use super::reclaim::need_swap;
use super::{BASE, Outcome, in_parallel, mapped, several, without_leak};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::space::{Advice, Prot, Space, at};
use crate::stress::memory::{Balloon, free_slots, mib};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "balance",
    tests: tests![
        a_stream_leaves_anonymous_memory,
        a_stream_leaves_a_file_in_use,
        a_new_working_set_replaces_the_old,
        idle_memory_makes_room_for_a_file,
        pageout_writes_a_mapping_and_drops_it,
        a_mapping_larger_than_memory,
        many_write_a_mapping_larger_than_memory,
        #[cfg(feature = "lab")]
        what_cannot_be_written_stays,
    ],
};

const SHARED: MapFlags = MapFlags::SHARED;
/// Pages that can be had during these tests, before reclaim begins.
const ROOM: u64 = mib(8);

/// Runs `f` with a file of `pages` pages, in [`ROOM`].
fn in_little_memory(pages: u32, f: impl FnOnce(&Opener) -> Outcome) -> Outcome {
    if file::disk_pages() < pages + 16 {
        return Err(Failure::Skip("needs a data disk of 32 MiB".into()));
    }
    with_file(pages, |file| {
        without_leak(|| {
            let _balloon = Balloon::leave(ROOM);
            f(file)
        })
    })
}

/// Reads the pages one after the other.
fn read(file: &Opener, pages: Range<usize>) -> Outcome {
    let mut page = vec![0; PAGE];
    for i in pages {
        check_eq!(file.read((i * PAGE) as u64, &mut page)?, PAGE);
    }
    Ok(())
}

/// Pages read from the data disk by `f`.
fn file_reads(f: impl FnOnce() -> Outcome) -> Result<u64, Failure> {
    let before = total(Event::FileRead);
    f()?;
    Ok(total(Event::FileRead) - before)
}

/// Reads `pages` once, in small pieces, and calls `often` between.
fn stream(file: &Opener, pages: Range<usize>, mut often: impl FnMut() -> Outcome) -> Outcome {
    let mut piece = vec![0; PAGE / 4];
    for page in pages {
        for at in (page * PAGE..(page + 1) * PAGE).step_by(piece.len()) {
            check_eq!(file.read(at as u64, &mut piece)?, piece.len());
        }
        if page.is_multiple_of(64) {
            often()?;
        }
    }
    Ok(())
}

fn load_all(pages: usize) -> Outcome {
    for i in 0..pages {
        check_eq!(user::load(word(BASE, i))?, value(i, 1));
    }
    Ok(())
}

fn store_all(pages: usize) -> Outcome {
    for i in 0..pages {
        user::store(word(BASE, i), value(i, 1))?;
    }
    Ok(())
}

fn a_stream_leaves_anonymous_memory(ctx: &mut TestCtx<'_>) -> Outcome {
    // Half of it is in use meanwhile.
    const N: usize = 1000;
    need_swap()?;
    in_little_memory(7000, |file| {
        let space = mapped(N)?;
        let _adopted = space.enter();
        store_all(N)?;
        let before = total(Event::PswpOut);
        stream(file, 0..7000, || load_all(N / 2))?;
        let out = total(Event::PswpOut) - before;
        ctx.note(format_args!("{out} pages written to swap"));
        check!(out <= N as u64 / 10, "{out} pages of {N} were pushed out");
        load_all(N)
    })
}

fn a_stream_leaves_a_file_in_use(ctx: &mut TestCtx<'_>) -> Outcome {
    const HOT: usize = 700;
    in_little_memory(7000, |file| {
        // Readers of their own, as each is sequential.
        let hot = file.again()?;
        let mut reads = file_reads(|| (0..3).try_for_each(|_| read(&hot, 0..HOT)))?;
        reads += file_reads(|| stream(file, HOT..7000, || read(&hot, 0..HOT)))?;
        let again = reads - 7000;
        ctx.note(format_args!("{again} pages read again"));
        check!(
            again <= HOT as u64 / 10,
            "{again} pages of {HOT} in use were pushed out"
        );
        Ok(())
    })
}

fn a_new_working_set_replaces_the_old(ctx: &mut TestCtx<'_>) -> Outcome {
    // Together more than there is room for; the new one alone more than what is left beside the
    // old.
    const OLD: usize = 1500;
    const NEW: usize = 1300;
    in_little_memory(7000, |file| {
        (0..3).try_for_each(|_| read(file, 0..OLD))?;
        let activated = total(Event::RefaultActivateFile);
        let mut rounds = Vec::new();
        for _ in 0..12 {
            rounds.push(file_reads(|| read(file, OLD..OLD + NEW))?);
        }
        let activated = total(Event::RefaultActivateFile) - activated;
        ctx.note(format_args!("{rounds:?} pages read, {activated} activated"));
        check!(activated > 0, "no refault was noticed");
        let last = rounds.last().copied().unwrap_or(0);
        check!(
            last <= NEW as u64 / 4,
            "{last} pages of {NEW} read in the last round: {rounds:?}"
        );
        Ok(())
    })
}

fn idle_memory_makes_room_for_a_file(ctx: &mut TestCtx<'_>) -> Outcome {
    const IDLE: usize = 1400;
    const SET: usize = 1100;
    need_swap()?;
    if free_slots() < 2 * IDLE as u64 {
        return Err(Failure::Skip("needs more swap".into()));
    }
    in_little_memory(7000, |file| {
        let space = mapped(IDLE)?;
        let _adopted = space.enter();
        store_all(IDLE)?;
        let mut rounds = Vec::new();
        for _ in 0..16 {
            rounds.push(file_reads(|| read(file, 0..SET))?);
        }
        ctx.note(format_args!("{rounds:?} pages read"));
        let last = rounds.last().copied().unwrap_or(0);
        check!(
            last <= SET as u64 / 4,
            "{last} pages of {SET} read in the last round: {rounds:?}"
        );
        load_all(IDLE)
    })
}

fn pageout_writes_a_mapping_and_drops_it(_: &mut TestCtx<'_>) -> Outcome {
    const N: usize = 100;
    with_file(256, |file| {
        without_leak(|| {
            let space = Space::new()?;
            space.map_file(BASE, N, Prot::RW, SHARED, file, 0)?;
            let _adopted = space.enter();
            let paused = file::pause_flusher();
            for i in 0..N {
                for w in (0..PAGE as u64).step_by(8) {
                    user::store(VirtAddr(at(BASE, i).0 + w), value(i, 2))?;
                }
            }
            check_eq!(file::unwritten().dirty, N as u64);
            space.advise(BASE, N, Advice::PageOut)?;
            check_eq!(space.mm().file_pages.get(), 0);
            check_eq!(file::unwritten().all(), 0);
            drop(paused);
            empty_cache()?;
            check_eq!(use_pages(Use::File), 0);
            for i in 0..N {
                expect_on_disk(i as u32, &page_of(i, 2))?;
            }
            let read = file_reads(|| {
                for i in 0..N {
                    check_eq!(user::load(word(BASE, i))?, value(i, 2));
                }
                Ok(())
            })?;
            check!(read >= N as u64, "{read} pages of {N} were read back");
            Ok(())
        })
    })
}

fn a_mapping_larger_than_memory(ctx: &mut TestCtx<'_>) -> Outcome {
    const N: usize = 5000;
    in_little_memory(N as u32, |file| {
        let space = Space::new()?;
        space.map_file(BASE, N, Prot::RW, SHARED, file, 0)?;
        let _adopted = space.enter();
        for round in [2, 3] {
            for i in 0..N {
                user::store(word(BASE, i), value(i, round))?;
            }
            for i in 0..N {
                check_eq!(user::load(word(BASE, i))?, value(i, round));
            }
        }
        let resident = space.mm().file_pages.get();
        ctx.note(format_args!("{resident} pages of {N} resident"));
        check!(resident <= 2 * ROOM, "{resident} pages are resident");
        space.sync(BASE, N)?;
        for i in (0..N).step_by(7) {
            on_disk(i, value(i, 3))?;
        }
        Ok(())
    })
}

/// The disk has this as the last word of a page.
fn on_disk(page: usize, expected: u64) -> Outcome {
    let mut raw = alloc::boxed::Box::new([0; PAGE]);
    file::read_raw(FIRST + page as u32, &mut raw)?;
    check_eq!(raw[PAGE - 8..], expected.to_le_bytes());
    Ok(())
}

/// Each thread writes pages of its own through an address space of its own, and looks at the
/// others'.
fn many_write_a_mapping_larger_than_memory(ctx: &mut TestCtx<'_>) -> Outcome {
    const N: usize = 4000;
    const STEPS: usize = 12_000;
    let seed = ctx.seed;
    in_little_memory(N as u32, |file| {
        let threads = several();
        let shared = file.again()?;
        in_parallel(threads, move |me, meeting| {
            let space = Space::new()?;
            space.map_file(BASE, N, Prot::RW, SHARED, &shared, 0)?;
            let _adopted = space.enter();
            let mut seen = vec![0; N];
            let mut random = seed | 1;
            (0..N)
                .filter(|i| i % threads == me)
                .try_for_each(|i| user::store(word(BASE, i), value(i, 0)))?;
            meeting.wait(0)?;
            for _ in 0..STEPS {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let i = (random.wrapping_add(me as u64 * 77) % N as u64) as usize;
                let found = user::load(word(BASE, i))?;
                let round = (found - value(i, 0)) >> 32;
                check_eq!(found, value(i, round));
                if i % threads != me {
                    check!(round >= seen[i], "page {i}: {round} after {}", seen[i]);
                    seen[i] = round;
                    continue;
                }
                check_eq!(round, seen[i]);
                seen[i] += 1;
                user::store(word(BASE, i), value(i, seen[i]))?;
            }
            space.sync(BASE, N)?;
            for i in (0..N).filter(|i| i % threads == me) {
                on_disk(i, value(i, seen[i]))?;
            }
            Ok(())
        })?;
        empty_cache()?;
        Ok(())
    })
}

#[cfg(feature = "lab")]
fn what_cannot_be_written_stays(_: &mut TestCtx<'_>) -> Outcome {
    const N: usize = 64;
    with_file(256, |file| {
        without_leak(|| {
            let space = Space::new()?;
            space.map_file(BASE, N, Prot::RW, SHARED, file, 0)?;
            let _adopted = space.enter();
            let reader = file.again()?;
            with_errors(Op::Write, 0..256, u64::MAX, || {
                for round in 2..5 {
                    for i in 0..N {
                        user::store(word(BASE, i), value(i, round))?;
                    }
                    space.advise(BASE, N, Advice::PageOut)?;
                    check_eq!(file::unwritten().all(), N as u64);
                    for i in 0..N {
                        check_eq!(user::load(word(BASE, i))?, value(i, round));
                    }
                }
                Ok(())
            })?;
            // Both are told once, and then the disk takes it.
            for opener in [file, &reader] {
                check_eq!(opener.sync(), Err(MmError::Io));
                opener.sync()?;
            }
            for i in 0..N {
                on_disk(i, value(i, 4))?;
            }
            Ok(())
        })
    })
}
