//! The machine tested on its own: a tiny "memory manager" of hand-made page tables.
//!
//! One machine serves all tests of the process; each test works in RAM and user addresses of its own (its
//! `Space`), and those that need quiet (violations, the disk) take [`alone`].

use super::simctl::{self, Config, DiskFault, FaultKind, Violation};
use super::thread::{Spawn, spawn};
use super::*;
use crate::addr::{PAGE_SIZE, PMD_SIZE, Pfn, VirtAddr};
use crate::block::{Bio, Busy, IoError, Op};
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

impl Upcalls for Calls {
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
    fn load(&self) {
        let _off = irq::disable();
        switch_root(self.root);
    }
}

fn va(page: u64) -> VirtAddr {
    VirtAddr(VA.0 + page * PAGE_SIZE)
}

fn thread(f: impl FnOnce() + Send + 'static) -> super::thread::JoinHandle {
    let opts = Spawn {
        name: "test",
        cpu: None,
    };
    spawn(opts, Box::new(f)).expect("a free CPU")
}

fn until(cond: impl Fn() -> bool) {
    while !cond() {
        super::thread::yield_now();
    }
}

#[test]
fn memory_map_is_sorted_and_covers_ram() {
    machine_on();
    let map = memory_map();
    assert!(map.windows(2).all(|w| w[0].end.0 <= w[1].start.0));
    assert!(
        map.iter()
            .all(|r| r.start.0 % PAGE_SIZE == 0 && r.start.0 < r.end.0)
    );
    assert_eq!(map.last().unwrap().end.0, simctl::config().ram);
    assert!(ram_bytes() < simctl::config().ram);
    let used = |i| Entry(pt_cell(kernel_root(), i).load(Relaxed)).is_present();
    assert!((256..512).any(used) && !(0..256).any(used));
}

#[test]
fn frames_fill_copy_and_start_zeroed() {
    machine_on();
    let (a, b) = (frame(), frame());
    assert!(frame_words(a).iter().all(|w| w.load(Relaxed) == 0));
    fill_frame(a, 7);
    copy_frame(b, a);
    zero_frame(a);
    assert_eq!(frame_words(b)[511].load(Relaxed), 7);
    assert_eq!(frame_words(a)[0].load(Relaxed), 0);
    assert_eq!(
        frame_ptr(b) as usize - frame_ptr(a) as usize,
        PAGE_SIZE as usize
    );
    assert!((frame_ptr(a) as usize).is_multiple_of(PAGE_SIZE as usize));
}

#[test]
#[should_panic(expected = "is not RAM")]
fn frames_outside_of_ram_panic() {
    machine_on();
    frame_words(Pfn(0x10_0000));
}

#[test]
fn accesses_of_all_sizes_reach_the_frame() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(user::load8(VirtAddr(VA.0 + 1)), Ok(0x77));
        user::store8(VirtAddr(VA.0 + 7), 0xab).unwrap();
        assert_eq!(user::load(VA), Ok(0xab22_3344_5566_7788));
        assert_eq!(user::fetch_add(VA, 8), Ok(0xab22_3344_5566_7788));
        assert_eq!(user::compare_exchange(VA, 1, 2), Ok(0xab22_3344_5566_7790));
        assert_eq!(
            user::compare_exchange(VA, 0xab22_3344_5566_7790, 2),
            Ok(0xab22_3344_5566_7790)
        );
        assert_eq!(frame_words(f)[0].load(Relaxed), 2);
        assert_eq!(user::load(va(1)), Err(FaultError::Unmapped));
        assert_eq!(
            user::load(crate::VirtAddr(crate::USER_TOP)),
            Err(FaultError::Unmapped)
        );
    });
}

#[test]
fn accessed_and_dirty_are_set_as_hardware_does() {
    alone(|| {
        let s = Space::new();
        s.map(0, frame(), RW);
        s.map(1, frame(), USER);
        s.load();
        let bits = |page| s.cell(page).load(SeqCst) & (ACCESSED | DIRTY);
        assert_eq!(user::load(VA), Ok(0));
        assert_eq!(bits(0), ACCESSED);
        user::store(VA, 1).unwrap();
        assert_eq!(bits(0), ACCESSED | DIRTY);
        // A write that is not allowed leaves no trace.
        assert!(!user::store_nofault(va(1), 1));
        assert_eq!(bits(1), 0);
        assert_eq!(user::load_nofault(va(1)), Some(0));
        assert_eq!(bits(1), ACCESSED);
        // The tables on the way were used, and never become dirty.
        let pmd = pt_cell(s.pmd, VA.table_index(1)).load(SeqCst);
        assert_eq!(pmd & (ACCESSED | DIRTY), ACCESSED);
        assert_eq!(
            pt_cell(s.root, VA.table_index(3)).load(SeqCst) & ACCESSED,
            ACCESSED
        );
    });
}

#[test]
fn cached_translations_write_without_walking_until_flushed() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 1).unwrap();
        // Writable and dirty in the TLB: clearing D, or the entry, goes unnoticed.
        s.cell(0).fetch_and(!DIRTY, SeqCst);
        user::store(VA, 2).unwrap();
        assert_eq!(s.cell(0).load(SeqCst) & DIRTY, 0);
        s.cell(0).store(0, SeqCst);
        user::store(VA, 3).unwrap();
        assert_eq!(frame_words(f)[0].load(Relaxed), 3);
        invlpg(va(1));
        assert_eq!(user::load_nofault(VA), Some(3));
        invlpg(VA);
        assert_eq!(user::load_nofault(VA), None);
    });
}

#[test]
fn a_clean_translation_walks_again_at_the_first_write() {
    alone(|| {
        let s = Space::new();
        s.map(0, frame(), RW);
        s.load();
        assert_eq!(user::load(VA), Ok(0));
        // Cached clean: the write must see that the entry is gone, though a read does not.
        s.cell(0).store(0, SeqCst);
        assert_eq!(user::load_nofault(VA), Some(0));
        assert!(!user::store_nofault(VA, 1));
        // And a permission upgrade needs no flush.
        s.map(1, frame(), USER);
        assert_eq!(user::load(va(1)), Ok(0));
        s.cell(1).fetch_or(WRITE, SeqCst);
        assert!(user::store_nofault(va(1), 5));
    });
}

#[test]
fn root_load_and_flush_forget_everything() {
    alone(|| {
        let (s, t) = (Space::new(), Space::new());
        s.map(0, frame(), RW);
        t.map(0, frame(), RW);
        s.load();
        user::store(VA, 1).unwrap();
        t.load();
        assert_eq!(current_root(), t.root);
        assert_eq!(user::load(VA), Ok(0));
        t.cell(0).store(0, SeqCst);
        flush_local();
        assert_eq!(user::load_nofault(VA), None);
    });
}

#[test]
fn huge_pages_translate_in_pieces_and_go_together() {
    alone(|| {
        let s = Space::new();
        // 2 MiB of RAM at 32 MiB.
        let base = Pfn(0x2000);
        let cell = pt_cell(s.pmd, VA.table_index(1));
        cell.store(Entry::new(base, RW | HUGE).0, SeqCst);
        s.load();
        user::store(va(3), 33).unwrap();
        user::store(va(511), 34).unwrap();
        assert_eq!(frame_words(base.add(3))[0].load(Relaxed), 33);
        assert_eq!(cell.load(SeqCst) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
        // The table that took its place is seen only where nothing was cached, until an INVLPG of any page.
        s.map(3, frame(), RW);
        s.map(4, frame(), RW);
        cell.store(Entry::new(s.pte, RW).0, SeqCst);
        assert_eq!(user::load_nofault(va(3)), Some(33));
        assert_eq!(user::load_nofault(va(4)), Some(0));
        invlpg(va(7));
        assert_eq!(user::load_nofault(va(3)), Some(0));
        assert_eq!(user::load_nofault(va(511)), None);
        assert_eq!(VA.0 % PMD_SIZE, 0);
    });
}

#[test]
fn cached_tables_are_walked_until_any_invlpg() {
    alone(|| {
        let s = Space::new();
        s.map(0, frame(), RW);
        s.load();
        assert_eq!(user::load(VA), Ok(0));
        // The PTE table is unhooked, but this CPU still knows it.
        pt_cell(s.pmd, VA.table_index(1)).store(0, SeqCst);
        s.map(1, frame(), RW);
        assert_eq!(user::load_nofault(va(1)), Some(0));
        s.map(2, frame(), RW);
        invlpg(va(9));
        assert_eq!(user::load_nofault(va(2)), None);
    });
}

#[test]
fn faults_are_resolved_and_retried_or_reported() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        *RESOLVE.lock().unwrap() = Some(Arc::new(move |at, access| {
            assert!(irq::enabled());
            match (at.page().0, access) {
                (p, Access::Write) if p == VA.0 => s.map(0, f, RW),
                (p, _) if p == va(1).0 => return Err(FaultError::Bus),
                _ => return Err(FaultError::Unmapped),
            }
            Ok(())
        }));
        s.load();
        assert_eq!(user::store(VirtAddr(VA.0 + 8), 9), Ok(()));
        assert_eq!(frame_words(f)[1].load(Relaxed), 9);
        assert_eq!(user::load(va(1)), Err(FaultError::Bus));
        assert_eq!(user::load(va(2)), Err(FaultError::Unmapped));
    });
}

#[test]
fn dirty_bits_survive_concurrent_clearing() {
    // Clearing the whole entry atomically either sees the write's dirty bit or makes the write fault.
    alone(|| {
        let s = Space::new();
        let f = frame();
        let stop = Arc::new(AtomicBool::new(false));
        let stores = Arc::new(AtomicUsize::new(0));
        let writer = {
            let (stop, stores) = (stop.clone(), stores.clone());
            thread(move || {
                s.load();
                while !stop.load(Relaxed) {
                    if user::store_nofault(VA, 1) {
                        stores.fetch_add(1, SeqCst);
                    }
                    flush_local();
                }
            })
        };
        for _ in 0..2000 {
            frame_words(f)[0].store(0, SeqCst);
            s.map(0, f, RW);
            std::thread::yield_now();
            let old = s.cell(0).swap(0, SeqCst);
            if old & DIRTY == 0 {
                assert_eq!(
                    frame_words(f)[0].load(SeqCst),
                    0,
                    "a write without a dirty bit"
                );
            } else {
                // The store itself may still be under way: it belongs to a walk that has succeeded.
                let before = stores.load(SeqCst);
                until(|| frame_words(f)[0].load(SeqCst) == 1 || stores.load(SeqCst) != before);
            }
            // No store may reach the frame in the next round through this round's walk.
            call_on(online(), |_| flush_local(), 0);
        }
        stop.store(true, Relaxed);
        writer.join();
    });
}

#[test]
fn ipis_reach_parked_running_and_idle_cpus_and_interrupts_off_holds_them_back() {
    alone(|| {
        let gate = Arc::new(AtomicU32::new(0));
        let cpu_of = Arc::new(AtomicUsize::new(usize::MAX));
        let (g, c) = (gate.clone(), cpu_of.clone());
        let t = thread(move || {
            c.store(cpu::id(), SeqCst);
            let off = irq::disable();
            g.store(1, SeqCst);
            // No polling place delivers while interrupts are off.
            while g.load(SeqCst) == 1 {
                irq::poll();
                std::thread::yield_now();
            }
            assert_eq!(TLB_IPIS[cpu::id()].load(SeqCst), 0);
            drop(off);
            assert_eq!(TLB_IPIS[cpu::id()].load(SeqCst), 1);
            g.store(3, SeqCst);
            // Parked from here on.
            while g.load(SeqCst) != 4 {
                ::sync::threads().park();
            }
        });
        until(|| gate.load(SeqCst) == 1);
        let target = cpu_of.load(SeqCst);
        TLB_IPIS[target].store(0, SeqCst);
        send_tlb_ipi(CpuMask::single(target));
        (0..50).for_each(|_| std::thread::yield_now());
        assert_eq!(TLB_IPIS[target].load(SeqCst), 0);
        gate.store(2, SeqCst);
        until(|| gate.load(SeqCst) == 3);
        send_tlb_ipi(CpuMask::single(target));
        wait_for(&|| TLB_IPIS[target].load(SeqCst) == 2);
        gate.store(4, SeqCst);
        ::sync::threads().unpark(t.task());
        t.join();
        // The CPU idles now, and still answers.
        send_tlb_ipi(CpuMask::single(target));
        wait_for(&|| TLB_IPIS[target].load(SeqCst) == 3);
    });
}

#[test]
fn function_calls_run_everywhere_before_call_on_returns() {
    static RAN: AtomicU32 = AtomicU32::new(0);
    static BAD: AtomicBool = AtomicBool::new(false);
    fn note(arg: usize) {
        BAD.fetch_or(irq::enabled() || arg != 5, SeqCst);
        RAN.fetch_or(1 << cpu::id(), SeqCst);
    }
    alone(|| {
        for _ in 0..20 {
            RAN.store(0, SeqCst);
            call_on(online(), note, 5);
            assert_eq!(RAN.load(SeqCst), online().bits());
        }
        assert!(!BAD.load(SeqCst));
    });
}

#[test]
fn two_cpus_that_call_each_other_serve_each_other() {
    fn nothing(_: usize) {}
    alone(|| {
        let threads: Vec<_> = (0..3)
            .map(|_| thread(|| (0..200).for_each(|_| call_on(online(), nothing, 0))))
            .collect();
        threads
            .into_iter()
            .for_each(super::thread::JoinHandle::join);
    });
}

#[test]
fn a_frame_freed_while_cached_is_reported_and_its_use_too() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 1).unwrap();
        let me = cpu::id();
        assert_eq!(simctl::stale_translations(f), [(me, VA)]);
        let before = simctl::generation(f);
        frame_freed(f);
        assert_eq!(simctl::generation(f), before + 1);
        user::store(VA, 2).unwrap();
        assert_eq!(
            simctl::take_violations(),
            [
                Violation::FreedWhileCached {
                    pfn: f,
                    cpu: me,
                    va: VA
                },
                Violation::UsedAfterFree {
                    pfn: f,
                    cpu: me,
                    va: VA
                },
            ]
        );
    });
}

#[test]
fn the_right_order_leaves_no_violation() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 1).unwrap();
        s.cell(0).store(0, SeqCst);
        invlpg(VA);
        frame_freed(f);
        assert_eq!(simctl::take_violations(), []);
    });
}

#[test]
fn a_table_freed_while_a_cpu_may_walk_it_is_reported() {
    alone(|| {
        let s = Space::new();
        s.map(0, frame(), RW);
        s.load();
        user::store(VA, 1).unwrap();
        let me = cpu::id();
        pt_cell(s.pmd, VA.table_index(1)).store(0, SeqCst);
        frame_freed(s.pte);
        assert!(user::load_nofault(va(1)).is_none());
        frame_freed(s.root);
        assert_eq!(
            simctl::take_violations(),
            [
                Violation::TableFreedWhileCached {
                    pfn: s.pte,
                    cpu: me
                },
                Violation::WalkedAfterFree {
                    pfn: s.pte,
                    va: va(1)
                },
                Violation::TableFreedWhileCached {
                    pfn: s.root,
                    cpu: me
                },
            ]
        );
    });
}

#[test]
fn threads_join_panic_and_are_refused_when_cpus_run_out() {
    alone(|| {
        let ran = Arc::new(AtomicBool::new(false));
        let r = ran.clone();
        let t = thread(move || r.store(true, SeqCst));
        t.join();
        assert!(ran.load(SeqCst));
        let go = Arc::new(AtomicBool::new(false));
        let q = Arc::new(WaitQueue::new());
        let mut all = Vec::new();
        loop {
            let (g, q) = (go.clone(), q.clone());
            let work = Box::new(move || q.wait_until(|| g.load(SeqCst)));
            match spawn(Spawn::default(), work) {
                Ok(t) => all.push(t),
                Err(e) => {
                    assert_eq!(e, super::thread::SpawnError::TooMany);
                    break;
                }
            }
        }
        assert!(all.len() >= 8);
        go.store(true, SeqCst);
        q.wake_all();
        all.into_iter().for_each(super::thread::JoinHandle::join);
    });
}

#[test]
#[should_panic(expected = "from inside")]
fn a_thread_s_panic_reaches_the_joiner() {
    alone(|| panic!("from inside"));
}

#[test]
fn adopted_words_are_per_thread() {
    alone(|| {
        super::thread::set_adopted(3);
        thread(|| {
            assert_eq!(super::thread::adopted(), 0);
            super::thread::set_adopted(9);
        })
        .join();
        assert_eq!(super::thread::adopted(), 3);
    });
}

fn bio(op: Op, sector: u64, frames: &[Pfn]) -> &'static Bio {
    let bio: &'static Bio = Box::leak(Box::new(Bio::new()));
    bio.prepare(op, sector, frames);
    bio
}

fn io(op: Op, sector: u64, frames: &[Pfn]) -> Result<(), IoError> {
    let bio = bio(op, sector, frames);
    swap_disk().unwrap().submit(bio).unwrap();
    IO.wait_until(|| bio.result().is_some());
    bio.result().unwrap()
}

#[test]
fn disk_keeps_what_was_written() {
    alone(|| {
        let (a, b) = (frame(), frame());
        fill_frame(a, 11);
        fill_frame(b, 22);
        assert_eq!(io(Op::Write, 64, &[a, b]), Ok(()));
        assert_eq!(io(Op::Flush, 0, &[]), Ok(()));
        assert_eq!(simctl::disk_word(64 + 8, 0), 22);
        zero_frame(a);
        assert_eq!(io(Op::Read, 72, &[a]), Ok(()));
        assert_eq!(frame_words(a)[511].load(Relaxed), 22);
        let end = swap_disk().unwrap().sectors();
        assert_eq!(io(Op::Read, end - 8, &[a, b]), Err(IoError));
    });
}

#[test]
fn disk_errors_hit_their_sectors_and_operation_only() {
    alone(|| {
        let f = frame();
        fill_frame(f, 1);
        let fault = |once| DiskFault {
            op: Op::Write,
            sectors: 100..101,
            kind: FaultKind::Error,
            once,
        };
        simctl::inject_disk_fault(fault(true));
        assert_eq!(io(Op::Write, 104, &[f]), Ok(()));
        assert_eq!(io(Op::Read, 96, &[f]), Ok(()));
        fill_frame(f, 5);
        assert_eq!(io(Op::Write, 96, &[f]), Err(IoError));
        assert_ne!(simctl::disk_word(96, 0), 5);
        assert_eq!(io(Op::Write, 96, &[f]), Ok(()));
        simctl::inject_disk_fault(fault(false));
        assert_eq!(io(Op::Write, 96, &[f]), Err(IoError));
        assert_eq!(io(Op::Write, 96, &[f]), Err(IoError));
        simctl::clear_disk_faults();
        assert_eq!(io(Op::Write, 96, &[f]), Ok(()));
    });
}

#[test]
fn disk_takes_sixteen_requests_and_completes_out_of_order() {
    alone(|| {
        let f = frame();
        simctl::inject_disk_fault(DiskFault {
            op: Op::Read,
            sectors: 0..8,
            kind: FaultKind::Hang,
            once: false,
        });
        let disk = swap_disk().unwrap();
        let before = disk.completed();
        let hung: Vec<_> = (0..15).map(|_| bio(Op::Read, 0, &[f])).collect();
        for b in &hung {
            disk.submit(b).unwrap();
        }
        // One more fits, and overtakes.
        assert_eq!(io(Op::Read, 8, &[f]), Ok(()));
        let last = bio(Op::Read, 0, &[f]);
        disk.submit(last).unwrap();
        let refused = bio(Op::Read, 8, &[f]);
        assert_eq!(disk.submit(refused), Err(Busy));
        assert!(hung.iter().all(|b| b.result().is_none()));
        simctl::clear_disk_faults();
        IO.wait_until(|| {
            hung.iter()
                .chain([&last])
                .all(|b| b.result() == Some(Ok(())))
        });
        assert_eq!(disk.completed(), before + 17);
    });
}

#[test]
fn kernel_heap_window_takes_frames_and_tables() {
    machine_on();
    let (base, len) = heap_window();
    assert!(base.0.is_multiple_of(PAGE_SIZE) && len > PMD_SIZE);
    let tables = AtomicU32::new(0);
    let mut none = || None;
    assert_eq!(map_kernel_page(base, Pfn(1), &mut none), Err(NoMemory));
    let mut table = || {
        tables.fetch_add(1, Relaxed);
        Some(frame())
    };
    assert_eq!(map_kernel_page(base, Pfn(1), &mut table), Ok(()));
    let next = VirtAddr(base.0 + PAGE_SIZE);
    assert_eq!(map_kernel_page(next, Pfn(2), &mut table), Ok(()));
    assert_eq!(tables.load(Relaxed), 1);
}
