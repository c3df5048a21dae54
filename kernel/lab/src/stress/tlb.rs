//! `stress tlb`: looks for translations that outlive their page-table entries.
//!
//! One owner, pinned to CPU 0, and a reader on every other CPU share an address space. In a round
//! the owner fills the window with a new version and waits until every reader has it in its TLB; it
//! then takes the pages away in one of several ways, says so, and fills the freed frames with other
//! words. Readers go on reading without faults ([`arch::user::load_nofault`]): once they were told
//! that version `v` is gone, they may find nothing, zeros or a newer version, but not `v` nor
//! another page's words. Every fourth round the owner takes the write permission away instead, and
//! a reader whose store still goes through has used a stale translation.
//!
//! A run ends early after 65,535 rounds, when the versions are used up.
//!
//! With `--broken` (or `fix tlb_flush off`) exactly that must be seen.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, Ordering};

use algo::pattern::{self, Stamp};
use arch::{VirtAddr, thread, user};
use fastrand::Rng;
use mm::MmError;
use mm::knobs::Knob;

use super::page::describe;
use super::team::{self, Actor, Body, Stop, Team};
use super::{BASE, Env, broken, summary};
use crate::space::{Advice, Prot, Space, at};

/// Pages of the window: few enough for any TLB to keep.
const PAGES: usize = 32;
/// Where the owner fills freed frames again.
const OTHER: VirtAddr = VirtAddr(BASE.0 + 0x1000_0000);
/// Where it moves pages to.
const ASIDE: VirtAddr = VirtAddr(BASE.0 + 0x2000_0000);
/// The word of each page that the owner writes and readers read.
const WORD: usize = 0;
/// The word of each page that readers store to.
const SCRATCH: u64 = 64;
/// Marks what is written into the window, and what into reused frames.
const OWNER: u16 = 1;
const STRANGER: u16 = 2;
/// Passes of a reader over the window after it was told that the version is gone.
const LATE_PASSES: usize = 4;

/// The state that the owner publishes and the readers follow. A version lives while `gone < live`.
struct Board {
    space: Space,
    /// The version in the window. Release by the owner after it wrote it; readers Acquire.
    live: AtomicU16,
    /// The last version that was taken away. Release by the owner after the operation returned; the
    /// readers' Acquire pairs with it, so that a read after it must see the flush's effect.
    gone: AtomicU16,
    /// The last version whose write permission was taken away; as `gone`.
    sealed: AtomicU16,
    /// The version that each reader has seen.
    seen: Vec<AtomicU16>,
    /// Readers store as well. Not when the flush is off: a stale store would hit a stranger's
    /// frame.
    stores: bool,
}

/// Runs it.
///
/// # Errors
/// The first stale translation, or with `--broken` that none was seen.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    broken::hunt(env, &[Knob::TlbFlush], "stale", hunt)
}

fn hunt(env: &Env<'_>) -> Result<(), String> {
    let team = Team::new();
    let readers = (env.cpus - 1).max(1);
    let board = Arc::new(Board {
        space: Space::new().map_err(|e| format!("no address space: {e:?}"))?,
        live: AtomicU16::new(0),
        gone: AtomicU16::new(0),
        sealed: AtomicU16::new(0),
        seen: (0..readers).map(|_| AtomicU16::new(0)).collect(),
        stores: mm::knobs::on(Knob::TlbFlush),
    });
    let shared = board.clone();
    let mut bodies: Vec<Body> = alloc::vec![Box::new(move |actor| own(actor, &shared))];
    for reader in 0..readers {
        let shared = board.clone();
        bodies.push(Box::new(move |actor| read(actor, &shared, reader)));
    }
    let result = team::run(env, &team, bodies, true);
    writeln!(
        env.out,
        "stress tlb: {} rounds with {readers} readers",
        board.gone.load(Ordering::Relaxed)
    );
    summary(env, &team);
    result
}

fn stamp(mm: u16, page: usize, version: u16) -> Stamp {
    Stamp {
        mm,
        page: at(BASE, page).page_index(),
        version,
    }
}

fn failed(what: &str, e: impl core::fmt::Debug) -> Stop {
    Stop::Wrong(format!("{what} failed with {e:?}"))
}

// ---- the owner ----

fn own(actor: &mut Actor, board: &Board) -> Result<(), Stop> {
    let team = actor.team.clone();
    let _adopted = board.space.enter();
    let result = rounds(&team, board, &mut actor.rng);
    team.stop();
    result
}

fn rounds(team: &Team, board: &Board, rng: &mut Rng) -> Result<(), Stop> {
    let space = &board.space;
    space
        .map(OTHER, PAGES, Prot::RW)
        .map_err(|e| failed("mmap", e))?;
    for version in 1..=u16::MAX {
        space
            .map(BASE, PAGES, Prot::RW)
            .map_err(|e| failed("mmap", e))?;
        fill(BASE, OWNER, version)?;
        board.live.store(version, Ordering::Release);
        while board
            .seen
            .iter()
            .any(|s| s.load(Ordering::Acquire) < version)
        {
            team.go_on()?;
            thread::sleep_ns(50_000);
        }
        if version.is_multiple_of(4) {
            seal(board, version)?;
        }
        take_away(space, rng).map_err(|e| failed("taking pages away", e))?;
        // Where the flush is broken, the owner must not store to freed frames itself.
        arch::flush_local();
        board.gone.store(version, Ordering::Release);
        // The frames come back from the allocator with other words in them.
        fill(OTHER, STRANGER, version)?;
        thread::sleep_ns(200_000);
        space
            .advise(OTHER, PAGES, Advice::DontNeed)
            .map_err(|e| failed("madvise", e))?;
        team.operations.fetch_add(1, Ordering::Relaxed);
        team.go_on()?;
    }
    Ok(())
}

fn fill(base: VirtAddr, mm: u16, version: u16) -> Result<(), Stop> {
    for page in 0..PAGES {
        let word = pattern::encode(stamp(mm, page, version), WORD);
        user::store(at(base, page), word)
            .map_err(|e| super::page::fault(at(base, page), "a store", e))?;
    }
    Ok(())
}

/// One of the ways to take the window's pages away.
fn take_away(space: &Space, rng: &mut Rng) -> Result<(), MmError> {
    match rng.u32(..4) {
        0 => space.advise(BASE, PAGES, Advice::DontNeed),
        1 => space.unmap(BASE, PAGES),
        // In place of the old pages, in one operation.
        2 => space.map(BASE, PAGES, Prot::RW),
        _ => {
            space.move_to(BASE, PAGES, ASIDE)?;
            space.unmap(ASIDE, PAGES)
        }
    }
}

/// Takes the write permission away and watches that no store goes through any more.
fn seal(board: &Board, version: u16) -> Result<(), Stop> {
    board
        .space
        .protect(BASE, PAGES, Prot::READ)
        .map_err(|e| failed("mprotect", e))?;
    let scratch = |page| {
        let va = VirtAddr(at(BASE, page).0 + SCRATCH);
        user::load(va).map_err(|e| super::page::fault(va, "a load", e))
    };
    let mut before = [0; PAGES];
    for (page, word) in before.iter_mut().enumerate() {
        *word = scratch(page)?;
    }
    board.sealed.store(version, Ordering::Release);
    thread::sleep_ns(200_000);
    for (page, word) in before.into_iter().enumerate() {
        let now = scratch(page)?;
        if now != word {
            return Err(Stop::Wrong(format!(
                "stale writable translation: {:?} was made read-only, then a store changed {word} to {now}",
                at(BASE, page)
            )));
        }
    }
    Ok(())
}

// ---- the readers ----

fn read(actor: &mut Actor, board: &Board, reader: usize) -> Result<(), Stop> {
    let team = actor.team.clone();
    let _adopted = board.space.enter();
    let mut stored = 0;
    while !team.stopping() {
        let version = board.live.load(Ordering::Acquire);
        if version == board.gone.load(Ordering::Acquire) {
            thread::sleep_ns(20_000);
            continue;
        }
        pass(&team, board, Some(reader))?;
        board.seen[reader].store(version, Ordering::Release);
        // Busy on purpose: a CPU that sleeps may lose its stale entries.
        while board.gone.load(Ordering::Acquire) < version && !team.stopping() {
            stored += 1;
            store_pass(board, version, stored);
            pass(&team, board, None)?;
            if cfg!(not(target_os = "none")) {
                // There may be fewer cores than simulated CPUs, and the owner needs one.
                thread::yield_now();
            }
        }
        for _ in 0..LATE_PASSES {
            pass(&team, board, None)?;
        }
    }
    Ok(())
}

/// Reads the window once. With `first`, reads again until each page was there or its version is
/// gone.
fn pass(team: &Team, board: &Board, first: Option<usize>) -> Result<(), Stop> {
    for page in 0..PAGES {
        loop {
            let gone = board.gone.load(Ordering::Acquire);
            let found = user::load_nofault(at(BASE, page));
            look(page, gone, found)?;
            let there = found.is_some_and(|word| word != 0);
            if first.is_none() || there || gone == board.live.load(Ordering::Acquire) {
                break;
            }
            team.go_on()?;
        }
    }
    team.verified.fetch_add(PAGES as u64, Ordering::Relaxed);
    Ok(())
}

/// Judges a word that was read after version `gone` had been taken away.
fn look(page: usize, gone: u16, found: Option<u64>) -> Result<(), Stop> {
    let Some(word) = found else {
        return Ok(());
    };
    let read = pattern::decode(word, WORD);
    let newer = read == stamp(OWNER, page, read.version) && read.version > gone;
    if word == 0 || newer {
        return Ok(());
    }
    Err(Stop::Wrong(format!(
        "stale translation: CPU {} read {word:#018x} ({}) at {:?} after version {gone} was taken away",
        sync::cpu::id(),
        describe(word, WORD),
        at(BASE, page)
    )))
}

/// Stores to each page of a window that still is writable, so that the TLB holds writable
/// translations.
fn store_pass(board: &Board, version: u16, value: u64) {
    if !version.is_multiple_of(4) || !board.stores {
        return;
    }
    for page in 0..PAGES {
        // Once a page is gone a stale store would hit a stranger's frame: stop before that.
        if board.sealed.load(Ordering::Acquire) >= version
            || board.gone.load(Ordering::Acquire) >= version
        {
            return;
        }
        user::store_nofault(VirtAddr(at(BASE, page).0 + SCRATCH), value);
    }
}
