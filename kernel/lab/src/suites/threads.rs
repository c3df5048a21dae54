//! What the machine promises: threads, sleeping, IPIs.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use arch::thread;
use sync::CpuMask;

use super::{Outcome, in_parallel, several};
use crate::selftest::{Suite, TestCtx};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "threads",
    tests: tests![
        spawn_and_join,
        sleep_lasts_and_ends,
        a_function_call_reaches_every_cpu,
        mutual_exclusion
    ],
};

fn spawn_and_join(_: &mut TestCtx<'_>) -> Outcome {
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..50 {
        let ran = ran.clone();
        in_parallel(several(), move |_, _| {
            ran.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
    }
    check_eq!(ran.load(Ordering::Relaxed), 50 * several());
    Ok(())
}

fn sleep_lasts_and_ends(_: &mut TestCtx<'_>) -> Outcome {
    let started = arch::now_ns();
    thread::sleep_ns(20_000_000);
    let slept = arch::now_ns() - started;
    check!(
        slept >= 20_000_000,
        "asked for 20 ms of sleep, got {slept} ns"
    );
    Ok(())
}

static CALLED: AtomicUsize = AtomicUsize::new(0);

fn mark_cpu(_: usize) {
    CALLED.fetch_or(1 << sync::cpu::id(), Ordering::Relaxed);
}

fn a_function_call_reaches_every_cpu(_: &mut TestCtx<'_>) -> Outcome {
    for _ in 0..20 {
        CALLED.store(0, Ordering::Relaxed);
        let all: CpuMask = arch::online();
        arch::call_on(all, mark_cpu, 0);
        check_eq!(CALLED.load(Ordering::Relaxed), all.bits() as usize);
    }
    Ok(())
}

fn mutual_exclusion(_: &mut TestCtx<'_>) -> Outcome {
    const ROUNDS: usize = 500;
    let n = several();
    let counter = Arc::new(sync::Mutex::new(sync::Rank::SwapOn, 0usize));
    let shared = counter.clone();
    in_parallel(n, move |_, meeting| {
        meeting.wait(0)?;
        for _ in 0..ROUNDS {
            let mut value = shared.lock();
            let seen = *value;
            thread::yield_now();
            *value = seen + 1;
        }
        Ok(())
    })?;
    check_eq!(*counter.lock(), n * ROUNDS);
    Ok(())
}
