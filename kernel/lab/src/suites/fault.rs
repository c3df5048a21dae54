//! Faults: first touch, the zero page, the stack, what has no mapping, and many CPUs at once.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::upcall::FaultError;
use arch::{VirtAddr, user};
use mm::stats::{Event, Use, total, use_pages};

use super::{BASE, Outcome, TABLE, in_parallel, mapped, several, without_leak};
use crate::selftest::{Suite, TestCtx};
use crate::space::{Advice, Space, at};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "fault",
    tests: tests![
        first_touch_is_zero_and_keeps,
        reads_share_the_zero_page,
        no_mapping_no_access,
        no_address_space_no_access,
        a_stack_grows_to_its_limit,
        dontneed_forgets,
        one_page_touched_by_many_cpus,
        fresh_tables_filled_by_many_cpus,
        adds_from_many_cpus_are_not_lost,
        #[cfg(feature = "lab")]
        a_refused_frame_kills_nobody,
    ],
};

fn first_touch_is_zero_and_keeps(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = mapped(64)?;
        let _adopted = space.enter();
        let before = use_pages(Use::Anon);
        for i in 0..64 {
            let va = at(BASE, i);
            check_eq!(user::fetch_add(va, i as u64)?, 0);
            user::store8(VirtAddr(va.0 + 4095), 0x5a)?;
        }
        check_eq!(use_pages(Use::Anon) - before, 64);
        check_eq!(space.mm().rss(), 64);
        for i in 0..64 {
            check_eq!(user::load(at(BASE, i))?, i as u64);
            check_eq!(user::load8(VirtAddr(at(BASE, i).0 + 4095))?, 0x5a);
        }
        Ok(())
    })
}

fn reads_share_the_zero_page(_: &mut TestCtx<'_>) -> Outcome {
    let space = mapped(64)?;
    let _adopted = space.enter();
    let before = (use_pages(Use::Anon), total(Event::ZeroFault));
    for i in 0..64 {
        check_eq!(user::load(at(BASE, i))?, 0);
    }
    check_eq!(use_pages(Use::Anon), before.0);
    check_eq!(total(Event::ZeroFault) - before.1, 64);
    user::store(at(BASE, 3), 7)?;
    check_eq!(use_pages(Use::Anon), before.0 + 1);
    check_eq!((user::load(at(BASE, 2))?, user::load(at(BASE, 3))?), (0, 7));
    Ok(())
}

fn a_stack_grows_to_its_limit(_: &mut TestCtx<'_>) -> Outcome {
    use crate::space::bytes;
    use mm::vma::set::STACK_GUARD_GAP;
    const MAX: usize = mm::fault::stack::STACK_MAX as usize / arch::PAGE_SIZE as usize;
    without_leak(|| {
        let space = Space::new()?;
        let top = at(BASE, 4 * MAX);
        let below = |pages: usize| VirtAddr(top.0 - bytes(pages));
        let stack = mm::MapFlags::FIXED | mm::MapFlags::GROWSDOWN;
        space
            .mm()
            .mmap(Some(below(2)), bytes(2), mm::Prot::RW, stack)?;
        let _adopted = space.enter();
        user::store(below(2), 2)?;
        user::store(below(40), 40)?;
        check_eq!((user::load(below(2))?, user::load(below(20))?), (2, 0));
        // Right at the limit, not beyond it.
        user::store(below(MAX), 1)?;
        check_eq!(user::store(below(MAX + 1), 1), Err(FaultError::Unmapped));
        // Not into the gap above a neighbour.
        let other = Space::new()?;
        drop(_adopted);
        let gap = (STACK_GUARD_GAP / arch::PAGE_SIZE) as usize;
        other
            .mm()
            .mmap(Some(below(2)), bytes(2), mm::Prot::RW, stack)?;
        other.map(below(gap + 11), 1, crate::space::Prot::RW)?;
        let _adopted = other.enter();
        user::store(below(10), 1)?;
        check_eq!(user::store(below(11), 1), Err(FaultError::Unmapped));
        // Right down to one without rights, or to another stack.
        drop(_adopted);
        other.protect(below(gap + 11), 1, crate::space::Prot::NONE)?;
        {
            let _adopted = other.enter();
            user::store(below(gap + 10), 1)?;
            check_eq!(user::store(below(gap + 11), 1), Err(FaultError::Protection));
        }
        let third = Space::new()?;
        for pages in [2, 30] {
            let at = Some(below(pages));
            third.mm().mmap(at, bytes(2), mm::Prot::RW, stack)?;
        }
        let _adopted = third.enter();
        user::store(below(28), 1)?;
        user::store(below(31), 1)?;
        Ok(())
    })
}

fn no_mapping_no_access(_: &mut TestCtx<'_>) -> Outcome {
    let space = mapped(1)?;
    let _adopted = space.enter();
    user::store(BASE, 1)?;
    check_eq!(user::load(at(BASE, 1)), Err(FaultError::Unmapped));
    check_eq!(user::store(at(BASE, 1), 1), Err(FaultError::Unmapped));
    check_eq!(user::load_nofault(at(BASE, 1)), None);
    check_eq!(
        user::load(VirtAddr(arch::USER_TOP)),
        Err(FaultError::Unmapped)
    );
    space.unmap(BASE, 1)?;
    check_eq!(user::load(BASE), Err(FaultError::Unmapped));
    Ok(())
}

/// Every kind of access to `va` is refused at once.
fn refused(va: VirtAddr) -> Outcome {
    let unmapped = FaultError::Unmapped;
    check_eq!(user::load(va), Err(unmapped));
    check_eq!(user::store(va, 1), Err(unmapped));
    check_eq!(user::load8(va), Err(unmapped));
    check_eq!(user::store8(va, 1), Err(unmapped));
    check_eq!(user::fetch_add(va, 1), Err(unmapped));
    check_eq!(user::compare_exchange(va, 7, 1), Err(unmapped));
    check_eq!(user::load_nofault(va), None);
    check!(!user::store_nofault(va, 1));
    Ok(())
}

/// A CPU keeps the root that a thread leaves there, and is told of nothing meanwhile. No thread
/// reaches memory through it: not the one that had adopted it, nor one that never adopted any; nor
/// when the address space is killed, or gone.
fn no_address_space_no_access(_: &mut TestCtx<'_>) -> Outcome {
    let spaces: Arc<[Space]> = (0..several())
        .map(|_| mapped(1))
        .collect::<Result<_, _>>()?;
    let left = spaces.clone();
    in_parallel(several(), move |i, _| {
        let space = &left[i];
        let adopted = space.enter();
        user::store(BASE, 7)?;
        drop(adopted);
        refused(BASE)?;
        let _adopted = space.enter();
        check_eq!(user::load(BASE)?, 7);
        Ok(())
    })?;
    let kept = spaces.clone();
    in_parallel(several(), move |i, _| {
        refused(BASE)?;
        let adopted = kept[i].enter();
        check_eq!(user::load(BASE)?, 7);
        kept[i].mm().kill();
        drop(adopted);
        refused(BASE)
    })?;
    drop(spaces);
    in_parallel(several(), |_, _| {
        refused(BASE)?;
        let space = mapped(1)?;
        let adopted = space.enter();
        user::store(BASE, 7)?;
        drop(adopted);
        drop(space);
        refused(BASE)
    })
}

fn dontneed_forgets(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = mapped(600)?;
        let _adopted = space.enter();
        for i in 0..600 {
            user::store(at(BASE, i), 1)?;
        }
        space.advise(at(BASE, 10), 520, Advice::DontNeed)?;
        check_eq!(space.mm().rss(), 80);
        for i in 0..600 {
            check_eq!(user::load(at(BASE, i))?, u64::from(!(10..530).contains(&i)));
        }
        Ok(())
    })
}

fn one_page_touched_by_many_cpus(_: &mut TestCtx<'_>) -> Outcome {
    const ROUNDS: usize = 200;
    without_leak(|| {
        let n = several();
        let space = mapped(ROUNDS)?;
        let shared = space.clone();
        in_parallel(n, move |_, meeting| {
            let _adopted = shared.enter();
            for round in 0..ROUNDS {
                meeting.wait(round)?;
                user::fetch_add(at(BASE, round), 1)?;
            }
            Ok(())
        })?;
        let _adopted = space.enter();
        for round in 0..ROUNDS {
            check_eq!(user::load(at(BASE, round))?, n as u64);
        }
        check_eq!(space.mm().rss(), ROUNDS as u64);
        Ok(())
    })
}

/// Every thread is the first in its page of fresh tables: rule 4's way to go wrong is two tables
/// for one PMD entry, and a page that is lost with the one that was overwritten.
fn fill_tables(rounds: usize) -> Outcome {
    const TABLES: usize = 64;
    let n = several();
    let space = Space::new()?;
    let shared = space.clone();
    let lost = Arc::new(AtomicU64::new(0));
    let losses = lost.clone();
    in_parallel(n, move |me, meeting| {
        let _adopted = shared.enter();
        let mine = |table: usize| at(BASE, table * TABLE + me);
        for round in 0..rounds {
            if me == 0 {
                shared.map(BASE, TABLES * TABLE, crate::space::Prot::RW)?;
            }
            meeting.wait(3 * round)?;
            for table in 0..TABLES {
                user::store(mine(table), round as u64 + 1)?;
            }
            meeting.wait(3 * round + 1)?;
            // Through the page table, not through this CPU's TLB.
            arch::flush_local();
            for table in 0..TABLES {
                if user::load(mine(table))? != round as u64 + 1 {
                    losses.fetch_add(1, Ordering::Relaxed);
                }
            }
            meeting.wait(3 * round + 2)?;
            if me == 0 {
                shared.unmap(BASE, TABLES * TABLE)?;
            }
        }
        Ok(())
    })?;
    check_eq!(lost.load(Ordering::Relaxed), 0);
    check_eq!(space.mm().rss(), 0);
    Ok(())
}

fn fresh_tables_filled_by_many_cpus(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| fill_tables(10))
}

fn adds_from_many_cpus_are_not_lost(_: &mut TestCtx<'_>) -> Outcome {
    const ADDS: u64 = 2000;
    let n = several();
    let space = mapped(1)?;
    let shared = space.clone();
    in_parallel(n, move |_, _| {
        let _adopted = shared.enter();
        for _ in 0..ADDS {
            user::fetch_add(BASE, 1)?;
        }
        Ok(())
    })?;
    let _adopted = space.enter();
    check!(
        user::load(BASE)? == n as u64 * ADDS,
        "{} of {} adds",
        user::load(BASE)?,
        n as u64 * ADDS
    );
    Ok(())
}

/// An allocation that fails once, for a page or for a table, is no reason to end whoever has
/// faulted: there is memory.
#[cfg(feature = "lab")]
fn a_refused_frame_kills_nobody(_: &mut TestCtx<'_>) -> Outcome {
    use mm::buddy::refuse;
    without_leak(|| {
        let kills = total(Event::OomKill);
        let space = mapped(2)?;
        let _adopted = space.enter();
        for (page, usage) in [(0, Use::Table), (1, Use::Anon)] {
            let _refused = refuse::after(usage, 0);
            user::store(at(BASE, page), 7)?;
            check_eq!(user::load(at(BASE, page))?, 7);
        }
        check!(!space.mm().is_killed(), "it was killed");
        check_eq!(total(Event::OomKill), kills);
        Ok(())
    })
}
