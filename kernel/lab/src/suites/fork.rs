//! fork, copy on write, exit.

use alloc::vec::Vec;

use arch::user;
use mm::stats::{Event, Use, total, use_pages};

use super::{BASE, Outcome, in_parallel, mapped, several, without_leak};
use crate::selftest::{Suite, TestCtx};
use crate::space::{Prot, at};
use crate::{check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "fork",
    tests: tests![
        parent_and_child_do_not_see_each_other,
        a_page_with_one_user_is_not_copied,
        protections_are_inherited,
        a_chain_of_forks_keeps_every_version,
        children_on_many_cpus,
        exit_gives_everything_back,
    ],
};

fn parent_and_child_do_not_see_each_other(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let parent = mapped(8)?;
        {
            let _adopted = parent.enter();
            for i in 0..8 {
                user::store(at(BASE, i), 100 + i as u64)?;
            }
        }
        let child = parent.fork()?;
        {
            let _adopted = child.enter();
            for i in 0..4 {
                check_eq!(user::load(at(BASE, i))?, 100 + i as u64);
                user::store(at(BASE, i), 200 + i as u64)?;
            }
        }
        let _adopted = parent.enter();
        for i in 0..8 {
            check_eq!(user::load(at(BASE, i))?, 100 + i as u64);
        }
        user::store(at(BASE, 7), 300)?;
        drop(_adopted);
        let _adopted = child.enter();
        check_eq!((user::load(BASE)?, user::load(at(BASE, 7))?), (200, 107));
        Ok(())
    })
}

fn a_page_with_one_user_is_not_copied(_: &mut TestCtx<'_>) -> Outcome {
    let parent = mapped(16)?;
    let _adopted = parent.enter();
    for i in 0..16 {
        user::store(at(BASE, i), 1)?;
    }
    let child = parent.fork()?;
    let before = (total(Event::CowCopy), total(Event::CowReuse));
    for i in 0..8 {
        user::store(at(BASE, i), 2)?;
    }
    check_eq!(total(Event::CowCopy) - before.0, 8);
    drop(child);
    let copies = total(Event::CowCopy);
    for i in 8..16 {
        user::store(at(BASE, i), 2)?;
    }
    check_eq!(
        (total(Event::CowCopy), total(Event::CowReuse) - before.1),
        (copies, 8)
    );
    Ok(())
}

fn protections_are_inherited(_: &mut TestCtx<'_>) -> Outcome {
    let parent = mapped(2)?;
    {
        let _adopted = parent.enter();
        user::store(BASE, 5)?;
    }
    parent.protect(BASE, 1, Prot::READ)?;
    let child = parent.fork()?;
    let _adopted = child.enter();
    check_eq!(user::load(BASE)?, 5);
    check_eq!(
        user::store(BASE, 6),
        Err(arch::upcall::FaultError::Protection)
    );
    user::store(at(BASE, 1), 6)?;
    Ok(())
}

fn a_chain_of_forks_keeps_every_version(_: &mut TestCtx<'_>) -> Outcome {
    const DEPTH: usize = 12;
    without_leak(|| {
        let mut chain = Vec::from([mapped(DEPTH)?]);
        for depth in 0..DEPTH {
            let space = &chain[depth];
            let adopted = space.enter();
            user::store(at(BASE, depth), depth as u64 + 1)?;
            user::store(BASE, 1000 + depth as u64)?;
            drop(adopted);
            chain.push(space.fork()?);
        }
        for (depth, space) in chain.iter().enumerate().take(DEPTH) {
            let _adopted = space.enter();
            check_eq!(user::load(BASE)?, 1000 + depth as u64);
            for i in 1..DEPTH {
                let expected = if i <= depth { i as u64 + 1 } else { 0 };
                check_eq!(user::load(at(BASE, i))?, expected);
            }
        }
        // From the middle outwards, so that parents end before children and the other way round.
        while !chain.is_empty() {
            chain.remove(chain.len() / 2);
        }
        Ok(())
    })
}

fn children_on_many_cpus(_: &mut TestCtx<'_>) -> Outcome {
    const PAGES: usize = 64;
    without_leak(|| {
        let n = several();
        let parent = mapped(PAGES)?;
        {
            let _adopted = parent.enter();
            for i in 0..PAGES {
                user::store(at(BASE, i), i as u64)?;
            }
        }
        let children = (0..n)
            .map(|_| parent.fork())
            .collect::<Result<Vec<_>, _>>()?;
        in_parallel(n, move |me, meeting| {
            let _adopted = children[me].enter();
            meeting.wait(0)?;
            for i in 0..PAGES {
                check_eq!(
                    user::fetch_add(at(BASE, i), 1000 * (me as u64 + 1))?,
                    i as u64
                );
            }
            for i in 0..PAGES {
                check_eq!(user::load(at(BASE, i))?, i as u64 + 1000 * (me as u64 + 1));
            }
            Ok(())
        })?;
        let _adopted = parent.enter();
        for i in 0..PAGES {
            check_eq!(user::load(at(BASE, i))?, i as u64);
        }
        Ok(())
    })
}

fn exit_gives_everything_back(_: &mut TestCtx<'_>) -> Outcome {
    let before = use_pages(Use::Anon);
    without_leak(|| {
        let space = mapped(2000)?;
        let adopted = space.enter();
        for i in 0..2000 {
            user::store(at(BASE, i), 1)?;
        }
        let child = space.fork()?;
        check_eq!(use_pages(Use::Anon) - before, 2000);
        drop(adopted);
        drop(space);
        check_eq!(use_pages(Use::Anon) - before, 2000);
        drop(child);
        Ok(())
    })
}
