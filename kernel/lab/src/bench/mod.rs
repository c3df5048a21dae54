//! The `bench` command: what each operation costs, in instructions, next to Linux.
//!
//! The figures come from [`arch::cycles`]: under `-icount shift=0` these are guest instructions
//! exactly, on hardware TSC ticks, on the simulator its own unit. Operations that wait for a disk
//! are counted by the thread's CPU time in the same unit, because the clock jumps over idle time.
//! Each figure is the median of nine repetitions after a warm-up, with the shapes that Linux was
//! measured with (see [`linux`]).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mm::stats::{Event, total};

use crate::args::UsageError;
use crate::out::Out;
use crate::shell::{Command, Ctx, Status, nearest};

pub mod linux;
mod shapes;
#[cfg(feature = "lab")]
mod zap;

/// Repetitions after the warm-up; odd, so that there is a median.
const REPETITIONS: usize = 9;

/// What one repetition measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Operations done.
    pub ops: u64,
    /// Instructions (see the module text) for all of them.
    pub cost: u64,
    /// Flush requests.
    pub flushes: u64,
    /// IPIs sent.
    pub ipis: u64,
    /// Requests to disks.
    pub ios: u64,
}

/// Counts while the operations run.
struct Meter {
    clock: fn() -> u64,
    started: u64,
    flushes: u64,
    ipis: u64,
    ios: u64,
}

impl Meter {
    /// By the machine's cycle counter.
    fn start() -> Self {
        Self::with(arch::cycles)
    }

    /// By the CPU time of the calling thread, for operations that sleep, with the interrupts that
    /// it sleeps for: whether one comes before or after it sleeps makes no difference then.
    fn start_cpu_time() -> Self {
        Self::with(|| {
            arch::thread::cpu_time(sync::task::current()) + arch::thread::idle_interrupt_time()
        })
    }

    fn with(clock: fn() -> u64) -> Self {
        Self {
            clock,
            flushes: total(Event::TlbFlush),
            ipis: total(Event::TlbIpi),
            ios: total(Event::Bio),
            started: clock(),
        }
    }

    fn stop(self, ops: usize) -> Sample {
        let cost = (self.clock)() - self.started;
        Sample {
            ops: ops as u64,
            cost,
            flushes: total(Event::TlbFlush) - self.flushes,
            ipis: total(Event::TlbIpi) - self.ipis,
            ios: total(Event::Bio) - self.ios,
        }
    }
}

struct Bench {
    name: &'static str,
    help: &'static str,
    needs_swap: bool,
    run: fn() -> Result<Sample, String>,
}

macro_rules! benches {
    ($($name:ident $swap:literal $help:literal;)*) => {
        &[$(Bench { name: stringify!($name), help: $help, needs_swap: $swap, run: shapes::$name }),*]
    };
}

const ALL: &[Bench] = benches! {
    first_touch false "first write to a page of a fresh 16 MiB mapping";
    zero_read false "first read of a page: the shared zero page";
    cow_copy false "write to a page shared with a child: a copy";
    cow_reuse false "write to a page whose other user is gone: no copy";
    mmap_munmap false "mmap and munmap of one page, untouched";
    munmap_page false "munmap of 16 MiB, per touched page";
    mprotect_page false "mprotect of one touched page, either way";
    fork_page false "fork of a 16 MiB address space, per page, less that of an empty one";
    exit_page false "exit of that child, per page, less that of an empty one";
    mremap_page false "mremap of 2 MiB to an address that shares no table, per page";
    file_read_fault false "first read of a mapped page of a file in memory, 16 mapped at a time";
    file_write_fault false "first write to such a page, mapped shared";
    file_munmap false "munmap of 4 MiB of written pages of a file in memory, per page";
    file_cow false "first write to such a page, mapped private: a copy";
    huge_block false "a block of 2 MiB is allocated and freed, its content left alone";
    thp_fault false "first write to a huge page, the zeroing of 2 MiB included";
    thp_munmap false "munmap of 16 huge pages, per huge page";
    thp_split_mprotect false "mprotect of the first page of a huge one, which is split";
    thp_split_munmap false "munmap of that page";
    thp_split_dontneed false "MADV_DONTNEED of that page";
    swapout_page true "MADV_PAGEOUT of 16 MiB, CPU time per page";
    swapin_page true "reading it again, CPU time per page";
};

/// The `bench` command.
pub const COMMANDS: &[Command] = &[Command {
    name: "bench",
    help: "what operations cost, in instructions, next to Linux",
    usage: "list | [NAME] | zap\n\
            bench: NAME ops=N insns_per_op=X flushes=F ipis=I ios=O linux_lean=Y ratio=X/Y\n\
            Instructions are exact under ./run-qemu.sh --bench (instruction counting, one CPU); elsewhere the\n\
            unit is the cycle counter's. flushes, ipis and ios are totals of the median repetition. Linux's\n\
            figures: 6.1 without hardening options; its swap rows (linux=) are of the standard build. Linux's\n\
            mmap, munmap, mprotect, mremap, madvise and fork rows hold a system call each (323 when empty).\n\
            zap: pages of a file taken out of an address space that all CPUs run in, for each variant (see fix).",
    run: command,
    words: || {
        ["list", "zap"]
            .into_iter()
            .chain(ALL.iter().map(|b| b.name))
            .collect()
    },
}];

fn command(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let name = args.word();
    args.done()?;
    let chosen: Vec<&Bench> = match name.as_deref() {
        Some("list") => {
            for b in ALL {
                writeln!(ctx.out, "{:<16} {}", b.name, b.help);
            }
            return Ok(Status::Ok);
        }
        Some("zap") => return Ok(zap(ctx.out)),
        Some(name) => ALL.iter().filter(|b| b.name == name).collect(),
        None => ALL.iter().collect(),
    };
    if chosen.is_empty() {
        let name = name.unwrap_or_default();
        let near = nearest(&name, ALL.iter().map(|b| b.name)).join(", ");
        let hint = if near.is_empty() {
            "'bench list' prints the names".into()
        } else {
            format!("near: {near}")
        };
        return Err(UsageError(format!("unknown bench '{name}'; {hint}")));
    }
    if cfg!(not(target_os = "none")) {
        writeln!(
            ctx.out,
            "# simulator: the unit is its own, neither figure nor ratio says anything about instructions"
        );
    }
    let mut status = Status::Ok;
    for bench in chosen {
        if ctx.cancel.requested() {
            return Ok(Status::Failed);
        }
        if bench.needs_swap && mm::swap::stats().total == 0 {
            writeln!(ctx.out, "# {}: skipped, there is no swap", bench.name);
            continue;
        }
        match median::<REPETITIONS, _>(bench.run, |s| s.cost) {
            Ok(sample) => print(bench.name, sample, ctx.out),
            Err(message) => {
                writeln!(ctx.out, "# {}: FAILED: {message}", bench.name);
                status = Status::Failed;
            }
        }
    }
    Ok(status)
}

#[cfg(feature = "lab")]
fn zap(out: &dyn Out) -> Status {
    match zap::run(out) {
        Ok(()) => Status::Ok,
        Err(message) => {
            writeln!(out, "# zap: FAILED: {message}");
            Status::Failed
        }
    }
}

#[cfg(not(feature = "lab"))]
fn zap(out: &dyn Out) -> Status {
    writeln!(
        out,
        "# zap: this build has no variants (build with the lab)"
    );
    Status::Failed
}

/// The median of `N` repetitions, after one to warm up.
fn median<const N: usize, S: Copy>(
    run: impl Fn() -> Result<S, String>,
    cost: impl Fn(&S) -> u64,
) -> Result<S, String> {
    run()?;
    let mut samples = [run()?; N];
    for sample in &mut samples[1..] {
        *sample = run()?;
    }
    samples.sort_unstable_by_key(cost);
    Ok(samples[N / 2])
}

/// A quotient with one decimal.
struct Tenths(u64, u64);

impl core::fmt::Display for Tenths {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let tenths = (self.0 * 10 + self.1 / 2) / self.1.max(1);
        write!(f, "{}.{}", tenths / 10, tenths % 10)
    }
}

fn print(name: &str, s: Sample, out: &dyn Out) {
    write!(
        out,
        "bench: {name} ops={} insns_per_op={} flushes={} ipis={} ios={}",
        s.ops,
        Tenths(s.cost, s.ops),
        s.flushes,
        s.ipis,
        s.ios
    );
    if let Some(row) = linux::row(name) {
        let percent = s.cost * 1000 / (s.ops * row.tenths).max(1);
        writeln!(
            out,
            " {}={} ratio={}.{:02}",
            row.column,
            Tenths(row.tenths, 10),
            percent / 100,
            percent % 100
        );
    } else {
        writeln!(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::Buffer;

    #[test]
    fn a_line_has_the_agreed_form() {
        let buffer = Buffer::new();
        let sample = Sample {
            ops: 4096,
            cost: 4096 * 1356 + 2048,
            flushes: 1,
            ipis: 2,
            ios: 3,
        };
        print("first_touch", sample, &buffer);
        assert_eq!(
            buffer.take(),
            "bench: first_touch ops=4096 insns_per_op=1356.5 flushes=1 ipis=2 ios=3 linux_lean=2713.0 ratio=0.50\n"
        );
    }

    #[test]
    fn every_bench_has_a_row_of_linux() {
        // What Linux does for a whole huge page at once, zeroing included, is no such row.
        for bench in ALL.iter().filter(|b| b.name != "huge_block") {
            assert!(linux::row(bench.name).is_some(), "{}", bench.name);
        }
    }
}
