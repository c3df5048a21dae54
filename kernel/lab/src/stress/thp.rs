//! `stress thp`: huge pages come, are split in every way there is, and go, under families of
//! address spaces.
//!
//! Half of the actors are heads of families as in `stress fork`; the others live one short life
//! after the other, each in a fresh address space. Their windows have several huge pages, which are
//! used wherever one fits meanwhile.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use mm::buddy::HUGE_ORDER;
use mm::stats::{Event, total};
use mm::thp::{self, Policy};

use super::fork::heads;
use super::team::{self, Actor, Stop, Team};
use super::window::{Mix, Op, Window};
use super::{BASE, Env, summary};
use crate::space::Space;

const MIX: Mix = &[
    (Op::Write, 40),
    (Op::Verify, 40),
    (Op::Map, 8),
    (Op::Unmap, 4),
    (Op::DontNeed, 4),
    (Op::Protect, 4),
    (Op::Free, 1),
    (Op::Move, 3),
    (Op::Migrate, 1),
    (Op::PageOut, 1),
];

/// Operations in one life.
const LIFE: usize = 400;

/// Huge pages wherever they fit, until this is dropped.
struct Everywhere(Policy);

impl Everywhere {
    fn begin() -> Self {
        let before = thp::policy();
        thp::set_policy(Policy::Always);
        Self(before)
    }
}

impl Drop for Everywhere {
    fn drop(&mut self) {
        thp::set_policy(self.0);
    }
}

/// Runs it.
///
/// # Errors
/// The first thing that was wrong, or that no huge page ever came, or was split.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let pages = env.pages.unwrap_or(3 << HUGE_ORDER);
    let events = || {
        [
            Event::ThpFaultAlloc,
            Event::ThpFaultFallback,
            Event::ThpSplitPage,
        ]
        .map(total)
    };
    let before = events();
    let team = Team::new();
    let _always = Everywhere::begin();
    let half = env.cpus.div_ceil(2);
    let mut bodies = heads(half, pages, MIX);
    for _ in 0..half {
        bodies.push(Box::new(move |actor| lives(actor, pages)));
    }
    let result = team::run(env, &team, bodies, false);
    let after = events();
    let [came, fell_back, split] = core::array::from_fn(|i| after[i] - before[i]);
    writeln!(
        env.out,
        "stress thp: {came} huge pages came, {fell_back} times there was no block, {split} were split"
    );
    summary(env, &team);
    result?;
    if came == 0 || split == 0 {
        return Err("no huge page has come, or none was split".into());
    }
    Ok(())
}

/// One address space after the other: mapped, used, compared and given up.
fn lives(actor: &mut Actor, pages: usize) -> Result<(), Stop> {
    let team = actor.team.clone();
    while !team.stopping() {
        let space = Space::new().map_err(|e| Stop::Wrong(format!("no address space: {e:?}")))?;
        // Marks of their own, above those of the families.
        let mut window = Window::new(u16::MAX - actor.index as u16, BASE, pages);
        let _adopted = space.enter();
        window.map(&space, &team, 0, pages)?;
        for _ in 0..LIFE {
            team.go_on()?;
            window.step(&space, &team, &mut actor.rng, MIX)?;
        }
        window.verify_all(&team)?;
    }
    Ok(())
}
