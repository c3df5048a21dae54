//! Two seconds of each stress, and that they notice what is broken.

use alloc::format;

use super::Outcome;
use crate::out::Buffer;
use crate::selftest::{Failure, Suite, TestCtx};
use crate::shell::Status;
use crate::tests;

pub(super) static SUITE: Suite = Suite {
    name: "stress",
    tests: tests![anon, tlb, fork, swap, mixed, tlb_broken],
};

fn run(t: &TestCtx<'_>, line: &str) -> Outcome {
    let out = Buffer::new();
    let line = format!("stress {line} --seed {:#x}", t.seed);
    match crate::shell().run(&line, &out, t.cancel).status {
        Status::Ok => Ok(()),
        status => Err(Failure::new(format!(
            "'{line}' ended with {status:?}:\n{}",
            out.take()
        ))),
    }
}

fn anon(t: &mut TestCtx<'_>) -> Outcome {
    run(t, "anon --secs 2")
}

fn tlb(t: &mut TestCtx<'_>) -> Outcome {
    run(t, "tlb --secs 2")
}

fn fork(t: &mut TestCtx<'_>) -> Outcome {
    run(t, "fork --secs 2")
}

fn swap(t: &mut TestCtx<'_>) -> Outcome {
    if mm::swap::stats().total < 8000 {
        return Err(Failure::Skip("needs 32 MiB of swap".into()));
    }
    run(t, "swap --secs 2 --mem 20M --pages 8000")
}

fn mixed(t: &mut TestCtx<'_>) -> Outcome {
    run(t, "mixed --secs 2")
}

#[cfg(feature = "lab")]
fn tlb_broken(t: &mut TestCtx<'_>) -> Outcome {
    if crate::usable_cpus() < 2 {
        return Err(Failure::Skip("needs two CPUs".into()));
    }
    run(t, "tlb --broken --secs 20")
}

#[cfg(not(feature = "lab"))]
fn tlb_broken(_: &mut TestCtx<'_>) -> Outcome {
    Err(Failure::Skip("this build has no switches".into()))
}
