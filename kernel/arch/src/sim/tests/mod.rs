//! The machine tested on its own: a tiny "memory manager" of hand-made page tables.
//!
//! One machine serves all tests of the process; each test works in RAM and user addresses of its
//! own (its `Space`), and those that need quiet (violations, the disk) take [`alone`].

#[cfg(feature = "lab")]
mod actor;
mod cpus;
mod disk;
mod mmu;
mod oracle;

use super::simctl::{self, Config, DiskFault, FaultKind, Violation};
use super::thread::{self as thread_api, Spawn, spawn};
use super::*;
use crate::addr::{PAGE_SIZE, PMD_SIZE, Pfn, VirtAddr, entries};
use crate::block::{Bio, BlockDevice, Busy, IoError, Op};
use crate::pte::{ACCESSED, DIRTY, Entry, HUGE, USER, WRITE};
use crate::upcall::{self, Access, FaultError, Upcalls};
use ::sync::{CpuMask, WaitQueue, cpu, irq};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const RW: u64 = USER | WRITE;
const VA: VirtAddr = VirtAddr(0x4000_0000);

/// Counts its upcalls, and resolves faults by a hook of the running test.
struct Calls;

type Resolve = dyn Fn(VirtAddr, Access) -> Result<(), FaultError> + Send + Sync;

static RESOLVE: Mutex<Option<Arc<Resolve>>> = Mutex::new(None);
static TLB_IPIS: [AtomicU32; ::sync::MAX_CPUS] = [const { AtomicU32::new(0) }; ::sync::MAX_CPUS];
static IPI_BAD: AtomicBool = AtomicBool::new(false);
static IO: WaitQueue = WaitQueue::new();

// SAFETY: the tests give away no frames and free none.
unsafe impl Upcalls for Calls {
    fn page_fault(&self, va: VirtAddr, access: Access) -> Result<(), FaultError> {
        let hook = RESOLVE.lock().unwrap().clone();
        hook.map_or(Err(FaultError::Unmapped), |f| f(va, access))
    }
    fn tlb_ipi(&self) {
        if irq::enabled() || !irq::in_handler() {
            IPI_BAD.store(true, SeqCst);
        }
        flush_local();
        TLB_IPIS[cpu::id()].fetch_add(1, SeqCst);
    }
    fn bio_done(&self, bio: &'static Bio) {
        if irq::enabled() || bio.result().is_none() {
            IPI_BAD.store(true, SeqCst);
        }
        IO.wake_all();
    }
    fn switch_mm(&self, irq: &irq::IrqGuard, token: u64) {
        let _ = (irq, token);
        switch_root(kernel_root());
    }
}

fn machine_on() {
    upcall::set_upcalls(&Calls);
    simctl::boot(Config {
        ram: 64 << 20,
        cpus: 24,
        swap: 4 << 20,
        data: 4 << 20,
        ..Config::default()
    });
}

/// Runs the test body on a CPU; bodies that look at shared state of the machine run one at a time.
fn alone<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    static ONE: Mutex<()> = Mutex::new(());
    machine_on();
    let _one: MutexGuard<'_, ()> = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    simctl::take_violations();
    let r = simctl::run(f);
    *RESOLVE.lock().unwrap() = None;
    assert!(!IPI_BAD.load(SeqCst));
    r
}

/// The next unused frame, zeroed.
fn frame() -> Pfn {
    static NEXT: AtomicU32 = AtomicU32::new(0x400);
    Pfn(NEXT.fetch_add(1, SeqCst))
}

/// One address space: the tables that lead to [`VA`], and how to reach the leaf cells.
#[derive(Clone, Copy)]
struct Space {
    root: Pfn,
    pmd: Pfn,
    pte: Pfn,
}

impl Space {
    fn new() -> Self {
        let (root, pud, pmd, pte) = (frame(), frame(), frame(), frame());
        let link = |table, level, to| {
            pt_cell(table, VA.table_index(level)).store(Entry::new(to, RW).0, Relaxed);
        };
        link(root, 3, pud);
        link(pud, 2, pmd);
        link(pmd, 1, pte);
        Self { root, pmd, pte }
    }
    fn cell(&self, page: usize) -> &'static AtomicU64 {
        pt_cell(self.pte, VA.table_index(0) + page)
    }
    fn map(&self, page: usize, pfn: Pfn, flags: u64) {
        self.cell(page).store(Entry::new(pfn, flags).0, SeqCst);
    }
    /// The running thread adopts it.
    fn load(&self) {
        let _off = irq::disable();
        adopt(1);
        switch_root(self.root);
    }
}

/// The running thread's address space is the one of its [`Space`] (0: none).
fn adopt(token: u64) {
    // SAFETY: the simulated machine checks every frame; the tests free none that they use.
    unsafe { thread_api::set_adopted(token) };
}

/// Hands `bio` to `disk`.
fn submit(disk: &dyn BlockDevice, bio: &'static Bio) -> Result<(), Busy> {
    // SAFETY: each request is new, and the tests free no frame.
    unsafe { disk.submit(bio) }
}

fn va(page: u64) -> VirtAddr {
    VirtAddr(VA.0 + page * PAGE_SIZE)
}

fn thread(f: impl FnOnce() + Send + 'static) -> thread_api::JoinHandle {
    let opts = Spawn {
        name: "test",
        cpu: None,
    };
    spawn(opts, Box::new(f)).expect("a free CPU")
}

fn until(cond: impl Fn() -> bool) {
    while !cond() {
        thread_api::yield_now();
    }
}
