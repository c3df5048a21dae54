//! Mapped files: what a load, a store and their errors mean, shared and private; and what is left
//! of it in the counters.

mod disk;
mod model;

use core::sync::atomic::Ordering;

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::MapFlags;
use mm::file::Opener;
use mm::stats::{Event, Use, total, use_pages};

use super::file::{PAGE, PAGES, empty_cache, expect, expect_on_disk, with_file, write};
use super::{BASE, Outcome, in_parallel, without_leak};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::space::{Advice, Prot, Space, at};
use crate::{check, check_eq, tests};
#[cfg(not(target_os = "none"))]
use disk::a_store_waits_for_the_pages_write;
#[cfg(feature = "lab")]
use disk::{
    a_page_that_cannot_be_read_is_a_bus_error,
    a_page_that_cannot_be_written_makes_its_stores_wait_once,
    msync_tells_what_could_not_be_written,
};
use disk::{
    a_synced_page_is_clean_until_it_is_stored_to, stores_from_many_spaces_are_not_lost,
    stores_wait_at_the_limit,
};
use model::{random_operations, random_operations_and_sizes, random_operations_in_memory};

pub(super) static SUITE: Suite = Suite {
    name: "mapfile",
    tests: tests![
        loads_show_the_file,
        what_will_be_needed_is_read,
        shared_stores_are_the_files,
        private_stores_are_not,
        no_access_beyond_the_end,
        a_fork_shares_the_file,
        shared_zeroes_are_one_memory,
        loads_in_a_row_are_read_ahead,
        #[cfg(feature = "lab")]
        what_is_unmapped_was_used,
        private_copies_are_swapped,
        a_lockless_walker_may_only_read,
        a_synced_page_is_clean_until_it_is_stored_to,
        stores_wait_at_the_limit,
        stores_from_many_spaces_are_not_lost,
        #[cfg(not(target_os = "none"))]
        a_store_waits_for_the_pages_write,
        #[cfg(feature = "lab")]
        a_page_that_cannot_be_read_is_a_bus_error,
        #[cfg(feature = "lab")]
        msync_tells_what_could_not_be_written,
        #[cfg(feature = "lab")]
        a_page_that_cannot_be_written_makes_its_stores_wait_once,
        random_operations,
        random_operations_and_sizes,
        random_operations_in_memory,
    ],
};

pub(super) const SHARED: MapFlags = MapFlags::SHARED;
pub(super) const PRIVATE: MapFlags = MapFlags::NONE;

/// The last word of page `i` of a mapping at `base`: a page must have moved as a whole.
pub(super) fn word(base: VirtAddr, i: usize) -> VirtAddr {
    VirtAddr(at(base, i).0 + PAGE_SIZE - 8)
}

/// A word that tells the page and the round.
pub(super) fn value(page: usize, round: u64) -> u64 {
    (round << 32) + page as u64 + 1
}

/// As [`write_words`]; then nothing is dirty and nothing in memory.
pub(super) fn fill(file: &Opener, pages: usize, round: u64) -> Outcome {
    write_words(file, pages, round)?;
    file.sync()?;
    empty_cache()?;
    check_eq!(use_pages(Use::File), 0);
    Ok(())
}

/// The bytes of such a page.
pub(super) fn page_of(page: usize, round: u64) -> alloc::vec::Vec<u8> {
    value(page, round).to_le_bytes().repeat(PAGE / 8)
}

/// Every word of the pages `0..pages` tells where it is and in which round.
pub(super) fn write_words(file: &Opener, pages: usize, round: u64) -> Outcome {
    for page in 0..pages {
        write(file, page * PAGE, &page_of(page, round))?;
    }
    Ok(())
}

/// Runs `f` with a file whose first `pages` pages were filled in round 1, and an address space that
/// the thread is in.
pub(super) fn with_mapping(
    pages: usize,
    flags: MapFlags,
    f: impl FnOnce(&Opener, &Space) -> Outcome,
) -> Outcome {
    with_file(PAGES, |file| {
        without_leak(|| {
            fill(file, pages, 1)?;
            let space = Space::new()?;
            space.map_file(BASE, pages, Prot::RW, flags, file, 0)?;
            let _adopted = space.enter();
            f(file, &space)
        })
    })
}

fn loads_show_the_file(_: &mut TestCtx<'_>) -> Outcome {
    for flags in [SHARED, PRIVATE] {
        with_mapping(64, flags, |_, space| {
            let load_all = || {
                for i in 0..64 {
                    check_eq!(user::load(at(BASE, i))?, value(i, 1));
                    check_eq!(user::load(word(BASE, i))?, value(i, 1));
                }
                Ok::<_, Failure>(())
            };
            load_all()?;
            check_eq!(space.mm().file_pages.get(), 64);
            check_eq!((space.mm().anon_pages.get(), space.mm().rss()), (0, 64));
            // All in memory now: a fault maps what is around.
            space.advise(BASE, 64, Advice::DontNeed)?;
            let before = total(Event::PgFault);
            load_all()?;
            let faults = total(Event::PgFault) - before;
            check!(faults <= 8, "{faults} faults for 64 pages in a row");
            check_eq!(mm::file::unwritten().dirty, 0);
            Ok(())
        })?;
    }
    Ok(())
}

fn what_will_be_needed_is_read(_: &mut TestCtx<'_>) -> Outcome {
    with_mapping(64, SHARED, |_, space| {
        let before = total(Event::FileRead);
        space.advise(BASE, 64, Advice::WillNeed)?;
        let major = total(Event::PgMajFault);
        for i in 0..64 {
            check_eq!(user::load(at(BASE, i))?, value(i, 1));
        }
        check_eq!(total(Event::PgMajFault) - major, 0);
        check_eq!(total(Event::FileRead) - before, 64);
        Ok(())
    })
}

fn shared_stores_are_the_files(_: &mut TestCtx<'_>) -> Outcome {
    with_mapping(32, SHARED, |file, space| {
        let other = Space::new()?;
        other.map_file(BASE, 32, Prot::READ, SHARED, file, 0)?;
        let paused = mm::file::pause_flusher();
        for i in (0..32_usize).step_by(3) {
            // Some after a load, some not.
            if i.is_multiple_of(2) {
                user::load(at(BASE, i))?;
            }
            user::store(word(BASE, i), value(i, 2))?;
        }
        let shows = |i: usize| value(i, 1 + u64::from(i.is_multiple_of(3)));
        for i in 0..32_usize {
            expect(file, (i + 1) * PAGE - 8, &shows(i).to_le_bytes())?;
        }
        check_eq!(mm::file::unwritten().dirty, 11);
        drop(paused);
        // What is written to the file is there to load.
        write(file, 5 * PAGE, &[7; 8])?;
        check_eq!(user::load(at(BASE, 5))?, 0x0707_0707_0707_0707);
        space.sync(BASE, 32)?;
        check_eq!(mm::file::unwritten().all(), 0);
        for i in 0..32_usize {
            let mut page = page_of(i, 1);
            if i == 5 {
                page[..8].fill(7);
            }
            page[PAGE - 8..].copy_from_slice(&shows(i).to_le_bytes());
            expect_on_disk(i as u32, &page)?;
        }
        check_eq!(space.mm().anon_pages.get(), 0);
        in_space(&other, move || {
            for i in 0..32_usize {
                check_eq!(user::load(word(BASE, i))?, shows(i));
                check_eq!(user::store(at(BASE, i), 1), Err(FaultError::Protection));
            }
            Ok(())
        })
    })
}

/// Runs `f` in a thread that is in `space`.
fn in_space(space: &Space, f: impl Fn() -> Outcome + Send + Sync + 'static) -> Outcome {
    let space = space.clone();
    in_parallel(1, move |_, _| {
        let _adopted = space.enter();
        f()
    })
}

fn private_stores_are_not(_: &mut TestCtx<'_>) -> Outcome {
    with_mapping(32, PRIVATE, |file, space| {
        for i in (0..32_usize).step_by(3) {
            if i.is_multiple_of(2) {
                user::load(at(BASE, i))?;
            }
            user::store(word(BASE, i), value(i, 2))?;
            check_eq!(user::load(at(BASE, i))?, value(i, 1));
        }
        check_eq!(mm::file::unwritten().dirty, 0);
        check_eq!(space.mm().anon_pages.get(), 11);
        // A page without a copy goes on showing the file.
        write_words(file, 32, 3)?;
        for i in 0..32_usize {
            let shown = if i.is_multiple_of(3) {
                (value(i, 1), value(i, 2))
            } else {
                (value(i, 3), value(i, 3))
            };
            check_eq!(
                (user::load(at(BASE, i))?, user::load(word(BASE, i))?),
                shown
            );
        }
        // The copies go, and the file is there again.
        space.advise(BASE, 32, Advice::DontNeed)?;
        check_eq!(space.mm().rss(), 0);
        for i in 0..32_usize {
            check_eq!(user::load(word(BASE, i))?, value(i, 3));
        }
        Ok(())
    })
}

fn no_access_beyond_the_end(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let (last, beyond) = (at(BASE, 4 - 1), at(BASE, 4));
        for flags in [SHARED, PRIVATE] {
            let space = Space::new()?;
            space.map_file(BASE, 40, Prot::RW, flags, file, PAGES - 4)?;
            let _adopted = space.enter();
            check_eq!(user::load(beyond), Err(FaultError::Bus));
            check_eq!(user::store(beyond, 1), Err(FaultError::Bus));
            user::store(last, 9)?;
            check_eq!(user::load(last)?, 9);
            check_eq!(user::load(at(BASE, 39)), Err(FaultError::Bus));
            check_eq!(user::load(at(BASE, 40)), Err(FaultError::Unmapped));
        }
        Ok(())
    })
}

fn a_fork_shares_the_file(_: &mut TestCtx<'_>) -> Outcome {
    for flags in [SHARED, PRIVATE] {
        with_mapping(16, flags, |_, space| {
            for i in 0..8 {
                user::store(at(BASE, i), value(i, 2))?;
            }
            let child = space.fork()?;
            let shared = flags == SHARED;
            for i in 8..16 {
                user::store(at(BASE, i), value(i, 3))?;
            }
            in_space(&child, move || {
                for i in 0..16 {
                    let expected = if i < 8 {
                        value(i, 2)
                    } else {
                        value(i, if shared { 3 } else { 1 })
                    };
                    check_eq!(user::load(at(BASE, i))?, expected);
                    user::store(at(BASE, i), value(i, 4))?;
                }
                Ok(())
            })?;
            for i in 0..16 {
                let own = if i < 8 { 2 } else { 3 };
                check_eq!(
                    user::load(at(BASE, i))?,
                    value(i, if shared { 4 } else { own })
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Pages that were loaded through entries that are gone count as used, once for each time that they
/// are unmapped; those that were only mapped because they lie near one do not.
#[cfg(feature = "lab")]
fn what_is_unmapped_was_used(_: &mut TestCtx<'_>) -> Outcome {
    use alloc::vec::Vec;
    const USED: usize = 32;
    with_file(2 * USED as u32, |file| {
        let space = Space::new()?;
        let active = || mm::inspect::lru_counts()[1].active;
        for page in 0..2 * USED {
            write(file, page * PAGE, &[1; PAGE])?;
        }
        file.sync()?;
        empty_cache()?;
        space.map_file(BASE, 2 * USED, Prot::READ, SHARED, file, 0)?;
        let before = active();
        let _adopted = space.enter();
        let mut frames = Vec::new();
        for _ in 0..2 {
            // The upper half is in memory, and mapped or not.
            for page in (0..USED).chain([2 * USED - 1]) {
                user::load(word(BASE, page))?;
            }
            frames = (0..USED).filter_map(|i| frame_at(at(BASE, i))).collect();
            space.advise(BASE, 2 * USED - 1, Advice::DontNeed)?;
        }
        check_eq!(frames.len(), USED);
        check_eq!(active() - before, 0);
        // Only now: reclaim comes to the pages, and finds the signs.
        frames.into_iter().for_each(mm::reclaim::one_if_unused);
        check_eq!(active() - before, USED as u64);
        Ok(())
    })
}

/// The frame that is mapped here.
#[cfg(feature = "lab")]
fn frame_at(va: VirtAddr) -> Option<arch::Pfn> {
    use mm::HasContent;
    let irq = sync::irq::disable();
    Some(mm::adopt::follow_fast(&irq, va)?.frame_number())
}

fn loads_in_a_row_are_read_ahead(_: &mut TestCtx<'_>) -> Outcome {
    const N: usize = 192;
    with_mapping(N, SHARED, |_, _| {
        let count = || {
            let events = [Event::PgMajFault, Event::Bio, Event::FileRead];
            events.map(total)
        };
        let before = count();
        for i in 0..N {
            check_eq!(user::load(at(BASE, i))?, value(i, 1));
        }
        let after = count();
        let [major, requests, read] = [0, 1, 2].map(|i| after[i] - before[i]);
        check!(major <= 2, "{major} faults began a read of their own");
        check!(requests <= 16, "{requests} requests for {N} pages");
        // Behind the mapping lies more of the file.
        check!(
            (N as u64..=PAGES.into()).contains(&read),
            "{read} pages read"
        );
        Ok(())
    })
}

/// Copies are anonymous: they go to swap and come back, and the file's pages beside them stay what
/// they are.
fn private_copies_are_swapped(_: &mut TestCtx<'_>) -> Outcome {
    if mm::swap::stats().total < 64 {
        return Err(Failure::Skip("needs swap".into()));
    }
    with_mapping(64, PRIVATE, |_, space| {
        for i in (0..64_usize).step_by(2) {
            user::store(word(BASE, i), value(i, 2))?;
        }
        let child = space.fork()?;
        for space in [space, &child] {
            space.advise(BASE, 64, Advice::PageOut)?;
        }
        user::store(word(BASE, 2), value(2, 3))?;
        let shows = |i: usize, own: u64| match i {
            2 => value(2, own),
            i => value(i, 1 + u64::from(i.is_multiple_of(2))),
        };
        for i in 0..64_usize {
            check_eq!(user::load(word(BASE, i))?, shows(i, 3));
            check_eq!(user::load(at(BASE, i))?, value(i, 1));
        }
        check_eq!(space.mm().anon_pages.get(), 32);
        in_space(&child, move || {
            for i in 0..64_usize {
                check_eq!(user::load(word(BASE, i))?, shows(i, 2));
            }
            Ok(())
        })
    })
}

fn a_lockless_walker_may_only_read(_: &mut TestCtx<'_>) -> Outcome {
    use mm::HasContent;
    use mm::adopt::{follow_fast, follow_fast_to_write};
    with_mapping(1, SHARED, |_, _| {
        user::store(BASE, 7)?;
        let irq = sync::irq::disable();
        let held = follow_fast(&irq, BASE);
        let to_write = follow_fast_to_write(&irq, BASE).is_some();
        drop(irq);
        let held = held.ok_or_else(|| Failure::new("no folio found"))?;
        check_eq!(held.words()[0].load(Ordering::Relaxed), 7);
        check!(!to_write, "a page of a file was handed out for writing");
        Ok(())
    })
}

/// Shared memory without a file that anybody opened: zeroes, one memory after a fork, and gone with
/// the last that shows it.
fn shared_zeroes_are_one_memory(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = Space::new()?;
        let fixed = SHARED | MapFlags::FIXED;
        space
            .mm()
            .mmap(Some(BASE), 8 * PAGE_SIZE, Prot::RW, fixed)?;
        let _adopted = space.enter();
        check_eq!(user::load(at(BASE, 7))?, 0);
        user::store(at(BASE, 0), 1)?;
        let child = space.fork()?;
        in_space(&child, || {
            check_eq!(user::load(at(BASE, 0))?, 1);
            user::store(at(BASE, 1), 2)?;
            Ok(())
        })?;
        check_eq!(user::load(at(BASE, 1))?, 2);
        space.unmap(BASE, 8)?;
        in_space(&child, || {
            check_eq!(user::load(at(BASE, 1))?, 2);
            Ok(())
        })
    })
}
