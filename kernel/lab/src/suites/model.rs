//! Random walks against the exact model of `stress`, with a fixed number of steps: the seed replays
//! them.

use alloc::sync::Arc;

use fastrand::Rng;

use super::{BASE, Outcome, without_leak};
use crate::selftest::{Suite, TestCtx};
use crate::space::Space;
use crate::stress::team::Team;
use crate::stress::window::{Mix, Op, Window};
use crate::tests;

pub(super) static SUITE: Suite = Suite {
    name: "model",
    tests: tests![areas_and_contents, forks_and_contents],
};

const MIX: Mix = &[
    (Op::Write, 30),
    (Op::Verify, 30),
    (Op::Map, 6),
    (Op::Unmap, 5),
    (Op::Protect, 8),
    (Op::DontNeed, 4),
    (Op::Free, 3),
    (Op::Cold, 2),
    (Op::PageOut, 2),
    (Op::WillNeed, 2),
    (Op::Move, 8),
];

const PAGES: usize = 80;
const STEPS: usize = 3000;

fn walk(
    space: &Space,
    window: &mut Window,
    team: &Arc<Team>,
    rng: &mut Rng,
    steps: usize,
) -> Outcome {
    let _adopted = space.enter();
    for _ in 0..steps {
        window.step(space, team, rng, MIX)?;
    }
    Ok(window.verify_all(team)?)
}

fn areas_and_contents(t: &mut TestCtx<'_>) -> Outcome {
    let team = Team::new();
    let mut rng = Rng::with_seed(t.seed);
    without_leak(|| {
        let space = Space::new()?;
        walk(
            &space,
            &mut Window::new(1, BASE, PAGES),
            &team,
            &mut rng,
            STEPS,
        )?;
        let areas = space.mm().areas();
        areas.validate().map_err(crate::selftest::Failure::new)
    })
}

fn forks_and_contents(t: &mut TestCtx<'_>) -> Outcome {
    const MEMBERS: usize = 5;
    let team = Team::new();
    let mut rng = Rng::with_seed(t.seed);
    without_leak(|| {
        let mut family = alloc::vec![(Space::new()?, Window::new(1, BASE, PAGES))];
        for round in 0..60u16 {
            let chosen = rng.usize(..family.len());
            let (space, window) = &mut family[chosen];
            walk(space, window, &team, &mut rng, 40)?;
            if family.len() == MEMBERS {
                family.swap_remove(rng.usize(..MEMBERS));
            } else {
                let (space, window) = &family[chosen];
                let mut copy = Window::new(0, BASE, PAGES);
                copy.copy_of(window, round + 2);
                let child = (space.fork()?, copy);
                family.push(child);
            }
        }
        for (space, window) in &family {
            let _adopted = space.enter();
            window.verify_all(&team)?;
        }
        Ok(())
    })
}
