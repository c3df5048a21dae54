//! `stress mixed`: everything at once, with memory far smaller than the working set.
//!
//! The families of `stress fork` with every operation, paging out included. The windows together
//! are larger than the memory that the balloon leaves, if there is swap to make up for it.

use alloc::string::String;

use super::fork::families;
use super::memory::{Balloon, Traffic, free_pages, free_slots, mib, to_mib};
use super::team::Team;
use super::window::{Mix, Op};
use super::{Env, summary};

const MIX: Mix = &[
    (Op::Write, 45),
    (Op::Verify, 40),
    (Op::Map, 3),
    (Op::Unmap, 1),
    (Op::Protect, 4),
    (Op::DontNeed, 2),
    (Op::Free, 1),
    (Op::Move, 2),
    (Op::PageOut, 1),
    (Op::Cold, 1),
    (Op::WillNeed, 1),
    (Op::Migrate, 1),
];

/// Members of a family that may hold a whole window each.
const FAMILY: u64 = 4;

/// Runs it.
///
/// # Errors
/// The first thing that was wrong.
pub fn run(env: &Env<'_>) -> Result<(), String> {
    let actors = env.cpus.max(2) as u64;
    let slots = free_slots();
    let left = env
        .mem
        .unwrap_or_else(|| (slots / 8).clamp(mib(16), mib(64)));
    let balloon = Balloon::leave(left);
    let free = free_pages();
    // Every member's window, were none shared and all touched.
    let most = if slots > 0 {
        free / 2 + slots * 3 / 4
    } else {
        free / 2
    };
    let window = env
        .pages
        .unwrap_or((most / (actors * FAMILY)).clamp(16, 1 << 20) as usize);
    writeln!(
        env.out,
        "stress mixed: up to {} MiB in {actors} families, {} MiB of memory free ({} MiB held back), {} MiB of swap",
        to_mib(window as u64 * actors * FAMILY),
        to_mib(free),
        to_mib(balloon.pages),
        to_mib(slots)
    );
    let traffic = Traffic::start();
    let team = Team::new();
    let result = families(env, &team, window, MIX);
    drop(balloon);
    let (out, back, bios, rate) = traffic.report();
    writeln!(
        env.out,
        "stress mixed: {out} pages out, {back} pages in, {bios} requests, {rate} bytes/s"
    );
    summary(env, &team);
    result?;
    team.nobody_killed()
}
