//! The disks of scenarios, one to swap to and one for files: in memory, and what each does are steps of an actor of its own.
//!
//! A request of an actor waits until the explorer lets the disk move the data, and again until it lets it report
//! the end, in that order; memory written in between is as undefined as with DMA. Requests of others (swapon) are
//! served at once. First come, first served. The disk for files has a cache: what was written to it lasts only
//! once a flush has been done.
//!
//! Locks: a spinning leaf of its own, never held over a call. Never sleeps.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
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

/// See the module text.
pub(super) struct RaceDisk {
    name: &'static str,
    /// Tells the disks apart in footprints.
    number: u64,
    /// The first of its pages: those before are there, but cannot be moved.
    base: u64,
    /// Pages that are not wiped, one bit each.
    kept: u64,
    words: Words,
    /// What lasts, if that is not all that was written.
    lasting: Option<Words>,
    queue: spin::Mutex<VecDeque<Request>>,
    completed: AtomicU64,
    /// One bit per page that was written since the last [`RaceDisk::wipe`].
    written: AtomicU64,
}

/// The disk to swap to. Its first page is the header, which stays.
pub(super) static SWAP: RaceDisk = RaceDisk::new("race0", 0, 0, 1, None);

/// The disk for files.
pub(super) static DATA: RaceDisk =
    RaceDisk::new("race1", 1, DATA_FIRST as u64, 0, Some(spin::Once::new()));

/// Actors swap to [`SWAP`], also after one has put an end to that.
///
/// # Errors
/// A sentence saying why not.
pub(super) fn swap_again() -> Result<(), String> {
    if mm::swap::enabled() {
        return Ok(());
    }
    mm::explore::swapon(&SWAP).map_err(|e| format!("the scenario's disk is not used: {e}"))
}

/// The first page of [`DATA`]: beyond the end of any disk that the machine has, so that no file there is one here.
pub(super) const DATA_FIRST: u32 = 3 << 30;

/// What a page holds that nothing was written to in this run.
pub(super) const WIPED: u64 = 0x4e4f_5448_494e_4721;

type Words = spin::Once<Box<[AtomicU64]>>;

fn wiped() -> Box<[AtomicU64]> {
    (0..PAGES * WORDS).map(|_| AtomicU64::new(WIPED)).collect()
}

/// Page `n` of `words`.
fn page_of(words: &Words, n: u64) -> Option<&[AtomicU64]> {
    let first = usize::try_from(n).ok()?.checked_mul(WORDS)?;
    words.get()?.get(first..first + WORDS)
}

fn copy(from: &[AtomicU64], to: &[AtomicU64]) {
    for (f, t) in from.iter().zip(to) {
        t.store(f.load(Relaxed), Relaxed);
    }
}

impl RaceDisk {
    const fn new(
        name: &'static str,
        number: u64,
        base: u64,
        kept: u64,
        lasting: Option<Words>,
    ) -> Self {
        Self {
            name,
            number,
            base,
            kept,
            words: spin::Once::new(),
            lasting,
            queue: spin::Mutex::new(VecDeque::new()),
            completed: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// Gets the memory for the disk and its queue.
    pub(super) fn prepare(&self) {
        self.words.call_once(wiped);
        if let Some(lasting) = &self.lasting {
            lasting.call_once(wiped);
        }
        self.queue.lock().reserve(QUEUE);
    }

    /// The queue, in footprints.
    pub(super) fn object(&self) -> u32 {
        object(class::DISK, self.number)
    }

    /// Forgets what was written: a run must not find on the disk what an earlier one left there. Requests that a run
    /// left behind are forgotten as well.
    pub(super) fn wipe(&self) {
        self.queue.lock().clear();
        let written = self.written.swap(0, Relaxed) & !self.kept;
        for n in (0..PAGES as u64).filter(|n| written & 1 << n != 0) {
            let both = [Some(&self.words), self.lasting.as_ref()];
            let pages = both.into_iter().flatten().filter_map(|w| page_of(w, n));
            pages.flatten().for_each(|w| w.store(WIPED, Relaxed));
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
        touched.add(Access::new(AccessKind::Write, self.object()));
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
        // SAFETY: the request was taken off the queue, or never in it; its data was moved.
        unsafe { bio.complete(if fits { Ok(()) } else { Err(IoError) }) };
        if let Some(up) = upcalls() {
            up.bio_done(bio);
        }
    }

    /// The whole request, at once.
    fn serve(&self, bio: &'static Bio) {
        bio.start();
        self.transfer(bio, &mut Footprint::default());
        let irq = sync::irq::disable();
        let handler = sync::irq::handler();
        self.finish(bio);
        drop(handler);
        drop(irq);
    }

    fn transfer(&self, bio: &Bio, touched: &mut Footprint) {
        if bio.op() == Op::Flush {
            return self.make_last();
        }
        let first = (bio.sector() / SECTORS_PER_PAGE).wrapping_sub(self.base);
        for (n, frame) in (first..).zip((0..bio.len()).map(|i| bio.frame(i))) {
            let content = object(class::CONTENT, u64::from(frame.0));
            let Some(on_disk) = page_of(&self.words, n) else {
                return;
            };
            if bio.op() == Op::Write {
                touched.add(Access::new(AccessKind::Read, content));
                self.written.fetch_or(1 << n, Relaxed);
                copy(mm::explore::words(frame), on_disk);
            } else {
                touched.add(Access::new(AccessKind::Write, content));
                copy(on_disk, mm::explore::words(frame));
            }
        }
    }

    /// What was written so far lasts.
    fn make_last(&self) {
        let Some(lasting) = &self.lasting else {
            return;
        };
        let written = self.written.load(Relaxed);
        for n in (0..PAGES as u64).filter(|n| written & 1 << n != 0) {
            if let (Some(from), Some(to)) = (page_of(&self.words, n), page_of(lasting, n)) {
                copy(from, to);
            }
        }
    }

    /// Word `index` of page `page` as it is read from the disk. The pages are counted from its first.
    pub(super) fn word(&self, page: usize, index: usize) -> Option<u64> {
        let words = page_of(&self.words, page as u64)?;
        Some(words.get(index)?.load(Relaxed))
    }

    /// The same as it is after a loss of power.
    pub(super) fn lasting_word(&self, page: usize, index: usize) -> Option<u64> {
        let words = page_of(self.lasting.as_ref().unwrap_or(&self.words), page as u64)?;
        Some(words.get(index)?.load(Relaxed))
    }

    /// Before a run: word `index` of page `page` holds `value`, for good.
    pub(super) fn set_word(&self, page: usize, index: usize, value: u64) {
        self.written.fetch_or(1 << page, Relaxed);
        let both = [Some(&self.words), self.lasting.as_ref()];
        for words in both.into_iter().flatten() {
            if let Some(w) = page_of(words, page as u64).and_then(|p| p.get(index)) {
                w.store(value, Relaxed);
            }
        }
    }
}

impl BlockDevice for RaceDisk {
    fn name(&self) -> &str {
        self.name
    }

    fn sectors(&self) -> u64 {
        (self.base + PAGES as u64) * SECTORS_PER_PAGE
    }

    unsafe fn submit(&self, bio: &'static Bio) -> Result<(), Busy> {
        if !point::is_actor() {
            self.serve(bio);
            return Ok(());
        }
        point::at(PointKind::DiskStart, AccessKind::Write, || self.object());
        if bio.op() == Op::Flush {
            // No memory is moved, so that nobody can tell when it happens.
            let _handler = point::Delivery::begin();
            self.serve(bio);
            return Ok(());
        }
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
