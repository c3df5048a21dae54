//! A window of pages and a model of what each must hold: the heart of `stress`.
//!
//! A [`Window`] belongs to one actor at a time, so the model is exact: after any operation every
//! page holds what the model says, or an access fails the way the model says. Other actors may use
//! other windows of the same address space. All methods want the address space adopted; they sleep.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use algo::pattern::Stamp;
use arch::upcall::FaultError;
use arch::{VirtAddr, user};
use fastrand::Rng;
use mm::MmError;

use super::page::{self, Content, Readable};
use super::team::{Stop, Team};
use crate::space::{Advice, Prot, Space, at, refused};

/// An operation of the random walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Write one page.
    Write,
    /// Compare one page.
    Verify,
    /// Map fresh pages over a range.
    Map,
    /// Unmap a range.
    Unmap,
    /// Change the protection of a range.
    Protect,
    /// MADV_DONTNEED.
    DontNeed,
    /// MADV_FREE.
    Free,
    /// MADV_COLD.
    Cold,
    /// MADV_PAGEOUT.
    PageOut,
    /// MADV_WILLNEED.
    WillNeed,
    /// mremap to another place in the window.
    Move,
    /// move_pages: other frames.
    Migrate,
}

/// Operations with their weights.
pub type Mix = &'static [(Op, u32)];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    None,
    ReadOnly,
    ReadWrite,
}

/// What the model knows of one page.
#[derive(Clone, Copy, Debug)]
struct State {
    /// `None`: not mapped.
    access: Option<Access>,
    content: Content,
    /// What last changed this page, for the failure's message.
    last: Op,
}

const UNMAPPED: State = State {
    access: None,
    content: Content::Zero,
    last: Op::Unmap,
};

/// A range of pages and what they must hold.
pub struct Window {
    owner: u16,
    base: VirtAddr,
    version: u16,
    pages: Vec<State>,
}

impl Window {
    /// A window of `pages` unmapped pages at `base`; `owner` marks what is written through it.
    pub fn new(owner: u16, base: VirtAddr, pages: usize) -> Self {
        Self {
            owner,
            base,
            version: 0,
            pages: alloc::vec![UNMAPPED; pages],
        }
    }

    /// Pages in the window.
    pub fn size(&self) -> usize {
        self.pages.len()
    }

    /// Becomes a copy of `parent` after a fork, under its own mark. Allocates nothing if the sizes
    /// agree.
    pub fn copy_of(&mut self, parent: &Self, owner: u16) {
        self.owner = owner;
        self.base = parent.base;
        self.version = parent.version;
        self.pages.clone_from(&parent.pages);
    }

    fn va(&self, page: usize) -> VirtAddr {
        at(self.base, page)
    }

    /// One random operation of `mix`.
    ///
    /// # Errors
    /// When anything is not as the model says.
    pub fn step(
        &mut self,
        space: &Space,
        team: &Team,
        rng: &mut Rng,
        mix: Mix,
    ) -> Result<(), Stop> {
        let op = pick(mix, rng);
        let first = rng.usize(..self.size());
        // Short ranges mostly, long ones now and then.
        let longest = 1usize << rng.u32(0..=self.size().ilog2().min(10));
        let count = rng.usize(1..=longest).min(self.size() - first);
        team.operations.fetch_add(1, Ordering::Relaxed);
        match op {
            Op::Write => self.write(team, first),
            Op::Verify => self.verify(team, first),
            Op::Map => self.map(space, team, first, count),
            Op::Unmap => self.unmap(space, first, count),
            Op::Protect => self.protect(space, team, first, count, rng),
            Op::Move => self.move_pages(space, team, first, count, rng),
            Op::Migrate => self.migrate(space, first, count),
            Op::DontNeed => self.advise(space, team, first, count, op, Advice::DontNeed),
            Op::Free => self.advise(space, team, first, count, op, Advice::Free),
            Op::Cold => self.advise(space, team, first, count, op, Advice::Cold),
            Op::PageOut => self.advise(space, team, first, count, op, Advice::PageOut),
            Op::WillNeed => self.advise(space, team, first, count, op, Advice::WillNeed),
        }
    }

    /// Writes a new version of `page` where that is allowed, or sees that it is not.
    ///
    /// # Errors
    /// When the store's result is not what the model says.
    pub fn write(&mut self, team: &Team, page: usize) -> Result<(), Stop> {
        let va = self.va(page);
        let state = self.pages[page];
        if state.access != Some(Access::ReadWrite) {
            let wanted = denied(state.access);
            return expect_fault(va, "a store", user::store(va, 0).err(), wanted);
        }
        self.version = self.version.wrapping_add(1);
        let stamp = Stamp {
            mm: self.owner,
            page: va.page_index(),
            version: self.version,
        };
        match page::write(team, va, stamp)? {
            Readable::Yes => self.note(page, Content::Stamped(stamp), Op::Write),
            Readable::No => return Err(lost(va)),
        }
        Ok(())
    }

    /// Compares `page` with the model, or sees that it cannot be read.
    ///
    /// # Errors
    /// When anything is not what the model says.
    pub fn verify(&self, team: &Team, page: usize) -> Result<(), Stop> {
        let va = self.va(page);
        let state = self.pages[page];
        if matches!(state.access, None | Some(Access::None)) {
            let wanted = denied(state.access);
            return expect_fault(va, "a load", user::load(va).err(), wanted);
        }
        match page::verify(team, va, state.content) {
            Ok(Readable::Yes) => Ok(()),
            Ok(Readable::No) => Err(lost(va)),
            Err(Stop::Wrong(m)) => Err(Stop::Wrong(format!(
                "{m}; space {}, last changed by {:?}",
                self.owner, state.last
            ))),
            Err(stop) => Err(stop),
        }
    }

    /// Compares every page with the model.
    ///
    /// # Errors
    /// At the first page that differs.
    pub fn verify_all(&self, team: &Team) -> Result<(), Stop> {
        (0..self.size()).try_for_each(|page| self.verify(team, page))
    }

    /// Maps fresh pages over the range.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than want of memory.
    pub fn map(
        &mut self,
        space: &Space,
        team: &Team,
        first: usize,
        count: usize,
    ) -> Result<(), Stop> {
        match space.map(self.va(first), count, Prot::RW) {
            Ok(()) => {
                self.fill(
                    first,
                    count,
                    Some(Access::ReadWrite),
                    Content::Zero,
                    Op::Map,
                );
                Ok(())
            }
            Err(e) => self.give_up(space, team, first, count, "mmap", e),
        }
    }

    fn unmap(&mut self, space: &Space, first: usize, count: usize) -> Result<(), Stop> {
        match space.unmap(self.va(first), count) {
            Ok(()) => self.fill(first, count, None, Content::Zero, Op::Unmap),
            // Splitting an area needs a record; without memory for it nothing has changed.
            Err(e) => refused("munmap", e)?,
        }
        Ok(())
    }

    fn protect(
        &mut self,
        space: &Space,
        team: &Team,
        first: usize,
        count: usize,
        rng: &mut Rng,
    ) -> Result<(), Stop> {
        let (access, prot) = match rng.u32(..4) {
            0 => (Access::None, Prot::NONE),
            1 => (Access::ReadOnly, Prot::READ),
            _ => (Access::ReadWrite, Prot::RW),
        };
        let count = self.mapped_run(first, count);
        if count == 0 {
            return self.expect_not_mapped(
                space.protect(self.va(first), 1, prot),
                "mprotect",
                first,
            );
        }
        match space.protect(self.va(first), count, prot) {
            Ok(()) => {
                for state in &mut self.pages[first..first + count] {
                    state.access = Some(access);
                    state.last = Op::Protect;
                }
                Ok(())
            }
            Err(e) => self.give_up(space, team, first, count, "mprotect", e),
        }
    }

    fn advise(
        &mut self,
        space: &Space,
        team: &Team,
        first: usize,
        count: usize,
        op: Op,
        advice: Advice,
    ) -> Result<(), Stop> {
        let count = self.mapped_run(first, count);
        if count == 0 {
            return self.expect_not_mapped(
                space.advise(self.va(first), 1, advice),
                "madvise",
                first,
            );
        }
        if let Err(e) = space.advise(self.va(first), count, advice) {
            return self.give_up(space, team, first, count, "madvise", e);
        }
        for state in &mut self.pages[first..first + count] {
            state.content = match (op, state.content) {
                (Op::DontNeed, _) => Content::Zero,
                (Op::Free, Content::Stamped(stamp)) => Content::MaybeFreed(stamp),
                (_, content) => content,
            };
            state.last = op;
        }
        Ok(())
    }

    /// Whatever is mapped there: nothing of it changes but the frames.
    fn migrate(&mut self, space: &Space, first: usize, count: usize) -> Result<(), Stop> {
        match space.migrate(self.va(first), count) {
            Ok(_) => Ok(()),
            Err(e) => refused("move_pages", e),
        }
    }

    fn move_pages(
        &mut self,
        space: &Space,
        team: &Team,
        first: usize,
        count: usize,
        rng: &mut Rng,
    ) -> Result<(), Stop> {
        let count = self.mapped_run(first, count);
        let to = rng.usize(..self.size());
        let overlaps = to < first + count && first < to + count;
        if count == 0 || to + count > self.size() || overlaps {
            return Ok(());
        }
        match space.move_to(self.va(first), count, self.va(to)) {
            Ok(()) => {
                self.pages.copy_within(first..first + count, to);
                self.pages[to..to + count]
                    .iter_mut()
                    .for_each(|s| s.last = Op::Move);
                self.fill(first, count, None, Content::Zero, Op::Move);
                Ok(())
            }
            // More than one area, which the model does not follow: the target is unmapped or as
            // before.
            Err(MmError::Fault) => self.unmap(space, to, count),
            Err(e) => {
                self.give_up(space, team, to, count, "mremap", e)?;
                self.give_up(space, team, first, count, "mremap", MmError::NoMemory)
            }
        }
    }

    /// After a refusal for want of memory part of the work may be done: starts over from nothing
    /// mapped.
    fn give_up(
        &mut self,
        space: &Space,
        team: &Team,
        first: usize,
        count: usize,
        what: &str,
        e: MmError,
    ) -> Result<(), Stop> {
        refused(what, e)?;
        team.refused.fetch_add(1, Ordering::Relaxed);
        while space.unmap(self.va(first), count).is_err() {
            team.go_on()?;
            arch::thread::sleep_ns(1_000_000);
        }
        self.fill(first, count, None, Content::Zero, Op::Unmap);
        Ok(())
    }

    fn expect_not_mapped(
        &self,
        result: Result<(), MmError>,
        what: &str,
        page: usize,
    ) -> Result<(), Stop> {
        match result {
            Err(MmError::NotMapped) => Ok(()),
            Err(e) => refused(what, e),
            Ok(()) => Err(Stop::Wrong(format!(
                "{what} of {:?} succeeded, though nothing is mapped there",
                self.va(page)
            ))),
        }
    }

    /// How many pages from `first` on, at most `count`, are mapped alike.
    fn mapped_run(&self, first: usize, count: usize) -> usize {
        let access = self.pages[first].access;
        if access.is_none() {
            return 0;
        }
        let run = self.pages[first..first + count].iter();
        run.take_while(|s| s.access == access).count()
    }

    fn fill(
        &mut self,
        first: usize,
        count: usize,
        access: Option<Access>,
        content: Content,
        last: Op,
    ) {
        self.pages[first..first + count].fill(State {
            access,
            content,
            last,
        });
    }

    fn note(&mut self, page: usize, content: Content, last: Op) {
        self.pages[page].content = content;
        self.pages[page].last = last;
    }
}

fn denied(access: Option<Access>) -> FaultError {
    match access {
        None => FaultError::Unmapped,
        Some(_) => FaultError::Protection,
    }
}

fn expect_fault(
    va: VirtAddr,
    what: &str,
    found: Option<FaultError>,
    wanted: FaultError,
) -> Result<(), Stop> {
    match found {
        Some(e) if e == wanted => Ok(()),
        Some(FaultError::Killed) => Err(Stop::Killed),
        Some(found) => Err(Stop::Wrong(format!(
            "{what} at {va:?}: expected {wanted:?}, found {found:?}"
        ))),
        None => Err(Stop::Wrong(format!(
            "{what} at {va:?}: expected {wanted:?}, and it succeeded"
        ))),
    }
}

fn lost(va: VirtAddr) -> Stop {
    Stop::Wrong(format!(
        "the page at {va:?} could not be read back from swap (SIGBUS)"
    ))
}

/// One of `mix`, by weight.
pub fn pick<T: Copy>(mix: &[(T, u32)], rng: &mut Rng) -> T {
    let total: u32 = mix.iter().map(|(_, weight)| weight).sum();
    let mut at = rng.u32(..total);
    for (op, weight) in mix {
        if at < *weight {
            return *op;
        }
        at -= weight;
    }
    unreachable!("the weights add up to more");
}
