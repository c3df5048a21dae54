//! `stress file`: actors read, write and sync one file on the data disk, with a version in every word.
//!
//! All actors share the file, each with an opener of its own. A page belongs to one actor, the only one that writes it,
//! whole or in pieces; anybody reads it ([`Book`]). Memory is left for a part of the file only, and the clean part of
//! the cache is dropped now and then. At the end everything is synced and compared, through the cache and on the disk.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use arch::PAGE_SIZE;
use mm::MmError;
use mm::file::{self, Opener};

use super::memory::{Balloon, FileTraffic, free_pages, mib, to_mib};
use super::team::{self, Actor, Body, Stop, Team};
use super::versions::{Book, CHUNK, PAGE, fill, seam};
use super::{Env, summary};

/// Most pages of one read or write.
const MOST: usize = 32;
/// Most pages of the file, unless the user chose.
const FILE: u64 = mib(32);

/// Runs it.
///
/// # Errors
/// The first thing that was wrong.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let most = u64::from(file::disk_pages());
    let pages = env.pages.unwrap_or(most.min(FILE) as usize);
    let actors = env.cpus.clamp(2, 8);
    let book = Arc::new(Book::new(env, pages, actors, true)?);
    file::drop_caches();
    let mut bodies: Vec<Body> = Vec::new();
    for _ in 0..actors {
        let mut one = Worker::new(&book).map_err(|e| format!("opening the file: {e:?}"))?;
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
    let traffic = FileTraffic::start();
    let result = team::run(env, &team, bodies, false);
    drop(balloon);
    let result = result.and_then(|()| last_look(&book, &team));
    traffic.report(env, &book);
    summary(env, &team);
    file::drop_caches();
    result
}

/// Everything once more: through an empty cache, and on the disk.
fn last_look(book: &Arc<Book>, team: &Team) -> Result<(), String> {
    let mut worker = Worker::new(book).map_err(|e| format!("opening the file: {e:?}"))?;
    file::drop_caches();
    let end = (0..book.size()).try_for_each(|page| {
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
    book: Arc<Book>,
    file: Opener,
    buffer: Vec<u8>,
}

impl Worker {
    fn new(book: &Arc<Book>) -> Result<Self, MmError> {
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(MOST * PAGE)
            .map_err(|_| MmError::NoMemory)?;
        buffer.resize(MOST * PAGE, 0);
        Ok(Self {
            book: book.clone(),
            file: file::open(0, book.size() as u32)?,
            buffer,
        })
    }

    fn work(&mut self, actor: &mut Actor) -> Result<(), Stop> {
        let team = actor.team.clone();
        let all = self.book.size();
        let mine = self.book.owned_by(actor.index);
        let mut run = || -> Result<(), Stop> {
            for chunk in mine.chunks(CHUNK) {
                self.write(&team, chunk[0], chunk.len(), false)?;
            }
            loop {
                team.go_on()?;
                team.operations.fetch_add(1, Ordering::Relaxed);
                let page = actor.rng.usize(..all);
                let my = mine[actor.rng.usize(..mine.len())];
                let in_chunk = self.book.rest_of_chunk(my);
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
        let n = n.min(self.book.size().saturating_sub(page));
        if n == 0 {
            return Ok(());
        }
        let mut least = [0; MOST];
        for (low, page) in least.iter_mut().zip(page..page + n) {
            *low = self.book.least(page);
        }
        let got = match self
            .file
            .read(page as u64 * PAGE_SIZE, &mut self.buffer[..n * PAGE])
        {
            Ok(got) => got / PAGE,
            Err(e) => return self.book.refused("reading", page, e),
        };
        if got < n && !self.book.errors_ok() {
            return Err(Stop::wrong(format!("read {got} pages of {n} at {page:#x}")));
        }
        for (i, low) in least[..got].iter().enumerate() {
            let bytes = &self.buffer[i * PAGE..(i + 1) * PAGE];
            self.book
                .verify(team, bytes, page + i, *low, "in the file")?;
        }
        Ok(())
    }

    /// The next version of `n` of the actor's own pages; in pieces that end within words.
    fn write(&mut self, team: &Team, page: usize, n: usize, pieces: bool) -> Result<(), Stop> {
        for i in 0..n {
            let stamp = self.book.begin(page + i);
            fill(&mut self.buffer[i * PAGE..(i + 1) * PAGE], stamp);
        }
        let (pos, len) = (page as u64 * PAGE_SIZE, n * PAGE);
        let first = if pieces { 8 * seam(page) + 4 } else { len };
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
                Err(e) => self.book.refused("writing", page, e)?,
            }
        }
        if done < len && !self.book.errors_ok() {
            return Err(Stop::wrong(format!(
                "{done} of {len} bytes were written at page {page:#x}"
            )));
        }
        self.book.done(page..page + done / PAGE);
        team.written
            .fetch_add((done / PAGE) as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&mut self, page: usize, n: usize) -> Result<(), Stop> {
        let Some(before) = self.book.before_sync(page..page + n) else {
            return Ok(());
        };
        match self
            .file
            .sync_range(page as u64 * PAGE_SIZE, n as u64 * PAGE_SIZE)
        {
            Ok(()) => {
                self.book.after_sync(&before);
                Ok(())
            }
            Err(e) => self.book.refused("syncing", page, e),
        }
    }

    fn look_at_disk(&mut self, team: &Team, page: usize) -> Result<(), Stop> {
        self.book.look_at_disk(team, page, &mut self.buffer)
    }
}
