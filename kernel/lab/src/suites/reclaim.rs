//! Swapping out and in, advice about it, and what it does to shared pages.

#[cfg(feature = "lab")]
use alloc::{format, vec::Vec};
use arch::{VirtAddr, user};
use mm::stats::{Event, total};
#[cfg(feature = "lab")]
use mm::stats::{Use, use_pages};

use super::{BASE, FAR, Outcome, mapped, without_leak};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::space::{Advice, Prot, Space, at};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "reclaim",
    tests: tests![
        pageout_and_back,
        swapped_pages_follow_fork,
        swapped_pages_follow_mremap,
        swapped_pages_can_be_dropped,
        willneed_reads_ahead,
        free_keeps_what_is_written_again,
        slots_are_given_back,
        swapoff_gives_the_tables_back,
        #[cfg(feature = "lab")]
        a_page_of_many_sharers_is_swapped,
        #[cfg(feature = "lab")]
        a_swapped_page_gets_many_sharers,
        #[cfg(feature = "lab")]
        a_fork_that_cannot_count_is_undone,
    ],
};

pub(super) const PAGES: usize = 200;

pub(super) fn need_swap() -> Outcome {
    if mm::swap::stats().total < 4 * PAGES as u64 {
        return Err(Failure::Skip("needs a swap disk".into()));
    }
    Ok(())
}

pub(super) fn word(i: usize) -> u64 {
    0x5157_4150_0000_0000 | i as u64
}

/// Writes first and last word of each page.
pub(super) fn fill(pages: usize) -> Outcome {
    for i in 0..pages {
        user::store(at(BASE, i), word(i))?;
        user::store(VirtAddr(at(BASE, i).0 + 4088), word(i))?;
    }
    Ok(())
}

pub(super) fn verify(base: VirtAddr, pages: core::ops::Range<usize>) -> Outcome {
    for i in pages.clone() {
        let va = at(base, i - pages.start);
        let found = (user::load(va)?, user::load(VirtAddr(va.0 + 4088))?);
        check!(
            found == (word(i), word(i)),
            "page {i}: found {found:x?}, expected {:x} twice",
            word(i)
        );
    }
    Ok(())
}

/// A filled space whose pages have been advised out of memory.
pub(super) fn swapped() -> Result<Space, Failure> {
    let space = mapped(PAGES)?;
    {
        let _adopted = space.enter();
        fill(PAGES)?;
    }
    space.advise(BASE, PAGES, Advice::PageOut)?;
    mm::reclaim::settle();
    Ok(space)
}

fn pageout_and_back(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    without_leak(|| {
        let before = (total(Event::PswpOut), total(Event::PswpIn));
        let space = swapped()?;
        check!(space.mm().swap_entries.get() > 0, "nothing was swapped out");
        check!(
            total(Event::PswpOut) - before.0 >= PAGES as u64 / 2,
            "few pages were written"
        );
        let _adopted = space.enter();
        verify(BASE, 0..PAGES)?;
        check!(total(Event::PswpIn) > before.1, "nothing was read back");
        // Written again, and out again: the new content must come back.
        for i in 0..PAGES {
            user::fetch_add(VirtAddr(at(BASE, i).0 + 8), i as u64)?;
        }
        space.advise(BASE, PAGES, Advice::PageOut)?;
        verify(BASE, 0..PAGES)?;
        for i in 0..PAGES {
            check_eq!(user::load(VirtAddr(at(BASE, i).0 + 8))?, i as u64);
        }
        Ok(())
    })
}

pub(super) fn swapped_pages_follow_fork(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    without_leak(|| {
        let parent = swapped()?;
        let child = parent.fork()?;
        {
            let _adopted = child.enter();
            for i in 0..PAGES / 2 {
                user::store(at(BASE, i), 1)?;
            }
            verify(at(BASE, PAGES / 2), PAGES / 2..PAGES)?;
        }
        {
            let _adopted = parent.enter();
            verify(BASE, 0..PAGES)?;
        }
        // Shared and resident: out again, by both.
        parent.advise(BASE, PAGES, Advice::PageOut)?;
        drop(parent);
        let _adopted = child.enter();
        verify(at(BASE, PAGES / 2), PAGES / 2..PAGES)?;
        check_eq!(user::load(BASE)?, 1);
        Ok(())
    })
}

pub(super) fn swapped_pages_follow_mremap(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    without_leak(|| {
        let space = swapped()?;
        let far = FAR;
        space.move_to(BASE, PAGES, far)?;
        let _adopted = space.enter();
        verify(far, 0..PAGES)?;
        // Resident at the new place: the reverse map must find them there.
        space.advise(far, PAGES, Advice::PageOut)?;
        check!(
            space.mm().swap_entries.get() > 0,
            "nothing was swapped out after the move"
        );
        verify(far, 0..PAGES)
    })
}

pub(super) fn swapped_pages_can_be_dropped(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    without_leak(|| {
        let space = swapped()?;
        space.advise(BASE, PAGES / 2, Advice::DontNeed)?;
        let _adopted = space.enter();
        for i in 0..PAGES / 2 {
            check_eq!(user::load(at(BASE, i))?, 0);
        }
        verify(at(BASE, PAGES / 2), PAGES / 2..PAGES)?;
        space.unmap(BASE, PAGES)?;
        check_eq!(space.mm().swap_entries.get(), 0);
        Ok(())
    })
}

fn willneed_reads_ahead(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    without_leak(|| {
        let space = swapped()?;
        let before = total(Event::PswpIn);
        space.advise(BASE, PAGES, Advice::WillNeed)?;
        // The reads go on after the call.
        for _ in 0..1000 {
            if total(Event::PswpIn) > before {
                break;
            }
            arch::thread::sleep_ns(5_000_000);
        }
        check!(total(Event::PswpIn) > before, "nothing was read");
        let _adopted = space.enter();
        verify(BASE, 0..PAGES)
    })
}

fn free_keeps_what_is_written_again(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    without_leak(|| {
        let space = mapped(PAGES)?;
        let _adopted = space.enter();
        fill(PAGES)?;
        space.advise(BASE, PAGES, Advice::Free)?;
        for i in 0..PAGES / 2 {
            user::store(at(BASE, i), 7)?;
        }
        space.advise(BASE, PAGES, Advice::PageOut)?;
        for i in 0..PAGES {
            let found = user::load(at(BASE, i))?;
            let right = if i < PAGES / 2 {
                found == 7
            } else {
                found == 0 || found == word(i)
            };
            check!(right, "page {i}: found {found:#x}");
        }
        Ok(())
    })
}

fn slots_are_given_back(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    let used = mm::swap::stats().used;
    {
        let space = swapped()?;
        check!(mm::swap::stats().used > used, "no slot was used");
        let child = space.fork()?;
        child.protect(BASE, PAGES, Prot::READ)?;
    }
    check_eq!(mm::swap::stats().used, used);
    Ok(())
}

/// More address spaces than the byte of a slot can count.
#[cfg(feature = "lab")]
const SHARERS: usize = 150;

/// That many share a page, and reclaim takes it from all of them.
#[cfg(feature = "lab")]
fn a_page_of_many_sharers_is_swapped(_: &mut TestCtx<'_>) -> Outcome {
    many_sharers(|parent| {
        let pfn = entry_at(parent.mm(), 0).pfn();
        let all = forked(parent)?;
        check_eq!(mm::inspect::frame(pfn).mapcount(), SHARERS as u32);
        // Its accessed bits count as use once or twice.
        for _ in 0..3 {
            mm::reclaim::one(pfn);
        }
        Ok(all)
    })
}

/// That many come to share a page that was swapped before: no fork fails.
#[cfg(feature = "lab")]
fn a_swapped_page_gets_many_sharers(_: &mut TestCtx<'_>) -> Outcome {
    many_sharers(|parent| {
        parent.advise(BASE, 1, Advice::PageOut)?;
        mm::reclaim::settle();
        forked(parent)
    })
}

/// A fork that meets a slot whose count cannot go on, in the middle of a table, fails whole.
#[cfg(feature = "lab")]
fn a_fork_that_cannot_count_is_undone(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    without_leak(|| {
        let parent = mapped(2)?;
        {
            let _adopted = parent.enter();
            fill(2)?;
        }
        parent.advise(at(BASE, 1), 1, Advice::PageOut)?;
        mm::reclaim::settle();
        let slot = entry_at(parent.mm(), 1).swap_slot();
        let mut all = Vec::new();
        let failed = loop {
            check!(all.len() < SHARERS, "no fork had to let the count go on");
            let _refused = mm::buddy::refuse::after(Use::Misc, 0);
            match parent.mm().fork() {
                Ok(child) => all.push(child),
                Err(e) => break e,
            }
        };
        check_eq!(failed, mm::MmError::NoMemory);
        check_eq!(mm::swap::references(slot), all.len() as u64 + 1);
        let first = entry_at(parent.mm(), 0).pfn();
        check_eq!(mm::inspect::frame(first).mapcount(), all.len() as u32 + 1);
        all.push(parent.mm().fork()?);
        check_eq!(mm::swap::references(slot), all.len() as u64 + 1);
        let _adopted = parent.enter();
        verify(BASE, 0..2)
    })
}

/// Forks of forks, [`SHARERS`] in all.
#[cfg(feature = "lab")]
fn forked(parent: Space) -> Result<Vec<Space>, Failure> {
    let mut all = Vec::from([parent]);
    while all.len() < SHARERS {
        all.push(all[all.len() / 2].fork()?);
    }
    Ok(all)
}

/// `share` makes [`SHARERS`] of a space whose first page holds words; the page is on the swap disk
/// then. Each gets it back.
#[cfg(feature = "lab")]
fn many_sharers(share: impl FnOnce(Space) -> Result<Vec<Space>, Failure>) -> Outcome {
    need_swap()?;
    let misc = || use_pages(Use::Misc);
    let before = misc();
    without_leak(|| {
        let parent = mapped(1)?;
        {
            let _adopted = parent.enter();
            fill(1)?;
        }
        let mut all = share(parent)?;
        let slot = entry_at(all[0].mm(), 0);
        check!(slot.is_swap(), "the page did not go to swap");
        let slot = slot.swap_slot();
        check_eq!(mm::swap::references(slot), SHARERS as u64);
        for space in &all {
            check_eq!(space.mm().swap_entries.get(), 1);
        }
        mm::swap::validate().map_err(|c| Failure::new(format!("{c}")))?;
        // Back, by loads and stores, and away by exits, in an order that is not that of the forks.
        for i in 0..SHARERS {
            let space = all.swap_remove(i * 7 % all.len());
            if i % 3 == 0 {
                continue;
            }
            let _adopted = space.enter();
            verify(BASE, 0..1)?;
            user::store(BASE, i as u64)?;
            check_eq!(user::load(BASE)?, i as u64);
        }
        check_eq!(mm::swap::references(slot), 0);
        mm::swap::validate().map_err(|c| Failure::new(format!("{c}")))
    })?;
    check_eq!(misc(), before);
    Ok(())
}

/// The entry of page `i`.
pub(super) fn entry_at(mm: &mm::MmRef, i: usize) -> arch::pte::Entry {
    let entry = mm.areas().with_entry(at(BASE, i), |entry| entry);
    entry.unwrap_or(arch::pte::Entry::NONE)
}

/// Of the kernel's own heap; the host's programs have another.
fn swapoff_gives_the_tables_back(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    if mm::heap::usage().1 == 0 {
        return Err(Failure::Skip("the kernel's heap is not in use here".into()));
    }
    let slots = mm::swap::stats().total;
    let used = || mm::heap::usage().1;
    for _ in 0..3 {
        let with = used();
        crate::startup::swap_off().map_err(Failure::new)?;
        let without = used();
        crate::startup::swap_on().map_err(Failure::new)?;
        // A byte and a cell for each slot.
        check!(
            with >= without + 5 * slots,
            "{with} bytes of the heap are in use with swap, {without} without"
        );
        check_eq!(used(), with);
    }
    Ok(())
}
