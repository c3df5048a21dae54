//! What an actor passes in a fault and in a zap, and that nobody else passes anything.
#![cfg(feature = "lab")]

use arch::simctl::{self, Config};
use arch::upcall::Access;
use arch::{PAGE_SIZE, VirtAddr};
use mm::{Advice, MapFlags, MmRef, Prot};
use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};
use sync::point::{self, AccessKind, Explorer, Go, Note, PointKind, Stop};
use sync::{CpuMask, TaskId};

const BASE: VirtAddr = VirtAddr(0x4000_0000);
/// Accesses that a footprint of `algo::explore` has room for.
const ROOM: usize = 14;

#[derive(Default)]
struct Seen {
    kinds: Vec<PointKind>,
    step: HashSet<(AccessKind, u32)>,
    largest: usize,
}

impl Seen {
    fn touch(&mut self, access: AccessKind, object: u32) {
        self.step.insert((access, object));
        self.largest = self.largest.max(self.step.len());
    }
}

/// Lets everybody go on at once and writes down where they stood.
#[derive(Default)]
struct Recorder(Mutex<Seen>);

impl Recorder {
    fn with<R>(&self, f: impl FnOnce(&mut Seen) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> Seen {
        self.with(core::mem::take)
    }
}

impl Explorer for Recorder {
    fn stop(&self, stop: &Stop<'_>) -> Go {
        self.with(|seen| {
            seen.kinds.push(stop.kind);
            seen.step.clear();
            seen.touch(stop.access, stop.object);
        });
        Go::Free
    }
    fn touch(&self, access: AccessKind, object: u32) {
        self.with(|seen| seen.touch(access, object));
    }
    fn note(&self, _: Note) {}
    fn tlb_ipi(&self, to: CpuMask) {
        assert!(to.is_empty(), "there is one CPU");
    }
    fn unpark(&self, _: TaskId) -> bool {
        false
    }
}

static RECORDER: LazyLock<Recorder> = LazyLock::new(Recorder::default);

fn as_actor(f: impl FnOnce()) -> Seen {
    point::make_actor(true);
    f();
    point::make_actor(false);
    RECORDER.take()
}

#[test]
fn actors_pass_points_and_nobody_else_does() {
    use PointKind::{CellRead, CellWrite, Count, Lock, Space, Unlock};
    simctl::boot(Config {
        ram: 32 << 20,
        ..Config::default()
    });
    simctl::run(|| {
        mm::init().expect("32 MiB are enough");
        point::set_explorer(&*RECORDER);
        let mm = MmRef::new().expect("memory for an address space");
        mm.mmap(Some(BASE), 4 * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
            .expect("mmap");
        let store = |page| {
            let va = VirtAddr(BASE.0 + page * PAGE_SIZE);
            mm.fault(va, Access::Write)
                .expect("the page may be written");
        };
        let zap = || {
            mm.madvise(BASE, 4 * PAGE_SIZE, Advice::DontNeed)
                .expect("madvise");
        };

        // Makes the tables, too.
        store(0);
        zap();
        let seen = RECORDER.take();
        assert_eq!((seen.kinds, seen.largest), (vec![], 0), "not an actor");

        let fault = as_actor(|| store(1));
        // mmap_lock; the PMD, the PTE for what to do; PTL, PTE.
        assert_eq!(
            fault.kinds,
            [Lock, CellRead, CellRead, Lock, CellWrite, Unlock, Unlock]
        );
        let zapped = as_actor(zap);
        // mmap_lock; the PMD, PTL; the entry, the mapcount; the generation, the CPUs, what is
        // flushed; the frame.
        assert_eq!(
            zapped.kinds,
            [
                Lock, CellRead, Lock, CellWrite, Count, Unlock, Space, Space, Space, Count, Unlock
            ]
        );
        for step in [fault.largest, zapped.largest] {
            assert!(
                (1..=ROOM).contains(&step),
                "{step} accesses in one step: it would conflict with every other"
            );
        }
        assert_eq!(simctl::take_violations(), []);
    });
}
