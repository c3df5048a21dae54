//! `stress anon`: faults, zaps and VMA changes by many CPUs, two actors to an address space.
//!
//! Each actor has its own window; windows of one address space lie side by side, within one table,
//! so that the actors meet on page tables, VMAs and flushes.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::team::{self, Actor, Body, Stop, Team};
use super::window::{Mix, Op, Window};
use super::{BASE, Env, summary};
use crate::space::{Space, at};

const MIX: Mix = &[
    (Op::Write, 40),
    (Op::Verify, 40),
    (Op::Map, 6),
    (Op::Unmap, 4),
    (Op::Protect, 5),
    (Op::DontNeed, 4),
    (Op::Free, 1),
    (Op::Move, 3),
];

/// Steps between two looks at the stop flag.
const BURST: usize = 32;

/// Runs it.
///
/// # Errors
/// The first thing that was wrong.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let team = Team::new();
    let pages = env.pages.unwrap_or(96);
    let mut spaces = Vec::new();
    let mut bodies: Vec<Body> = Vec::new();
    for index in 0..env.cpus.max(2) {
        if index % 2 == 0 {
            spaces.push(Space::new().map_err(|e| alloc::format!("no address space: {e:?}"))?);
        }
        let space = spaces[index / 2].clone();
        let base = at(BASE, (index % 2) * pages);
        bodies.push(Box::new(move |actor| {
            walk(actor, &space, Window::new(index as u16 + 1, base, pages))
        }));
    }
    drop(spaces);
    let result = team::run(env, &team, bodies, false);
    summary(env, &team);
    result
}

fn walk(actor: &mut Actor, space: &Space, mut window: Window) -> Result<(), Stop> {
    let team = actor.team.clone();
    let _adopted = space.enter();
    window.map(space, &team, 0, window.size())?;
    while !team.stopping() {
        for _ in 0..BURST {
            window.step(space, &team, &mut actor.rng, MIX)?;
        }
    }
    window.verify_all(&team)
}
