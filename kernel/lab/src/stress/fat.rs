//! `stress fat`: actors append to files on the mounted volume, cut them off, sync and remove, all
//! at once.
//!
//! With `--promises` each sync that has returned is printed, as `promised BYTES CHECKSUM PATH`:
//! until the promise after next the file has these bytes at its beginning, whatever happens to the
//! machine. (An actor cuts no file off before the end of its last two promises: the line of the
//! last one may be lost with the machine.) `quire-host crash --fat` holds images against that.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use fastrand::Rng;
use fs::{File, FsError, Volume};

use super::team::{self, Actor, Body, Stop, Team};
use super::versions::PROMISED;
use super::{Env, summary};
use crate::files::Sum;

/// Files of an actor.
const FILES: usize = 3;
/// Most bytes that are appended at once, and that a file has.
const APPEND: usize = 20_000;
const MOST: usize = 150_000;

/// Runs it.
///
/// # Errors
/// The first thing that was wrong.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let volume = fs::mounted().map_err(|e| format!("{e}: 'mkfs; mount' makes one"))?;
    let actors = env.cpus.clamp(2, 8);
    let promises = env.promises;
    let bodies = (0..actors).map(|_| {
        let volume = volume.clone();
        Box::new(move |actor: &mut Actor| work(&volume, actor, promises)) as Body
    });
    let team = Team::new();
    let result = team::run(env, &team, bodies.collect(), false);
    summary(env, &team);
    result?;
    // Whatever was said of errors was said to the actors.
    volume.sync().map_err(team::text)
}

fn wrong(path: &str, e: FsError) -> Stop {
    Stop::wrong(format!("{path}: {e}"))
}

/// A file and what it is to hold.
struct Content {
    path: String,
    file: File,
    bytes: Vec<u8>,
    /// Bytes that the last two promises were about.
    promised: [usize; 2],
}

fn work(volume: &Volume, actor: &mut Actor, promises: bool) -> Result<(), Stop> {
    let mut files = Vec::new();
    for i in 0..FILES {
        let path = format!("/actor {}, file {i}", actor.index);
        // Of an earlier run.
        match volume.remove(&path) {
            Ok(()) | Err(FsError::NotFound) => {}
            Err(e) => return Err(wrong(&path, e)),
        }
        files.push(Content {
            file: volume.create(&path).map_err(|e| wrong(&path, e))?,
            path,
            bytes: Vec::new(),
            promised: [0; 2],
        });
    }
    let team = actor.team.clone();
    loop {
        match step(volume, &team, actor, &mut files, promises) {
            Ok(()) => {}
            Err(Stop::Over) => return files.iter_mut().try_for_each(|one| one.verify(&team)),
            Err(other) => return Err(other),
        }
    }
}

fn step(
    volume: &Volume,
    team: &Team,
    actor: &mut Actor,
    files: &mut [Content],
    promises: bool,
) -> Result<(), Stop> {
    team.go_on()?;
    team.operations.fetch_add(1, Ordering::Relaxed);
    let rng = &mut actor.rng;
    let one = &mut files[rng.usize(..FILES)];
    match rng.u8(..16) {
        0..6 => one.append(rng),
        6..9 => one.cut(rng),
        9..13 => one.sync(rng, promises),
        13 => one.verify(team),
        _ => pass(volume, actor.index, rng),
    }
}

/// A file that is made and removed, so that others get its clusters.
fn pass(volume: &Volume, index: usize, rng: &mut Rng) -> Result<(), Stop> {
    let path = format!("/PASSING.{index}");
    let failed = |e| wrong(&path, e);
    let file = volume.create(&path).map_err(failed)?;
    file.write(0, &random(rng, 3 * APPEND)).map_err(failed)?;
    if rng.bool() {
        file.sync().map_err(failed)?;
    }
    drop(file);
    volume.remove(&path).map_err(failed)
}

fn random(rng: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.usize(1..most)];
    rng.fill(&mut bytes);
    bytes
}

impl Content {
    fn append(&mut self, rng: &mut Rng) -> Result<(), Stop> {
        if self.bytes.len() > MOST {
            return self.cut(rng);
        }
        let more = random(rng, APPEND);
        let wrote = self.file.write(self.bytes.len() as u64, &more);
        let n = wrote.map_err(|e| wrong(&self.path, e))?;
        if n < more.len() {
            return Err(Stop::wrong(format!("{}: a short write", self.path)));
        }
        self.bytes.extend_from_slice(&more);
        Ok(())
    }

    fn cut(&mut self, rng: &mut Rng) -> Result<(), Stop> {
        let least = self.promised[0].max(self.promised[1]);
        self.bytes.truncate(rng.usize(least..=self.bytes.len()));
        let size = self.bytes.len() as u64;
        self.file.truncate(size).map_err(|e| wrong(&self.path, e))
    }

    fn sync(&mut self, rng: &mut Rng, promises: bool) -> Result<(), Stop> {
        self.file.sync().map_err(|e| wrong(&self.path, e))?;
        let all = self.bytes.len();
        let bytes = if rng.bool() { all } else { rng.usize(..=all) };
        self.promised = [self.promised[1], bytes];
        if promises {
            let sum = Sum::of_all(&self.bytes[..bytes]);
            crate::startup::say(&format!("{PROMISED}{bytes} {sum} {}", self.path));
        }
        Ok(())
    }

    fn verify(&mut self, team: &Team) -> Result<(), Stop> {
        let mut found = vec![0; self.bytes.len() + 1];
        let n = self.file.read(0, &mut found);
        let n = n.map_err(|e| wrong(&self.path, e))?;
        if found[..n] != self.bytes {
            let at = found[..n].iter().zip(&self.bytes).position(|(a, b)| a != b);
            let lengths = (n, self.bytes.len());
            return Err(Stop::wrong(format!(
                "{}: {} bytes for {}, the first wrong one at {at:?}",
                self.path, lengths.0, lengths.1
            )));
        }
        let pages = n.div_ceil(arch::PAGE_SIZE as usize) as u64;
        team.verified.fetch_add(pages, Ordering::Relaxed);
        Ok(())
    }
}
