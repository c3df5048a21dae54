//! Shootdown: what one CPU takes away, no CPU goes on using; and each rule broken on purpose is
//! noticed.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::{thread, user};

use super::{BASE, Outcome, TABLE, in_parallel, mapped, several};
use crate::selftest::{Suite, TestCtx};
use crate::space::{Advice, Prot, Space, at};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "tlb",
    tests: tests![
        unmapped_pages_are_gone_everywhere,
        write_protection_holds_everywhere,
        fork_protects_everywhere,
        a_cpu_that_was_away_sees_the_change,
        a_lockless_walker_keeps_its_table,
        a_lockless_walker_finds_what_is_mapped,
        broken_tlb_flush_is_noticed,
        broken_wp_flush_is_noticed,
        broken_table_flush_is_noticed,
    ],
};

const PAGES: usize = 16;
/// A TLB may forget what would be stale: a broken rule is tried this often before it counts as
/// unnoticed.
const TRIES: usize = 500;

/// `n` threads of one address space: the owner (0) changes something, the others look after it.
///
/// A round: the owner prepares; all use the pages, so that TLBs hold them; the owner changes; the
/// others look. `look` returns what it found wrong; the sum over all rounds is the result. Stops at
/// the first finding if `until_seen`.
fn rounds(
    rounds: usize,
    until_seen: bool,
    prepare: fn(&Space) -> Outcome,
    change: fn(&Space, usize) -> Outcome,
    look: fn() -> u64,
) -> Result<u64, crate::selftest::Failure> {
    let n = several();
    let space = Space::new()?;
    let found = Arc::new(AtomicU64::new(0));
    let (shared, findings) = (space, found.clone());
    in_parallel(n, move |me, meeting| {
        let _adopted = shared.enter();
        for round in 0..rounds {
            if me == 0 {
                prepare(&shared)?;
            }
            meeting.wait(4 * round)?;
            for i in 0..PAGES {
                user::fetch_add(at(BASE, i), 1)?;
            }
            meeting.wait(4 * round + 1)?;
            if me == 0 {
                change(&shared, round)?;
            }
            meeting.wait(4 * round + 2)?;
            if me != 0 {
                findings.fetch_add(look(), Ordering::Relaxed);
            }
            // Where the flush is broken, the next round must not store to freed frames.
            arch::flush_local();
            meeting.wait(4 * round + 3)?;
            if until_seen && findings.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        Ok(())
    })?;
    Ok(found.load(Ordering::Acquire))
}

fn map_afresh(space: &Space) -> Outcome {
    Ok(space.map(BASE, PAGES, Prot::RW)?)
}

/// Takes the pages away, in a way that changes from round to round.
fn take_away(space: &Space, round: usize) -> Outcome {
    let aside = at(BASE, 4096);
    match round % 5 {
        0 => space.advise(BASE, PAGES, Advice::DontNeed)?,
        1 => space.unmap(BASE, PAGES)?,
        2 => space.map(BASE, PAGES, Prot::RW)?,
        3 => space.protect(BASE, PAGES, Prot::NONE)?,
        _ => {
            space.move_to(BASE, PAGES, aside)?;
            space.unmap(aside, PAGES)?;
        }
    }
    Ok(())
}

/// Pages that still can be read, though nothing was put there since they were taken away.
fn readable() -> u64 {
    (0..PAGES)
        .filter(|i| user::load_nofault(at(BASE, *i)).is_some())
        .count() as u64
}

/// Pages that still can be written.
fn writable() -> u64 {
    (0..PAGES)
        .filter(|i| user::store_nofault(at(BASE, *i), 1))
        .count() as u64
}

fn protect(space: &Space, _: usize) -> Outcome {
    Ok(space.protect(BASE, PAGES, Prot::READ)?)
}

fn unmapped_pages_are_gone_everywhere(_: &mut TestCtx<'_>) -> Outcome {
    check_eq!(rounds(60, false, map_afresh, take_away, readable)?, 0);
    Ok(())
}

fn write_protection_holds_everywhere(_: &mut TestCtx<'_>) -> Outcome {
    check_eq!(rounds(40, false, map_afresh, protect, writable)?, 0);
    Ok(())
}

fn fork_protects_everywhere(_: &mut TestCtx<'_>) -> Outcome {
    // The child goes at once; the entries stay protected until the next write fault.
    let fork = |space: &Space, _: usize| -> Outcome { Ok(space.fork().map(drop)?) };
    check_eq!(rounds(40, false, map_afresh, fork, writable)?, 0);
    Ok(())
}

/// A CPU that left the address space and comes back must not find its old translations.
fn a_cpu_that_was_away_sees_the_change(_: &mut TestCtx<'_>) -> Outcome {
    const ROUNDS: usize = 40;
    let space = Space::new()?;
    in_parallel(2, move |me, meeting| {
        let owned = (me == 0).then(|| space.enter());
        for round in 0..ROUNDS {
            if me == 0 {
                space.map(BASE, PAGES, Prot::RW)?;
            }
            meeting.wait(4 * round)?;
            if me == 1 {
                let _adopted = space.enter();
                for i in 0..PAGES {
                    user::store(at(BASE, i), 1)?;
                }
            }
            meeting.wait(4 * round + 1)?;
            if me == 0 {
                space.unmap(BASE, PAGES)?;
            }
            meeting.wait(4 * round + 2)?;
            if me == 1 {
                let _adopted = space.enter();
                check_eq!(readable(), 0);
            }
            meeting.wait(4 * round + 3)?;
        }
        drop(owned);
        Ok(())
    })
}

/// Rule 5. A walker with interrupts off looks at a table while the owner unmaps all of it. Returns
/// whether the owner finished while the walker still had interrupts off: then the table was freed
/// under it.
fn unmap_under_a_walker(patience_ns: u64) -> Result<bool, crate::selftest::Failure> {
    const IDLE: u64 = 0;
    const WALKING: u64 = 1;
    const UNMAPPED: u64 = 2;
    let state = Arc::new(AtomicU64::new(IDLE));
    let overtaken = Arc::new(AtomicU64::new(0));
    let space = mapped(TABLE)?;
    let (shared, seen) = (state, overtaken.clone());
    in_parallel(2, move |me, _| {
        let _adopted = space.enter();
        if me == 1 {
            user::store(at(BASE, 7), 1)?;
            let irq_off = sync::irq::disable();
            shared.store(WALKING, Ordering::Release);
            let until = arch::now_ns() + patience_ns;
            while arch::now_ns() < until && shared.load(Ordering::Acquire) != UNMAPPED {
                core::hint::spin_loop();
            }
            if shared.load(Ordering::Acquire) == UNMAPPED {
                seen.store(1, Ordering::Relaxed);
            }
            drop(irq_off);
        } else {
            while shared.load(Ordering::Acquire) != WALKING {
                thread::yield_now();
            }
            space.unmap(BASE, TABLE)?;
            shared.store(UNMAPPED, Ordering::Release);
        }
        Ok(())
    })?;
    Ok(overtaken.load(Ordering::Relaxed) == 1)
}

fn a_lockless_walker_keeps_its_table(_: &mut TestCtx<'_>) -> Outcome {
    if crate::usable_cpus() < 2 {
        return Err(crate::selftest::Failure::Skip("needs two CPUs".into()));
    }
    for _ in 0..5 {
        check!(
            !unmap_under_a_walker(10_000_000)?,
            "a table was freed under a lockless walker"
        );
    }
    Ok(())
}

fn a_lockless_walker_finds_what_is_mapped(_: &mut TestCtx<'_>) -> Outcome {
    use mm::HasContent;
    use mm::adopt::{follow_fast, follow_fast_to_write};
    use mm::inspect::frame;
    let space = mapped(3)?;
    let _adopted = space.enter();
    user::store(at(BASE, 0), 7)?;
    user::load(at(BASE, 1))?;
    let walk = |page: usize| {
        let irq = sync::irq::disable();
        follow_fast(&irq, at(BASE, page))
    };
    let may_write = |page: usize| {
        let irq = sync::irq::disable();
        follow_fast_to_write(&irq, at(BASE, page)).is_some()
    };
    check!(may_write(0), "not found for writing");
    let held = walk(0).ok_or_else(|| crate::selftest::Failure::new("no folio found"))?;
    let word = held.words()[0].load(Ordering::Relaxed);
    check_eq!((word, frame(held.pfn()).refcount()), (7, 2));
    check!(walk(1).is_none(), "the zero page was handed out");
    check!(walk(2).is_none(), "a page that was never touched was found");
    space.protect(BASE, 1, Prot::READ)?;
    check!(!may_write(0), "found for writing without the right");
    check!(walk(0).is_some(), "not found for reading");
    space.unmap(BASE, 3)?;
    check!(walk(0).is_none(), "found after the unmap");
    let word = held.words()[0].load(Ordering::Relaxed);
    check_eq!((word, frame(held.pfn()).refcount()), (7, 1));
    Ok(())
}

/// Runs `f` with the knob off and drops what the simulator's oracle saw meanwhile.
#[cfg(feature = "lab")]
fn with_broken<R>(
    knob: mm::knobs::Knob,
    f: impl FnOnce() -> R,
) -> Result<R, crate::selftest::Failure> {
    if crate::usable_cpus() < 2 {
        return Err(crate::selftest::Failure::Skip("needs two CPUs".into()));
    }
    let was = mm::knobs::set(knob, false);
    let result = f();
    mm::knobs::set(knob, was);
    crate::oracle::take();
    Ok(result)
}

#[cfg(feature = "lab")]
fn broken_tlb_flush_is_noticed(_: &mut TestCtx<'_>) -> Outcome {
    let away = |space: &Space, _: usize| take_away(space, 0);
    let found = with_broken(mm::knobs::Knob::TlbFlush, || {
        rounds(TRIES, true, map_afresh, away, readable)
    })??;
    check!(found > 0, "without the flush no stale translation was seen");
    Ok(())
}

#[cfg(feature = "lab")]
fn broken_wp_flush_is_noticed(_: &mut TestCtx<'_>) -> Outcome {
    let found = with_broken(mm::knobs::Knob::WpFlush, || {
        rounds(TRIES, true, map_afresh, protect, writable)
    })??;
    check!(
        found > 0,
        "without the flush no store through a stale translation went through"
    );
    Ok(())
}

#[cfg(feature = "lab")]
fn broken_table_flush_is_noticed(_: &mut TestCtx<'_>) -> Outcome {
    let found = with_broken(
        mm::knobs::Knob::TableFlush,
        || -> Result<bool, crate::selftest::Failure> {
            for _ in 0..20 {
                if unmap_under_a_walker(500_000_000)? {
                    return Ok(true);
                }
            }
            Ok(false)
        },
    )??;
    check!(
        found,
        "the unmap waited for the walker although it was told not to"
    );
    Ok(())
}

#[cfg(not(feature = "lab"))]
macro_rules! no_switches {
    ($($name:ident)*) => {
        $(fn $name(_: &mut TestCtx<'_>) -> Outcome {
            let _ = TRIES;
            Err(crate::selftest::Failure::Skip("this build has no switches".into()))
        })*
    };
}

#[cfg(not(feature = "lab"))]
no_switches!(broken_tlb_flush_is_noticed broken_wp_flush_is_noticed broken_table_flush_is_noticed);
