//! The disks of scenarios, one to swap to and one for files: in memory, and what each does are
//! steps of actors of its own.
//!
//! A request of an actor waits until the explorer lets the disk move the data, and again until it
//! lets it report the end; memory written in between is as undefined as with DMA. Requests of
//! others (swapon) are served at once. The disk for files has a cache: what was written to it lasts
//! only once a flush has been done. Where the scenario asks for it ([`Disks`]), requests fail,
//! overtake each other, and move their data in halves; docs/explorer.md has the steps and what they
//! touch.
//!
//! Locks: spinning leaves of its own, never held over a call. Never sleeps.

#![expect(unsafe_code, reason = "it is a device")]

mod places;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use algo::explore::{Access, AccessKind, Footprint, PointKind};
use arch::Pfn;
use arch::block::{Bio, BlockDevice, Busy, IoError, Op, SECTOR};
use arch::upcall::upcalls;
use sync::point::{self, class, object};

pub(super) use places::PLACES;
use places::{Next, Places};

use super::scenario::Disks;

/// Pages on it, the header's included.
pub(super) const PAGES: usize = 64;
const WORDS: usize = arch::PAGE_SIZE as usize / 8;
const SECTORS_PER_PAGE: u64 = arch::PAGE_SIZE / SECTOR;
/// Requests that it takes at a time.
const QUEUE: usize = 16;

/// A request that failed.
struct Failed {
    op: Op,
    /// Pages of the disk, counted from its first.
    pages: Range<u64>,
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
    requests: spin::Mutex<Places<&'static Bio>>,
    failed: spin::Mutex<Vec<Failed>>,
    completed: AtomicU64,
    /// One bit per page that was written since the last [`RaceDisk::wipe`].
    written: AtomicU64,
    /// A page and a frame, which was nobody's, between which data was moved, with [`STRAY`]; or 0.
    stray: AtomicU64,
}

const STRAY: u64 = 1 << 63;

/// The disk to swap to. Its first page is the header, which stays.
pub(super) static SWAP: RaceDisk = RaceDisk::new("race0", 0, 0, 1, None);

/// The disk for files.
pub(super) static DATA: RaceDisk =
    RaceDisk::new("race1", 1, DATA_FIRST as u64, 0, Some(spin::Once::new()));

/// What the disks may do in this run.
static DISKS: spin::Mutex<Disks> = spin::Mutex::new(Disks::TAME);
/// Requests, of either, that may still fail.
static FAILURES: AtomicU8 = AtomicU8::new(0);

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

/// The first page of [`DATA`]: beyond the end of any disk that the machine has, so that no file
/// there is one here.
pub(super) const DATA_FIRST: u32 = 3 << 30;

/// What a page holds that nothing was written to in this run.
pub(super) const WIPED: u64 = 0x4e4f_5448_494e_4721;

type Words = spin::Once<Box<[AtomicU64]>>;

/// A run begins: the disks are empty, and may do what `disks` says.
pub(super) fn start_run(disks: Disks) {
    *DISKS.lock() = disks;
    FAILURES.store(disks.failures, Relaxed);
    let places = if disks.overtake { PLACES } else { 1 };
    for disk in [&DATA, &SWAP] {
        disk.requests.lock().clear(places);
        disk.failed.lock().clear();
        disk.stray.store(0, Relaxed);
        disk.wipe();
    }
}

/// No request fails any more in this run.
pub(super) fn obey() {
    FAILURES.store(0, Relaxed);
}

/// Requests of either disk that have failed in this run.
pub(super) fn failed_requests() -> usize {
    touch_failures();
    [&DATA, &SWAP].iter().map(|d| d.failed.lock().len()).sum()
}

/// The failures that are left and were, in footprints.
fn failures() -> u32 {
    object(class::DISK, 1 << 32)
}

/// The running actor looks at what has failed.
fn touch_failures() {
    if DISKS.lock().failures > 0 {
        point::touch(AccessKind::Read, failures);
    }
}

/// Requests are worked on at the same time: what is more than the queue tells them apart in
/// footprints.
fn overtake() -> bool {
    DISKS.lock().overtake
}

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

/// The words of page `n` that lie in part `part` of `parts` of a request for `pages` pages.
fn share(n: usize, pages: usize, part: u8, parts: u8) -> Range<usize> {
    let edge = |part: u8| pages * WORDS * usize::from(part) / usize::from(parts);
    let in_page = |word: usize| word.clamp(n * WORDS, (n + 1) * WORDS) - n * WORDS;
    in_page(edge(part))..in_page(edge(part + 1))
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
            requests: spin::Mutex::new(Places::new()),
            failed: spin::Mutex::new(Vec::new()),
            completed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            stray: AtomicU64::new(0),
        }
    }

    /// Gets the memory for the disk and its queue.
    pub(super) fn prepare(&self) {
        self.words.call_once(wiped);
        if let Some(lasting) = &self.lasting {
            lasting.call_once(wiped);
        }
        self.requests.lock().reserve(QUEUE);
        self.failed.lock().reserve(usize::from(u8::MAX));
    }

    /// The queue, in footprints.
    fn queue(&self) -> u32 {
        object(class::DISK, self.number)
    }

    /// What a step of `place` begins with, in footprints.
    pub(super) fn object(&self, place: usize) -> u32 {
        match overtake() {
            true => object(class::DISK, self.number | (1 + place as u64) << 8),
            false => self.queue(),
        }
    }

    /// What lasts, and what was moved and need not last, in footprints.
    fn cache(&self) -> u32 {
        object(class::DISK, self.number | 1 << 16)
    }

    /// Page `n`, in footprints.
    fn page_object(&self, n: u64) -> u32 {
        object(class::DISK, self.number | 1 << 24 | n << 40)
    }

    /// The running actor looks at what lasts.
    pub(super) fn touch_lasting(&self) {
        point::touch(AccessKind::Read, || self.queue());
        if overtake() {
            point::touch(AccessKind::Read, || self.cache());
        }
    }

    /// Forgets what was written: a run must not find on the disk what an earlier one left there.
    fn wipe(&self) {
        let written = self.written.swap(0, Relaxed) & !self.kept;
        for n in (0..PAGES as u64).filter(|n| written & 1 << n != 0) {
            let both = [Some(&self.words), self.lasting.as_ref()];
            let pages = both.into_iter().flatten().filter_map(|w| page_of(w, n));
            pages.flatten().for_each(|w| w.store(WIPED, Relaxed));
        }
    }

    /// What the disk would do next at a place, if it has anything to do there.
    pub(super) fn next(&self, place: usize) -> Option<PointKind> {
        let (_, next) = self.requests.lock().at(place)?;
        Some(match next {
            Next::Move { part: 0, .. } => PointKind::DiskStart,
            Next::Move { .. } => PointKind::DiskHalf,
            Next::End => PointKind::DiskDone,
        })
    }

    /// The request at a place could fail now.
    pub(super) fn may_fail(&self, place: usize) -> bool {
        FAILURES.load(Relaxed) > 0 && self.requests.lock().at(place).is_some()
    }

    /// Does what is next at a place. The caller is where an interrupt handler may run.
    pub(super) fn step(&self, place: usize, touched: &mut Footprint) {
        touched.add(Access::new(AccessKind::Write, self.object(place)));
        let Some((bio, next)) = self.requests.lock().at(place) else {
            return;
        };
        if let Next::Move { part, parts } = next {
            self.requests.lock().moved(place);
            return self.transfer(bio, part, parts, touched);
        }
        touched.add(Access::new(AccessKind::Write, self.queue()));
        self.requests.lock().take(place);
        self.finish(bio, Ok(()));
    }

    /// Data was moved from or to a frame that was nobody's: in words. Told once.
    pub(super) fn stray(&self) -> Option<String> {
        let at = self.stray.swap(0, Relaxed);
        let (page, frame) = ((at & !STRAY) >> 32, Pfn(at as u32));
        (at != 0).then(|| format!("{frame:?} is nobody's, and the disk moves page {page:#x}"))
    }

    /// The request at a place fails, as it is. The caller is where an interrupt handler may run.
    pub(super) fn fail(&self, place: usize, touched: &mut Footprint) {
        for object in [self.object(place), self.queue(), failures()] {
            touched.add(Access::new(AccessKind::Write, object));
        }
        let Some(bio) = self.requests.lock().take(place) else {
            return;
        };
        FAILURES.fetch_sub(1, Relaxed);
        let first = self.first_page(bio);
        self.failed.lock().push(Failed {
            op: bio.op(),
            pages: first..first + bio.len() as u64,
        });
        self.finish(bio, Err(IoError));
    }

    /// Writes of any of `pages` that have failed in this run.
    pub(super) fn failed_writes(&self, pages: &Range<u64>) -> usize {
        touch_failures();
        let among = |f: &&Failed| {
            f.op == Op::Write && f.pages.start < pages.end && pages.start < f.pages.end
        };
        self.failed.lock().iter().filter(among).count()
    }

    /// Flushes that have failed in this run.
    pub(super) fn failed_flushes(&self) -> usize {
        touch_failures();
        let failed = self.failed.lock();
        failed.iter().filter(|f| f.op == Op::Flush).count()
    }

    fn finish(&self, bio: &'static Bio, result: Result<(), IoError>) {
        let end = bio.sector() + bio.len() as u64 * SECTORS_PER_PAGE;
        let fits = end <= self.sectors();
        self.completed.fetch_add(1, Relaxed);
        // SAFETY: the request was taken off the queue, or never in it; nothing moves its data any
        // more.
        unsafe { bio.complete(if fits { result } else { Err(IoError) }) };
        if let Some(up) = upcalls() {
            up.bio_done(bio);
        }
    }

    /// The whole request, at once.
    fn serve(&self, bio: &'static Bio) {
        bio.start();
        self.transfer(bio, 0, 1, &mut Footprint::default());
        let irq = sync::irq::disable();
        let handler = sync::irq::handler();
        self.finish(bio, Ok(()));
        drop(handler);
        drop(irq);
    }

    /// The first page of a request, counted from the first of the disk.
    fn first_page(&self, bio: &Bio) -> u64 {
        (bio.sector() / SECTORS_PER_PAGE).wrapping_sub(self.base)
    }

    fn transfer(&self, bio: &Bio, part: u8, parts: u8, touched: &mut Footprint) {
        let apart = overtake();
        let mut touch = |access, object| touched.add(Access::new(access, object));
        if bio.op() == Op::Flush {
            if apart {
                touch(AccessKind::Write, self.cache());
            }
            return self.make_last();
        }
        let writes = bio.op() == Op::Write;
        if apart && writes {
            touch(AccessKind::Read, self.cache());
        }
        let first = self.first_page(bio);
        for (n, i) in (first..).zip(0..bio.len()) {
            let (frame, share) = (bio.frame(i), share(i, bio.len(), part, parts));
            let Some(on_disk) = page_of(&self.words, n) else {
                return;
            };
            if share.is_empty() {
                continue;
            }
            if mm::inspect::frame(frame).refcount() == 0 {
                // In an interrupt: no text is to be had.
                self.stray
                    .store(STRAY | n << 32 | u64::from(frame.0), Relaxed);
            }
            let (of_memory, of_disk) = match writes {
                true => (AccessKind::Read, AccessKind::Write),
                false => (AccessKind::Write, AccessKind::Read),
            };
            touch(of_memory, object(class::CONTENT, u64::from(frame.0)));
            if apart {
                touch(of_disk, self.page_object(n));
            }
            let (memory, on_disk) = (&mm::explore::words(frame)[share.clone()], &on_disk[share]);
            if writes {
                self.written.fetch_or(1 << n, Relaxed);
                copy(memory, on_disk);
            } else {
                copy(on_disk, memory);
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

    /// Word `index` of page `page` as it is read from the disk. The pages are counted from its
    /// first.
    pub(super) fn word(&self, page: usize, index: usize) -> Option<u64> {
        let words = page_of(&self.words, page as u64)?;
        Some(words.get(index)?.load(Relaxed))
    }

    /// The running actor looks at a word, in a step of its own; see [`RaceDisk::word`].
    pub(super) fn look(&self, page: usize, index: usize) -> Option<u64> {
        point::at(PointKind::Mark, AccessKind::Read, || match overtake() {
            true => self.page_object(page as u64),
            false => self.queue(),
        });
        self.word(page, index)
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
        point::at(PointKind::DiskStart, AccessKind::Write, || self.queue());
        let disks = *DISKS.lock();
        let flush = bio.op() == Op::Flush;
        if flush && disks == Disks::TAME {
            // No memory is moved, so that nobody can tell when it happens.
            let _handler = point::Delivery::begin();
            self.serve(bio);
            return Ok(());
        }
        let mut requests = self.requests.lock();
        if requests.len() == QUEUE {
            return Err(Busy);
        }
        bio.start();
        let parts = if disks.halves && !flush { 2 } else { 1 };
        let place = requests.put(bio, parts);
        drop(requests);
        if let Some(place) = place {
            point::touch(AccessKind::Write, || self.object(place));
        }
        Ok(())
    }

    fn completed(&self) -> u64 {
        self.completed.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_those_of_the_whole_request() {
        for pages in 1..=3 {
            let shares = |part| (0..pages).map(move |n| share(n, pages, part, 2).len());
            let (first, second) = (shares(0).sum::<usize>(), shares(1).sum::<usize>());
            assert_eq!((first, second), (pages * WORDS / 2, pages * WORDS / 2));
            for n in 0..pages {
                let (a, b) = (share(n, pages, 0, 2), share(n, pages, 1, 2));
                assert_eq!((a.start, a.end, b.end), (0, b.start, WORDS));
                assert_eq!(share(n, pages, 0, 1), 0..WORDS);
            }
        }
        assert_eq!(share(0, 2, 0, 2), 0..WORDS);
        assert_eq!(share(1, 3, 1, 2), WORDS / 2..WORDS);
    }
}
