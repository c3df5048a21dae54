//! The real machine: what its page tables allow, preemption, interrupts between CPUs. The simulator
//! has no counterpart to these.

use core::sync::atomic::{AtomicUsize, Ordering};

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch::thread::{self, JoinHandle, Spawn};
use arch::upcall::FaultError;
use arch::{RegionKind, USER_TOP, VirtAddr, user};

use mm::MmError;
use mm::stats::{Use, use_pages};

use super::{Outcome, in_parallel, several};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "machine",
    tests: tests![
        kernel_mappings_allow_what_they_must,
        memory_map_is_sorted_and_apart,
        kernel_half_is_no_user_memory,
        interrupt_commands_are_fenced,
        global_pages_came_last,
        the_trampoline_page_is_gone_everywhere,
        time_runs_forward,
        a_busy_thread_is_preempted,
        calls_cross,
        threads_move,
        wakeups_and_timeouts_race,
        large_blocks_of_the_heap_go_back,
    ],
};

fn kernel_mappings_allow_what_they_must(ctx: &mut TestCtx<'_>) -> Outcome {
    match arch::audit() {
        Ok(seen) => {
            ctx.note(format_args!(
                "{} writable, {} executable, {} stacks",
                seen.writable, seen.executable, seen.stacks
            ));
            check!(seen.executable > 0 && seen.writable > 0 && seen.stacks > 0);
            Ok(())
        }
        Err(flaw) => Err(Failure::new(format!("{:?}: {}", flaw.va, flaw.what))),
    }
}

fn memory_map_is_sorted_and_apart(_: &mut TestCtx<'_>) -> Outcome {
    let map = arch::memory_map();
    for r in map {
        check!(
            r.start < r.end && (r.start.0 | r.end.0) % arch::PAGE_SIZE == 0,
            "{r:?} is empty or not whole pages"
        );
    }
    for pair in map.windows(2) {
        check!(
            pair[0].end <= pair[1].start,
            "{:?} and {:?} overlap",
            pair[0],
            pair[1]
        );
    }
    let usable = map.iter().filter(|r| r.kind == RegionKind::Usable).count();
    check!(usable > 0);
    Ok(())
}

fn kernel_half_is_no_user_memory(_: &mut TestCtx<'_>) -> Outcome {
    let mine = 7u64;
    for va in [
        VirtAddr(USER_TOP),
        VirtAddr(&raw const mine as u64),
        VirtAddr(arch::frame_ptr(arch::kernel_root()) as u64),
        VirtAddr(u64::MAX - 7),
    ] {
        check_eq!(user::load(va), Err(FaultError::Unmapped));
        check_eq!(user::store(va, 1), Err(FaultError::Unmapped));
        check_eq!(user::fetch_add(va, 1), Err(FaultError::Unmapped));
        check_eq!(user::load_nofault(va), None);
        check!(!user::store_nofault(va, 1));
    }
    Ok(())
}

fn interrupt_commands_are_fenced(_: &mut TestCtx<'_>) -> Outcome {
    match arch::audit_commands() {
        Ok(found) => {
            check!(found > 0, "the code that sends an interrupt was not found");
            Ok(())
        }
        Err(flaw) => Err(Failure::new(format!("{:?}: {}", flaw.va, flaw.what))),
    }
}

/// Every CPU has them, and none was started with them on: they come after paging.
fn global_pages_came_last(_: &mut TestCtx<'_>) -> Outcome {
    static WITH: AtomicUsize = AtomicUsize::new(0);
    WITH.store(0, Ordering::Relaxed);
    let count = |_| {
        WITH.fetch_add(usize::from(arch::global_pages()), Ordering::Relaxed);
    };
    arch::call_on(arch::online(), count, 0);
    let wanted = if arch::features().pge {
        arch::nr_cpus()
    } else {
        0
    };
    check_eq!(WITH.load(Ordering::Relaxed), wanted);
    if arch::nr_cpus() > 1 {
        check!(
            !arch::started_with_global_pages(),
            "CPUs turn global pages on before paging"
        );
    }
    Ok(())
}

#[cfg(feature = "lab")]
fn the_trampoline_page_is_gone_everywhere(_: &mut TestCtx<'_>) -> Outcome {
    let seen = arch::identity_seen();
    check_eq!(seen.shown, arch::online());
    check_eq!(seen.stale, sync::CpuMask::empty());
    Ok(())
}

#[cfg(not(feature = "lab"))]
fn the_trampoline_page_is_gone_everywhere(_: &mut TestCtx<'_>) -> Outcome {
    Err(Failure::Skip("this build does not look".into()))
}

/// A block of the heap that is large enough for pages of its own, and gives them back: no CPU may
/// go on using them at the address, where another block is then.
fn large_blocks_of_the_heap_go_back(_: &mut TestCtx<'_>) -> Outcome {
    const WORDS: usize = (1 << 20) / 8;
    let frames = || use_pages(Use::Heap);
    // What the first round needs beside the block stays: a table of tables, and room for small
    // blocks.
    let mut before = None;
    let mut places = Vec::with_capacity(20);
    for round in 0..20 {
        let had = frames();
        let mut block = Vec::new();
        block
            .try_reserve_exact(WORDS)
            .map_err(|_| MmError::NoMemory)?;
        block.extend((0..WORDS).map(|i| AtomicUsize::new(i * 100 + round)));
        check!(frames() >= had + 256, "the block has no pages of its own");
        let block = Arc::new(block);
        places.push(block.as_ptr());
        let shared = block.clone();
        in_parallel(several(), move |_, _| {
            for i in (0..WORDS).step_by(64) {
                check_eq!(shared[i].load(Ordering::Relaxed), i * 100 + round);
            }
            Ok(())
        })?;
        check_eq!(Arc::strong_count(&block), 1);
        drop(block);
        check_eq!(frames(), *before.get_or_insert(frames()));
        // Other frames for the next one.
        let page = mm::buddy::alloc(0, Use::Misc, mm::buddy::Gfp::NOWAIT);
        let _held = page.map_err(|_| MmError::NoMemory)?;
    }
    check!(
        places.iter().all(|&p| p == places[0]),
        "not the same address"
    );
    Ok(())
}

fn time_runs_forward(_: &mut TestCtx<'_>) -> Outcome {
    let _pinned = sync::preempt::disable();
    let mut before = arch::now_ns();
    for _ in 0..10_000 {
        let now = arch::now_ns();
        check!(now >= before, "time went from {before} to {now}");
        before = now;
    }
    Ok(())
}

/// Starts `n` threads, thread `i` on CPU `cpu(i)`.
fn start(
    n: usize,
    cpu: impl Fn(usize) -> usize,
    body: fn(usize),
) -> Result<Vec<JoinHandle>, Failure> {
    (0..n)
        .map(|i| {
            let how = Spawn {
                name: "test",
                cpu: Some(cpu(i)),
            };
            thread::spawn(how, Box::new(move || body(i)))
                .map_err(|e| Failure::new(format!("no thread for the test: {e:?}")))
        })
        .collect()
}

/// Three threads on one CPU meet by spinning: without preemption the first would spin for ever.
fn a_busy_thread_is_preempted(_: &mut TestCtx<'_>) -> Outcome {
    static HERE: AtomicUsize = AtomicUsize::new(0);
    const THREADS: usize = 3;
    HERE.store(0, Ordering::Relaxed);
    let meet = |_| {
        HERE.fetch_add(1, Ordering::Relaxed);
        while HERE.load(Ordering::Relaxed) < THREADS {
            core::hint::spin_loop();
        }
    };
    let last = arch::nr_cpus() - 1;
    let threads = start(THREADS, |_| last, meet)?;
    threads.into_iter().for_each(JoinHandle::join);
    check_eq!(HERE.load(Ordering::Relaxed), THREADS);
    Ok(())
}

/// Every CPU calls all CPUs at the same time: each waits for the others and must serve them
/// meanwhile.
fn calls_cross(_: &mut TestCtx<'_>) -> Outcome {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    const ROUNDS: usize = 50;
    CALLS.store(0, Ordering::Relaxed);
    let n = arch::nr_cpus();
    let call = |_| {
        let count = |_| {
            CALLS.fetch_add(1, Ordering::Relaxed);
        };
        for _ in 0..ROUNDS {
            arch::call_on(arch::online(), count, 0);
        }
    };
    let threads = start(n, |i| i, call)?;
    threads.into_iter().for_each(JoinHandle::join);
    check_eq!(CALLS.load(Ordering::Relaxed), ROUNDS * n * n);
    Ok(())
}

fn threads_move(_: &mut TestCtx<'_>) -> Outcome {
    static WRONG: AtomicUsize = AtomicUsize::new(0);
    WRONG.store(0, Ordering::Relaxed);
    let wander = |i: usize| {
        for step in 0..40 {
            let to = (i + step) % arch::nr_cpus();
            if !thread::migrate_to(to) || sync::cpu::id() != to {
                WRONG.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let n = arch::nr_cpus();
    let threads = start(n + 1, |i| i % n, wander)?;
    threads.into_iter().for_each(JoinHandle::join);
    check_eq!(WRONG.load(Ordering::Relaxed), 0);
    check!(!thread::migrate_to(n), "there is no CPU {n}");
    Ok(())
}

/// Threads in pairs: one parks with tiny timeouts, the other unparks it at the same moments. Each
/// park returns, on a stack that nobody else uses, with interrupts and preemption as they were.
fn wakeups_and_timeouts_race(_: &mut TestCtx<'_>) -> Outcome {
    static SLEEPER: AtomicUsize = AtomicUsize::new(0);
    static PARKS: AtomicUsize = AtomicUsize::new(0);
    static WRONG: AtomicUsize = AtomicUsize::new(0);
    const ROUNDS: usize = 200;
    SLEEPER.store(0, Ordering::Relaxed);
    PARKS.store(0, Ordering::Relaxed);
    WRONG.store(0, Ordering::Relaxed);
    let body = |i: usize| {
        let me = sync::task::current();
        if i == 0 {
            SLEEPER.store(me.index(), Ordering::Release);
        }
        for round in 0..ROUNDS {
            if i == 0 {
                sync::threads().park_timeout(20_000 + 500 * (round as u64 % 64));
                PARKS.fetch_add(1, Ordering::Relaxed);
            } else {
                let sleeper = SLEEPER.load(Ordering::Acquire);
                if sleeper != 0 {
                    sync::threads().unpark(sync::TaskId(sleeper as u16));
                }
                sync::threads().park_timeout(10_000 + 700 * (round as u64 % 64));
            }
            let sane =
                sync::task::current() == me && sync::irq::enabled() && sync::preempt::count() == 0;
            WRONG.fetch_add(usize::from(!sane), Ordering::Relaxed);
        }
    };
    let n = arch::nr_cpus();
    let threads = start(3, |i| i % n, body)?;
    threads.into_iter().for_each(JoinHandle::join);
    check_eq!(PARKS.load(Ordering::Relaxed), ROUNDS);
    check_eq!(WRONG.load(Ordering::Relaxed), 0);
    Ok(())
}
