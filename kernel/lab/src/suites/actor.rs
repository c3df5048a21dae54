//! What the explorer's actors run on: one token, a CPU for each, and interrupts of theirs while
//! they stand still.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arch::actor::{ActorError, Actors, MAX_ACTORS, Resumed, interrupt, suspend};
use sync::{cpu, irq, preempt, task};

use super::Outcome;
use crate::selftest::{Failure, Suite, TestCtx};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "actor",
    tests: tests![
        each_runs_where_and_when_it_is_told,
        ten_thousand_switches,
        interrupts_run_on_a_still_cpu,
        an_actor_interrupts_another,
        cpus_come_back,
        two_sets_at_a_time
    ],
};

/// Starts `n` actors.
fn start(n: usize, main: fn(usize)) -> Result<Actors, Failure> {
    Actors::start(n, main).map_err(|e| match e {
        ActorError::TooFewCpus { .. } => Failure::Skip(e.to_string()),
        ActorError::NoThread => Failure::new(e.to_string()),
    })
}

/// How many actors a test uses that wants several: two at least.
fn several() -> usize {
    crate::usable_cpus().saturating_sub(1).clamp(2, MAX_ACTORS)
}

fn resume(actors: &Actors, i: usize) -> Outcome {
    check_eq!(actors.resume(i), Resumed::Stopped);
    Ok(())
}

/// Who took the last step, where, as which thread, and how many it has taken.
static LAST: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
/// Steps of all actors.
static STEPS: AtomicUsize = AtomicUsize::new(0);

fn last() -> [usize; 4] {
    LAST.each_ref().map(|word| word.load(Ordering::Relaxed))
}

fn step(i: usize, mine: usize) {
    let now = [i, cpu::id(), task::current().index(), mine];
    for (word, value) in LAST.iter().zip(now) {
        word.store(value, Ordering::Relaxed);
    }
    STEPS.fetch_add(1, Ordering::Relaxed);
}

/// Stops on two depths of its stack.
fn stepping(i: usize) {
    let mut mine = 0;
    while suspend() {
        mine += 1;
        step(i, mine);
        if mine % 3 == 0 {
            stop_deeper(i, mine);
        }
    }
}

#[inline(never)]
fn stop_deeper(i: usize, mine: usize) {
    let before = mine;
    let _ = suspend();
    if before == mine {
        step(i, mine);
    }
}

/// Resumes the actors in an order that `choose` gives, `steps` times, and checks that exactly that
/// happens. Each ends in its outermost suspend.
fn drive(actors: &Actors, n: usize, steps: usize, mut choose: impl FnMut() -> usize) -> Outcome {
    let me = (cpu::id(), preempt::count(), irq::enabled());
    STEPS.store(0, Ordering::Relaxed);
    // Of each actor: resumes so far. Every third step is followed by one that has the same number.
    let mut resumes = [0; MAX_ACTORS];
    let mut done = 0;
    while done < steps || resumes[..n].iter().any(|r| r % 4 == 3) {
        let i = choose();
        resume(actors, i)?;
        done += 1;
        resumes[i] += 1;
        let mine = resumes[i] - resumes[i] / 4;
        check_eq!(last(), [i, actors.cpu(i), actors.task(i).index(), mine]);
        check_eq!(STEPS.load(Ordering::Relaxed), done);
        check!(actors.cpu(i) != cpu::id(), "actor {i} has the caller's CPU");
    }
    check_eq!((me.1, me.2), (preempt::count(), irq::enabled()));
    Ok(())
}

fn each_runs_where_and_when_it_is_told(t: &mut TestCtx<'_>) -> Outcome {
    let n = several();
    let actors = start(n, stepping)?;
    let cpus: BTreeSet<_> = (0..n).map(|i| actors.cpu(i)).collect();
    let tasks: BTreeSet<_> = (0..n).map(|i| actors.task(i).index()).collect();
    check_eq!((cpus.len(), tasks.len()), (n, n));
    let mut rng = fastrand::Rng::with_seed(t.seed);
    drive(&actors, n, 1000, || rng.usize(..n))
}

fn ten_thousand_switches(_: &mut TestCtx<'_>) -> Outcome {
    let actors = start(2, stepping)?;
    let mut turn = 0;
    drive(&actors, 2, 10_000, || {
        turn ^= 1;
        turn
    })
}

/// What the last handler found: its CPU, and whether interrupts were off in interrupt context.
static HANDLED_ON: AtomicUsize = AtomicUsize::new(usize::MAX);
static HANDLED_WELL: AtomicBool = AtomicBool::new(false);

fn handle() {
    HANDLED_ON.store(cpu::id(), Ordering::Relaxed);
    HANDLED_WELL.store(!irq::enabled() && irq::in_handler(), Ordering::Relaxed);
}

fn handled() -> (usize, bool) {
    let on = HANDLED_ON.swap(usize::MAX, Ordering::Relaxed);
    (on, HANDLED_WELL.swap(false, Ordering::Relaxed))
}

/// The stopping actor found itself as it was.
static UNCHANGED: AtomicBool = AtomicBool::new(true);

fn stops_unchanged() -> bool {
    let state = || {
        (
            cpu::id(),
            irq::enabled(),
            irq::in_handler(),
            preempt::count(),
        )
    };
    let before = state();
    let go = suspend();
    UNCHANGED.fetch_and(before == state(), Ordering::Relaxed);
    go
}

/// How often [`with_flags`] stands still in one turn.
const STOPS: usize = 4;

/// Stands still with interrupts on; without preemption; with interrupts off too; and again as the
/// second time.
fn with_flags(_: usize) {
    while stops_unchanged() {
        let _pinned = preempt::disable();
        stops_unchanged();
        let off = irq::disable();
        stops_unchanged();
        drop(off);
        stops_unchanged();
    }
}

fn interrupts_run_on_a_still_cpu(_: &mut TestCtx<'_>) -> Outcome {
    let n = several();
    let actors = start(n, with_flags)?;
    UNCHANGED.store(true, Ordering::Relaxed);
    for _ in 0..STOPS * 20 {
        for i in 0..n {
            let me = (preempt::count(), irq::enabled());
            for _ in 0..3 {
                interrupt(actors.cpu(i), handle);
                check_eq!(handled(), (actors.cpu(i), true));
            }
            check_eq!(me, (preempt::count(), irq::enabled()));
            resume(&actors, i)?;
        }
    }
    check!(
        UNCHANGED.load(Ordering::Relaxed),
        "an interrupt changed the state of the thread that it came upon"
    );
    Ok(())
}

static VICTIM: AtomicUsize = AtomicUsize::new(0);

fn interrupting(i: usize) {
    if i > 0 {
        return with_flags(i);
    }
    while stops_unchanged() {
        interrupt(VICTIM.load(Ordering::Relaxed), handle);
        let _off = irq::disable();
        interrupt(VICTIM.load(Ordering::Relaxed), handle);
    }
}

fn an_actor_interrupts_another(_: &mut TestCtx<'_>) -> Outcome {
    let actors = start(2, interrupting)?;
    VICTIM.store(actors.cpu(1), Ordering::Relaxed);
    UNCHANGED.store(true, Ordering::Relaxed);
    for _ in 0..STOPS * 20 {
        resume(&actors, 0)?;
        check_eq!(handled(), (actors.cpu(1), true));
        resume(&actors, 1)?;
    }
    check!(
        UNCHANGED.load(Ordering::Relaxed),
        "an interrupt changed the state of an actor"
    );
    Ok(())
}

fn cpus_come_back(_: &mut TestCtx<'_>) -> Outcome {
    let n = several();
    for _ in 0..20 {
        let actors = start(n, stepping)?;
        let mut turn = 0;
        drive(&actors, n, 8 * n, || {
            turn += 1;
            turn % n
        })?;
    }
    Ok(())
}

fn two_sets_at_a_time(_: &mut TestCtx<'_>) -> Outcome {
    let first = start(1, stepping)?;
    let Ok(second) = Actors::start(1, stepping) else {
        return Err(Failure::Skip("this machine has one set at a time".into()));
    };
    check!(first.cpu(0) != second.cpu(0), "two actors have one CPU");
    drive(&first, 1, 8, || 0)?;
    drive(&second, 1, 8, || 0)
}
