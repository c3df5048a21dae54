//! Huge pages: which first touch gets one, what keeps it whole, and what splits it.

use arch::addr::{HPAGE_PMD_ORDER, PMD_SIZE};
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::stats::{Event, total};
use mm::thp::{self, Policy};

use super::reclaim::need_swap;
use super::{Outcome, in_parallel, several, without_leak};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::space::{Advice, Prot, Space, at};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "thp",
    tests: tests![
        a_store_gets_a_huge_page,
        the_policy_and_the_area_decide,
        only_where_one_fits,
        whole_ones_stay_whole,
        parts_split_and_keep_their_content,
        a_child_has_the_pages,
        advice_for_a_part_cuts,
        first_touches_at_once,
    ],
};

/// Pages in a huge one.
const HUGE: usize = 1 << HPAGE_PMD_ORDER;
/// Where they lie.
const HOME: VirtAddr = VirtAddr(0x4000_0000);

/// The word of page `i`.
fn word(i: usize) -> u64 {
    0x7468_7000_0000 + i as u64
}

/// An address space of `pages` pages that may have huge ones.
fn advised(pages: usize) -> Result<Space, Failure> {
    let space = Space::new()?;
    space.map(HOME, pages, Prot::RW)?;
    space.advise(HOME, pages, Advice::HugePage)?;
    Ok(space)
}

/// `n` huge pages, each page of which has its word.
fn filled(n: usize) -> Result<Space, Failure> {
    let space = advised(n * HUGE)?;
    {
        let _adopted = space.enter();
        for i in 0..n * HUGE {
            user::store(at(HOME, i), word(i))?;
        }
    }
    mapped(&space, n)?;
    Ok(space)
}

/// So many huge pages are mapped.
fn mapped(space: &Space, n: usize) -> Outcome {
    check_eq!(space.mm().anon_huge.get(), n as u64);
    Ok(())
}

/// Each of the pages has its word.
fn verify(base: VirtAddr, pages: core::ops::Range<usize>) -> Outcome {
    for i in pages.clone() {
        let found = user::load(at(base, i - pages.start))?;
        check!(found == word(i), "page {i} holds {found:#x}");
    }
    Ok(())
}

fn a_store_gets_a_huge_page(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = advised(HUGE)?;
        let events = || (total(Event::ThpFaultAlloc), total(Event::PgFault));
        let before = events();
        {
            let _adopted = space.enter();
            user::store(at(HOME, HUGE / 2), 7)?;
            for i in 0..HUGE {
                let wanted = if i == HUGE / 2 { 7 } else { 0 };
                check_eq!(user::load(at(HOME, i))?, wanted);
                user::store(VirtAddr(at(HOME, i).0 + PAGE_SIZE - 8), word(i))?;
            }
        }
        let after = events();
        check!(after.0 > before.0, "no huge page was counted");
        check_eq!(space.mm().rss(), HUGE as u64);
        mapped(&space, 1)?;
        let areas = space.mm().areas();
        let frame = |i| areas.with_entry(at(HOME, i), |entry| entry.pfn());
        let first = frame(0).ok_or_else(|| Failure::new("no entry"))?;
        for i in 0..HUGE {
            check_eq!(frame(i), Some(first.add(i as u32)));
        }
        Ok(())
    })
}

/// Until it is dropped, this is the machine's policy.
struct Set(Policy);

impl Set {
    fn to(policy: Policy) -> Self {
        let before = thp::policy();
        thp::set_policy(policy);
        Self(before)
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        thp::set_policy(self.0);
    }
}

fn the_policy_and_the_area_decide(_: &mut TestCtx<'_>) -> Outcome {
    use Policy::{Always, Madvise, Never};
    without_leak(|| {
        for (policy, advice, wanted) in [
            (Always, None, 1),
            (Always, Some(Advice::NoHugePage), 0),
            (Madvise, None, 0),
            (Madvise, Some(Advice::HugePage), 1),
            (Never, Some(Advice::HugePage), 0),
        ] {
            let _set = Set::to(policy);
            let space = Space::new()?;
            space.map(HOME, HUGE, Prot::RW)?;
            if let Some(advice) = advice {
                space.advise(HOME, HUGE, advice)?;
            }
            let _adopted = space.enter();
            user::store(HOME, 1)?;
            mapped(&space, wanted)?;
        }
        Ok(())
    })
}

fn only_where_one_fits(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        // From the middle of one huge page's range to the middle of the next but one's.
        let space = Space::new()?;
        let first = at(HOME, HUGE / 2);
        space.map(first, 2 * HUGE, Prot::RW)?;
        space.advise(first, 2 * HUGE, Advice::HugePage)?;
        let _adopted = space.enter();
        for i in [HUGE / 2, 2 * HUGE] {
            user::store(at(HOME, i), 1)?;
            mapped(&space, 0)?;
        }
        user::store(at(HOME, HUGE), 1)?;
        mapped(&space, 1)?;
        // Where a page is mapped already, its table stays.
        space.map(at(HOME, 3 * HUGE), HUGE, Prot::RW)?;
        space.advise(at(HOME, 3 * HUGE), HUGE, Advice::HugePage)?;
        check_eq!(user::load(at(HOME, 3 * HUGE))?, 0);
        user::store(at(HOME, 3 * HUGE + 1), 1)?;
        mapped(&space, 1)
    })
}

fn whole_ones_stay_whole(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = filled(2)?;
        let _adopted = space.enter();
        space.protect(HOME, HUGE, Prot::READ)?;
        check_eq!(user::store(HOME, 0), Err(FaultError::Protection));
        space.protect(HOME, HUGE, Prot::NONE)?;
        check_eq!(user::load(HOME), Err(FaultError::Protection));
        space.protect(HOME, HUGE, Prot::RW)?;
        verify(HOME, 0..2 * HUGE)?;
        user::store(HOME, word(0))?;
        mapped(&space, 2)?;
        space.advise(HOME, HUGE, Advice::DontNeed)?;
        mapped(&space, 1)?;
        check_eq!(user::load(HOME)?, 0);
        verify(at(HOME, HUGE), HUGE..2 * HUGE)?;
        space.unmap(at(HOME, HUGE), HUGE)?;
        mapped(&space, 0)
    })
}

/// What needs part of a huge page, and the pages of it that it leaves as they were.
type Split = (&'static str, fn(&Space) -> Outcome, core::ops::Range<usize>);

const SPLITS: [Split; 8] = [
    (
        "dontneed",
        |s| Ok(s.advise(HOME, 1, Advice::DontNeed)?),
        1..HUGE,
    ),
    (
        "munmap",
        |s| Ok(s.unmap(at(HOME, HUGE - 1), 1)?),
        0..HUGE - 1,
    ),
    (
        "mprotect",
        |s| Ok(s.protect(at(HOME, 2), 3, Prot::READ)?),
        0..HUGE,
    ),
    (
        "mremap",
        |s| Ok(s.move_to(HOME, 1, at(HOME, 4 * HUGE))?),
        1..HUGE,
    ),
    ("cold", |s| Ok(s.advise(HOME, 1, Advice::Cold)?), 0..HUGE),
    (
        "free",
        |s| Ok(s.advise(at(HOME, 1), 1, Advice::Free)?),
        2..HUGE,
    ),
    (
        "migrate",
        |s| {
            check_eq!(s.migrate(at(HOME, 1), 2)?.moved, 2);
            Ok(())
        },
        0..HUGE,
    ),
    ("fork", |s| Ok(s.fork().map(drop)?), 0..HUGE),
];

fn parts_split_and_keep_their_content(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        for (name, split, kept) in SPLITS {
            let space = filled(1)?;
            let splits = total(Event::ThpSplitPage);
            split(&space)?;
            check!(
                space.mm().anon_huge.get() == 0 && total(Event::ThpSplitPage) > splits,
                "{name} has split no huge page"
            );
            let _adopted = space.enter();
            verify(at(HOME, kept.start), kept.clone())?;
            check!(
                space.mm().rss() >= kept.len() as u64,
                "{name}: {} pages are resident",
                space.mm().rss()
            );
        }
        if need_swap().is_ok() {
            let space = filled(1)?;
            space.advise(HOME, HUGE, Advice::PageOut)?;
            mapped(&space, 0)?;
            let _adopted = space.enter();
            verify(HOME, 0..HUGE)?;
        }
        Ok(())
    })
}

fn a_child_has_the_pages(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let parent = filled(2)?;
        let child = parent.fork()?;
        {
            let _adopted = parent.enter();
            for i in 0..HUGE {
                user::store(at(HOME, i), 1)?;
            }
        }
        {
            let _adopted = child.enter();
            verify(HOME, 0..2 * HUGE)?;
            user::store(at(HOME, HUGE), 2)?;
            // What is new in the child may be huge again.
            child.advise(HOME, HUGE, Advice::DontNeed)?;
            check_eq!(user::load(HOME)?, 0);
        }
        let _adopted = parent.enter();
        verify(at(HOME, HUGE), HUGE..2 * HUGE)
    })
}

fn advice_for_a_part_cuts(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = filled(2)?;
        let areas = || space.mm().areas().count();
        check_eq!(areas(), 1);
        space.advise(at(HOME, 1), 1, Advice::NoHugePage)?;
        check_eq!(areas(), 3);
        mapped(&space, 1)?;
        space.advise(HOME, 2 * HUGE, Advice::HugePage)?;
        check_eq!(areas(), 1);
        let hole = space.advise(at(HOME, HUGE), 2 * HUGE, Advice::NoHugePage);
        check_eq!(hole, Err(mm::MmError::NotMapped));
        check_eq!(areas(), 2);
        let _adopted = space.enter();
        verify(HOME, 0..2 * HUGE)
    })
}

/// Several threads touch the same huge pages first, each another page.
fn first_touches_at_once(_: &mut TestCtx<'_>) -> Outcome {
    const ROUNDS: usize = 20;
    without_leak(|| {
        let threads = several();
        let space = advised(2 * HUGE)?;
        let shared = space.clone();
        in_parallel(threads, move |me, meeting| {
            let _adopted = shared.enter();
            for round in 0..ROUNDS {
                for i in [me, HUGE + me] {
                    user::store(at(HOME, i), word(i))?;
                }
                meeting.wait(3 * round)?;
                for other in 0..threads {
                    verify(at(HOME, other), other..other + 1)?;
                }
                meeting.wait(3 * round + 1)?;
                if me == 0 {
                    shared.advise(HOME, 2 * HUGE, Advice::DontNeed)?;
                }
                meeting.wait(3 * round + 2)?;
            }
            Ok(())
        })?;
        check!(
            space.mm().rss() <= 2 * (PMD_SIZE / PAGE_SIZE),
            "{} pages are resident",
            space.mm().rss()
        );
        Ok(())
    })
}
