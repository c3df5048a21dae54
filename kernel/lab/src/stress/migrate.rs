//! `stress migrate`: pages that move to other frames while families of address spaces use them.
//!
//! The families of `stress fork`, with some paging out; each actor moves pages of its own window as
//! well, and a mover goes round all address spaces and moves whatever is in their windows.

use alloc::boxed::Box;
use alloc::string::String;

use mm::MmRef;
use mm::stats::{Event, total};

use super::fork::heads;
use super::team::{self, Actor, Stop, Team};
use super::window::{Mix, Op};
use super::{BASE, Env, summary};
use crate::space::{bytes, refused};

const MIX: Mix = &[
    (Op::Write, 40),
    (Op::Verify, 40),
    (Op::Migrate, 8),
    (Op::DontNeed, 2),
    (Op::Map, 2),
    (Op::Protect, 3),
    (Op::Free, 1),
    (Op::Move, 2),
    (Op::PageOut, 2),
];

/// Runs it.
///
/// # Errors
/// The first thing that was wrong, or that no page ever moved.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let pages = env.pages.unwrap_or(128);
    let events = || (total(Event::PgMigrateSuccess), total(Event::PgMigrateFail));
    let before = events();
    let team = Team::new();
    let mut bodies = heads(env.cpus.max(2), pages, MIX);
    bodies.push(Box::new(move |actor| go_round(actor, pages)));
    let result = team::run(env, &team, bodies, false);
    let (moved, stayed) = events();
    let (moved, stayed) = (moved - before.0, stayed - before.1);
    writeln!(
        env.out,
        "stress migrate: {moved} pages moved, {stayed} stayed"
    );
    summary(env, &team);
    result?;
    if moved == 0 {
        return Err("no page has moved".into());
    }
    Ok(())
}

/// Moves what there is in each address space's window, one after the other.
fn go_round(actor: &mut Actor, pages: usize) -> Result<(), Stop> {
    let mut id = 0;
    while !actor.team.stopping() {
        if let Some(space) = MmRef::by_id_live(id)
            && let Err(e) = space.move_pages(BASE, bytes(pages))
        {
            // One that is killed is another's to notice.
            match refused("move_pages", e) {
                Ok(()) | Err(Stop::Killed) => {}
                wrong => return wrong,
            }
        }
        id = (id + 1) % mm::mm::id_limit().max(1);
        arch::thread::yield_now();
    }
    Ok(())
}
