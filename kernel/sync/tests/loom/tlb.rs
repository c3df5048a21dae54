//! TLB shootdown under loom: CPUs that take and leave an address space, or are lazy about it,
//! beside others that take its entries out.
//!
//! A CPU is a thread. Its TLB forgets nothing by itself, and its MMU walks the tables whenever a
//! root is loaded, with loads that no fence but the code's own orders. Its interrupts arrive where
//! it polls. What must not happen is that a CPU uses a frame, or walks a table, while somebody who
//! has flushed takes that for free: a race on a word.

use super::{RACE, Word, properties};
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use sync::model::atomic::{AtomicU32, Ordering};
use sync::model::{Notify, thread};
use sync::tlb::{Counted, Machine, Request, Shootdown, Space};
use sync::{CpuMask, Rank, RawSpin, irq};

/// Not 0: that is what a request holds that was not written yet.
const SPACE: u32 = 1;
const OTHER: u32 = 2;
const PAGES: usize = 2;
const CPUS: usize = 3;
const MAPPED: u32 = 1;
const EMPTY: u32 = 0;

static TLB: Shootdown = Shootdown::new();

/// What all CPUs see.
struct Memory {
    space: Space,
    other: Space,
    entries: [AtomicU32; PAGES],
    ptl: RawSpin,
    frames: [Word; PAGES],
    table: Word,
    /// CPUs that may still ask others.
    at_work: AtomicU32,
    /// Where each sleeps, so that no wait is a loop.
    asked: [Notify; CPUS],
    kicked: [Notify; CPUS],
}

/// A CPU and its TLB.
struct Cpu {
    number: usize,
    memory: Rc<Memory>,
    root: Cell<Option<u32>>,
    holds: [Cell<bool>; PAGES],
}

impl Machine for Cpu {
    fn cpu(&self) -> usize {
        self.number
    }
    fn space(&self, id: u32) -> &Space {
        if id == SPACE {
            &self.memory.space
        } else {
            &self.memory.other
        }
    }
    fn load_root(&self, id: Option<u32>) {
        // As long as the old root is loaded the MMU may walk its tables.
        self.walk();
        self.flush_all();
        self.root.set(id);
        self.walk();
    }
    fn flush_all(&self) {
        self.flush_range(&(0..PAGES as u64));
    }
    fn flush_range(&self, addresses: &Range<u64>) {
        for page in addresses.clone() {
            self.holds[page as usize].set(false);
        }
    }
    fn send(&self, to: CpuMask) {
        for cpu in to.iter() {
            self.memory.asked[cpu].notify();
        }
    }
    fn wait(&self, request: &Request) {
        while !request.is_acknowledged() {
            self.memory.kicked[self.number].wait();
        }
    }
    fn kick(&self, cpu: usize) {
        self.memory.kicked[cpu].notify();
    }
    fn count(&self, _: Counted, _: u64) {}
}

impl Cpu {
    /// The MMU walks the tables of the space ahead of any access.
    fn walk(&self) {
        if self.root.get() != Some(SPACE) {
            return;
        }
        self.memory.table.get();
        for (entry, holds) in self.memory.entries.iter().zip(&self.holds) {
            if !holds.get() {
                holds.set(entry.load(Ordering::Relaxed) == MAPPED);
            }
        }
    }
    /// Interrupts arrive.
    fn poll(&self) {
        let _irq = irq::disable();
        TLB.on_ipi(self);
    }
    fn switch(&self, to: Option<u32>) {
        let irq = irq::disable();
        TLB.switch(self, &irq, to);
        drop(irq);
    }
    /// A load of `page` by a thread that has the space: through the TLB, or the tables, or not at
    /// all.
    fn load(&self, page: usize) {
        self.walk();
        if self.holds[page].get() {
            self.memory.frames[page].get();
        }
    }
    /// Nothing of its own to do any more; others may still ask.
    fn idle(&self) {
        while self.memory.at_work.load(Ordering::Relaxed) > 0 {
            self.memory.asked[self.number].wait();
            self.poll();
        }
    }
    fn take_out(&self, page: usize) {
        self.memory.entries[page].swap(EMPTY, Ordering::AcqRel);
    }
    /// Takes the page out of the space and frees its frame.
    fn unmap(&self, page: usize) {
        self.take_out(page);
        let at = page as u64;
        TLB.flush(self, SPACE, &self.memory.space, at..at + 1, false);
        self.memory.frames[page].add();
    }
    /// Takes all tables of the space away. Nothing was mapped.
    fn free_tables(&self) {
        TLB.flush(self, SPACE, &self.memory.space, 0..PAGES as u64, true);
        self.memory.table.add();
    }
    /// As reclaim: the flush of the page is owed until `TLB.flush_batch` of these CPUs.
    fn reclaim(&self, page: usize) -> CpuMask {
        let mut cpus = CpuMask::EMPTY;
        let _ptl = self.memory.ptl.lock(Rank::Ptl);
        self.take_out(page);
        self.memory.space.note_batched(&mut cpus);
        cpus
    }
    /// Relies on an entry of `page` that was taken out being gone for good.
    fn rely(&self, page: usize) {
        let _ptl = self.memory.ptl.lock(Rank::Ptl);
        if self.memory.entries[page].load(Ordering::Relaxed) == MAPPED {
            return;
        }
        if self.memory.space.has_batched() {
            let all = 0..PAGES as u64;
            TLB.flush(self, SPACE, &self.memory.space, all, false);
        }
        self.memory.frames[page].add();
    }
    fn worker(&self, work: impl FnOnce(&Self)) {
        work(self);
        self.memory.at_work.fetch_sub(1, Ordering::Relaxed);
        self.memory.asked[0].notify();
    }
}

type Part = fn(&Cpu);

/// One CPU runs what `before` says, alone, and then `user` beside the `workers`, who have no
/// address space. `entry` is what the pages' entries are at first.
fn beside<const N: usize>(before: Part, user: Part, workers: [Part; N]) {
    with_entries(MAPPED, before, user, workers);
}

fn with_entries<const N: usize>(entry: u32, before: Part, user: Part, workers: [Part; N]) {
    let memory = Rc::new(Memory {
        space: Space::default(),
        other: Space::default(),
        entries: [(); PAGES].map(|()| AtomicU32::new(entry)),
        ptl: RawSpin::new(),
        frames: [(); PAGES].map(|()| Word::new()),
        table: Word::new(),
        at_work: AtomicU32::new(N as u32),
        asked: [(); CPUS].map(|()| Notify::new()),
        kicked: [(); CPUS].map(|()| Notify::new()),
    });
    let cpu = |number| Cpu {
        number,
        memory: memory.clone(),
        root: Cell::new(None),
        holds: [const { Cell::new(false) }; PAGES],
    };
    let first = cpu(0);
    before(&first);
    let mut threads = vec![thread::spawn(move || {
        user(&first);
        first.idle();
    })];
    for (i, work) in workers.into_iter().enumerate() {
        let worker = cpu(1 + i);
        threads.push(thread::spawn(move || worker.worker(work)));
    }
    for t in threads {
        t.join().unwrap();
    }
}

fn nothing(_: &Cpu) {}
fn run(cpu: &Cpu) {
    cpu.switch(Some(SPACE));
    cpu.walk();
    cpu.poll();
    cpu.load(0);
}
fn run_lazily(cpu: &Cpu) {
    run(cpu);
    cpu.switch(None);
}
fn unmap_first(cpu: &Cpu) {
    cpu.unmap(0);
}

properties! {
    who_takes_a_space_is_asked_or_flushes, Some(3),
        [EnterNoFence: RACE, EnterLate: RACE, BumpNoFence: RACE, BumpRelaxed: RACE, SeenRelaxed: RACE], || {
        beside(nothing, run, [unmap_first]);
    };
    who_runs_a_space_is_asked, Some(3),
        [PostRelaxed: RACE, TakeRelaxed: RACE, AcknowledgeRelaxed: RACE, AcknowledgedRelaxed: RACE], || {
        beside(run, |cpu| {
            cpu.load(0);
            cpu.poll();
            cpu.load(0);
        }, [unmap_first]);
    };
    who_turns_lazy_is_done, Some(3), [LazyRelaxed: RACE, SpareRelaxed: RACE], || {
        beside(run, |cpu| {
            cpu.load(0);
            cpu.switch(None);
        }, [unmap_first]);
    };
    who_ends_its_laziness_is_asked_or_flushes, Some(3),
        [AwakeNoFence: RACE, AwakeBlind: RACE, BumpNoFence: RACE, SeenRelaxed: RACE], || {
        beside(run_lazily, run, [unmap_first]);
    };
    who_leaves_a_space_is_done, Some(3), [MaskRelaxed: RACE], || {
        beside(run, |cpu| {
            cpu.load(0);
            cpu.switch(Some(OTHER));
        }, [unmap_first]);
    };
    tables_go_when_a_lazy_cpu_has_left_them, Some(3), [SpareWalkers: RACE], || {
        with_entries(EMPTY, run_lazily, |cpu| cpu.walk(), [Cpu::free_tables]);
    };
    tables_go_when_a_cpu_has_another_root, Some(3), [LeaveEarly: RACE, LeaveRelaxed: RACE, MaskRelaxed: RACE], || {
        with_entries(EMPTY, run, |cpu| cpu.switch(Some(OTHER)), [Cpu::free_tables]);
    };
    each_of_two_flushers_is_served, Some(1), [MissedBefore: RACE, MissedAfter: RACE], || {
        beside(run, |cpu| {
            cpu.load(1);
            cpu.poll();
            cpu.poll();
            cpu.load(0);
            cpu.load(1);
        }, [unmap_first, |cpu| cpu.unmap(1)]);
    };
    a_batch_is_flushed_everywhere, Some(3), [BumpNoFence: RACE, BumpRelaxed: RACE], || {
        beside(nothing, run, [|cpu| {
            let cpus = cpu.reclaim(0);
            TLB.flush_batch(cpu, cpus);
            cpu.memory.frames[0].add();
        }]);
    };
    what_another_has_flushed_is_not_owed, Some(1), [FlushedRelaxed: RACE, OwesRelaxed: RACE], || {
        beside(run, |cpu| cpu.load(0), [
            |cpu| {
                cpu.reclaim(0);
                cpu.unmap(1);
            },
            |cpu| cpu.rely(0),
        ]);
    };
}
