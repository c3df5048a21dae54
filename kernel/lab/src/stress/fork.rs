//! `stress fork`: families of address spaces that copy on write, handed from CPU to CPU.
//!
//! An actor forks a member of its family, writes and compares in either, lets members exit, and now
//! and then swaps one with another actor: then parent and child, which share frames, live on
//! different CPUs.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, Ordering};

use super::team::{self, Actor, Body, Stop, Team};
use super::window::{Mix, Op, Window};
use super::{BASE, Env, summary};
use crate::space::{Space, refused};

const MIX: Mix = &[
    (Op::Write, 45),
    (Op::Verify, 45),
    (Op::DontNeed, 3),
    (Op::Map, 2),
    (Op::Protect, 3),
    (Op::Move, 2),
];

/// Steps in one member before the actor goes on to another.
const BURST: usize = 24;
/// Members of a family.
const FAMILY: usize = 4;

/// An address space and what its window must hold.
pub struct Member {
    space: Space,
    window: Window,
}

/// What the actors of a run share.
pub struct Market {
    /// Members on their way from one actor to another.
    shelf: sync::Mutex<Vec<Member>>,
    marks: AtomicU16,
}

impl Market {
    /// An empty market for `actors`.
    pub fn new(actors: usize) -> Arc<Self> {
        Arc::new(Self {
            shelf: sync::Mutex::new(sync::Rank::Command, Vec::with_capacity(actors + 1)),
            marks: AtomicU16::new(1),
        })
    }

    fn mark(&self) -> u16 {
        self.marks.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts `member` on the shelf if there is room; gives it back otherwise.
    fn give(&self, member: Member) -> Result<(), Member> {
        let mut shelf = self.shelf.lock();
        if shelf.len() == shelf.capacity() {
            return Err(member);
        }
        shelf.push(member);
        Ok(())
    }

    /// Takes some other actor's member, or one's own that nobody wanted.
    fn take(&self) -> Option<Member> {
        let mut shelf = self.shelf.lock();
        if shelf.is_empty() {
            None
        } else {
            Some(shelf.remove(0))
        }
    }
}

/// Runs it.
///
/// # Errors
/// The first thing that was wrong.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let team = Team::new();
    let result = families(env, &team, env.pages.unwrap_or(128), MIX);
    summary(env, &team);
    result
}

/// A run with one family per CPU, windows of `pages` pages and operations from `mix`.
///
/// # Errors
/// The first thing that was wrong.
pub fn families(env: &Env<'_>, team: &Arc<Team>, pages: usize, mix: Mix) -> Result<(), String> {
    team::run(env, team, heads(env.cpus.max(2), pages, mix), false)
}

/// The heads of such families, `actors` of them.
pub fn heads(actors: usize, pages: usize, mix: Mix) -> Vec<Body> {
    let market = Market::new(actors);
    let mut bodies: Vec<Body> = Vec::new();
    for _ in 0..actors {
        let market = market.clone();
        bodies.push(Box::new(move |actor| live(actor, &market, pages, mix)));
    }
    bodies
}

fn live(actor: &mut Actor, market: &Market, pages: usize, mix: Mix) -> Result<(), Stop> {
    let team = actor.team.clone();
    let mut family: Vec<Member> = Vec::with_capacity(FAMILY);
    // Models are taken from here, so that a fork under memory pressure needs no heap.
    let mut spare: Vec<Window> = (1..FAMILY).map(|_| Window::new(0, BASE, pages)).collect();
    family.push(founder(&team, market, pages)?);
    while !team.stopping() {
        let index = actor.rng.usize(..family.len());
        work(actor, &mut family[index], mix)?;
        match actor.rng.u32(..8) {
            0 | 1 if family.len() < FAMILY => {
                if let Some(window) = spare.pop() {
                    match fork(&family[index], window, market)? {
                        Ok(child) => family.push(child),
                        Err(window) => spare.push(window),
                    }
                }
            }
            2 if family.len() > 1 => spare.push(family.swap_remove(index).window),
            3 if family.len() > 1 => {
                if let Err(kept) = market.give(family.swap_remove(index)) {
                    family.push(kept);
                }
            }
            4 if family.len() < FAMILY => family.extend(market.take()),
            _ => {}
        }
    }
    for member in &family {
        let _adopted = member.space.enter();
        member.window.verify_all(&team)?;
    }
    Ok(())
}

fn founder(team: &Team, market: &Market, pages: usize) -> Result<Member, Stop> {
    let space = Space::new().map_err(|e| Stop::Wrong(alloc::format!("no address space: {e:?}")))?;
    let mut window = Window::new(market.mark(), BASE, pages);
    let adopted = space.enter();
    window.map(&space, team, 0, pages)?;
    // All of it at once: a working set is wanted that memory has to make room for.
    for page in 0..pages {
        team.go_on()?;
        window.write(team, page)?;
    }
    drop(adopted);
    Ok(Member { space, window })
}

fn work(actor: &mut Actor, member: &mut Member, mix: Mix) -> Result<(), Stop> {
    let _adopted = member.space.enter();
    for _ in 0..BURST {
        member
            .window
            .step(&member.space, &actor.team, &mut actor.rng, mix)?;
    }
    Ok(())
}

/// A child of `parent`; gives the model back when there is no memory for one.
fn fork(
    parent: &Member,
    mut window: Window,
    market: &Market,
) -> Result<Result<Member, Window>, Stop> {
    match parent.space.fork() {
        Ok(space) => {
            window.copy_of(&parent.window, market.mark());
            Ok(Ok(Member { space, window }))
        }
        Err(e) => refused("fork", e).map(|()| Err(window)),
    }
}
