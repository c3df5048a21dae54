//! `stress swap`: a working set larger than memory, every byte of it checked, again and again.
//!
//! Each actor has an address space of its own with an equal share of the working set. The size
//! comes from what is free: half of the free memory plus three quarters of the free swap; a balloon
//! first takes what would make memory larger than that. Without swap the set is a fifth larger than
//! free memory: the OOM killer must end one actor, and every other must find all its pages whole.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use algo::pattern::Stamp;
use arch::VirtAddr;

use super::memory::{Balloon, Traffic, free_pages, free_slots, mib, to_mib};
use super::page::{self, Content, Readable};
use super::team::{self, Actor, Body, Stop, Team};
use super::{BASE, Env, summary};
use crate::space::{Prot, Space, at};

/// Fewest actors: with three the OOM killer's choice leaves two thirds of the working set.
const FEWEST: usize = 4;
/// Most actors.
const MOST: usize = 8;
/// A page that the disk lost is not looked at again.
const LOST: u16 = u16::MAX;

/// Sizes of a run, in pages.
struct Sizes {
    free: u64,
    slots: u64,
    set: u64,
}

/// Runs it.
///
/// # Errors
/// The first thing that was wrong.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let actors = env.cpus.clamp(FEWEST, MOST);
    let left = env.mem.unwrap_or_else(|| {
        let slots = free_slots();
        if slots > 0 {
            (slots / 2).max(mib(24))
        } else {
            mib(96)
        }
    });
    let balloon = Balloon::leave(left);
    let sizes = choose(env, actors);
    writeln!(
        env.out,
        "stress swap: working set {} MiB in {actors} address spaces, {} MiB of memory free ({} MiB held back), {} MiB of swap",
        to_mib(sizes.set),
        to_mib(sizes.free),
        to_mib(balloon.pages),
        to_mib(sizes.slots)
    );
    let traffic = Traffic::start();
    let team = Team::new();
    let share = (sizes.set / actors as u64) as usize;
    // Now, while there is memory.
    let mut bodies: Vec<Body> = Vec::new();
    for _ in 0..actors {
        let versions = unwritten(share)?;
        bodies.push(Box::new(move |actor| work(actor, versions)));
    }
    let result = team::run(env, &team, bodies, false);
    drop(balloon);
    report(env, &team, &traffic, &sizes);
    result?;
    judge(env, &team, actors, &sizes)
}

/// The versions of an actor's pages before anything is written.
fn unwritten(pages: usize) -> Result<Vec<u16>, String> {
    let mut versions = Vec::new();
    versions
        .try_reserve_exact(pages)
        .map_err(|_| format!("no memory for the records of {pages} pages"))?;
    versions.resize(pages, 0);
    Ok(versions)
}

fn choose(env: &Env<'_>, actors: usize) -> Sizes {
    let (free, slots) = (free_pages(), free_slots());
    let automatic = if slots > 0 {
        free / 2 + slots * 3 / 4
    } else {
        // Too much by half of one actor's share: one must go, and without it there is room for the
        // rest.
        let usable = free - u64::from(mm::buddy::watermarks().0).min(free / 2);
        usable * 2 * actors as u64 / (2 * actors as u64 - 1)
    };
    let set = env.pages.map_or(automatic, |pages| pages as u64);
    let set = set.max(actors as u64);
    Sizes { free, slots, set }
}

fn report(env: &Env<'_>, team: &Team, traffic: &Traffic, sizes: &Sizes) {
    let (out, back, bios, rate) = traffic.report();
    writeln!(
        env.out,
        "stress swap: {} MiB working set: {out} pages out, {back} pages in, {bios} requests, {rate} bytes/s",
        to_mib(sizes.set)
    );
    summary(env, team);
}

fn judge(env: &Env<'_>, team: &Team, actors: usize, sizes: &Sizes) -> Result<(), String> {
    let killed = team.killed.load(Ordering::Relaxed);
    let unreadable = team.unreadable.load(Ordering::Relaxed);
    if killed > 0 {
        writeln!(
            env.out,
            "stress swap: the OOM killer ended {killed} of {actors} actors; all others verified"
        );
    }
    if killed > 0 && sizes.slots > 0 {
        return Err(format!(
            "{killed} actors were killed though there was swap left for the working set"
        ));
    }
    if killed > 1 {
        return Err(format!(
            "{killed} actors were killed; ending one would have been enough"
        ));
    }
    if unreadable > 0 && !env.bus_ok {
        return Err(format!(
            "{unreadable} accesses found a page that the disk could not give back (SIGBUS); --bus-ok accepts that"
        ));
    }
    Ok(())
}

/// An actor's part of the working set: the version of each page, 0 before the first write.
struct Share {
    team: Arc<Team>,
    owner: u16,
    versions: Vec<u16>,
}

fn work(actor: &mut Actor, versions: Vec<u16>) -> Result<(), Stop> {
    let pages = versions.len();
    let space = Space::new().map_err(|e| Stop::Wrong(format!("no address space: {e:?}")))?;
    let mut share = Share {
        team: actor.team.clone(),
        owner: actor.index as u16 + 1,
        versions,
    };
    space
        .map(BASE, pages, Prot::RW)
        .map_err(|e| Stop::Wrong(format!("mmap failed with {e:?}")))?;
    let _adopted = space.enter();
    // The whole set is written even if the time is short: less would not be the working set asked
    // for.
    for i in 0..pages {
        share.write(i, false)?;
    }
    while !share.team.stopping() {
        match actor.rng.u32(..4) {
            0 => share.sweep(actor)?,
            _ => share.wander(actor)?,
        }
    }
    for i in 0..pages {
        share.verify(i)?;
    }
    Ok(())
}

impl Share {
    fn va(i: usize) -> VirtAddr {
        at(BASE, i)
    }

    fn stamp(&self, i: usize) -> Stamp {
        Stamp {
            mm: self.owner,
            page: Self::va(i).page_index(),
            version: self.versions[i],
        }
    }

    /// Writes the next version; `known` says that the page was written before.
    fn write(&mut self, i: usize, known: bool) -> Result<(), Stop> {
        if known && self.versions[i] == LOST {
            return Ok(());
        }
        // Never 0, never LOST.
        self.versions[i] = self.versions[i] % (LOST - 1) + 1;
        if page::write(&self.team, Self::va(i), self.stamp(i))? == Readable::No {
            self.versions[i] = LOST;
        }
        Ok(())
    }

    fn verify(&mut self, i: usize) -> Result<(), Stop> {
        if self.versions[i] == LOST {
            return Ok(());
        }
        let content = Content::Stamped(self.stamp(i));
        if page::verify(&self.team, Self::va(i), content)? == Readable::No {
            self.versions[i] = LOST;
        }
        Ok(())
    }

    /// A run of neighbours, all compared.
    fn sweep(&mut self, actor: &mut Actor) -> Result<(), Stop> {
        let first = actor.rng.usize(..self.versions.len());
        let last = (first + 512).min(self.versions.len());
        for i in first..last {
            if self.team.stopping() {
                break;
            }
            self.verify(i)?;
        }
        Ok(())
    }

    /// Single pages here and there: every other one is rewritten after it was compared.
    fn wander(&mut self, actor: &mut Actor) -> Result<(), Stop> {
        for _ in 0..64 {
            if self.team.stopping() {
                break;
            }
            let i = actor.rng.usize(..self.versions.len());
            self.verify(i)?;
            if actor.rng.bool() {
                self.write(i, true)?;
            }
        }
        Ok(())
    }
}
