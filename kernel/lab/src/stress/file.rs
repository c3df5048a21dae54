//! `stress file`: actors read, write and sync one file on the data disk, with a version in every
//! word.
//!
//! All actors share the file, each with an opener of its own. A page belongs to one actor, the only
//! one that writes it, whole or in pieces; anybody reads it ([`Book`]). Memory is left for a part
//! of the file only, and the clean part of the cache is dropped now and then. At the end everything
//! is synced and compared, through the cache and on the disk.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use mm::file;

use super::memory::{Balloon, FileTraffic, free_pages, mib, to_mib};
use super::team::{self, Actor, Body, Stop, Team};
use super::versions::{Book, CHUNK};
use super::worker::{MOST, Worker};
use super::{Env, summary};

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
        bodies.push(Box::new(move |actor| work(&mut one, actor)));
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

fn work(worker: &mut Worker, actor: &mut Actor) -> Result<(), Stop> {
    let team = actor.team.clone();
    let all = worker.book.size();
    let mine = worker.book.owned_by(actor.index);
    let mut run = || -> Result<(), Stop> {
        for chunk in mine.chunks(CHUNK) {
            worker.write(&team, chunk[0], chunk.len(), false)?;
        }
        loop {
            team.go_on()?;
            team.operations.fetch_add(1, Ordering::Relaxed);
            let page = actor.rng.usize(..all);
            let my = mine[actor.rng.usize(..mine.len())];
            let in_chunk = worker.book.rest_of_chunk(my);
            match actor.rng.u32(..1000) {
                0..400 => worker.read(&team, page, 1 + actor.rng.usize(..MOST))?,
                400..450 => read_on(worker, &team, page)?,
                450..750 => worker.write(&team, my, 1 + actor.rng.usize(..in_chunk), false)?,
                750..830 => worker.write(&team, my, 1, true)?,
                830..900 => worker.sync(my..my + in_chunk)?,
                900..910 => worker.sync(0..all)?,
                910..998 => worker.look_at_disk(&team, my)?,
                _ => drop(file::drop_caches()),
            }
        }
    };
    let result = run();
    // Nothing of it shall be missing on the disk.
    let synced = worker.sync(0..all);
    match result {
        Err(Stop::Over) | Ok(()) => synced,
        other => other,
    }
}

/// Sixty-four pages one after the other, as a program that reads a file.
fn read_on(worker: &mut Worker, team: &Team, page: usize) -> Result<(), Stop> {
    (page..page + 64).try_for_each(|p| worker.read(team, p, 1))
}
