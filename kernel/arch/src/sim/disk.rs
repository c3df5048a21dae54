//! The RAM disks: each a device with a thread of its own, up to 16 requests in flight, and faults
//! on demand.
//!
//! The device's thread moves the data between submission and completion (so memory written
//! meanwhile may or may not be in it, as with DMA) and then interrupts a CPU, preferably one that
//! sleeps. Locks: mutexes of its own, leaves.

use super::board::machine;
use super::cpu::{SimCpu, lock};
use super::ipi::{self, mail};
use super::ram::lazy_words;
use super::volatile::Volatile;
use crate::addr::PAGE_SIZE;
use crate::block::{Bio, BlockDevice, Busy, IoError, Op, SECTOR};
use crate::upcall::upcalls;
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Requests that the device takes at a time.
pub(super) const QUEUE: usize = 16;
const SECTORS_PER_PAGE: u64 = PAGE_SIZE / SECTOR;
const WORDS_PER_PAGE: usize = PAGE_SIZE as usize / 8;
pub(super) const WORDS_PER_SECTOR: usize = SECTOR as usize / 8;

/// What happens to a request that meets an injected fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// It fails; no data is moved.
    Error,
    /// It takes this many nanoseconds longer.
    Delay(u64),
    /// It does not complete before [`RamDisk::clear_faults`].
    Hang,
}

/// An injected fault.
#[derive(Clone, Debug)]
pub struct DiskFault {
    /// Which operations.
    pub op: Op,
    /// Which sectors: requests that overlap. Flushes match any range.
    pub sectors: Range<u64>,
    /// What happens.
    pub kind: FaultKind,
    /// Only the first such request.
    pub once: bool,
}

impl DiskFault {
    fn matches(&self, bio: &Bio) -> bool {
        let end = bio.sector() + bio.len() as u64 * SECTORS_PER_PAGE;
        self.op == bio.op()
            && (bio.op() == Op::Flush
                || bio.sector() < self.sectors.end && self.sectors.start < end)
    }
}

/// A request that a device has finished and no CPU has reported yet.
pub(super) struct Completion {
    disk: &'static RamDisk,
    bio: &'static Bio,
    result: Result<(), IoError>,
}

/// What a disk has done, for tests that cut the power at each point.
#[derive(Clone, Debug)]
pub enum DiskEvent {
    /// A page was written.
    Write {
        /// Its first sector.
        sector: u64,
        /// Its words.
        words: Vec<u64>,
    },
    /// Everything written before is durable.
    Flush,
}

struct Request {
    bio: &'static Bio,
    due_ns: u64,
    hangs: bool,
    fails: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Request>,
    faults: Vec<DiskFault>,
}

/// When a write is durable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// When it completes.
    Through,
    /// When a flush after it completes.
    Volatile,
}

/// One disk.
pub struct RamDisk {
    name: &'static str,
    words: &'static [AtomicU64],
    sectors: u64,
    in_flight: AtomicUsize,
    completed: AtomicU64,
    read_only: AtomicBool,
    log: Mutex<Option<Vec<DiskEvent>>>,
    /// Held while data is moved to the disk. None: writes go through.
    unflushed: Option<Mutex<Volatile>>,
    queue: Mutex<Queue>,
    work: Condvar,
}

impl RamDisk {
    /// A disk of zeroes.
    pub(super) fn new(name: &'static str, bytes: u64, cache: Cache) -> Self {
        Self {
            name,
            words: lazy_words((bytes / 8) as usize),
            sectors: bytes / SECTOR,
            in_flight: AtomicUsize::new(0),
            completed: AtomicU64::new(0),
            read_only: AtomicBool::new(false),
            log: Mutex::new(None),
            unflushed: (cache == Cache::Volatile).then(Mutex::default),
            queue: Mutex::new(Queue {
                waiting: Vec::with_capacity(QUEUE),
                faults: Vec::new(),
            }),
            work: Condvar::new(),
        }
    }

    /// From now on requests that match `fault` meet it.
    pub fn inject(&self, fault: DiskFault) {
        lock(&self.queue).faults.push(fault);
    }

    /// No more faults; requests that hang or are delayed complete.
    pub fn clear_faults(&self) {
        let mut q = lock(&self.queue);
        q.faults.clear();
        for r in &mut q.waiting {
            (r.hangs, r.due_ns) = (false, 0);
        }
        self.work.notify_all();
    }

    /// Begins to write down what is done; what was until now.
    pub fn record(&self) -> Vec<DiskEvent> {
        lock(&self.log).replace(Vec::new()).unwrap_or_default()
    }

    /// Ends writing it down; what was.
    pub fn recorded(&self) -> Vec<DiskEvent> {
        lock(&self.log).take().unwrap_or_default()
    }

    fn note(&self, event: impl FnOnce() -> DiskEvent) {
        if let Some(log) = lock(&self.log).as_mut() {
            log.push(event());
        }
    }

    /// From now on the disk takes no writes, or does again.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Relaxed);
    }

    /// Word `index` (below 64) of `sector`, as a read would find it: for oracles.
    pub fn word(&self, sector: u64, index: usize) -> u64 {
        self.words[sector as usize * WORDS_PER_SECTOR + index].load(Relaxed)
    }

    /// Puts a value into word `index` (below 64) of `sector`: to fill a disk before anybody uses
    /// it.
    pub fn set_word(&self, sector: u64, index: usize, value: u64) {
        self.words[sector as usize * WORDS_PER_SECTOR + index].store(value, Relaxed);
    }

    pub(super) fn power_cut(&self, seed: u64) {
        if let Some(unflushed) = &self.unflushed {
            lock(unflushed).cut(self.words, seed);
        }
    }

    /// The device's thread.
    fn serve(&'static self) -> ! {
        loop {
            let request = self.next();
            let result = if request.fails {
                Err(IoError)
            } else {
                self.transfer(request.bio)
            };
            let cpu = interrupt_target();
            lock(&cpu.completions).push_back(Completion {
                disk: self,
                bio: request.bio,
                result,
            });
            ipi::post(cpu, mail::DISK);
        }
    }

    /// Waits for the request that is due first.
    fn next(&self) -> Request {
        let mut q = lock(&self.queue);
        loop {
            let now = super::now_ns();
            let due = |r: &&Request| !r.hangs;
            let first = q.waiting.iter().filter(due).map(|r| r.due_ns).min();
            if let Some(at) = first
                && at <= now
                && let Some(i) = q.waiting.iter().position(|r| !r.hangs && r.due_ns == at)
            {
                return q.waiting.remove(i);
            }
            q = match first {
                None => self.work.wait(q).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    self.work
                        .wait_timeout(q, Duration::from_nanos(at - now))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    fn transfer(&self, bio: &Bio) -> Result<(), IoError> {
        let mut unflushed = self.unflushed.as_ref().map(lock);
        if bio.op() == Op::Flush {
            unflushed.as_mut().into_iter().for_each(|u| u.flush());
            self.note(|| DiskEvent::Flush);
            return Ok(());
        }
        let end = bio.sector() + bio.len() as u64 * SECTORS_PER_PAGE;
        let refused = bio.op() == Op::Write && self.is_read_only();
        if end > self.sectors || refused {
            return Err(IoError);
        }
        for i in 0..bio.len() {
            let at = bio.sector() as usize * WORDS_PER_SECTOR + i * WORDS_PER_PAGE;
            if let (Op::Write, Some(unflushed)) = (bio.op(), &mut unflushed) {
                unflushed.before_write(self.words, at, WORDS_PER_PAGE);
            }
            let disk = &self.words[at..at + WORDS_PER_PAGE];
            let memory = super::frame_words(bio.frame(i));
            for (d, m) in disk.iter().zip(memory) {
                match bio.op() {
                    Op::Write => d.store(m.load(Relaxed), Relaxed),
                    _ => m.store(d.load(Relaxed), Relaxed),
                }
            }
            if bio.op() == Op::Write {
                self.note(|| DiskEvent::Write {
                    sector: bio.sector() + i as u64 * SECTORS_PER_PAGE,
                    words: disk.iter().map(|w| w.load(Relaxed)).collect(),
                });
            }
        }
        Ok(())
    }
}

/// A CPU that sleeps, or the next one in turn.
fn interrupt_target() -> &'static SimCpu {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let cpus = &machine().cpus;
    let turn = TURN.fetch_add(1, Relaxed);
    let from = |i| &cpus[(turn + i) % cpus.len()];
    (0..cpus.len())
        .map(from)
        .find(|c| c.halted.load(Relaxed))
        .unwrap_or_else(|| from(0))
}

/// The disks' interrupt handler: reports what was finished. Interrupts are off.
pub(super) fn interrupt(cpu: &SimCpu) {
    loop {
        let done = lock(&cpu.completions).pop_front();
        let Some(Completion { disk, bio, result }) = done else {
            return;
        };
        // First, so that the upcall may submit again.
        disk.in_flight.fetch_sub(1, Release);
        disk.completed.fetch_add(1, Relaxed);
        // SAFETY: its thread has moved the data, and took the request off the queue.
        unsafe { bio.complete(result) };
        if let Some(up) = upcalls() {
            up.bio_done(bio);
        }
    }
}

/// Starts the devices' threads.
pub(super) fn start() {
    for disk in [&machine().swap, &machine().data].into_iter().flatten() {
        std::thread::Builder::new()
            .name(disk.name.into())
            .spawn(|| disk.serve())
            .expect("the host has a thread for the simulated disk");
    }
}

/// The disk for swapping, if the machine has one.
pub fn swap_disk() -> Option<&'static dyn BlockDevice> {
    machine().swap.as_ref().map(|d| d as &dyn BlockDevice)
}

/// The disk for files, if the machine has one.
pub fn data_disk() -> Option<&'static dyn BlockDevice> {
    machine().data.as_ref().map(|d| d as &dyn BlockDevice)
}

impl BlockDevice for RamDisk {
    fn name(&self) -> &str {
        self.name
    }

    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn is_read_only(&self) -> bool {
        self.read_only.load(Relaxed)
    }

    unsafe fn submit(&self, bio: &'static Bio) -> Result<(), Busy> {
        self.in_flight
            .try_update(Acquire, Relaxed, |n| (n < QUEUE).then_some(n + 1))
            .map_err(|_| Busy)?;
        bio.start();
        let mut q = lock(&self.queue);
        let mut request = Request {
            bio,
            due_ns: 0,
            hangs: false,
            fails: false,
        };
        q.faults.retain(|f| {
            if !f.matches(bio) {
                return true;
            }
            match f.kind {
                FaultKind::Error => request.fails = true,
                FaultKind::Delay(ns) => request.due_ns = super::now_ns() + ns,
                FaultKind::Hang => request.hangs = true,
            }
            !f.once
        });
        q.waiting.push(request);
        self.work.notify_one();
        Ok(())
    }

    fn completed(&self) -> u64 {
        self.completed.load(Relaxed)
    }
}
