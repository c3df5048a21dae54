//! The disk that scenarios swap to: in memory, and what it does are steps of an actor of its own.
//!
//! A request of an actor waits until the explorer lets the disk move the data, and again until it lets it report
//! the end, in that order; memory written in between is as undefined as with DMA. Requests of others (swapon) are
//! served at once. First come, first served.
//!
//! Locks: a spinning leaf of its own, never held over a call. Never sleeps.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use algo::explore::{Access, AccessKind, Footprint, PointKind};
use arch::block::{Bio, BlockDevice, Busy, IoError, Op, SECTOR};
use arch::upcall::upcalls;
use sync::point::{self, class, object};

/// Pages on it, the header's included.
pub(super) const PAGES: usize = 64;
const WORDS: usize = arch::PAGE_SIZE as usize / 8;
const SECTORS_PER_PAGE: u64 = arch::PAGE_SIZE / SECTOR;
/// Requests that it takes at a time.
const QUEUE: usize = 16;

struct Request {
    bio: &'static Bio,
    moved: bool,
}

/// There is one.
pub(super) struct RaceDisk {
    words: spin::Once<Box<[AtomicU64]>>,
    queue: spin::Mutex<VecDeque<Request>>,
    completed: AtomicU64,
    /// One bit per page that was written since the last [`RaceDisk::wipe`].
    written: AtomicU64,
}

pub(super) static DISK: RaceDisk = RaceDisk {
    words: spin::Once::new(),
    queue: spin::Mutex::new(VecDeque::new()),
    completed: AtomicU64::new(0),
    written: AtomicU64::new(0),
};

/// What a page holds that nothing was written to in this run.
const WIPED: u64 = 0x4e4f_5448_494e_4721;

/// The queue, in footprints.
fn queue_object() -> u32 {
    object(class::DISK, 0)
}

impl RaceDisk {
    /// Gets the memory for the disk and its queue.
    pub(super) fn prepare(&self) {
        self.words.call_once(|| {
            let wiped = (0..PAGES * WORDS).map(|_| AtomicU64::new(WIPED));
            wiped.collect::<Vec<_>>().into_boxed_slice()
        });
        self.queue.lock().reserve(QUEUE);
    }

    /// Forgets what was written but for the first page, the header: a run must not find on the disk what an earlier one
    /// left there. Requests that a run left behind are forgotten as well.
    pub(super) fn wipe(&self) {
        self.queue.lock().clear();
        let written = self.written.swap(0, Relaxed) & !1;
        for page in (0..PAGES).filter(|n| written & 1 << n != 0) {
            let words = self.page(page).unwrap_or(&[]);
            words.iter().for_each(|w| w.store(WIPED, Relaxed));
        }
    }

    /// What the disk would do next, if it has anything to do.
    pub(super) fn next(&self) -> Option<PointKind> {
        let first = self.queue.lock().front().map(|r| r.moved)?;
        Some(if first {
            PointKind::DiskDone
        } else {
            PointKind::DiskStart
        })
    }

    /// Does it. The caller is where an interrupt handler may run.
    pub(super) fn step(&self, touched: &mut Footprint) {
        touched.add(Access::new(AccessKind::Write, queue_object()));
        let mut queue = self.queue.lock();
        let Some(first) = queue.front_mut() else {
            return;
        };
        let bio = first.bio;
        if !first.moved {
            first.moved = true;
            drop(queue);
            self.transfer(bio, touched);
            return;
        }
        queue.pop_front();
        drop(queue);
        self.finish(bio);
    }

    fn finish(&self, bio: &'static Bio) {
        let end = bio.sector() + bio.len() as u64 * SECTORS_PER_PAGE;
        let fits = end <= self.sectors();
        self.completed.fetch_add(1, Relaxed);
        bio.complete(if fits { Ok(()) } else { Err(IoError) });
        if let Some(up) = upcalls() {
            up.bio_done(bio);
        }
    }

    fn transfer(&self, bio: &Bio, touched: &mut Footprint) {
        for i in 0..bio.len() {
            let content = object(class::CONTENT, u64::from(bio.frame(i).0));
            let (kind, page) = match bio.op() {
                Op::Flush => return,
                Op::Read => (AccessKind::Write, bio.sector() / SECTORS_PER_PAGE),
                Op::Write => (AccessKind::Read, bio.sector() / SECTORS_PER_PAGE),
            };
            touched.add(Access::new(kind, content));
            let Some(on_disk) = self.page(page as usize + i) else {
                return;
            };
            if bio.op() == Op::Write {
                self.written.fetch_or(1 << (page as usize + i), Relaxed);
            }
            for (d, m) in on_disk.iter().zip(arch::frame_words(bio.frame(i))) {
                match bio.op() {
                    Op::Write => d.store(m.load(Relaxed), Relaxed),
                    _ => m.store(d.load(Relaxed), Relaxed),
                }
            }
        }
    }

    fn page(&self, n: usize) -> Option<&[AtomicU64]> {
        self.words.get()?.get(n * WORDS..(n + 1) * WORDS)
    }

    /// Word `index` of page `page`, as it is on the disk.
    pub(super) fn word(&self, page: usize, index: usize) -> Option<u64> {
        Some(self.page(page)?.get(index)?.load(Relaxed))
    }
}

impl BlockDevice for RaceDisk {
    fn name(&self) -> &str {
        "race0"
    }

    fn sectors(&self) -> u64 {
        PAGES as u64 * SECTORS_PER_PAGE
    }

    fn submit(&self, bio: &'static Bio) -> Result<(), Busy> {
        if !point::is_actor() {
            bio.start();
            self.transfer(bio, &mut Footprint::default());
            let irq = sync::irq::disable();
            let handler = sync::irq::handler();
            self.finish(bio);
            drop(handler);
            drop(irq);
            return Ok(());
        }
        point::at(PointKind::DiskStart, AccessKind::Write, queue_object);
        let mut queue = self.queue.lock();
        if queue.len() == QUEUE {
            return Err(Busy);
        }
        bio.start();
        queue.push_back(Request { bio, moved: false });
        Ok(())
    }

    fn completed(&self) -> u64 {
        self.completed.load(Relaxed)
    }
}
