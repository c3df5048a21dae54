//! What the CPUs of the actors may remember of the page tables, and what came of the frames since.
//!
//! The verdict on a stale translation must not depend on what a real TLB happens to keep, so every
//! CPU has a shadow: user accesses fill it, `invlpg`, flushes and root changes empty it, nothing
//! else does. An entry holds the generation that its frame had; a frame's generation goes up when
//! it is freed. On the real machine each access is made through the real MMU too, as far as that
//! cannot change what follows.
//!
//! Locks: none; the engine's lock guards it. Never sleeps.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use algo::explore::{Access, AccessKind, Footprint};
use arch::addr::{PAGE_SHIFT, shift};
use arch::pte::{ACCESSED, DIRTY, Entry, USER};
use arch::{Pfn, VirtAddr};
use sync::point::{class, object, object_at};

/// A remembered translation.
#[derive(Clone, Copy, Debug)]
struct Translation {
    page: u64,
    pfn: Pfn,
    generation: u32,
    write: bool,
    dirty: bool,
    /// A part of a huge page.
    huge: bool,
}

/// A remembered PTE table.
#[derive(Clone, Copy, Debug)]
struct Table {
    region: u64,
    pfn: Pfn,
    generation: u32,
    write: bool,
}

impl Translation {
    /// What one PMD entry maps.
    fn region(&self) -> u64 {
        self.page >> (shift(1) - PAGE_SHIFT)
    }
}

/// What a PMD entry leads to.
enum Below {
    Table(Table),
    /// A huge page, and whether the entries above it allow writing.
    Huge(Entry, bool),
}

/// One CPU's.
#[derive(Default)]
struct Memory {
    pages: Vec<Translation>,
    tables: Vec<Table>,
}

impl Memory {
    fn clear(&mut self) {
        self.pages.clear();
        self.tables.clear();
    }
}

/// How a user access went.
pub(super) enum Outcome {
    /// The value loaded or stored, and the frame.
    Done { value: u64, pfn: Pfn },
    /// The MMU finds no (sufficient) translation.
    Fault,
}

/// See the module text.
pub(super) struct Shadow {
    cpus: Vec<Memory>,
    base: u32,
    generations: Vec<u32>,
    /// Accesses that the real MMU was asked for, and those in which it agreed.
    pub(super) asked: u64,
    pub(super) agreed: u64,
}

fn index_bits(va: VirtAddr, level: u32) -> usize {
    va.table_index(level)
}

impl Shadow {
    /// Of no CPU.
    pub(super) const NONE: Self = Self {
        cpus: Vec::new(),
        base: 0,
        generations: Vec::new(),
        asked: 0,
        agreed: 0,
    };

    /// For `cpus` CPUs and the frames from `base` on.
    pub(super) fn new(cpus: usize, base: Pfn, frames: usize) -> Self {
        Self {
            cpus: (0..cpus).map(|_| Memory::default()).collect(),
            base: base.0,
            generations: alloc::vec![0; frames],
            asked: 0,
            agreed: 0,
        }
    }

    /// The start of a run: nothing is remembered.
    pub(super) fn reset(&mut self) {
        self.cpus.iter_mut().for_each(Memory::clear);
    }

    fn generation(&self, pfn: Pfn) -> u32 {
        let i = pfn.0.wrapping_sub(self.base) as usize;
        self.generations.get(i).copied().unwrap_or(0)
    }

    pub(super) fn invlpg(&mut self, cpu: usize, va: u64) {
        // All of a huge page goes with any of it.
        self.cpus[cpu]
            .pages
            .retain(|t| t.page != va >> PAGE_SHIFT && !(t.huge && t.region() == va >> shift(1)));
        // The instruction drops every cached table.
        self.cpus[cpu].tables.clear();
    }

    pub(super) fn flush(&mut self, cpu: usize) {
        self.cpus[cpu].clear();
    }

    /// What the CPUs can write without looking at an entry again: CPU, address, frame.
    pub(super) fn writable(&self) -> impl Iterator<Item = (usize, u64, Pfn)> {
        let each = self.cpus.iter().enumerate();
        each.flat_map(|(cpu, m)| m.pages.iter().map(move |t| (cpu, t)))
            .filter(|(_, t)| t.write && t.dirty && self.generation(t.pfn) == t.generation)
            .map(|(cpu, t)| (cpu, t.page << PAGE_SHIFT, t.pfn))
    }

    /// The frame is about to be free: says who could still reach it. `runs` tells whether a CPU
    /// uses its translations (a lazy one does not, but it may walk tables ahead of any use).
    pub(super) fn freed(&mut self, pfn: Pfn, runs: impl Fn(usize) -> bool) -> Option<String> {
        let mut found = None;
        for (cpu, m) in self.cpus.iter().enumerate() {
            if let Some(t) = m.pages.iter().find(|t| t.pfn == pfn && runs(cpu)) {
                found.get_or_insert_with(|| {
                    let rights = if t.write { "write" } else { "read" };
                    let va = t.page << PAGE_SHIFT;
                    format!(
                        "{pfn:?} freed while {} can {rights} it at {va:#x}",
                        letter(cpu)
                    )
                });
            }
            if m.tables.iter().any(|t| t.pfn == pfn) {
                found.get_or_insert_with(|| {
                    format!("table {pfn:?} freed while {} can walk it", letter(cpu))
                });
            }
        }
        let i = pfn.0.wrapping_sub(self.base) as usize;
        if let Some(g) = self.generations.get_mut(i) {
            *g += 1;
        }
        found
    }

    /// Actor `cpu` loads the word at `va`, or stores `store` there, as its MMU does it. What is
    /// touched goes to `touched`; `wrong` gets the sentence if the frame is another than it was
    /// when the translation was made.
    pub(super) fn access(
        &mut self,
        cpu: usize,
        root: Pfn,
        va: VirtAddr,
        store: Option<u64>,
        touched: &mut Footprint,
        wrong: &mut Option<(&'static str, String)>,
    ) -> Outcome {
        let page = va.0 >> PAGE_SHIFT;
        let known = self.cpus[cpu].pages.iter().find(|t| t.page == page);
        let fits = |t: &&Translation| store.is_none() || t.write && t.dirty;
        let t = match known.filter(fits).copied() {
            Some(t) => t,
            None => match self.walk(cpu, root, va, store.is_some(), touched, wrong) {
                Some(t) => t,
                None => return Outcome::Fault,
            },
        };
        let stale = self.generation(t.pfn) != t.generation;
        if stale {
            let verb = if store.is_some() { "writes" } else { "reads" };
            let who = letter(cpu);
            wrong.get_or_insert_with(|| {
                let text = format!("{who} {verb} {:?}, freed, at {:#x}", t.pfn, va.0);
                ("stale-use", text)
            });
        }
        let content = object(class::CONTENT, u64::from(t.pfn.0));
        let kind = if store.is_some() {
            AccessKind::Write
        } else {
            AccessKind::Read
        };
        touched.add(Access::new(kind, content));
        let word = &mm::explore::words(t.pfn)[(va.0 & 0xfff) as usize / 8];
        let before = word.load(Relaxed);
        let value = store.unwrap_or(before);
        if store.is_some() {
            word.store(value, Relaxed);
        }
        self.confirm(root, va, t, store, value);
        if stale && store.is_some() {
            // The run has its verdict; the frame's new owner, in this run or the next, shall not
            // suffer.
            word.store(before, Relaxed);
        }
        Outcome::Done { value, pfn: t.pfn }
    }

    /// Walks the tables as the hardware does: sets A, and D for a write, and remembers what it
    /// found.
    fn walk(
        &mut self,
        cpu: usize,
        root: Pfn,
        va: VirtAddr,
        write: bool,
        touched: &mut Footprint,
        wrong: &mut Option<(&'static str, String)>,
    ) -> Option<Translation> {
        let region = va.0 >> shift(1);
        let known = self.cpus[cpu].tables.iter().find(|t| t.region == region);
        let table = match known.copied() {
            Some(t) => t,
            None => match self.walk_upper(cpu, root, va, write, touched)? {
                Below::Table(t) => t,
                Below::Huge(entry, writable) => {
                    let piece = entry.piece(va.table_index(0) as u32);
                    return Some(self.remember(cpu, va, piece, (writable, true), wrong));
                }
            },
        };
        if self.generation(table.pfn) != table.generation {
            let who = letter(cpu);
            wrong.get_or_insert_with(|| {
                let text = format!(
                    "{who}'s MMU walks table {:?}, freed, for {:#x}",
                    table.pfn, va.0
                );
                ("stale-walk", text)
            });
        }
        let entry = use_cell(table.pfn, index_bits(va, 0), write, table.write, touched)?;
        Some(self.remember(cpu, va, entry, (table.write, false), wrong))
    }

    /// The CPU's TLB takes what `entry` says of the page of `va`, below entries that allow writing
    /// or not; of a huge page it is the part.
    fn remember(
        &mut self,
        cpu: usize,
        va: VirtAddr,
        entry: Entry,
        (write, huge): (bool, bool),
        wrong: &mut Option<(&'static str, String)>,
    ) -> Translation {
        let t = Translation {
            page: va.0 >> PAGE_SHIFT,
            pfn: entry.pfn(),
            generation: self.generation(entry.pfn()),
            write: write && entry.is_write(),
            dirty: entry.is_dirty(),
            huge,
        };
        let pages = &mut self.cpus[cpu].pages;
        pages.retain(|old| old.page != t.page || old.huge != t.huge);
        let of_other_size = |old: &&Translation| old.huge != huge && old.region() == t.region();
        if let Some(old) = pages.iter().find(of_other_size) {
            let (who, at) = (letter(cpu), old.page << PAGE_SHIFT);
            wrong.get_or_insert_with(|| {
                let text = format!(
                    "{who} has translations of a huge page and of a page of it, at {at:#x} and {:#x}",
                    va.0
                );
                ("two-sizes", text)
            });
        }
        pages.push(t);
        t
    }

    fn walk_upper(
        &mut self,
        cpu: usize,
        root: Pfn,
        va: VirtAddr,
        store: bool,
        touched: &mut Footprint,
    ) -> Option<Below> {
        let (mut at, mut write) = (root, true);
        for level in [3, 2, 1] {
            let stores = store && level == 1 && peek_huge(at, index_bits(va, level));
            let entry = use_cell(at, index_bits(va, level), stores, write, touched)?;
            if entry.is_huge() {
                return Some(Below::Huge(entry, write));
            }
            write &= entry.is_write();
            at = entry.pfn();
        }
        let table = Table {
            region: va.0 >> shift(1),
            pfn: at,
            generation: self.generation(at),
            write,
        };
        self.cpus[cpu].tables.push(table);
        Some(Below::Table(table))
    }

    /// Lets the real MMU make the access as well, where it can only do the same or nothing: the
    /// tables lead to this frame and need no further bit, or to none at all (a real TLB may then
    /// still know the way).
    #[cfg(target_os = "none")]
    fn confirm(&mut self, root: Pfn, va: VirtAddr, t: Translation, store: Option<u64>, value: u64) {
        let now = peek(root, va);
        let needs = ACCESSED | if store.is_some() { DIRTY } else { 0 };
        let same = now.is_present() && now.pfn() == t.pfn && now.0 & needs == needs;
        if !same && now.is_present() {
            return;
        }
        self.asked += 1;
        let agrees = match store {
            Some(value) => arch::user::store_nofault(va, value),
            None => arch::user::load_nofault(va) == Some(value),
        };
        self.agreed += u64::from(agrees);
    }

    /// The simulator's MMU is not asked: it has the same rules as the shadow.
    #[cfg(not(target_os = "none"))]
    fn confirm(&mut self, _: Pfn, _: VirtAddr, _: Translation, _: Option<u64>, _: u64) {}
}

/// The PTE of `va`, without setting a bit.
#[cfg(target_os = "none")]
fn peek(root: Pfn, va: VirtAddr) -> Entry {
    let mut at = root;
    for level in [3, 2, 1] {
        let entry = Entry(mm::explore::words(at)[index_bits(va, level)].load(Acquire));
        if !entry.is_present() {
            return Entry::NONE;
        }
        if entry.is_huge() {
            return entry.piece(va.table_index(0) as u32);
        }
        at = entry.pfn();
    }
    Entry(mm::explore::words(at)[index_bits(va, 0)].load(Acquire))
}

/// The entry maps a huge page.
fn peek_huge(table: Pfn, index: usize) -> bool {
    Entry(mm::explore::words(table)[index].load(Acquire)).is_huge()
}

/// What the MMU does with one entry: `None` when it does not allow the access.
fn use_cell(
    table: Pfn,
    index: usize,
    write: bool,
    write_above: bool,
    touched: &mut Footprint,
) -> Option<Entry> {
    let cell = &mm::explore::words(table)[index];
    let name = object_at(class::CELL, cell);
    let seen = Entry(cell.load(Acquire));
    let denied = write && !(write_above && seen.is_write());
    if !seen.is_present() || seen.0 & USER == 0 || denied {
        touched.add(Access::new(AccessKind::Read, name));
        return None;
    }
    let new = seen.with(ACCESSED | if write { DIRTY } else { 0 });
    if new == seen {
        touched.add(Access::new(AccessKind::Read, name));
        return Some(seen);
    }
    touched.add(Access::new(AccessKind::Write, name));
    // Nobody else runs; the exchange is what the MMU does.
    cell.compare_exchange(seen.0, new.0, AcqRel, Acquire)
        .is_ok()
        .then_some(new)
}

pub(super) fn letter(cpu: usize) -> char {
    (b'A' + cpu as u8) as char
}
