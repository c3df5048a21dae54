//! `stress file`: actors read, write and sync one file on the data disk, with a version in every word.
//!
//! All actors share the file, each with an opener of its own. A page belongs to one actor, the only one that writes it,
//! whole or in pieces; anybody reads it. Two numbers per page bound what a word may show: the version that was last
//! written whole, and the one that was last begun. A third one bounds what the disk may show, looked at past the cache: the version that
//! was in the file when a sync of it began that succeeded. Memory is left for a part of the file only, and the clean part of
//! the cache is dropped now and then. At the end everything is synced and compared, through the cache and on the disk.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use algo::pattern::{self, Stamp, WORDS};
use arch::PAGE_SIZE;
use mm::MmError;
use mm::file::{self, Opener};
use mm::stats::{Event, total};

use super::memory::{Balloon, free_pages, mib, to_mib};
use super::page::describe;
use super::team::{self, Actor, Body, Stop, Team};
use super::{Env, summary};

/// Whose pages these are, in their words.
const MARK: u16 = 0xf11e;
/// Neighbouring pages with the same owner.
const CHUNK: usize = 16;
/// Most pages of one read or write.
const MOST: usize = 32;
/// Most pages of the file, unless the user chose.
const FILE: u64 = mib(32);
const PAGE: usize = PAGE_SIZE as usize;

/// What may be found in a page. Written by its owner.
#[derive(Default)]
struct Versions {
    /// In the page, in every word.
    whole: AtomicU16,
    /// In some words, at most.
    begun: AtomicU16,
    /// On the disk, at least.
    synced: AtomicU16,
}

/// What the actors share.
struct Shared {
    pages: Vec<Versions>,
    actors: usize,
    errors_ok: bool,
    /// Requests to the file that the disk spoilt.
    spoilt: AtomicU64,
}

impl Shared {
    fn owner(&self, page: usize) -> usize {
        page / CHUNK % self.actors
    }

    /// An error that the user expects of this disk, or a failure.
    fn spoilt(&self, what: &str, page: usize, e: MmError) -> Result<(), Stop> {
        if e == MmError::Io && self.errors_ok {
            self.spoilt.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        Err(Stop::wrong(format!("{what} page {page:#x}: {e:?}")))
    }
}

/// Runs it.
///
/// # Errors
/// The first thing that was wrong.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let most = u64::from(file::disk_pages());
    let pages = env.pages.map_or(most.min(FILE), |p| p as u64) as usize;
    let actors = env.cpus.clamp(2, 8);
    if pages < actors * CHUNK || pages as u64 > most {
        return Err(format!(
            "needs a data disk (--data), with {} pages at least; it has {most}",
            pages.max(actors * CHUNK)
        ));
    }
    file::drop_caches();
    let mut versions = Vec::new();
    versions
        .try_reserve_exact(pages)
        .map_err(|_| format!("no memory for the records of {pages} pages"))?;
    versions.resize_with(pages, Versions::default);
    let shared = Arc::new(Shared {
        pages: versions,
        actors,
        errors_ok: env.bus_ok,
        spoilt: AtomicU64::new(0),
    });
    let mut bodies: Vec<Body> = Vec::new();
    for _ in 0..actors {
        let mut one = Worker::new(&shared).map_err(|e| format!("opening the file: {e:?}"))?;
        bodies.push(Box::new(move |actor| one.work(actor)));
    }
    let balloon = Balloon::leave(env.mem.unwrap_or((pages as u64 / 2).max(mib(4))));
    writeln!(
        env.out,
        "stress file: {pages} pages, {actors} actors, {} MiB of memory free ({} MiB held back)",
        to_mib(free_pages()),
        to_mib(balloon.pages)
    );
    let team = Team::new();
    let before = [Event::FileRead, Event::FileWritten].map(total);
    let result = team::run(env, &team, bodies, false);
    drop(balloon);
    let result = result.and_then(|()| last_look(&shared, &team));
    writeln!(
        env.out,
        "stress file: {} pages read from the disk, {} written, {} requests spoilt",
        total(Event::FileRead) - before[0],
        total(Event::FileWritten) - before[1],
        shared.spoilt.load(Ordering::Relaxed)
    );
    summary(env, &team);
    file::drop_caches();
    result
}

/// Everything once more: through an empty cache, and on the disk.
fn last_look(shared: &Arc<Shared>, team: &Team) -> Result<(), String> {
    let mut worker = Worker::new(shared).map_err(|e| format!("opening the file: {e:?}"))?;
    file::drop_caches();
    let end = (0..shared.pages.len()).try_for_each(|page| {
        worker.read(team, page, 1)?;
        worker.look_at_disk(team, page)
    });
    match end {
        Err(Stop::Wrong(message)) => Err(format!("after the end: {message}")),
        _ => Ok(()),
    }
}

/// One actor with its opener and room for what it reads and writes.
struct Worker {
    shared: Arc<Shared>,
    file: Opener,
    buffer: Vec<u8>,
}

impl Worker {
    fn new(shared: &Arc<Shared>) -> Result<Self, MmError> {
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(MOST * PAGE)
            .map_err(|_| MmError::NoMemory)?;
        buffer.resize(MOST * PAGE, 0);
        Ok(Self {
            shared: shared.clone(),
            file: file::open(0, shared.pages.len() as u32)?,
            buffer,
        })
    }

    fn work(&mut self, actor: &mut Actor) -> Result<(), Stop> {
        let team = actor.team.clone();
        let all = self.shared.pages.len();
        let own = |page: &usize| self.shared.owner(*page) == actor.index;
        let mine: Vec<usize> = (0..all).filter(own).collect();
        let mut run = || -> Result<(), Stop> {
            for chunk in mine.chunks(CHUNK) {
                self.write(&team, chunk[0], chunk.len(), false)?;
            }
            loop {
                team.go_on()?;
                team.operations.fetch_add(1, Ordering::Relaxed);
                let page = actor.rng.usize(..all);
                let my = mine[actor.rng.usize(..mine.len())];
                let in_chunk = (CHUNK - my % CHUNK).min(all - my);
                match actor.rng.u32(..1000) {
                    0..400 => self.read(&team, page, 1 + actor.rng.usize(..MOST))?,
                    400..450 => self.read_on(&team, page)?,
                    450..750 => self.write(&team, my, 1 + actor.rng.usize(..in_chunk), false)?,
                    750..830 => self.write(&team, my, 1, true)?,
                    830..900 => self.sync(my, in_chunk)?,
                    900..910 => self.sync(0, all)?,
                    910..998 => self.look_at_disk(&team, my)?,
                    _ => drop(file::drop_caches()),
                }
            }
        };
        let result = run();
        // Nothing of it shall be missing on the disk.
        let synced = self.sync(0, all);
        match result {
            Err(Stop::Over) | Ok(()) => synced,
            other => other,
        }
    }

    /// Sixty-four pages one after the other, as a program that reads a file.
    fn read_on(&mut self, team: &Team, page: usize) -> Result<(), Stop> {
        (page..page + 64).try_for_each(|p| self.read(team, p, 1))
    }

    fn read(&mut self, team: &Team, page: usize, n: usize) -> Result<(), Stop> {
        let n = n.min(self.shared.pages.len().saturating_sub(page));
        if n == 0 {
            return Ok(());
        }
        let mut least = [0; MOST];
        for (low, v) in least.iter_mut().zip(&self.shared.pages[page..page + n]) {
            // Acquire pairs with the Release after the write: what it wrote is there to be read.
            *low = v.whole.load(Ordering::Acquire);
        }
        let got = match self
            .file
            .read(page as u64 * PAGE_SIZE, &mut self.buffer[..n * PAGE])
        {
            Ok(got) => got / PAGE,
            Err(e) => return self.shared.spoilt("reading", page, e),
        };
        if got < n && !self.shared.errors_ok {
            return Err(Stop::wrong(format!("read {got} pages of {n} at {page:#x}")));
        }
        for (i, low) in least[..got].iter().enumerate() {
            let high = self.shared.pages[page + i].begun.load(Ordering::Acquire);
            let bytes = &self.buffer[i * PAGE..(i + 1) * PAGE];
            verify(bytes, page + i, *low, high, "in the file")?;
            team.verified.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The next version of `n` of the actor's own pages; in pieces that end within words.
    fn write(&mut self, team: &Team, page: usize, n: usize, pieces: bool) -> Result<(), Stop> {
        let shared = self.shared.clone();
        let of = &shared.pages[page..page + n];
        for (i, v) in of.iter().enumerate() {
            let version = v.begun.load(Ordering::Relaxed).saturating_add(1);
            v.begun.store(version, Ordering::Release);
            fill(
                &mut self.buffer[i * PAGE..(i + 1) * PAGE],
                stamp(page + i, version),
            );
        }
        let (pos, len) = (page as u64 * PAGE_SIZE, n * PAGE);
        let first = if pieces {
            8 * (1 + page % 500) + 4
        } else {
            len
        };
        let mut done = 0;
        for part in [0..first, first..len] {
            if part.is_empty() || part.start != done {
                continue;
            }
            match self
                .file
                .write(pos + part.start as u64, &self.buffer[part.clone()])
            {
                Ok(wrote) => done += wrote,
                Err(e) => shared.spoilt("writing", page, e)?,
            }
        }
        if done < len && !shared.errors_ok {
            return Err(Stop::wrong(format!(
                "{done} of {len} bytes were written at page {page:#x}"
            )));
        }
        for v in &of[..done / PAGE] {
            v.whole
                .store(v.begun.load(Ordering::Relaxed), Ordering::Release);
        }
        team.written
            .fetch_add((done / PAGE) as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&mut self, page: usize, n: usize) -> Result<(), Stop> {
        let shared = self.shared.clone();
        let of = &shared.pages[page..page + n];
        let mut there = Vec::new();
        if there.try_reserve_exact(n).is_err() {
            return Ok(());
        }
        there.extend(of.iter().map(|v| v.whole.load(Ordering::Acquire)));
        match self
            .file
            .sync_range(page as u64 * PAGE_SIZE, n as u64 * PAGE_SIZE)
        {
            Ok(()) => {
                for (v, there) in of.iter().zip(there) {
                    v.synced.fetch_max(there, Ordering::AcqRel);
                }
                Ok(())
            }
            Err(e) => shared.spoilt("syncing", page, e),
        }
    }

    /// A page as the disk has it.
    fn look_at_disk(&mut self, team: &Team, page: usize) -> Result<(), Stop> {
        let shared = self.shared.clone();
        let v = &shared.pages[page];
        let low = v.synced.load(Ordering::Acquire);
        let Some(bytes) = self.buffer.first_chunk_mut::<PAGE>() else {
            return Ok(());
        };
        match file::read_raw(page as u32, bytes) {
            Ok(()) if low > 0 => {
                let high = v.begun.load(Ordering::Acquire);
                verify(bytes, page, low, high, "on the disk")?;
                team.verified.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(e) => shared.spoilt("looking at the disk's", page, e),
        }
    }
}

fn stamp(page: usize, version: u16) -> Stamp {
    Stamp {
        mm: MARK,
        page: page as u32,
        version,
    }
}

fn fill(bytes: &mut [u8], stamp: Stamp) {
    for (i, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = pattern::encode(stamp, i).to_le_bytes();
    }
}

/// Every word is of this page and of a version from `low` to `high`. A page that was not written yet is anything. Pieces end within
/// a word, which may then be of two versions: only there is a word let pass that is of neither.
fn verify(bytes: &[u8], page: usize, low: u16, high: u16, place: &str) -> Result<(), Stop> {
    if low == 0 {
        return Ok(());
    }
    let seam = 1 + page % 500;
    for (i, word) in bytes.as_chunks::<8>().0.iter().enumerate().take(WORDS) {
        let word = u64::from_le_bytes(*word);
        let found = pattern::decode(word, i);
        let right =
            (found.mm, found.page) == (MARK, page as u32) && (low..=high).contains(&found.version);
        if !right && !(i == seam && low != high) {
            return Err(Stop::wrong(format!(
                "page {page:#x} {place}, word {i}: expected version {low} to {high}, found {word:#018x} ({})",
                describe(word, i)
            )));
        }
    }
    Ok(())
}
