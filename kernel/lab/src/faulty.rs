//! Disks with injected errors: each stands between the memory manager and one disk of the machine.
//!
//! Rules are a fixed table of atomics, so that [`BlockDevice::submit`] neither locks nor allocates.
//! A request that meets a rule never reaches the disk: it completes with an error before `submit`
//! returns.

#![expect(unsafe_code, reason = "it is a device")]

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::block::{Bio, BlockDevice, Busy, IoError, Op};

/// Most rules at a time.
pub const MAX_RULES: usize = 8;
const SECTORS_PER_PAGE: u64 = arch::PAGE_SIZE / arch::block::SECTOR;

/// Which requests fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Reads, writes or flushes.
    pub op: Op,
    /// First sector; a request fails if it overlaps the range. Flushes overlap any.
    pub first: u64,
    /// First sector after the range.
    pub end: u64,
    /// How many requests fail before the rule is spent.
    pub times: u64,
}

impl fmt::Display for Rule {
    /// As the words that `fault-inject` takes, without the disk and without how often.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::Read => "read",
            Op::Write => "write",
            Op::Flush => "flush",
        };
        if self.end == u64::MAX {
            return f.write_str(op);
        }
        write!(f, "{op} {}+{}", self.first, self.end - self.first)
    }
}

struct Cell {
    /// 0: unused, else the operation + 1. Written last when a rule is added, and first when it
    /// goes.
    op: AtomicU64,
    first: AtomicU64,
    end: AtomicU64,
    left: AtomicU64,
    hits: AtomicU64,
}

/// A disk.
pub struct FaultyDisk {
    inner: spin::Once<&'static dyn BlockDevice>,
    rules: [Cell; MAX_RULES],
    failed: AtomicU64,
}

/// The machine's swap disk with its injected errors.
pub static SWAP: FaultyDisk = FaultyDisk::new();
/// The machine's data disk with its injected errors.
pub static DATA: FaultyDisk = FaultyDisk::new();

impl FaultyDisk {
    const fn new() -> Self {
        Self {
            inner: spin::Once::new(),
            rules: [const {
                Cell {
                    op: AtomicU64::new(0),
                    first: AtomicU64::new(0),
                    end: AtomicU64::new(0),
                    left: AtomicU64::new(0),
                    hits: AtomicU64::new(0),
                }
            }; MAX_RULES],
            failed: AtomicU64::new(0),
        }
    }

    /// Stands before `disk` from now on (the first one given stays).
    pub fn before(&'static self, disk: &'static dyn BlockDevice) -> &'static dyn BlockDevice {
        self.inner.call_once(|| disk);
        self
    }

    fn inner(&self) -> &'static dyn BlockDevice {
        *self
            .inner
            .get()
            .expect("a disk is set before the first request")
    }

    /// Adds a rule; false when the table is full. One caller at a time.
    pub fn add(&self, rule: Rule) -> bool {
        let Some(cell) = self
            .rules
            .iter()
            .find(|c| c.op.load(Ordering::Relaxed) == 0)
        else {
            return false;
        };
        cell.first.store(rule.first, Ordering::Relaxed);
        cell.end.store(rule.end, Ordering::Relaxed);
        cell.left.store(rule.times, Ordering::Relaxed);
        cell.hits.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire in `spoils`: who sees the rule sees its range.
        cell.op.store(rule.op as u64 + 1, Ordering::Release);
        true
    }

    /// Removes every rule.
    pub fn clear(&self) {
        for cell in &self.rules {
            cell.op.store(0, Ordering::Relaxed);
        }
    }

    /// Every rule, with how many more requests it spoils and how many it has.
    pub fn rules(&self) -> impl Iterator<Item = (Rule, u64)> + '_ {
        self.rules.iter().filter_map(|c| {
            let op = match c.op.load(Ordering::Acquire) {
                0 => return None,
                1 => Op::Read,
                2 => Op::Write,
                _ => Op::Flush,
            };
            let rule = Rule {
                op,
                first: c.first.load(Ordering::Relaxed),
                end: c.end.load(Ordering::Relaxed),
                times: c.left.load(Ordering::Relaxed),
            };
            Some((rule, c.hits.load(Ordering::Relaxed)))
        })
    }

    fn spoils(&self, bio: &Bio) -> bool {
        let end = bio.sector() + bio.len() as u64 * SECTORS_PER_PAGE;
        self.rules.iter().any(|c| {
            c.op.load(Ordering::Acquire) == bio.op() as u64 + 1
                && (bio.op() == Op::Flush
                    || bio.sector() < c.end.load(Ordering::Relaxed)
                        && c.first.load(Ordering::Relaxed) < end)
                && c.spend()
        })
    }
}

impl Cell {
    fn spend(&self) -> bool {
        let spent = self
            .left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if spent.is_ok() {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        spent.is_ok()
    }
}

impl BlockDevice for FaultyDisk {
    fn name(&self) -> &str {
        self.inner().name()
    }
    fn sectors(&self) -> u64 {
        self.inner().sectors()
    }
    fn is_read_only(&self) -> bool {
        self.inner().is_read_only()
    }
    unsafe fn submit(&self, bio: &'static Bio) -> Result<(), Busy> {
        if !self.spoils(bio) {
            // SAFETY: the caller's word.
            return unsafe { self.inner().submit(bio) };
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        let _irq_off = sync::irq::disable();
        bio.start();
        // SAFETY: no device has seen the request.
        unsafe { bio.complete(Err(IoError)) };
        if let Some(up) = arch::upcall::upcalls() {
            up.bio_done(bio);
        }
        Ok(())
    }
    fn completed(&self) -> u64 {
        self.inner().completed() + self.failed.load(Ordering::Relaxed)
    }
    fn restart(&self) -> Result<bool, IoError> {
        self.inner().restart()
    }
}
