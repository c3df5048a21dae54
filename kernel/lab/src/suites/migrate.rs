//! Pages that move to other frames: what goes with them, and what stays where it is.

use alloc::format;
use core::sync::atomic::{AtomicUsize, Ordering};

use arch::pte::Entry;
use arch::{VirtAddr, user};
use mm::stats::{Event, total};

use super::reclaim::{entry_at, fill, need_swap, swapped, verify, word};
use super::{BASE, Meeting, Outcome, in_parallel, mapped, several, without_leak};
use crate::cancel::Cancel;
use crate::out::Buffer;
use crate::selftest::{Failure, Suite, TestCtx};
use crate::shell::Status;
use crate::space::{Advice, Moved, Prot, Space, at};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "migrate",
    tests: tests![
        a_page_moves_with_its_content_and_bits,
        sharers_find_it_in_its_new_frame,
        rights_are_the_areas,
        what_is_not_in_memory_stays,
        the_swap_cache_follows,
        movers_and_writers,
        the_command_moves_them,
    ],
};

const PAGES: usize = 40;

/// Written pages.
fn written() -> Result<Space, Failure> {
    let space = mapped(PAGES)?;
    {
        let _adopted = space.enter();
        fill(PAGES)?;
    }
    Ok(space)
}

/// What becomes of `pages` pages that nobody else has in hand.
fn all(pages: usize) -> Moved {
    Moved {
        moved: pages as u64,
        ..Moved::default()
    }
}

fn a_page_moves_with_its_content_and_bits(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = written()?;
        let before: [Entry; PAGES] = core::array::from_fn(|i| entry_at(space.mm(), i));
        let (rss, events) = (space.mm().rss(), total(Event::PgMigrateSuccess));
        check_eq!(space.migrate(BASE, PAGES)?, all(PAGES));
        check_eq!(space.mm().rss(), rss);
        check!(
            total(Event::PgMigrateSuccess) - events >= PAGES as u64,
            "the moves were not counted"
        );
        for (i, old) in before.into_iter().enumerate() {
            let new = entry_at(space.mm(), i);
            check!(new.pfn() != old.pfn(), "page {i} is in the same frame");
            let bits = |e: Entry| e.without(arch::pte::ADDR_MASK);
            check_eq!(bits(new), bits(old));
        }
        let _adopted = space.enter();
        verify(BASE, 0..PAGES)?;
        let copies = total(Event::CowCopy);
        user::store(BASE, 7)?;
        check_eq!((user::load(BASE)?, total(Event::CowCopy)), (7, copies));
        Ok(())
    })
}

fn sharers_find_it_in_its_new_frame(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let parent = written()?;
        let child = parent.fork()?;
        check_eq!(child.migrate(BASE, PAGES)?, all(PAGES));
        for i in 0..PAGES {
            check_eq!(
                entry_at(parent.mm(), i).pfn(),
                entry_at(child.mm(), i).pfn()
            );
        }
        {
            let _adopted = child.enter();
            user::store(BASE, 7)?;
            verify(at(BASE, 1), 1..PAGES)?;
        }
        let _adopted = parent.enter();
        verify(BASE, 0..PAGES)
    })
}

fn rights_are_the_areas(_: &mut TestCtx<'_>) -> Outcome {
    use arch::upcall::FaultError::Protection;
    without_leak(|| {
        let space = written()?;
        space.protect(BASE, 1, Prot::NONE)?;
        space.protect(at(BASE, 1), 1, Prot::READ)?;
        check_eq!(space.migrate(BASE, PAGES)?, all(PAGES));
        let _adopted = space.enter();
        check_eq!(user::load(BASE), Err(Protection));
        check_eq!(user::store(at(BASE, 1), 0), Err(Protection));
        space.protect(BASE, 2, Prot::RW)?;
        verify(BASE, 0..PAGES)?;
        // They are this address space's alone, as before: no fault has to find that out.
        check!(
            entry_at(space.mm(), 0).is_write() && entry_at(space.mm(), 1).is_write(),
            "a page that has moved counts as shared"
        );
        user::store(BASE, 7)?;
        Ok(())
    })
}

fn what_is_not_in_memory_stays(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = mapped(3)?;
        let _adopted = space.enter();
        // The shared page of zeroes, and nothing.
        check_eq!(user::load(BASE)?, 0);
        user::store(at(BASE, 2), 5)?;
        check_eq!(space.migrate(BASE, PAGES)?, all(1));
        check_eq!((user::load(BASE)?, user::load(at(BASE, 2))?), (0, 5));
        if need_swap().is_ok() {
            space.advise(at(BASE, 2), 1, Advice::PageOut)?;
            mm::reclaim::settle();
            check_eq!(space.migrate(BASE, PAGES)?, all(0));
            check_eq!(user::load(at(BASE, 2))?, 5);
        }
        Ok(())
    })
}

/// Of a page with a copy on the disk that another address space's entry still names.
fn the_swap_cache_follows(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    without_leak(|| {
        let parent = swapped()?;
        let child = parent.fork()?;
        {
            let _adopted = parent.enter();
            check_eq!(user::load(BASE)?, word(0));
        }
        let before = entry_at(parent.mm(), 0);
        check!(
            before.is_present() && entry_at(child.mm(), 0).is_swap(),
            "the page is not in both places"
        );
        check_eq!(parent.migrate(BASE, 1)?, all(1));
        check!(
            entry_at(parent.mm(), 0).pfn() != before.pfn(),
            "it is in the same frame"
        );
        let reads = total(Event::PgMajFault);
        {
            let _adopted = child.enter();
            check_eq!(user::load(BASE)?, word(0));
        }
        check_eq!(total(Event::PgMajFault), reads);
        check_eq!(
            entry_at(parent.mm(), 0).pfn(),
            entry_at(child.mm(), 0).pfn()
        );
        mm::swap::validate().map_err(|c| Failure::new(format!("{c}")))?;
        let _adopted = child.enter();
        verify(BASE, 0..super::reclaim::PAGES)
    })
}

/// One thread moves the pages, for as long as the others count in them.
fn movers_and_writers(_: &mut TestCtx<'_>) -> Outcome {
    const ROUNDS: u64 = 60;
    without_leak(|| {
        let threads = several();
        let space = mapped(PAGES)?;
        let (shared, counting) = (space.clone(), AtomicUsize::new(threads - 1));
        in_parallel(threads, move |me, meeting| {
            let _adopted = shared.enter();
            if me == 0 {
                return move_while(&shared, &counting, meeting);
            }
            count_in_pages(me, 1)?;
            meeting.wait(0)?;
            count_in_pages(me, ROUNDS - 1)?;
            // Relaxed: the threads' ends order what they have done.
            counting.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        })?;
        let _adopted = space.enter();
        for i in 0..PAGES {
            for me in 1..threads {
                check_eq!(user::load(counter(i, me))?, ROUNDS);
            }
        }
        Ok(())
    })
}

fn move_while(space: &Space, counting: &AtomicUsize, meeting: &Meeting) -> Outcome {
    meeting.wait(0)?;
    let mut moved = 0;
    loop {
        // Read first: a whole round at least is made when all pages are there.
        let is_last = counting.load(Ordering::Relaxed) == 0 || meeting.is_broken();
        moved += space.migrate(BASE, PAGES)?.moved;
        if is_last {
            break;
        }
    }
    check!(moved >= PAGES as u64, "only {moved} moves");
    Ok(())
}

/// Thread `me`'s word of page `i`.
fn counter(i: usize, me: usize) -> VirtAddr {
    VirtAddr(at(BASE, i).0 + 8 * me as u64)
}

fn count_in_pages(me: usize, rounds: u64) -> Outcome {
    for _ in 0..rounds {
        for i in 0..PAGES {
            user::fetch_add(counter(i, me), 1)?;
        }
    }
    Ok(())
}

/// The command, given an address space.
fn the_command_moves_them(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = written()?;
        let before = entry_at(space.mm(), 0);
        let out = Buffer::new();
        let line = format!("migrate {} {:#x} {PAGES}", space.mm().id(), BASE.0);
        let outcome = crate::shell().run(&line, &out, &Cancel::new());
        let text = out.take();
        check_eq!(outcome.status, Status::Ok);
        check!(
            text.contains(&format!("{PAGES} pages moved")),
            "{line}: {text}"
        );
        check!(
            entry_at(space.mm(), 0).pfn() != before.pfn(),
            "it is in the same frame"
        );
        let _adopted = space.enter();
        verify(BASE, 0..PAGES)
    })
}
