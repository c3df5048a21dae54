//! As `random`, with pages of a file: what A, B and C do to a mapping of it, to the file, and to
//! its size.
//!
//! A word is stored to through mappings, or it is written by one actor; so the order of its values
//! is known.

use fastrand::Rng;

use arch::PAGE_SIZE;
use mm::{Advice, MapFlags, MmError, MmRef, Prot};

use super::play::{HOME, Play, page, whatever};
use super::random::{RANDOM, dice, reclaim};
use crate::race::model::Fresh;
use crate::race::stage::Stage;

const PAGES: u64 = 3;
/// Operations of an actor, at most.
const LENGTH: u32 = 3;
/// Where in a page writes go, by actor; stores go to the beginning.
const WRITTEN: u64 = 64;

/// See the module text.
pub(super) static RANDOM_FILES: Play = Play {
    name: "random-files",
    about: "A, B and C do what the seed says to three pages of a file (see race fuzz)",
    spaces: &[Some(0), Some(1), Some(2)],
    disks: RANDOM.disks,
    setup,
    enter: |stage, me| {
        let mut dice = dice(stage, 10 + me as u64);
        for i in 0..PAGES {
            match dice.u32(0..3) {
                0 => whatever(stage.load(page(i))),
                1 => whatever(stage.store(page(i), 100 + 10 * me as u64 + i)),
                _ => {}
            }
        }
    },
    run: |stage, me| {
        let mut dice = dice(stage, 1 + me as u64);
        for n in 0..dice.u32(1..=LENGTH) {
            act(stage, me, &mut dice, 10 * (me as u64 + 1) + u64::from(n));
        }
    },
    ..Play::NEW
};

/// One address space for all, or B in a child of that of A and C.
fn setup(stage: &'static Stage) -> Result<(), MmError> {
    let mut dice = dice(stage, 0);
    stage.open_file(0, PAGES as u32)?;
    // What failed is told to each opening once.
    (0..3).try_for_each(|me| stage.open_again(0, me))?;
    let space = MmRef::new()?;
    stage.map_file(&space, HOME, PAGES, 0, 0, MapFlags::SHARED)?;
    stage.put(0, space.clone());
    stage.put(2, space);
    if dice.bool() {
        stage.put(1, stage.space(0).fork()?);
        stage.forked(0, 1);
    } else {
        stage.put(1, stage.space(0).clone());
    }
    Ok(())
}

/// The next operation of actor `me`; `value` is one that nobody else stores.
fn act(stage: &'static Stage, me: usize, dice: &mut Rng, value: u64) {
    let at = dice.u64(0..PAGES);
    let pages = dice.u64(1..=PAGES - at);
    let (va, len) = (page(at), pages * PAGE_SIZE);
    let space = stage.space(me);
    match dice.u32(0..16) {
        0 => whatever(stage.load(va)),
        1..=4 => whatever(stage.store(va, value)),
        5 => {
            let own = at * PAGE_SIZE + WRITTEN + 8 * me as u64;
            whatever(stage.write_file(0, own, value));
        }
        6 | 7 => whatever(stage.sync_file(0)),
        8 => {
            let op = || space.madvise(va, len, Advice::DontNeed);
            whatever(stage.giving_up(&space, va, pages, op));
        }
        9 => whatever(space.madvise(va, len, Advice::PageOut)),
        10 => {
            let prot = if dice.bool() { Prot::READ } else { Prot::RW };
            whatever(space.mprotect(va, len, prot));
        }
        11 => {
            let op = || space.munmap(va, len);
            whatever(stage.remapping(&space, va, pages, Fresh::Nothing, op));
        }
        12 => whatever(stage.map_file(&space, va, pages, 0, at as u32, MapFlags::SHARED)),
        13 => reclaim(stage, me, va),
        14 => whatever(stage.truncate_file(0, dice.u64(0..=PAGES) * PAGE_SIZE)),
        _ => whatever(stage.punch_file(0, at * PAGE_SIZE, len)),
    }
}
