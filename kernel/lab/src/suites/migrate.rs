//! Pages that move to other frames: what goes with them, and what stays where it is.

use arch::pte::Entry;
use arch::{VirtAddr, user};
use mm::stats::{Event, total};

use super::reclaim::{need_swap, swapped, verify, word};
use super::{BASE, Outcome, in_parallel, mapped, several, without_leak};
use crate::selftest::{Failure, Suite, TestCtx};
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
    ],
};

const PAGES: usize = 40;

/// Written pages.
fn written() -> Result<Space, Failure> {
    let space = mapped(PAGES)?;
    {
        let _adopted = space.enter();
        for i in 0..PAGES {
            user::store(at(BASE, i), word(i))?;
            user::store(VirtAddr(at(BASE, i).0 + 4088), word(i))?;
        }
    }
    Ok(space)
}

fn entry(space: &Space, i: usize) -> Entry {
    let entry = space.mm().areas().with_entry(at(BASE, i), |entry| entry);
    entry.unwrap_or(Entry::NONE)
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
        let before: [Entry; PAGES] = core::array::from_fn(|i| entry(&space, i));
        let (rss, events) = (space.mm().rss(), total(Event::PgMigrateSuccess));
        check_eq!(space.migrate(BASE, PAGES)?, all(PAGES));
        check_eq!(space.mm().rss(), rss);
        check!(
            total(Event::PgMigrateSuccess) - events >= PAGES as u64,
            "the moves were not counted"
        );
        for (i, old) in before.into_iter().enumerate() {
            let new = entry(&space, i);
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
            check_eq!(entry(&parent, i).pfn(), entry(&child, i).pfn());
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
            entry(&space, 0).is_write() && entry(&space, 1).is_write(),
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
        let before = entry(&parent, 0);
        check!(
            before.is_present() && entry(&child, 0).is_swap(),
            "the page is not in both places"
        );
        check_eq!(parent.migrate(BASE, 1)?, all(1));
        check!(
            entry(&parent, 0).pfn() != before.pfn(),
            "it is in the same frame"
        );
        let reads = total(Event::PgMajFault);
        {
            let _adopted = child.enter();
            check_eq!(user::load(BASE)?, word(0));
        }
        check_eq!(total(Event::PgMajFault), reads);
        check_eq!(entry(&parent, 0).pfn(), entry(&child, 0).pfn());
        mm::swap::validate().map_err(|c| Failure::new(alloc::format!("{c}")))?;
        let _adopted = child.enter();
        verify(BASE, 0..super::reclaim::PAGES)
    })
}

/// One thread moves the pages, the others count in them.
fn movers_and_writers(_: &mut TestCtx<'_>) -> Outcome {
    const ROUNDS: u64 = 60;
    without_leak(|| {
        let threads = several();
        let space = mapped(PAGES)?;
        let shared = space.clone();
        in_parallel(threads, move |me, _| {
            let _adopted = shared.enter();
            for _ in 0..ROUNDS {
                if me == 0 {
                    shared.migrate(BASE, PAGES)?;
                    continue;
                }
                for i in 0..PAGES {
                    user::fetch_add(VirtAddr(at(BASE, i).0 + 8 * me as u64), 1)?;
                }
            }
            Ok(())
        })?;
        let _adopted = space.enter();
        for i in 0..PAGES {
            for me in 1..threads as u64 {
                check_eq!(user::load(VirtAddr(at(BASE, i).0 + 8 * me))?, ROUNDS);
            }
        }
        Ok(())
    })
}
