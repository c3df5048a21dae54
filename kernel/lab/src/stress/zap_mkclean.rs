//! `stress zap-mkclean`: looks for stores that a zap and a writeback lose between them.
//!
//! One address space maps a whole table of a file's pages, in one aligned window. The *counter*
//! writes numbers into page 0 and reads each back before the next; the *dirtier* keeps the other
//! pages dirty, so that a zap has much to do; the *remapper* takes the window away, by mapping the
//! file over itself or with MADV_DONTNEED. In another address space, which has no entry there, the
//! *syncer* makes page 0 durable and drops it from the page cache, so that the counter's next
//! access reads the disk. A number that is not what was written last is a lost store: it went
//! through a stale translation after the page was written.
//!
//! They aim at each other. The remapper waits until the counter has stored again. The syncer, every
//! other time, waits until the window is being taken away. The counter, every other time, goes on
//! storing for as long as its CPU has a translation, brings in no new one, and looks again once the
//! page was made durable and dropped: its last store is the last that the translation allowed.
//!
//! With `--broken` (or the knobs of rule 2 off) exactly that must be seen.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::upcall::FaultError;
use arch::{VirtAddr, thread, user};
use mm::file::{self, Opener};
use mm::knobs::Knob;
use mm::{MapFlags, MmError};

use super::page::fault;
use super::team::{self, Actor, Body, Stop, Team};
use super::versions::PAGE;
use super::{Env, broken, summary};
use crate::space::{Advice, Prot, Space, at};

/// Pages of the window: those of one table.
const PAGES: usize = arch::addr::entries(0);
/// Where it lies: aligned to 2 MiB.
const WINDOW: VirtAddr = VirtAddr(0x4000_0000);
/// Numbers that the counter writes before it pauses, so that others may take its page away.
const BURST: u64 = 300;
/// How long it pauses at most, in nanoseconds.
const PAUSE_NS: u64 = 400_000;
/// How long taking the window away may last, in nanoseconds; somewhere in there the syncer begins.
const REMAP_NS: u64 = 2_000_000;
/// Stores of an aimed burst between looks at whether the run is over.
const VOLLEY: u64 = 64;

/// What the actors share.
struct Board {
    space: Space,
    file: Opener,
    /// The number that page 0 holds.
    counter: AtomicU64,
    /// The last number that the dirtier has written to all of its pages.
    round: AtomicU64,
    /// Remaps begun, and done.
    begun: AtomicU64,
    remaps: AtomicU64,
    syncs: AtomicU64,
    /// The counter waits for syncs.
    waiting: AtomicBool,
}

/// Runs it.
///
/// # Errors
/// The first lost store, or with `--broken` that none was seen.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let rule = [Knob::DelayRmap, Knob::FlushBeforeUnlock, Knob::MkcleanSync];
    broken::hunt(env, &rule, "lost store", hunt)
}

type Part = fn(&mut Actor, &Board) -> Result<(), Stop>;

fn hunt(env: &Env<'_>) -> Result<(), String> {
    if (file::disk_pages() as usize) < PAGES {
        return Err(format!("needs a data disk (--data) of {PAGES} pages"));
    }
    file::drop_caches();
    let board = set_up().map_err(|e| format!("mapping the file: {e:?}"))?;
    let board = Arc::new(board);
    let team = Team::new();
    let parts: [Part; 4] = [count, dirty, remap, sync];
    let bodies = parts.map(|part| {
        let board = board.clone();
        let body: Body = Box::new(move |actor| part(actor, &board));
        body
    });
    let result = team::run(env, &team, Vec::from(bodies), true);
    let result = result.and_then(|()| last_look(&board).map_err(|e| format!("after the end: {e}")));
    let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
    writeln!(
        env.out,
        "stress zap-mkclean: {} numbers counted, {} remaps, {} syncs",
        get(&board.counter),
        get(&board.remaps),
        get(&board.syncs)
    );
    summary(env, &team);
    // After a lost store nothing was synced; nobody else may have the disk while pages are dirty.
    let _ = board.file.sync();
    drop(board);
    file::drop_caches();
    result
}

fn set_up() -> Result<Board, MmError> {
    let board = Board {
        space: Space::new()?,
        file: file::open(0, PAGES as u32)?,
        counter: AtomicU64::new(0),
        round: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        remaps: AtomicU64::new(0),
        syncs: AtomicU64::new(0),
        waiting: AtomicBool::new(false),
    };
    board.file.write(0, &vec![0; PAGES * PAGE])?;
    board.file.sync()?;
    map(&board.space, &board.file, PAGES)?;
    Ok(board)
}

fn map(space: &Space, file: &Opener, pages: usize) -> Result<(), MmError> {
    space.map_file(WINDOW, pages, Prot::RW, MapFlags::SHARED, file, 0)
}

fn failed(what: &str) -> impl Fn(MmError) -> Stop + '_ {
    move |e| Stop::wrong(format!("{what}: {e:?}"))
}

fn accessed<T>(va: VirtAddr, what: &str, result: Result<T, FaultError>) -> Result<T, Stop> {
    result.map_err(|e| fault(va, what, e))
}

/// Counts in page 0.
fn count(actor: &mut Actor, board: &Board) -> Result<(), Stop> {
    let _adopted = board.space.enter();
    let mut last = 0;
    while !actor.team.stopping() {
        for _ in 0..BURST {
            let found = accessed(WINDOW, "a load", user::load(WINDOW))?;
            if found != last {
                return Err(Stop::wrong(format!(
                    "lost store: {last} was written at {WINDOW:?}, then {found} was read (CPU {})",
                    sync::cpu::id()
                )));
            }
            last += 1;
            accessed(WINDOW, "a store", user::store(WINDOW, last))?;
            board.counter.store(last, Ordering::Relaxed);
        }
        if actor.rng.bool() {
            last = store_while_translated(&actor.team, board, last);
            wait_dropped(&actor.team, board);
        } else {
            thread::sleep_ns(actor.rng.u64(..PAUSE_NS));
        }
    }
    Ok(())
}

/// Counts on from `last` until a store finds no translation; what was stored last.
fn store_while_translated(team: &Team, board: &Board, mut last: u64) -> u64 {
    while !team.stopping() {
        for _ in 0..VOLLEY {
            if !user::store_nofault(WINDOW, last + 1) {
                return last;
            }
            last += 1;
            board.counter.store(last, Ordering::Relaxed);
        }
        give_way();
    }
    last
}

/// Waits until the syncer has done a whole round since.
fn wait_dropped(team: &Team, board: &Board) {
    board.waiting.store(true, Ordering::Relaxed);
    let before = board.syncs.load(Ordering::Relaxed);
    wait(team, || board.syncs.load(Ordering::Relaxed) >= before + 2);
    board.waiting.store(false, Ordering::Relaxed);
}

/// Until `over`, or the end of the run.
fn wait(team: &Team, over: impl Fn() -> bool) {
    while !over() && !team.stopping() {
        thread::sleep_ns(PAUSE_NS / 8);
    }
}

/// There may be fewer cores than simulated CPUs.
fn give_way() {
    if cfg!(not(target_os = "none")) {
        thread::yield_now();
    }
}

/// Keeps the other pages dirty.
fn dirty(actor: &mut Actor, board: &Board) -> Result<(), Stop> {
    let _adopted = board.space.enter();
    for round in 1.. {
        for page in 1..PAGES {
            actor.team.go_on()?;
            let va = at(WINDOW, page);
            accessed(va, "a store", user::store(va, round))?;
        }
        board.round.store(round, Ordering::Relaxed);
        actor.team.written.fetch_add(1, Ordering::Relaxed);
        give_way();
    }
    Ok(())
}

/// Takes the window's pages away.
fn remap(actor: &mut Actor, board: &Board) -> Result<(), Stop> {
    while !actor.team.stopping() {
        board.begun.fetch_add(1, Ordering::Relaxed);
        if actor.rng.bool() {
            map(&board.space, &board.file, PAGES).map_err(failed("mmap"))?;
        } else {
            let done = board.space.advise(WINDOW, PAGES, Advice::DontNeed);
            done.map_err(failed("madvise"))?;
        }
        board.remaps.fetch_add(1, Ordering::Relaxed);
        let counted = board.counter.load(Ordering::Relaxed);
        wait(&actor.team, || {
            board.counter.load(Ordering::Relaxed) != counted
        });
        thread::sleep_ns(actor.rng.u64(..PAUSE_NS));
    }
    Ok(())
}

/// Makes page 0 durable and drops it from the cache.
fn sync(actor: &mut Actor, board: &Board) -> Result<(), Stop> {
    let other = Space::new().map_err(failed("an address space"))?;
    map(&other, &board.file, 1).map_err(failed("mmap"))?;
    while !actor.team.stopping() {
        if actor.rng.bool() {
            let begun = board.begun.load(Ordering::Relaxed);
            wait(&actor.team, || {
                board.begun.load(Ordering::Relaxed) != begun
                    || board.waiting.load(Ordering::Relaxed)
            });
            thread::sleep_ns(actor.rng.u64(..REMAP_NS));
        }
        other.sync(WINDOW, 1).map_err(failed("msync"))?;
        file::drop_caches();
        board.syncs.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// What was stored last is on the disk after a sync.
fn last_look(board: &Board) -> Result<(), String> {
    board.file.sync().map_err(|e| format!("sync: {e:?}"))?;
    let mut bytes = Box::new([0; PAGE]);
    for page in 0..PAGES {
        file::read_raw(page as u32, &mut bytes).map_err(|e| format!("page {page:#x}: {e:?}"))?;
        let found = bytes.first_chunk().map_or(0, |w| u64::from_le_bytes(*w));
        let least = if page == 0 {
            &board.counter
        } else {
            &board.round
        };
        let least = least.load(Ordering::Relaxed);
        if found < least {
            return Err(format!(
                "lost store: {least} was written to page {page:#x}, the disk has {found}"
            ));
        }
    }
    Ok(())
}
