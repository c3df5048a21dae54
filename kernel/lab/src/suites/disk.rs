//! A swap disk that fails: no data is lost on write errors, and an unreadable page is an error for whoever
//! needs it, and for nobody else.

use arch::block::Op;
use arch::upcall::FaultError;
use arch::user;
use mm::stats::{Event, total};

use super::reclaim::{PAGES, need_swap, swapped, verify, word};
use super::{BASE, Outcome, without_leak};
use crate::faulty::{Rule, SWAP};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::space::at;
use crate::{check, check_eq, startup, tests};

pub(super) static SUITE: Suite = Suite {
    name: "disk",
    tests: tests![write_errors_lose_nothing, read_errors_are_sigbus],
};

/// Runs `f` while `times` requests of kind `op` fail, then makes the disk whole again: slots that failed
/// are remembered as bad until swapping starts anew.
fn with_errors(op: Op, times: u64, f: impl FnOnce() -> Outcome) -> Outcome {
    need_swap()?;
    let rule = Rule {
        op,
        first: 0,
        end: u64::MAX,
        times,
    };
    check!(SWAP.add(rule), "rules are left over");
    let result = f();
    SWAP.clear();
    mm::reclaim::settle();
    startup::swap_off().map_err(Failure::new)?;
    startup::swap_on().map_err(Failure::new)?;
    result
}

fn write_errors_lose_nothing(_: &mut TestCtx<'_>) -> Outcome {
    let before = total(Event::SwapWriteError);
    with_errors(Op::Write, 10, || {
        without_leak(|| {
            let space = swapped()?;
            check!(
                total(Event::SwapWriteError) >= before + 10,
                "the errors were not noticed"
            );
            let _adopted = space.enter();
            verify(BASE, 0..PAGES)
        })
    })
}

fn read_errors_are_sigbus(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    let before = total(Event::SwapReadError);
    without_leak(|| {
        let space = swapped()?;
        let out = space.mm().swap_entries.get();
        let mut failed = 0;
        with_errors(Op::Read, u64::MAX, || {
            let _adopted = space.enter();
            for i in 0..PAGES {
                match user::load(at(BASE, i)) {
                    Ok(found) => check_eq!(found, word(i)),
                    Err(FaultError::Bus) => failed += 1,
                    Err(e) => return Err(e.into()),
                }
            }
            // What was not needed from the disk is still there, and the rest comes when the disk is whole.
            SWAP.clear();
            verify(BASE, 0..PAGES)
        })?;
        check_eq!(failed, out);
        check!(
            total(Event::SwapReadError) > before,
            "the errors were not counted"
        );
        Ok(())
    })
}
