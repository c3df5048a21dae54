//! Bringing pages in from swap: the one that is wanted, and its neighbours on disk.
//!
//! A page is read into a fresh folio that is in the swap cache from the start, marked READING;
//! whoever needs its content waits for that. No folio lock is held over the read. How far to read
//! ahead follows from how many pages read ahead were used ([`algo::readahead`]). Allocates frames
//! (may reclaim with that `gfp`) and sleeps for requests: no lock inside `mmap_lock` may be held.

#![expect(unsafe_code, reason = "the reference of a page becomes a folio's")]

use super::io::{self, PageIo};
use super::{area, cache};
use crate::buddy::{self, Gfp, Oom};
use crate::folio::{self, Folio};
use crate::frame::flag;
use crate::lru::{self, Kind};
use crate::stats::{Event, Use, count};
use crate::workingset;
use algo::readahead::{MAX_WINDOW, Readahead, slot_window};
use algo::swapmap::SwapError;
use arch::block::Op;
use core::sync::atomic::{AtomicU64, Ordering};
use sync::point::{self, AccessKind, class};

/// The state of [`Readahead`]; a lost update costs a guess.
static STATE: AtomicU64 = AtomicU64::new(0);

/// For the explorer: what was learned so far is forgotten.
#[cfg(feature = "lab")]
pub(crate) fn forget() {
    STATE.store(0, Ordering::Relaxed);
}

/// Changes the state.
fn update<R>(f: impl FnOnce(&mut Readahead) -> R) -> R {
    point::touch(AccessKind::Write, || point::object_at(class::SWAP, &STATE));
    let mut ra = Readahead::from_bits(STATE.load(Ordering::Relaxed));
    let r = f(&mut ra);
    STATE.store(ra.to_bits(), Ordering::Relaxed);
    r
}

/// Pages of one [`will_need`] batch, and of a window with the page itself.
const BATCH: usize = 32;
const _: () = assert!(MAX_WINDOW as usize <= BATCH);

/// Pages to be read, in a batch.
struct Reads {
    pages: [PageIo; BATCH],
    n: usize,
}

impl Reads {
    const fn new() -> Self {
        Self {
            pages: [(0, 0); BATCH],
            n: 0,
        }
    }
    fn push(&mut self, slot: u32, folio: &folio::Ref) {
        self.pages[self.n] = (slot, folio.pfn().0);
        self.n += 1;
    }
    fn submit(&mut self) {
        let pages = &mut self.pages[..self.n];
        pages.sort_unstable();
        io::start(Op::Read, pages);
        self.n = 0;
    }
}

/// What became of preparing a read.
enum Prepared {
    /// The folio is in the cache and marked READING; the caller submits the read.
    Fresh(folio::Ref),
    /// Somebody else is putting a folio of this slot into the cache.
    Busy,
    /// Nothing uses the slot any more.
    Gone,
}

/// Puts a fresh folio for `slot` into the cache; the caller must submit its read.
fn prepare(slot: u32, gfp: Gfp, extra: u32) -> Result<Prepared, Oom> {
    let page = buddy::alloc(0, Use::Anon, gfp)?;
    match area::set_cache(slot) {
        Ok(()) => {}
        Err(SwapError::AlreadyCached) => return Ok(Prepared::Busy),
        Err(_) => return Ok(Prepared::Gone),
    }
    let f = Folio::made_of(page);
    let state = flag::SWAPBACKED | flag::READING | extra;
    f.init_flags(state, lru::local_shard(), Use::Anon);
    let came_back = cache::add(f, slot).map_or(0, |s| workingset::refault(Kind::Anon, s));
    if came_back != 0 {
        f.set(came_back);
    }
    lru::add(f, came_back != 0);
    // SAFETY: the page's own reference; the cache has counted another.
    Ok(Prepared::Fresh(unsafe { folio::Ref::new(f) }))
}

/// A page that was read ahead is used: the window may grow.
fn note_use(folio: &folio::Ref) {
    if folio.has(flag::READAHEAD) && folio.clear(flag::READAHEAD) & flag::READAHEAD != 0 {
        count(Event::SwapRaHit);
        update(Readahead::hit);
    }
}

/// Whether a read may take neighbours on disk along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Neighbours {
    /// As many as the window says.
    Too,
    /// None: their sectors may be what failed the last request.
    Never,
}

/// The folio of `slot`, possibly still being read (see `Folio::wait_read`), and whether this call
/// began the read. `None` when nothing uses the slot any more. The caller's entry named the slot a
/// moment ago.
///
/// # Errors
/// [`Oom`] when there is no frame to read into.
pub(crate) fn bring_in(
    slot: u32,
    gfp: Gfp,
    neighbours: Neighbours,
) -> Result<Option<(folio::Ref, bool)>, Oom> {
    let folio = loop {
        if let Some(folio) = cache::find(slot) {
            note_use(&folio);
            count(Event::SwapCacheHit);
            return Ok(Some((folio, false)));
        }
        match prepare(slot, gfp, 0)? {
            Prepared::Fresh(folio) => break folio,
            // The other is between the mark and the table, or between the table and the mark: soon
            // done.
            Prepared::Busy => cache::wait_settled(slot),
            Prepared::Gone => return Ok(None),
        }
    };
    let mut reads = Reads::new();
    reads.push(slot, &folio);
    if neighbours == Neighbours::Too {
        read_ahead(slot, &mut reads);
    }
    reads.submit();
    Ok(Some((folio, true)))
}

/// Adds the neighbours of `slot` that are worth reading with it.
fn read_ahead(slot: u32, reads: &mut Reads) {
    let window = update(|ra| ra.fault(slot, MAX_WINDOW));
    if window <= 1 || buddy::is_low() {
        return;
    }
    let (first, last) = slot_window(slot, window, area::slots());
    let mut near = [0; MAX_WINDOW as usize];
    let mut n = 0;
    area::readable(first, last, |s| {
        near[n] = s;
        n += 1;
    });
    for &s in &near[..n] {
        if let Ok(Prepared::Fresh(folio)) = prepare(s, Gfp::NOWAIT, flag::READAHEAD) {
            count(Event::SwapRa);
            reads.push(s, &folio);
        }
    }
}

/// Starts reading the pages of `slots` that are not in memory (MADV_WILLNEED); stops when memory is
/// short. Does not wait for them.
pub(crate) fn will_need(slots: impl Iterator<Item = u32>) {
    let mut reads = Reads::new();
    for slot in slots {
        if cache::find(slot).is_some() {
            continue;
        }
        match prepare(slot, Gfp::NOWAIT, flag::READAHEAD) {
            Ok(Prepared::Fresh(folio)) => {
                count(Event::SwapRa);
                reads.push(slot, &folio);
            }
            Ok(_) => {}
            Err(Oom) => break,
        }
        if reads.n == BATCH {
            reads.submit();
        }
    }
    reads.submit();
}
