//! The primitives under loom: small programs, run in every order of their atomic operations and
//! with every value that the memory model lets a load return. Each property comes with the broken
//! twins that must not have it. `cargo test -p sync --features loom --test loom`.

use std::sync::Arc;
use sync::model::atomic::{AtomicU32, Ordering};
use sync::model::{cell, check, thread};
use sync::{Rank, RawSpin, RwSem, Twin, WaitQueue};

mod tlb;

/// A word that is no atomic: loom reports every race on it.
struct Word(cell::UnsafeCell<u32>);

// SAFETY: loom checks every access for races with the others.
unsafe impl Sync for Word {}
// SAFETY: a number.
unsafe impl Send for Word {}

impl Word {
    fn new() -> Self {
        Self(cell::UnsafeCell::new(0))
    }
    fn add(&self) {
        // SAFETY: loom panics before it hands out a pointer that another thread uses at the time.
        self.0.with_mut(|p| unsafe { *p += 1 });
    }
    fn get(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|p| unsafe { *p })
    }
}

/// Names the twin that is to be broken, in a process of its own.
const BROKEN: &str = "SYNC_BROKEN_TWIN";

/// `program` is right in every order with at most so many preemptions, and with any of `twins`
/// broken it goes wrong in one of them, with these words. A wrong run aborts, so each twin has a
/// process, which runs this test alone.
fn property(
    name: &str,
    preemptions: Option<usize>,
    twins: &[(Twin, &str)],
    program: impl Fn() + Send + Sync + 'static,
) {
    if let Ok(broken) = std::env::var(BROKEN) {
        let twin = twins.iter().find(|(t, _)| format!("{t:?}") == broken);
        let runs = check(Some(twin.unwrap().0), preemptions, program);
        panic!("not noticed in {runs} runs");
    }
    let runs = check(None, preemptions, program);
    println!("{name}: {runs} runs");
    for (twin, words) in twins {
        let out = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(BROKEN, format!("{twin:?}"))
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            !out.status.success() && said.contains(words),
            "{twin:?}: {said}"
        );
    }
}

/// What loom says of an unordered access, and of threads that all wait.
const RACE: &str = "Causality violation";
const DEADLOCK: &str = "deadlock; threads";

macro_rules! properties {
    ($($name:ident, $preemptions:expr, [$($twin:ident: $words:expr),*], $program:expr;)+) => {$(
        #[test]
        fn $name() {
            // As the test harness names it: without the crate.
            let path = concat!(module_path!(), "::", stringify!($name));
            let (_, name) = path.split_once("::").unwrap();
            $crate::property(name, $preemptions, &[$((sync::Twin::$twin, $words)),*], $program);
        }
    )+};
}
pub(crate) use properties;

/// Runs the parts at once. None on the calling thread: a preemption would be spent on leaving it.
fn together<const N: usize>(parts: [fn(&Shared); N]) -> Arc<Shared> {
    let shared = Arc::new(Shared::new());
    let threads = parts.map(|part| {
        let shared = shared.clone();
        thread::spawn(move || part(&shared))
    });
    for t in threads {
        t.join().unwrap();
    }
    shared
}

struct Shared {
    spin: RawSpin,
    sem: RwSem<()>,
    queue: WaitQueue,
    flag: AtomicU32,
    word: Word,
}

impl Shared {
    fn new() -> Self {
        Self {
            spin: RawSpin::new(),
            sem: RwSem::new(Rank::MmapLock, ()),
            queue: WaitQueue::new(),
            flag: AtomicU32::new(0),
            word: Word::new(),
        }
    }

    fn spin(&self) {
        let _g = self.spin.lock(Rank::Ptl);
        self.word.add();
    }
    fn write(&self) {
        let _g = self.sem.write();
        self.word.add();
    }
    fn try_spin(&self) {
        if let Some(_g) = self.spin.try_lock(Rank::Ptl) {
            self.word.add();
        }
    }
    fn read(&self) {
        let _g = self.sem.read();
        self.word.get();
    }
    /// Waits until two threads are here.
    fn arrive(&self) {
        self.flag.fetch_add(1, Ordering::AcqRel);
        self.queue.wake_all();
        self.queue
            .wait_until(|| self.flag.load(Ordering::Acquire) == 2);
    }
    fn meet(&self) {
        let _g = self.sem.read();
        self.word.get();
        self.arrive();
    }
    fn give(&self) {
        self.flag.fetch_add(1, Ordering::Release);
        self.queue.wake_one();
    }
    /// Takes one that was given.
    fn taker(&self) {
        self.queue.wait_until(|| {
            let taken = self
                .flag
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
            taken.is_ok()
        });
    }
}

properties! {
    a_spin_lock_excludes, None, [SpinTwoSteps: RACE, SpinRelaxed: RACE], || {
        let s = together([Shared::spin, Shared::spin]);
        assert_eq!(s.word.get(), 2);
    };
    a_tried_spin_lock_excludes, None, [SpinTwoSteps: RACE, SpinRelaxed: RACE], || {
        let s = together([Shared::try_spin, Shared::try_spin]);
        assert!(s.word.get() > 0);
    };
    writers_exclude_each_other, None, [SemQueueBlind: DEADLOCK, SemUpRelaxed: RACE, PopRelaxed: RACE], || {
        let s = together([Shared::write, Shared::write]);
        assert_eq!(s.word.get(), 2);
    };
    a_reader_and_a_writer_exclude_each_other, None, [SemQueueBlind: DEADLOCK, SemUpRelaxed: RACE], || {
        together([Shared::write, Shared::read]);
    };
    readers_go_in_together, Some(2), [], || {
        // Each waits inside for the other.
        together([Shared::meet, Shared::meet]);
    };
    the_last_of_two_readers_hands_over_to_the_writer, Some(2),
        [SemLastReader: DEADLOCK, SemGrantRelaxed: RACE, SemUpRelaxed: RACE, SemGrantBlind: RACE], || {
        together([Shared::read, Shared::read, Shared::write]);
    };
    queued_readers_go_in_together, Some(2), [], || {
        let s = Arc::new(Shared::new());
        let g = s.sem.write();
        let readers = [(); 2].map(|()| {
            let s = s.clone();
            thread::spawn(move || s.meet())
        });
        s.word.add();
        drop(g);
        for r in readers {
            r.join().unwrap();
        }
    };
    a_downgrade_lets_readers_in, Some(3), [DowngradeAlone: DEADLOCK], || {
        let s = Arc::new(Shared::new());
        let g = s.sem.write();
        let reader = { let s = s.clone(); thread::spawn(move || s.meet()) };
        s.word.add();
        let g = g.downgrade();
        s.arrive();
        drop(g);
        reader.join().unwrap();
    };
    a_downgrade_lets_no_writer_in, Some(3), [DowngradeGap: RACE], || {
        together([Shared::write, |s| {
            let g = s.sem.write();
            s.word.add();
            let _g = g.downgrade();
            assert!(s.word.get() > 0);
        }]);
    };
    a_waker_and_a_waiter_do_not_miss_each_other, None,
        [WaitOnce: DEADLOCK, WaitNoFence: DEADLOCK, WakeNoFence: DEADLOCK], || {
        let s = together([Shared::give, Shared::taker]);
        assert!(s.queue.is_empty());
    };
    who_leaves_the_queue_passes_its_wakeup_on, Some(3), [LeaveKeeps: DEADLOCK], || {
        // Queued already, the first finds its condition true and spends the only wake-up, on itself
        // if it is first.
        let leaver = |s: &Shared| {
            let mut looks = 0;
            s.queue.wait_until(|| {
                looks += 1;
                looks == 2 && {
                    s.give();
                    true
                }
            });
        };
        together([leaver, Shared::taker]);
    };
}
