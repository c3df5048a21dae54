//! `stress truncate`: a file in memory that is cut off, grown and punched, while actors load and
//! store through shared mappings of it.
//!
//! Each page has an owner that writes versions into it; anybody looks at it. Whoever resizes
//! counts, for each page that it changes, when it begins and when it ends. So an access that saw
//! the same, even count before and after knows what must be true: within the file there is no
//! SIGBUS, and what the owner wrote in this period is there; beyond its end there is SIGBUS and
//! nothing else. And at any time: what was in a page before it was cut off does not come back.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use algo::pattern::{self, WORDS};
use arch::upcall::FaultError;
use arch::{PAGE_SIZE, user};
use fastrand::Rng;
use mm::file::{self, Opener};
use mm::knobs::Knob;
use mm::{MapFlags, MmError};

use super::memory::{Balloon, free_pages, free_slots, mib, to_mib};
use super::page::{describe, fault, word_at};
use super::team::{self, Actor, Body, Stop, Team};
use super::versions::{CHUNK, next, said, stamp};
use super::window::pick;
use super::{BASE, Env, broken, summary};
use crate::space::{Advice, Prot, Space, at, refused};

/// Pages of the file, unless the user chose.
const FILE: usize = 1536;

#[derive(Clone, Copy)]
enum Op {
    Load,
    Store,
    DontNeed,
    PageOut,
}

const MIX: &[(Op, u32)] = &[
    (Op::Load, 450),
    (Op::Store, 450),
    (Op::DontNeed, 50),
    (Op::PageOut, 10),
];

/// What is known of a page. `begun` and `whole` are its owner's, the rest belongs to whoever
/// resizes.
#[derive(Default)]
struct Page {
    /// The version that was begun last.
    begun: AtomicU32,
    /// The version that was written whole, and the count at which that began and ended, shifted by
    /// 32 bits.
    whole: AtomicU64,
    /// Odd while the page is cut off, added or punched.
    changes: AtomicU32,
    /// Versions below this one were cut off.
    gone: AtomicU32,
    /// It is within the file.
    inside: AtomicBool,
}

/// The file, its pages, and an address space for each pair of actors.
struct Board {
    file: Opener,
    pages: Vec<Page>,
    actors: usize,
    resizes: AtomicU64,
    /// Accesses beyond the end.
    beyond: AtomicU64,
}

/// What a page's count and place were before an access.
struct Before {
    changes: u32,
    inside: bool,
}

impl Page {
    fn before(&self) -> Before {
        // Acquire: what was changed before the count became this is seen, here and in what follows.
        let changes = self.changes.load(Ordering::Acquire);
        Before {
            changes,
            inside: self.inside.load(Ordering::Acquire),
        }
    }

    /// Nothing has changed since: what was known before the access was true all the time.
    fn is_still(&self, before: &Before) -> bool {
        before.changes.is_multiple_of(2) && self.changes.load(Ordering::SeqCst) == before.changes
    }
}

/// Runs it.
///
/// # Errors
/// The first thing that was wrong, or with `--broken` that nothing was.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let rule = [Knob::TruncateSize, Knob::TruncateUnmap];
    broken::hunt(env, &rule, "page 0x", hunt)
}

fn hunt(env: &Env<'_>) -> Result<(), String> {
    let pages = env.pages.unwrap_or(FILE).max(CHUNK);
    let actors = env.cpus.clamp(2, 8);
    let failed = |e: MmError| format!("no file in memory: {e:?}");
    let board = Board::new(pages, actors).map_err(failed)?;
    let board = Arc::new(board);
    let cached = file::cached();
    let mut bodies = users(&board).map_err(failed)?;
    let resizing = board.clone();
    bodies.push(Box::new(move |actor| resize(actor, &resizing)));
    // With swap, the file does not fit memory.
    let fits = if free_slots() > 2 * pages as u64 {
        0
    } else {
        pages as u64
    };
    let balloon = Balloon::leave(env.mem.unwrap_or(fits + (pages as u64 / 2).max(mib(3))));
    writeln!(
        env.out,
        "stress truncate: {pages} pages, {actors} actors, {} MiB of memory free ({} MiB held back)",
        to_mib(free_pages()),
        to_mib(balloon.pages)
    );
    let team = Team::new();
    let result = team::run(env, &team, bodies, false);
    drop(balloon);
    let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
    writeln!(
        env.out,
        "stress truncate: {} resizes, {} accesses beyond the end",
        get(&board.resizes),
        get(&board.beyond)
    );
    summary(env, &team);
    drop(board);
    result?;
    team.nobody_killed()?;
    match file::cached() {
        left if left <= cached => Ok(()),
        left => Err(format!(
            "{left} pages are left of the file, {cached} before"
        )),
    }
}

/// The actors that load and store, two to an address space.
fn users(board: &Arc<Board>) -> Result<Vec<Body>, MmError> {
    let mut bodies: Vec<Body> = Vec::new();
    let mut half_used = None;
    for i in 0..board.actors {
        let space = match half_used.take() {
            Some(space) => space,
            None => {
                let fresh = Space::new()?;
                board.map(&fresh)?;
                half_used = Some(fresh.clone());
                fresh
            }
        };
        let board = board.clone();
        bodies.push(Box::new(move |actor| work(actor, &board, &space, i)));
    }
    Ok(bodies)
}

impl Board {
    /// An empty file, with room for `pages` pages.
    fn new(pages: usize, actors: usize) -> Result<Self, MmError> {
        let mut all = Vec::new();
        all.try_reserve_exact(pages)
            .map_err(|_| MmError::NoMemory)?;
        all.resize_with(pages, Page::default);
        Ok(Self {
            file: file::shmem(0)?,
            pages: all,
            actors,
            resizes: AtomicU64::new(0),
            beyond: AtomicU64::new(0),
        })
    }

    fn map(&self, space: &Space) -> Result<(), MmError> {
        let shared = MapFlags::SHARED;
        space.map_file(BASE, self.pages.len(), Prot::RW, shared, &self.file, 0)
    }

    /// An access to page `page` did not go through.
    fn refused(&self, page: usize, before: &Before, what: &str, e: FaultError) -> Result<(), Stop> {
        let va = at(BASE, page);
        if e != FaultError::Bus || before.inside && self.pages[page].is_still(before) {
            return Err(match fault(va, what, e) {
                Stop::Wrong(message) => Stop::wrong(format!("page {page:#x}: {message}")),
                stop => stop,
            });
        }
        self.beyond.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// An access to page `page` went through.
    fn allowed(&self, page: usize, before: &Before, what: &str) -> Result<(), Stop> {
        if before.inside || !self.pages[page].is_still(before) {
            return Ok(());
        }
        Err(Stop::wrong(format!(
            "{what} in page {page:#x} went through, though it is beyond the end of the file"
        )))
    }
}

fn work(actor: &mut Actor, board: &Board, space: &Space, index: usize) -> Result<(), Stop> {
    let team = actor.team.clone();
    let _adopted = space.enter();
    let own = |page: &usize| page / CHUNK % board.actors == index;
    let mine: Vec<usize> = (0..board.pages.len()).filter(own).collect();
    loop {
        team.go_on()?;
        team.operations.fetch_add(1, Ordering::Relaxed);
        let page = actor.rng.usize(..board.pages.len());
        let n = 1 + actor.rng.usize(..CHUNK).min(board.pages.len() - page - 1);
        let advise = |advice| {
            let done = space.advise(at(BASE, page), n, advice);
            done.or_else(|e| refused("madvise", e))
        };
        match pick(MIX, &mut actor.rng) {
            Op::Load => load(&team, board, page)?,
            Op::Store if mine.is_empty() => {}
            Op::Store => store(&team, board, mine[actor.rng.usize(..mine.len())])?,
            Op::DontNeed => advise(Advice::DontNeed)?,
            Op::PageOut => advise(Advice::PageOut)?,
        }
    }
}

/// The next version of an own page.
fn store(team: &Team, board: &Board, page: usize) -> Result<(), Stop> {
    let p = &board.pages[page];
    let first = p.before();
    let version = next(p.begun.load(Ordering::Relaxed))?;
    p.begun.store(version, Ordering::Release);
    for i in 0..WORDS {
        let before = p.before();
        let word = pattern::encode(stamp(page, version), i);
        match user::store(word_at(at(BASE, page), i), word) {
            Ok(()) => board.allowed(page, &before, "a store")?,
            Err(e) => return board.refused(page, &before, "a store", e),
        }
    }
    if p.is_still(&first) {
        let whole = u64::from(first.changes) << 32 | u64::from(version);
        p.whole.store(whole, Ordering::Release);
    }
    team.written.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Looks at every word of a page.
fn load(team: &Team, board: &Board, page: usize) -> Result<(), Stop> {
    let p = &board.pages[page];
    let whole = p.whole.load(Ordering::Acquire);
    for i in 0..WORDS {
        let before = p.before();
        let gone = p.gone.load(Ordering::Acquire);
        let word = match user::load(word_at(at(BASE, page), i)) {
            Ok(word) => word,
            Err(e) => return board.refused(page, &before, "a load", e),
        };
        board.allowed(page, &before, "a load")?;
        let kept = whole >> 32 == u64::from(before.changes) && p.is_still(&before);
        let low = if kept { whole as u32 } else { gone };
        let high = p.begun.load(Ordering::Acquire);
        let right = said(word, page, i).is_some_and(|found| (low..=high).contains(&found));
        if !right && (word != 0 || kept && low > 0) {
            return Err(Stop::wrong(format!(
                "page {page:#x}, word {i}: expected version {low} to {high}{}, found {word:#018x} ({})",
                if kept { "" } else { " or zero" },
                describe(word, i)
            )));
        }
    }
    team.verified.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Cuts off, grows and punches.
fn resize(actor: &mut Actor, board: &Board) -> Result<(), Stop> {
    let most = board.pages.len() as u64 * PAGE_SIZE;
    while !actor.team.stopping() {
        let result = match actor.rng.u32(..4) {
            0 => punch(board, &mut actor.rng),
            // All of it, so that most accesses find something.
            1 => set_size(board, most),
            _ => {
                let size = actor.rng.u64(..=most);
                // Within a page now and then.
                let unit = if actor.rng.bool() { PAGE_SIZE } else { 8 };
                set_size(board, size / unit * unit)
            }
        };
        match result {
            Ok(()) => board.resizes.fetch_add(1, Ordering::Relaxed),
            Err(e) => {
                refused("resizing", e)?;
                actor.team.refused.fetch_add(1, Ordering::Relaxed)
            }
        };
        arch::thread::sleep_ns(actor.rng.u64(..2_000_000));
    }
    Ok(())
}

fn set_size(board: &Board, size: u64) -> Result<(), MmError> {
    let (from, to) = (board.file.size().min(size), board.file.size().max(size));
    change(board, from, to, |file| file.truncate(size))
}

fn punch(board: &Board, rng: &mut Rng) -> Result<(), MmError> {
    let size = board.file.size();
    let from = rng.u64(..=size) & !7;
    let len = rng.u64(..=32 * PAGE_SIZE) & !7;
    change(board, from, size.min(from + len), |file| {
        file.punch(from, len)
    })
}

/// Does `f`, which changes bytes `from..to` of the file and perhaps its size.
fn change(
    board: &Board,
    from: u64,
    to: u64,
    f: impl FnOnce(&Opener) -> Result<(), MmError>,
) -> Result<(), MmError> {
    let first = (from / PAGE_SIZE) as usize;
    let end = to.div_ceil(PAGE_SIZE) as usize;
    let pages = &board.pages[first..end.max(first)];
    let mut begun = Vec::new();
    begun
        .try_reserve_exact(pages.len())
        .map_err(|_| MmError::NoMemory)?;
    for p in pages {
        // SeqCst, as the look after an access: one of the two comes first.
        p.changes.fetch_add(1, Ordering::SeqCst);
        // Acquire: every version below has been stored.
        begun.push(p.begun.load(Ordering::Acquire));
    }
    let result = f(&board.file);
    let size = board.file.size();
    for (i, (p, begun)) in pages.iter().zip(begun).enumerate() {
        let start = (first + i) as u64 * PAGE_SIZE;
        if result.is_ok() && from <= start && start + PAGE_SIZE <= to {
            p.gone.fetch_max(begun, Ordering::AcqRel);
        }
        p.inside.store(start < size, Ordering::Release);
        p.changes.fetch_add(1, Ordering::SeqCst);
    }
    result
}
