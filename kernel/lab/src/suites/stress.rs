//! Two seconds of each stress, and that they notice what is broken.

use alloc::format;

use super::Outcome;
use crate::out::Buffer;
use crate::selftest::{Failure, Suite, TestCtx};
use crate::shell::Status;
use crate::tests;

pub(super) static SUITE: Suite = Suite {
    name: "stress",
    tests: tests![
        anon,
        tlb,
        fork,
        migrate,
        swap,
        file,
        msync,
        writeback,
        fat,
        truncate,
        zap_mkclean,
        mixed,
        tlb_broken,
        truncate_broken,
        zap_mkclean_broken,
    ],
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

fn migrate(t: &mut TestCtx<'_>) -> Outcome {
    run(t, "migrate --secs 2")
}

fn swap(t: &mut TestCtx<'_>) -> Outcome {
    if mm::swap::stats().total < 8000 {
        return Err(Failure::Skip("needs 32 MiB of swap".into()));
    }
    run(t, "swap --secs 2 --mem 20M --pages 8000")
}

fn fat(t: &mut TestCtx<'_>) -> Outcome {
    super::fat::on_disk(super::fat::FAT16, || {
        fs::mount()?;
        let ran = run(t, "fat --secs 2");
        fs::unmount()?;
        ran
    })
}

/// A stress of files.
fn run_file(t: &TestCtx<'_>, line: &str) -> Outcome {
    if mm::file::disk_pages() < 1024 {
        return Err(Failure::Skip("needs a data disk of 4 MiB".into()));
    }
    run(t, line)
}

fn file(t: &mut TestCtx<'_>) -> Outcome {
    run_file(t, "file --secs 2")
}

fn msync(t: &mut TestCtx<'_>) -> Outcome {
    run_file(t, "msync --secs 2")
}

fn writeback(t: &mut TestCtx<'_>) -> Outcome {
    run_file(t, "writeback --secs 2")
}

fn truncate(t: &mut TestCtx<'_>) -> Outcome {
    run(t, "truncate --secs 2")
}

fn zap_mkclean(t: &mut TestCtx<'_>) -> Outcome {
    run_file(t, "zap-mkclean --secs 2")
}

fn mixed(t: &mut TestCtx<'_>) -> Outcome {
    run(t, "mixed --secs 2")
}

/// Runs what must see damage once its rule is off.
fn run_broken(t: &TestCtx<'_>, line: &str, cpus: usize) -> Outcome {
    if !cfg!(feature = "lab") {
        return Err(Failure::Skip("this build has no switches".into()));
    }
    if crate::usable_cpus() < cpus {
        return Err(Failure::Skip(format!("needs {cpus} CPUs")));
    }
    run(t, line)
}

fn tlb_broken(t: &mut TestCtx<'_>) -> Outcome {
    run_broken(t, "tlb --broken --secs 20", 2)
}

fn truncate_broken(t: &mut TestCtx<'_>) -> Outcome {
    run_broken(t, "truncate --broken --secs 120", 2)
}

/// One of the CPUs must go on storing while another zaps and a third writes.
fn zap_mkclean_broken(t: &mut TestCtx<'_>) -> Outcome {
    if mm::file::disk_pages() < 512 {
        return Err(Failure::Skip("needs a data disk of 2 MiB".into()));
    }
    run_broken(t, "zap-mkclean --broken --secs 20", 3)
}
