//! `bench zap`: what it costs to take written pages of a file out of an address space, for each of
//! the variants of rule 2 and both forms of the gather.
//!
//! The other CPUs run in the same address space meanwhile, each with a page of its own, so that
//! every flush is an IPI to each of them. The pages are given up with MADV_DONTNEED, which frees no
//! tables. The switches are as before afterwards.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arch::thread::{self, Spawn};
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::MapFlags;
use mm::file::{self, Opener};
use mm::knobs::{self, Knob};
use mm::stats::{Event, total};

use super::shapes::{access, op};
use super::{Meter, Sample, Tenths, median};
use crate::out::Out;
use crate::space::{Advice, Prot, Space, at};

/// 2 MiB aligned.
const BASE: VirtAddr = VirtAddr(0x4000_0000);
/// Where each of the other CPUs has its page.
const OWN: VirtAddr = VirtAddr(0x3000_0000);
/// Pages that one table maps.
const TABLE: usize = 512;

/// Repetitions; odd, so that there is a median. What is counted hardly differs from one to the
/// next.
const REPETITIONS: usize = 3;

/// The pages that are given up: so many tables, and so many pages at the beginning of each.
struct Shape {
    name: &'static str,
    tables: usize,
    pages: usize,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Anonymous,
    /// Of a file, shared, and only loaded from.
    Loaded,
    /// And stored to.
    Stored,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "dense",
        tables: 2,
        pages: TABLE,
        what: What::Stored,
    },
    Shape {
        name: "sparse",
        tables: 32,
        pages: 8,
        what: What::Stored,
    },
    Shape {
        name: "loaded",
        tables: 2,
        pages: TABLE,
        what: What::Loaded,
    },
    Shape {
        name: "anon",
        tables: 2,
        pages: TABLE,
        what: What::Anonymous,
    },
];

/// How rule 2 is kept; the first is what is built in.
const MARKS: [Option<Knob>; 4] = [
    None,
    Some(Knob::LateDirty),
    Some(Knob::LateDirtyUnlocked),
    Some(Knob::LateDirtyPending),
];

impl Shape {
    fn all(&self) -> usize {
        self.tables * self.pages
    }

    fn page(&self, i: usize) -> VirtAddr {
        at(BASE, i / self.pages * TABLE + i % self.pages)
    }

    /// A space with its pages in memory.
    fn mapped(&self, file: &Opener) -> Result<Space, String> {
        let space = op("new", Space::new())?;
        for table in 0..self.tables {
            let (va, first) = (at(BASE, table * TABLE), table * self.pages);
            op(
                "mmap",
                match self.what {
                    What::Anonymous => space.map(va, self.pages, Prot::RW),
                    _ => space.map_file(
                        va,
                        self.pages,
                        Prot::RW,
                        MapFlags::SHARED,
                        file,
                        first as u32,
                    ),
                },
            )?;
        }
        Ok(space)
    }

    fn touch(&self) -> Result<(), String> {
        (0..self.all()).try_for_each(|i| match self.what {
            What::Loaded => access(user::load(self.page(i))).map(drop),
            _ => access(user::store(self.page(i), i as u64)),
        })
    }

    /// What one time of giving the pages up costs, and how many of them had been stored to.
    fn measure(&self, file: &Opener) -> Result<(Sample, u64), String> {
        let space = self.mapped(file)?;
        let _others = Others::start(&space)?;
        let _adopted = space.enter();
        self.touch()?;
        let written = total(Event::ZapWritten);
        let meter = Meter::start();
        let dropped = space.mm().madvise(
            BASE,
            (self.tables * TABLE) as u64 * PAGE_SIZE,
            Advice::DontNeed,
        );
        let sample = meter.stop(self.all());
        match dropped {
            // Between the tables' pages nothing is mapped.
            Ok(()) | Err(mm::MmError::NotMapped) => {}
            Err(e) => return Err(format!("madvise: {e:?}")),
        }
        Ok((sample, total(Event::ZapWritten) - written))
    }
}

/// Threads on the other CPUs, in the space.
struct Others {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle>,
}

impl Others {
    /// Starts them, and waits until each is in the space.
    fn start(space: &Space) -> Result<Self, String> {
        let others = crate::usable_cpus() - 1;
        let stop = Arc::new(AtomicBool::new(false));
        let running = Arc::new(AtomicUsize::new(0));
        let mut all = Self {
            stop: stop.clone(),
            threads: Vec::new(),
        };
        op("mmap", space.map(OWN, others.max(1), Prot::RW))?;
        for i in 0..others {
            let (space, stop, running) = (space.clone(), stop.clone(), running.clone());
            let body = Box::new(move || {
                let _adopted = space.enter();
                let page = at(OWN, i);
                // The first access says that the CPU runs in the space.
                let mut ok = user::store(page, 1).is_ok();
                running.fetch_add(1, Ordering::Relaxed);
                while ok && !stop.load(Ordering::Relaxed) {
                    ok = user::load(page).is_ok();
                    if cfg!(not(target_os = "none")) {
                        // There may be fewer cores than simulated CPUs.
                        thread::yield_now();
                    }
                }
            });
            let spawn = Spawn {
                name: "bench",
                cpu: Some(i + 1),
            };
            let handle = thread::spawn(spawn, body).map_err(|e| format!("a thread: {e:?}"))?;
            all.threads.push(handle);
        }
        while running.load(Ordering::Relaxed) < others {
            thread::sleep_ns(100_000);
        }
        Ok(all)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(thread::JoinHandle::join);
    }
}

/// Prints a line for each combination.
///
/// # Errors
/// What is missing, or failed.
pub(super) fn run(out: &dyn Out) -> Result<(), String> {
    let most = SHAPES.iter().map(Shape::all).max().unwrap_or(0) as u32;
    if file::disk_pages() < most {
        return Err(format!("wants a data disk of {} MiB", most / 256));
    }
    let file = op("open", file::open(0, most))?;
    for shape in &SHAPES {
        for immediate in [false, true] {
            for mark in MARKS {
                if mark.is_some() && shape.what != What::Stored {
                    continue;
                }
                let found = with(mark, immediate, || {
                    median::<REPETITIONS, _>(|| shape.measure(&file), |(sample, _)| sample.cost)
                })?;
                print(shape, mark, immediate, found, out);
                op("sync", file.sync())?;
            }
        }
    }
    Ok(())
}

/// Runs `f` with the variants chosen.
fn with<R>(mark: Option<Knob>, immediate: bool, f: impl FnOnce() -> R) -> R {
    let chosen = mark
        .into_iter()
        .chain(immediate.then_some(Knob::ImmediateGather));
    let before: Vec<(Knob, bool)> = chosen.map(|k| (k, knobs::set(k, true))).collect();
    let r = f();
    for (knob, was) in before {
        knobs::set(knob, was);
    }
    r
}

fn print(
    shape: &Shape,
    mark: Option<Knob>,
    immediate: bool,
    (s, written): (Sample, u64),
    out: &dyn Out,
) {
    writeln!(
        out,
        "bench: zap shape={} dirty={} gather={} ops={} written={written} insns_per_op={} flushes={} ipis={}",
        shape.name,
        mark.map_or("at_once", Knob::name),
        if immediate { "immediate" } else { "batched" },
        s.ops,
        Tenths(s.cost, s.ops),
        s.flushes,
        s.ipis
    );
}
