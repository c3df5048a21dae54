//! As `random`, with all that there is: memory, a stack, and a file mapped shared and private, in
//! two address spaces and those that are forked on the way. A and B share the first; C, and in the
//! wide one D, go from one to another.
//!
//! The swap area goes and comes back on the way, and disks may fail.
//!
//! What the seed chooses first is which kinds of pages there are, so that actors meet. Ranges begin
//! on pages and need not end there; of a file they may begin anywhere.

use alloc::vec::Vec;

use fastrand::Rng;

use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::adopt::Adopted;
use mm::{Advice, MapFlags, MmError, MmRef, Prot, RemapFlags, Sync};

use super::play::{HOME, Play, page, whatever};
use super::random::dice;
use crate::race::disk::SWAP;
use crate::race::model::Fresh;
use crate::race::scenario::Disks;
use crate::race::stage::{SPACES, Stage};

/// Pages of a kind.
const PAGES: u64 = 3;
/// Operations of an actor, at most.
const LENGTH: u32 = 4;
/// Actors of the wide one.
const MOST_ACTORS: usize = 4;
/// Where those who go from one space to another begin.
const SECOND: usize = 1;
/// Places for children.
const CHILDREN: core::ops::Range<usize> = 2..SPACES;

/// See the module text.
pub(super) static RANDOM_ALL: Play = Play {
    name: "random-all",
    about: "A and B, in one address space, and C, which goes from one to another, do all that the seed says (see race fuzz)",
    spaces: &[Some(0), Some(0), None],
    disks: |stage| Disks::of_seed(stage.seed()),
    setup,
    enter,
    run: |stage, me| {
        let mut actor = Actor::new(stage, me);
        for n in 0..actor.dice.u32(1..=LENGTH) {
            actor.act(1000 * (me as u64 + 1) + u64::from(n));
            mm::explore::look_again();
        }
    },
    ..Play::NEW
};

/// As [`RANDOM_ALL`], with a fourth.
pub(super) static RANDOM_WIDE: Play = Play {
    name: "random-wide",
    about: "A and B, in one address space, and C and D, which go from one to another, do all that the seed says (see race fuzz)",
    spaces: &[Some(0), Some(0), None, None],
    ..RANDOM_ALL
};

/// A kind of pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Shared,
    Private,
    Stack,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Memory, Self::Shared, Self::Private, Self::Stack];

    /// Those that a seed has: one to three of them.
    fn of(stage: &Stage) -> Vec<Self> {
        let mut dice = dice(stage, 100);
        let mut kinds = Self::ALL.to_vec();
        dice.shuffle(&mut kinds);
        kinds.truncate(dice.usize(1..=3));
        kinds
    }

    /// Where its pages are at first.
    fn home(self) -> VirtAddr {
        match self {
            Self::Memory => HOME,
            Self::Shared => page(32),
            Self::Private => page(64),
            // Of three pages the last one: it grows down to the others.
            Self::Stack => page(1024),
        }
    }

    /// Where they may be moved to, each to its own.
    fn spare(self) -> VirtAddr {
        VirtAddr(self.home().0 + 16 * PAGE_SIZE)
    }
}

fn in_file(kinds: &[Kind]) -> bool {
    kinds.contains(&Kind::Shared) || kinds.contains(&Kind::Private)
}

/// Two address spaces: the second is a child of the first, or the same.
fn setup(stage: &'static Stage) -> Result<(), MmError> {
    let mut dice = dice(stage, 0);
    let kinds = Kind::of(stage);
    if in_file(&kinds) {
        open(stage, &mut dice)?;
    }
    let space = MmRef::new()?;
    stage.put(0, space.clone());
    for kind in &kinds {
        let at = kind.home();
        match kind {
            Kind::Memory => {
                space.mmap(Some(at), PAGES * PAGE_SIZE, Prot::RW, MapFlags::FIXED)?;
            }
            Kind::Shared => stage.map_file(&space, at, PAGES, 0, 0, MapFlags::SHARED)?,
            Kind::Private => stage.map_file(&space, at, PAGES, 0, 0, MapFlags::NONE)?,
            Kind::Stack => {
                let flags = MapFlags::FIXED | MapFlags::GROWSDOWN;
                let top = VirtAddr(at.0 + 2 * PAGE_SIZE);
                space.mmap(Some(top), PAGE_SIZE, Prot::RW, flags)?;
                // Wherever it is moved to, and whatever went below it.
                stage.grows(HOME, 2048);
            }
        }
        fill(stage, *kind, &mut dice)?;
    }
    if dice.u32(0..4) == 0 {
        stage.put(SECOND, space);
    } else {
        stage.put(SECOND, space.fork()?);
        stage.forked(0, SECOND);
    }
    Ok(())
}

/// A file, on the disk or in memory.
fn open(stage: &Stage, dice: &mut Rng) -> Result<(), MmError> {
    let in_memory = dice.bool();
    if in_memory {
        stage.open_shmem(0, PAGES as u32)?;
    } else {
        stage.open_file(0, PAGES as u32)?;
    }
    (0..MOST_ACTORS).try_for_each(|me| stage.open_again(0, me))?;
    for i in 0..PAGES {
        match (dice.u32(0..3), in_memory) {
            (0, _) => {}
            (1, false) => stage.on_disk(0, i * PAGE_SIZE, 200 + i),
            _ => stage.fill_file(0, i * PAGE_SIZE, 200 + i)?,
        }
    }
    Ok(())
}

/// Takes the swap area away, or brings it back.
fn swap_on_or_off() {
    if mm::swap::enabled() {
        whatever(mm::ops::swapoff::swapoff());
    } else {
        whatever(mm::swap::swapon(&SWAP));
    }
}

/// Some of the pages are in memory, or in swap.
fn fill(stage: &Stage, kind: Kind, dice: &mut Rng) -> Result<(), MmError> {
    for i in 0..PAGES {
        let va = VirtAddr(kind.home().0 + i * PAGE_SIZE);
        let out = match dice.u32(0..4) {
            0 => continue,
            n => n == 1,
        };
        if kind == Kind::Stack && i < 2 {
            continue;
        }
        stage.fill(0, va, 100 + 10 * kind as u64 + i)?;
        if out {
            stage.space(0).madvise(va, PAGE_SIZE, Advice::PageOut)?;
        }
    }
    Ok(())
}

/// Translations of some pages; the last who comes makes all look unused.
fn enter(stage: &'static Stage, me: usize) {
    let mut dice = dice(stage, 10 + me as u64);
    let _inside = (me >= 2).then(|| stage.space(SECOND).adopt());
    let at = if me >= 2 { SECOND } else { 0 };
    for kind in Kind::of(stage) {
        let pages = (0..PAGES).map(|i| VirtAddr(kind.home().0 + i * PAGE_SIZE));
        for va in pages.skip(if kind == Kind::Stack { 2 } else { 0 }) {
            match dice.u32(0..4) {
                0 => whatever(stage.load(va)),
                1 => whatever(stage.store(VirtAddr(va.0 + 64), 300 + 10 * me as u64)),
                _ => {}
            }
            if me == 2
                && let Some(pfn) = stage.frame_of(at, va)
            {
                mm::reclaim::age(pfn);
            }
        }
    }
}

/// One who does what the seed says.
struct Actor {
    stage: &'static Stage,
    me: usize,
    dice: Rng,
    kinds: Vec<Kind>,
    /// The place of its address space.
    place: usize,
    /// Of one who goes about.
    inside: Option<Adopted>,
}

impl Actor {
    fn new(stage: &'static Stage, me: usize) -> Self {
        let goes_about = me >= 2;
        let place = if goes_about { SECOND } else { 0 };
        Self {
            stage,
            me,
            dice: dice(stage, 1 + me as u64),
            kinds: Kind::of(stage),
            place,
            inside: goes_about.then(|| stage.space(place).adopt()),
        }
    }

    /// A page of a kind that there is: the first of some, and how many.
    fn pages(&mut self) -> (Kind, VirtAddr, u64) {
        let kind = self.kinds[self.dice.usize(0..self.kinds.len())];
        let base = match self.dice.u32(0..5) {
            0 => kind.spare(),
            _ => kind.home(),
        };
        let at = self.dice.u64(0..PAGES);
        let n = self.dice.u64(1..=PAGES - at);
        (kind, VirtAddr(base.0 + at * PAGE_SIZE), n)
    }

    /// One of a few words of the page, so that actors meet in some.
    fn word(&mut self, va: VirtAddr) -> VirtAddr {
        let at = match self.dice.u64(0..4) {
            3 => PAGE_SIZE - 8,
            n => 8 * n * self.me as u64,
        };
        VirtAddr(va.0 + at)
    }

    /// The next operation; `value` is one that nobody else stores.
    fn act(&mut self, value: u64) {
        let Some(space) = self.stage.try_space(self.place) else {
            return;
        };
        match self.dice.u32(0..45) {
            0..=4 => {
                let (_, va, _) = self.pages();
                let at = self.word(va);
                whatever(self.stage.load(at));
            }
            5..=11 => {
                let (_, va, _) = self.pages();
                let at = self.word(va);
                whatever(self.stage.store(at, value));
            }
            12..=19 => self.advise(&space),
            20..=24 => self.map(&space),
            25..=27 => self.remap(&space),
            28 | 29 => self.fork(&space),
            30..=33 => self.reclaim(),
            34 => {
                // Without a handle of the explorer's own, the last one to go is the actor's.
                drop(space);
                self.leave();
            }
            40 | 41 => swap_on_or_off(),
            42..=44 => self.migrate(&space),
            n if in_file(&self.kinds) => self.use_file(&space, n, value),
            _ => {
                let (_, va, _) = self.pages();
                whatever(self.stage.store(va, value));
            }
        }
    }

    fn advise(&mut self, space: &MmRef) {
        let (_, va, n) = self.pages();
        let len = self.some_bytes(n);
        let stage = self.stage;
        match self.dice.u32(0..6) {
            0 | 1 => {
                let op = || space.madvise(va, len, Advice::DontNeed);
                whatever(stage.giving_up(space, va, n, op));
            }
            2 => {
                let op = || space.madvise(va, len, Advice::Free);
                whatever(stage.freeing(space, va, n, op));
            }
            3 => whatever(space.madvise(va, len, Advice::Cold)),
            4 => whatever(space.madvise(va, len, Advice::WillNeed)),
            _ => whatever(space.madvise(va, len, Advice::PageOut)),
        }
    }

    /// `n` pages, of the last some bytes.
    fn some_bytes(&mut self, n: u64) -> u64 {
        n * PAGE_SIZE - self.dice.u64(0..PAGE_SIZE)
    }

    fn map(&mut self, space: &MmRef) {
        let (kind, va, n) = self.pages();
        let len = self.some_bytes(n);
        let stage = self.stage;
        match self.dice.u32(0..4) {
            0 => {
                let op = || space.munmap(va, len);
                whatever(stage.remapping(space, va, n, Fresh::Nothing, op));
            }
            1 if matches!(kind, Kind::Shared | Kind::Private) => {
                let shared = match kind {
                    Kind::Shared => MapFlags::SHARED,
                    _ => MapFlags::NONE,
                };
                let first = (va.page_index() - kind.home().page_index()) % 16;
                whatever(stage.map_file(space, va, n, 0, first, shared));
            }
            1 => {
                let op = || space.mmap(Some(va), len, Prot::RW, MapFlags::FIXED);
                whatever(stage.remapping(space, va, n, Fresh::Memory, op));
            }
            _ => {
                let prot = match self.dice.u32(0..5) {
                    0 => Prot::NONE,
                    1 | 2 => Prot::READ,
                    _ => Prot::RW,
                };
                whatever(space.mprotect(va, len, prot));
            }
        }
    }

    fn remap(&mut self, space: &MmRef) {
        let (kind, va, n) = self.pages();
        let stage = self.stage;
        let (base, to) = match va.0 >= kind.spare().0 {
            true => (kind.spare(), kind.home()),
            false => (kind.home(), kind.spare()),
        };
        let to = VirtAddr(to.0 + (va.0 - base.0));
        let len = |n: u64| n * PAGE_SIZE;
        let (new, flags, place) = match self.dice.u32(0..6) {
            0 => (n + 1, RemapFlags::NONE, va),
            1 if n > 1 => (n - 1, RemapFlags::NONE, va),
            _ => (n, RemapFlags::FIXED, to),
        };
        if kind == Kind::Shared && self.dice.u32(0..4) == 0 {
            let op = || space.mremap(va, 0, len(n), RemapFlags::FIXED, Some(to));
            return whatever(stage.moving(space, (va, 0), (to, n), op));
        }
        let op = || space.mremap(va, len(n), len(new), flags, Some(place));
        whatever(stage.moving(space, (va, n), (place, new), op));
    }

    /// Leaves a child where there is room for one, and else ends it; one who goes about may go on
    /// there.
    fn fork(&mut self, space: &MmRef) {
        let stage = self.stage;
        let Some(child) = stage.forking(space) else {
            return;
        };
        // Only now: another actor may fork at the same time.
        let Some(place) = CHILDREN.into_iter().find(|&i| stage.try_space(i).is_none()) else {
            return;
        };
        stage.put(place, child);
        if self.inside.is_some() && self.dice.bool() {
            self.go_to(place);
        }
    }

    fn go_to(&mut self, place: usize) {
        if let Some(space) = self.stage.try_space(place) {
            self.inside = None;
            self.inside = Some(space.adopt());
            self.place = place;
        }
    }

    /// One who goes about, and is in a child, ends that; others see theirs killed, now and then.
    fn leave(&mut self) {
        let stage = self.stage;
        if self.inside.is_none() {
            if self.dice.u32(0..4) == 0
                && let Some(space) = stage.try_space(self.place)
            {
                space.kill();
                mm::reclaim::reap(&space);
            }
            return;
        }
        let place = self.place;
        self.go_to(0);
        if CHILDREN.contains(&place) && self.place == 0 {
            drop(stage.take(place));
        }
    }

    fn reclaim(&mut self) {
        let (_, va, n) = self.pages();
        let stage = self.stage;
        let place = if self.dice.bool() { self.place } else { 0 };
        let frame = |i: u64| -> Option<Pfn> { stage.glance(place, VirtAddr(va.0 + i * PAGE_SIZE)) };
        match self.dice.u32(0..3) {
            0 => frame(0).into_iter().for_each(mm::reclaim::one),
            1 => frame(0).into_iter().for_each(mm::reclaim::one_if_unused),
            _ => {
                let frames: Vec<Pfn> = (0..n).filter_map(frame).collect();
                mm::reclaim::some_if_unused(&frames);
            }
        }
    }

    /// Moves pages to other frames: all of a range, or a single one.
    fn migrate(&mut self, space: &MmRef) {
        let (_, va, n) = self.pages();
        if self.dice.bool() {
            return whatever(space.move_pages(va, n * PAGE_SIZE));
        }
        if let Some(pfn) = self.stage.glance(self.place, va) {
            whatever(mm::migrate::one(pfn));
        }
    }

    fn use_file(&mut self, space: &MmRef, what: u32, value: u64) {
        let stage = self.stage;
        let at = self.dice.u64(0..PAGES) * PAGE_SIZE;
        let odd = match self.dice.u32(0..3) {
            0 => at,
            1 => at + self.dice.u64(0..16),
            _ => at + PAGE_SIZE - self.dice.u64(1..16),
        };
        match what {
            // All areas share an opening, which is told of a failure once: not each actor.
            35 if Disks::of_seed(stage.seed()).failures == 0 => {
                let (_, va, n) = self.pages();
                let how = if self.dice.bool() {
                    Sync::Wait
                } else {
                    Sync::Start
                };
                whatever(stage.msync(space, va, n, how));
            }
            35 | 36 => whatever(stage.sync_file(0)),
            37 => whatever(stage.write_file(0, odd.min(PAGES * PAGE_SIZE - 8), value)),
            38 => whatever(stage.read_file(0, odd)),
            _ if self.dice.bool() => {
                let whole = self.dice.bool();
                let size = if whole { at } else { odd };
                whatever(stage.truncate_file(0, size));
            }
            _ => {
                let len = match self.dice.u32(0..3) {
                    0 => PAGE_SIZE,
                    1 => self.dice.u64(1..16),
                    _ => self.dice.u64(1..3 * PAGE_SIZE),
                };
                whatever(stage.punch_file(0, odd, len));
            }
        }
    }
}
