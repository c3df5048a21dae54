//! Programs made up from a seed: what each actor does, to which of a few pages, and how those
//! begin.
//!
//! Nothing is known of such a program but that it may not break the memory manager: any operation
//! may be refused, and pages that one was asked to give up may be empty. All oracles watch; what is
//! stored elsewhere must stay.

use fastrand::Rng;

use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::{Advice, MmError, Prot, RemapFlags};

use super::play::{Play, one_space, page, whatever};
use crate::race::model::Fresh;
use crate::race::scenario::Disks;
use crate::race::stage::Stage;

/// Pages that the actors use.
const PAGES: u64 = 3;
/// Operations of an actor, at most.
const LENGTH: u32 = 4;
/// The first place for children, by actor, and the end of such places.
const CHILDREN: usize = 2;
const PLACES: usize = 4;

/// What the seed says of actor `who` (a number of its own for the beginning).
pub(super) fn dice(stage: &Stage, who: u64) -> Rng {
    Rng::with_seed(stage.seed().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ who)
}

/// See the module text.
pub(super) static RANDOM: Play = Play {
    name: "random",
    about: "A and B do what the seed says to three pages (see race fuzz)",
    spaces: &[Some(0), Some(1)],
    disks: |stage| Disks::of_seed(stage.seed()),
    setup,
    enter: |stage, me| {
        let mut dice = dice(stage, 10 + me as u64);
        for i in 0..PAGES {
            if dice.bool() {
                whatever(stage.load(page(i)));
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

/// As [`RANDOM`], with a third actor in the address space of the first, and pages that look unused:
/// reclaim comes to them as kswapd does.
pub(super) static RANDOM_FAMILY: Play = Play {
    name: "random-family",
    about: "A, B and C, of whom two share an address space, do what the seed says to three pages (see race fuzz)",
    spaces: &[Some(0), Some(1), Some(2)],
    disks: RANDOM.disks,
    setup: |stage| {
        setup(stage)?;
        stage.put(2, stage.space(0).clone());
        Ok(())
    },
    enter: |stage, me| {
        (RANDOM.enter)(stage, me);
        // The last one: translations stay, and to reclaim the pages look unused.
        if me == 2 {
            let frames = (0..PAGES).filter_map(|i| stage.frame_of(0, page(i)));
            frames.for_each(mm::reclaim::age);
        }
    },
    run: |stage, me| {
        let mut dice = dice(stage, 1 + me as u64);
        for n in 0..dice.u32(1..=LENGTH) {
            if dice.u32(0..4) == 0 {
                let at = page(dice.u64(0..PAGES));
                reclaim_if_unused(stage, me, at);
            } else {
                act(stage, me, &mut dice, 10 * (me as u64 + 1) + u64::from(n));
            }
        }
    },
    ..Play::NEW
};

/// One address space for both, or B in a child of A's.
fn setup(stage: &'static Stage) -> Result<(), MmError> {
    let mut dice = dice(stage, 0);
    one_space(stage, PAGES)?;
    for i in 0..PAGES {
        let out = match dice.u32(0..4) {
            0 => continue,
            n => n == 1,
        };
        stage.fill(0, page(i), 100 + i)?;
        if out {
            stage
                .space(0)
                .madvise(page(i), PAGE_SIZE, Advice::PageOut)?;
        }
    }
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
    match dice.u32(0..15) {
        0 | 1 => whatever(stage.load(va)),
        2..=4 => whatever(stage.store(va, value)),
        5 => {
            let op = || space.madvise(va, len, Advice::DontNeed);
            whatever(stage.giving_up(&space, va, pages, op));
        }
        6 => {
            let op = || space.madvise(va, len, Advice::Free);
            whatever(stage.freeing(&space, va, pages, op));
        }
        7 => whatever(space.madvise(va, len, Advice::PageOut)),
        8 => whatever(space.madvise(va, len, Advice::WillNeed)),
        9 => {
            let prot = if dice.bool() { Prot::READ } else { Prot::RW };
            whatever(space.mprotect(va, len, prot));
        }
        10 => {
            let op = || space.munmap(va, len);
            whatever(stage.remapping(&space, va, pages, Fresh::Nothing, op));
        }
        11 => {
            let op = || space.mmap(Some(va), len, Prot::RW, mm::MapFlags::FIXED);
            whatever(stage.remapping(&space, va, pages, Fresh::Memory, op));
        }
        12 => fork(stage, me),
        13 => reclaim(stage, me, va),
        _ => {
            let to = page(PAGES + at);
            let op = || space.mremap(va, len, len, RemapFlags::FIXED, Some(to));
            whatever(stage.moving(&space, (va, pages), (to, pages), op));
        }
    }
}

/// Leaves a child where there is room for one, and else ends it.
fn fork(stage: &'static Stage, me: usize) {
    let Some(child) = stage.forking(&stage.space(me)) else {
        return;
    };
    // Only now: another actor may fork at the same time.
    if let Some(place) = (CHILDREN + me..PLACES).find(|&i| stage.try_space(i).is_none()) {
        stage.put(place, child);
    }
}

/// As [`reclaim`], kswapd: it spares what is used, and believes a look without the lock.
fn reclaim_if_unused(stage: &'static Stage, me: usize, va: VirtAddr) {
    let pfn: Option<Pfn> = stage.glance(me, va);
    if let Some(pfn) = pfn {
        mm::reclaim::one_if_unused(pfn);
    }
}

/// Reclaim comes to whichever frame the page has now.
pub(super) fn reclaim(stage: &'static Stage, me: usize, va: VirtAddr) {
    let pfn: Option<Pfn> = stage.glance(me, va);
    if let Some(pfn) = pfn {
        mm::reclaim::one(pfn);
    }
}
