//! Many threads in little memory: faults, forks, advice, unmapping and swapoff at once. Every page
//! carries whose it is and how often it was written; nothing may be lost, mixed up, leaked or used
//! after it was freed.

use algo::pattern::{Stamp, check, encode};
use arch::simctl::{self, Config};
use arch::thread::{JoinHandle, Spawn, spawn};
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::swap::SwapOpError;
use mm::{Advice, MapFlags, MmRef, Prot, reclaim, swap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use sync::WaitQueue;

const BASE: VirtAddr = VirtAddr(0x4000_0000);
/// Pages of one worker: all together more than memory.
const PAGES: u64 = 1500;
const WORKERS: u16 = 4;
const STEPS: usize = 20_000;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn word_at(page: u64, word: usize) -> VirtAddr {
    VirtAddr(BASE.0 + page * PAGE_SIZE + 8 * word as u64)
}

const WORDS: [usize; 3] = [0, 200, 511];

/// One address space and what its pages should hold; version 0 is a page of zeroes.
struct Worker {
    id: u16,
    mm: MmRef,
    versions: Vec<u16>,
    rng: Rng,
}

impl Worker {
    fn new(id: u16) -> Self {
        let mm = MmRef::new().expect("memory for an address space");
        mm.mmap(Some(BASE), PAGES * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
            .expect("mmap");
        Self {
            id,
            mm,
            versions: vec![0; PAGES as usize],
            rng: Rng(u64::from(id) + 77),
        }
    }

    fn stamp(&self, page: u64) -> Stamp {
        Stamp {
            mm: self.id,
            page: page as u32,
            version: self.versions[page as usize],
        }
    }

    fn write(&mut self, page: u64) {
        let v = &mut self.versions[page as usize];
        *v = v.wrapping_add(1).max(1);
        let stamp = self.stamp(page);
        for w in WORDS {
            user::store(word_at(page, w), encode(stamp, w)).expect("store");
        }
    }

    fn verify(&self, page: u64) {
        let stamp = self.stamp(page);
        for w in WORDS {
            let found = user::load(word_at(page, w)).expect("load");
            if stamp.version == 0 {
                assert_eq!(found, 0, "{stamp}, word {w}");
            } else if let Err(e) = check(found, w, stamp) {
                panic!("{e}");
            }
        }
    }

    /// A run of pages somewhere.
    fn run(&mut self) -> (u64, u64) {
        let len = 1 + self.rng.below(64);
        (self.rng.below(PAGES - len), len)
    }

    fn advise(&mut self, advice: Advice) {
        let (first, len) = self.run();
        self.mm
            .madvise(word_at(first, 0), len * PAGE_SIZE, advice)
            .expect("madvise");
        if advice == Advice::DontNeed {
            self.versions[first as usize..(first + len) as usize].fill(0);
        }
    }

    fn fork(&mut self) {
        let Ok(child) = self.mm.fork() else { return };
        let (first, len) = self.run();
        let (mm, versions) = (child, self.versions.clone());
        let (id, rng) = (self.id, Rng(self.rng.below(u64::MAX) | 1));
        let other = move || {
            let _adopted = mm.adopt();
            let mut child = Self {
                id,
                mm: mm.clone(),
                versions,
                rng,
            };
            for page in first..first + len {
                child.verify(page);
                child.write(page);
            }
            for _ in 0..100 {
                let page = child.rng.below(PAGES);
                child.verify(page);
            }
        };
        if let Ok(handle) = spawn(
            Spawn {
                name: "child",
                cpu: None,
            },
            Box::new(other),
        ) {
            for page in first..first + len {
                self.write(page);
            }
            handle.join();
        }
    }

    fn work(mut self, filled: &Gate) {
        let mm = self.mm.clone();
        let _adopted = mm.adopt();
        (0..PAGES).for_each(|page| self.write(page));
        filled.wait();
        for _ in 0..STEPS {
            match self.rng.below(100) {
                0 => self.fork(),
                1..3 => self.advise(Advice::PageOut),
                // Rare, so that what is left stays more than memory and swapoff fails.
                3 if self.rng.below(4) == 0 => self.advise(Advice::DontNeed),
                4 => self.advise(Advice::WillNeed),
                5 => self.advise(Advice::Cold),
                6..50 => {
                    let page = self.rng.below(PAGES);
                    self.write(page);
                }
                _ => {
                    let page = self.rng.below(PAGES);
                    self.verify(page);
                }
            }
        }
        // As long as one still makes copies, all keep what they have: otherwise swapoff could
        // succeed, and memory would not be enough for the copies.
        DONE.wait();
        (0..PAGES).for_each(|page| self.verify(page));
    }
}

/// Opens when all workers have come.
struct Gate {
    missing: AtomicU16,
    queue: WaitQueue,
}

impl Gate {
    const fn new() -> Self {
        Self {
            missing: AtomicU16::new(WORKERS),
            queue: WaitQueue::new(),
        }
    }
    fn wait(&self) {
        self.missing.fetch_sub(1, Ordering::AcqRel);
        self.queue.wake_all();
        self.wait_open();
    }
    fn wait_open(&self) {
        self.queue
            .wait_until(|| self.missing.load(Ordering::Acquire) == 0);
    }
}

static FILLED: Gate = Gate::new();
static DONE: Gate = Gate::new();

fn start(name: &'static str, f: impl FnOnce() + Send + 'static) -> JoinHandle {
    spawn(Spawn { name, cpu: None }, Box::new(f)).expect("a thread")
}

#[test]
fn nothing_is_lost_under_pressure() {
    simctl::boot(Config {
        ram: 18 << 20,
        swap: 64 << 20,
        evict: 8,
        ..Config::default()
    });
    simctl::run(|| {
        mm::init().expect("18 MiB are enough");
        let disk = arch::swap_disk().expect("the machine has a disk");
        swap::mkswap(disk, "test", &[]).expect("mkswap");
        swap::swapon(disk).expect("swapon");
        reclaim::kswapd::start().expect("there are threads");
        reclaim::oom::set_hook(|kill| {
            println!(
                "{kill}; lru {:?}, {:?}, {} in the laundry, {} requests, {:?}",
                mm::inspect::lru_counts(),
                swap::stats(),
                reclaim::in_laundry(),
                swap::io::in_flight(),
                mm::stats::Use::ALL.map(|(u, _)| mm::stats::use_pages(u)),
            );
        });
        let over = Arc::new(AtomicBool::new(false));
        let toggler = {
            let over = over.clone();
            start("swapoff", move || {
                FILLED.wait_open();
                while !over.load(Ordering::Relaxed) {
                    arch::thread::sleep_ns(20_000_000);
                    // Fails for want of memory; half emptied areas are the point.
                    match mm::ops::swapoff::swapoff() {
                        Err(e) => assert_eq!(e, SwapOpError::NoMemory),
                        // All workers are done.
                        Ok(()) => drop(swap::swapon(disk).expect("swapon")),
                    }
                }
            })
        };
        let workers: Vec<_> = (1..=WORKERS)
            .map(|id| start("worker", move || Worker::new(id).work(&FILLED)))
            .collect();
        workers.into_iter().for_each(JoinHandle::join);
        over.store(true, Ordering::Relaxed);
        toggler.join();
        reclaim::settle();
        assert_eq!(swap::stats().used, 0, "slots leaked");
        assert_eq!(swap::cache::len(), 0, "folios leaked in the swap cache");
        assert_eq!(
            mm::stats::use_pages(mm::stats::Use::Anon),
            0,
            "frames leaked"
        );
        swap::validate().expect("swap map");
        mm::check().expect("accounting");
        assert_eq!(simctl::take_violations(), []);
    });
}
