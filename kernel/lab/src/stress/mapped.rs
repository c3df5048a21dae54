//! `stress msync` and `stress writeback`: shared mappings of one file on the data disk, with a
//! version in every word.
//!
//! Two actors share an address space that maps the whole file; each writes its own pages
//! ([`Book`]), through the mapping or with write(), and reads everybody's, while both drop and
//! replace the mappings all the time. `msync` is about promises: whatever an msync or a sync has
//! returned for is looked for on the disk. In `writeback` nobody syncs: little memory and low
//! limits keep the flusher and reclaim writing, and at the end what was stored must get to the disk
//! by the flusher alone.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use algo::pattern::{self, WORDS};
use arch::upcall::FaultError;
use arch::{VirtAddr, thread, user};
use fastrand::Rng;
use mm::file;
use mm::stats::{self, Event};
use mm::{MapFlags, MmError};

use super::memory::{Balloon, FileTraffic, free_pages, mib, to_mib};
use super::page::{Readable, fault, word_at};
use super::team::{self, Actor, Body, Stop, Team};
use super::versions::{Book, PAGE};
use super::window::pick;
use super::worker::Worker;
use super::{BASE, Env, summary};
use crate::cancel::Cancel;
use crate::space::{Advice, Prot, Space, at, refused};

/// Pages of the file, unless the user chose.
const FILE: u64 = mib(4);
/// Most pages of one access.
const MOST: usize = 16;
/// Writers of `writeback` wait above this many pages that are to be written.
const LIMIT: u64 = 128;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Load,
    Store,
    Read,
    Write,
    Msync,
    Sync,
    SyncAll,
    LookAtDisk,
    DontNeed,
    MapAgain,
    DropCaches,
}

/// What a stress does, with weights.
type Mix = &'static [(Op, u32)];

const MSYNC: Mix = &[
    (Op::Store, 340),
    (Op::Load, 200),
    (Op::Write, 60),
    (Op::Read, 60),
    (Op::Msync, 130),
    (Op::Sync, 40),
    (Op::SyncAll, 10),
    (Op::LookAtDisk, 80),
    (Op::DontNeed, 40),
    (Op::MapAgain, 36),
    (Op::DropCaches, 4),
];

const WRITEBACK: Mix = &[
    (Op::Store, 480),
    (Op::Load, 240),
    (Op::Write, 80),
    (Op::Read, 80),
    (Op::DontNeed, 60),
    (Op::MapAgain, 50),
    (Op::DropCaches, 10),
];

/// `stress msync`.
///
/// # Errors
/// The first thing that was wrong.
pub fn msync(env: &Env<'_>) -> Result<(), String> {
    run(env, MSYNC, 2)
}

/// `stress writeback`.
///
/// # Errors
/// The first thing that was wrong.
pub fn writeback(env: &Env<'_>) -> Result<(), String> {
    file::set_limits(Some(LIMIT));
    let result = run(env, WRITEBACK, 1);
    file::set_limits(None);
    result
}

/// Runs it with `mix`, with memory for `part` halves of the file.
fn run(env: &Env<'_>, mix: Mix, part: u64) -> Result<(), String> {
    let most = u64::from(file::disk_pages());
    let pages = env.pages.unwrap_or(most.min(FILE) as usize);
    let actors = env.cpus.clamp(2, 8);
    let book = Arc::new(Book::new(env, pages, actors, false)?);
    file::drop_caches();
    let failed = |what: &str, e: MmError| format!("{what}: {e:?}");
    let mut workers = Vec::new();
    for i in 0..actors {
        let space = match workers.get(i & !1) {
            Some(Mapper { space, .. }) if i % 2 == 1 => space.clone(),
            _ => Space::new().map_err(|e| failed("no address space", e))?,
        };
        workers.push(Mapper::new(&book, space).map_err(|e| failed("mapping the file", e))?);
    }
    let mut bodies: Vec<Body> = Vec::new();
    for mut one in workers {
        bodies.push(Box::new(move |actor| one.work(actor, mix)));
    }
    let left = (pages as u64 * part / 2).max(mib(3));
    let balloon = Balloon::leave(env.mem.unwrap_or(left));
    writeln!(
        env.out,
        "stress {}: {pages} pages, {actors} actors, {} MiB of memory free ({} MiB held back)",
        env.name,
        to_mib(free_pages()),
        to_mib(balloon.pages)
    );
    let team = Team::new();
    let traffic = FileTraffic::start();
    let result = team::run(env, &team, bodies, false);
    drop(balloon);
    let result = result.and_then(|()| last_look(env, &book, &team));
    traffic.report(env, &book);
    summary(env, &team);
    file::drop_caches();
    result.and_then(|()| team.nobody_killed())
}

/// Everything once more: on the disk, where the flusher or a last sync has brought it, and through
/// an empty cache.
fn last_look(env: &Env<'_>, book: &Arc<Book>, team: &Team) -> Result<(), String> {
    let mut worker = Space::new()
        .and_then(|space| Mapper::new(book, space))
        .map_err(|e| format!("mapping the file: {e:?}"))?;
    let mut look = || {
        worker.wait_written(env.cancel)?;
        file::drop_caches();
        let space = worker.space.clone();
        let _adopted = space.enter();
        (0..book.size()).try_for_each(|page| {
            worker.io.look_at_disk(team, page)?;
            worker.load(team, page, 1)
        })
    };
    match look() {
        Err(Stop::Wrong(message)) => Err(format!("after the end: {message}")),
        _ => Ok(()),
    }
}

/// One actor, and the address space in which it maps the file.
struct Mapper {
    io: Worker,
    space: Space,
}

impl Mapper {
    fn new(book: &Arc<Book>, space: Space) -> Result<Self, MmError> {
        let mapper = Self {
            io: Worker::new(book)?,
            space,
        };
        mapper.map(0..book.size())?;
        Ok(mapper)
    }

    /// Maps pages of the file, over what is mapped there: the same, if anything.
    fn map(&self, pages: Range<usize>) -> Result<(), MmError> {
        self.space.map_file(
            at(BASE, pages.start),
            pages.len(),
            Prot::RW,
            MapFlags::SHARED,
            &self.io.file,
            pages.start as u32,
        )
    }

    fn work(&mut self, actor: &mut Actor, mix: Mix) -> Result<(), Stop> {
        let team = actor.team.clone();
        let mine = self.io.book.owned_by(actor.index);
        let space = self.space.clone();
        let _adopted = space.enter();
        let mut run = || -> Result<(), Stop> {
            for page in &mine {
                self.store(&team, *page, 1)?;
            }
            loop {
                self.step(&team, &mut actor.rng, &mine, mix)?;
            }
        };
        let Err(end) = run() else { return Ok(()) };
        match end {
            // Nothing of it shall be missing on the disk.
            Stop::Over if mix.iter().any(|(op, _)| *op == Op::SyncAll) => {
                self.io.sync(0..self.io.book.size())
            }
            Stop::Over => Ok(()),
            other => Err(other),
        }
    }

    fn step(&mut self, team: &Team, rng: &mut Rng, mine: &[usize], mix: Mix) -> Result<(), Stop> {
        team.go_on()?;
        team.operations.fetch_add(1, Ordering::Relaxed);
        let all = self.io.book.size();
        let page = rng.usize(..all);
        let n = 1 + rng.usize(..MOST).min(all - page - 1);
        let my = mine[rng.usize(..mine.len())];
        let my_n = 1 + rng.usize(..self.io.book.rest_of_chunk(my));
        match pick(mix, rng) {
            Op::Load => self.load(team, page, n),
            Op::Store => self.store(team, my, my_n),
            Op::Read => self.io.read(team, page, n),
            Op::Write => self.io.write(team, my, my_n, false),
            Op::Msync => self.msync(my..my + my_n),
            Op::Sync => self.io.sync(my..my + my_n),
            Op::SyncAll => self.msync(0..all),
            Op::LookAtDisk => self.io.look_at_disk(team, my),
            Op::DontNeed => {
                let done = self.space.advise(at(BASE, page), n, Advice::DontNeed);
                done.or_else(|e| refused("madvise", e))
            }
            Op::MapAgain => self.map(page..page + n).or_else(|e| refused("mmap", e)),
            Op::DropCaches => {
                file::drop_caches();
                Ok(())
            }
        }
    }

    /// The word at the address: none where the disk could not give the page back, as the user
    /// expects of it.
    fn word(&self, team: &Team, va: VirtAddr) -> Result<Option<u64>, Stop> {
        match user::load(va) {
            Ok(word) => Ok(Some(word)),
            Err(e) => self.spoilt(team, va, "a load", e).map(|_| None),
        }
    }

    fn spoilt(
        &self,
        team: &Team,
        va: VirtAddr,
        what: &str,
        e: FaultError,
    ) -> Result<Readable, Stop> {
        if e != FaultError::Bus || !self.io.book.errors_ok() {
            return Err(fault(va, what, e));
        }
        team.unreadable.fetch_add(1, Ordering::Relaxed);
        Ok(Readable::No)
    }

    /// Reads pages through the mapping.
    fn load(&mut self, team: &Team, page: usize, n: usize) -> Result<(), Stop> {
        for page in page..page + n {
            let low = self.io.book.least(page);
            let mut whole = true;
            for i in 0..WORDS {
                let va = word_at(at(BASE, page), i);
                let Some(word) = self.word(team, va)? else {
                    whole = false;
                    break;
                };
                self.io.buffer[8 * i..8 * (i + 1)].copy_from_slice(&word.to_le_bytes());
            }
            if whole {
                self.io
                    .book
                    .verify(team, &self.io.buffer[..PAGE], page, low, "in the mapping")?;
            }
        }
        Ok(())
    }

    /// The next version of `n` of the actor's own pages through the mapping, word by word.
    fn store(&mut self, team: &Team, page: usize, n: usize) -> Result<(), Stop> {
        for page in page..page + n {
            let stamp = self.io.book.begin(page)?;
            for i in 0..WORDS {
                let va = word_at(at(BASE, page), i);
                if let Err(e) = user::store(va, pattern::encode(stamp, i)) {
                    self.spoilt(team, va, "a store", e)?;
                    return Ok(());
                }
            }
            self.io.book.done(page..page + 1);
            team.written.fetch_add(1, Ordering::Relaxed);
            // A disk that fails makes each page wait. (After the first: a run stores something,
            // however late it began.)
            team.go_on()?;
        }
        Ok(())
    }

    /// Makes what is in these pages durable with msync.
    fn msync(&self, pages: Range<usize>) -> Result<(), Stop> {
        let (first, n) = (pages.start, pages.len());
        self.io
            .sync_by(pages, || self.space.sync(at(BASE, first), n))
    }

    /// Everything that was stored is on the disk once the flusher has nothing left to do. Nobody
    /// syncs, where the disk works.
    ///
    /// # Errors
    /// The disk does not take it; or the user does not want to wait.
    fn wait_written(&mut self, cancel: &Cancel) -> Result<(), Stop> {
        let all = 0..self.io.book.size();
        let before = self.io.book.before_sync(all.clone());
        if self.io.book.errors_ok() {
            // The errors that are expected of the disk are told here at the latest.
            return self.io.sync(all);
        }
        wait_clean(cancel)?;
        before
            .iter()
            .for_each(|before| self.io.book.after_sync(before));
        Ok(())
    }
}

/// Until no file has anything to be written.
///
/// # Errors
/// None of what is dirty was written, and each of it has failed twice; or `cancel`.
fn wait_clean(cancel: &Cancel) -> Result<(), Stop> {
    let moved = || [Event::FileWritten, Event::FileWriteError].map(stats::total);
    let mut before = moved();
    while file::unwritten().all() > 0 {
        if cancel.requested() {
            return Err(Stop::Over);
        }
        thread::sleep_ns(10_000_000);
        let (now, dirty) = (moved(), file::unwritten().dirty);
        if now[0] != before[0] {
            before = now;
        } else if now[1] - before[1] > 2 * dirty && dirty > 0 {
            return Err(Stop::wrong(format!(
                "{dirty} pages are not written: the disk fails (with --bus-ok that is no failure)"
            )));
        }
    }
    Ok(())
}
