//! Random operations on mappings of one file, shared and private, in several address spaces,
//! against a model: what each load finds, what `read` finds, what a sync has put on the disk, and
//! what is counted. The file is an extent of the disk, or a list of them that is cut and grows, or
//! lies in memory and swap. Single threaded: the seed replays it.

mod place;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use fastrand::Rng;
use mm::file::{self, Opener};
use mm::inspect::frame;
use mm::stats::Use;
use mm::{Advice, MapFlags, MmError, MmRef, Prot, RemapFlags, Sync};

use super::super::file::{PAGE, with_disk};
use super::super::{Outcome, without_leak};
use crate::selftest::{Failure, TestCtx};
use place::Place;

/// Pages of the file at most, and how far mappings may reach beyond that.
const FILE: u32 = 48;
const BEYOND: u32 = 6;
/// Where the mappings are: over the end of a page table.
const WINDOW: u64 = 96;
const BASE: u64 = (0x4000_0000 >> 12) - WINDOW / 2;
const FAMILY: usize = 4;
const STEPS: usize = 4000;

pub(super) fn random_operations(t: &mut TestCtx<'_>) -> Outcome {
    random(t, Place::Extent)
}

pub(super) fn random_operations_and_sizes(t: &mut TestCtx<'_>) -> Outcome {
    random(t, Place::Listed)
}

pub(super) fn random_operations_in_memory(t: &mut TestCtx<'_>) -> Outcome {
    random(t, Place::Memory)
}

fn random(t: &TestCtx<'_>, place: Place) -> Outcome {
    with_disk(64, || {
        without_leak(|| {
            let live = (mm::vma::live(), mm::vma::anon::live());
            walk(t.seed, place).map_err(Failure::new)?;
            crate::check_eq!((mm::vma::live(), mm::vma::anon::live()), live);
            mm::check().map_err(Failure::new)
        })
    })
}

/// What a page of an address space is.
#[derive(Clone, Copy, Debug)]
struct Page {
    prot: Prot,
    /// The page of the file that it shows; none: it is anonymous.
    shows: Option<u32>,
    shared: bool,
    /// What it holds of its own, in place of the file's.
    own: Option<u64>,
}

struct Space {
    mm: MmRef,
    pages: BTreeMap<u64, Page>,
}

struct Walk {
    rng: Rng,
    place: Place,
    opener: Opener,
    spaces: Vec<Space>,
    /// What the file holds, in the word of each of its pages that is looked at.
    file: Vec<u64>,
    /// Contents are unique: the next one.
    next: u64,
}

/// What differed from the model.
type Wrong = String;

fn va(page: u64) -> VirtAddr {
    VirtAddr(page * PAGE_SIZE)
}

/// The word of a page that is stored to and loaded: its last.
fn word(page: u64) -> VirtAddr {
    VirtAddr((page + 1) * PAGE_SIZE - 8)
}

/// Where that word is in the file.
fn pos(index: u32) -> u64 {
    (u64::from(index) + 1) * PAGE_SIZE - 8
}

fn wrong(what: &str, found: impl core::fmt::Debug, expected: impl core::fmt::Debug) -> Wrong {
    format!("{what}: found {found:?}, expected {expected:?}")
}

fn same<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), Wrong> {
    if found == expected {
        Ok(())
    } else {
        Err(wrong(what, found, expected))
    }
}

fn walk(seed: u64, place: Place) -> Result<(), Wrong> {
    let mut walk = Walk {
        rng: Rng::with_seed(seed),
        place,
        opener: place.open().map_err(|e| format!("open: {e:?}"))?,
        spaces: Vec::new(),
        file: if place == Place::Extent {
            vec![0; FILE as usize]
        } else {
            Vec::new()
        },
        next: 1,
    };
    for index in 0..FILE {
        walk.write(index)?;
    }
    for step in 0..STEPS {
        walk.step().map_err(|e| format!("step {step}: {e}"))?;
    }
    (0..walk.spaces.len()).try_for_each(|i| walk.check(i))?;
    walk.sync_all()
}

impl Walk {
    fn step(&mut self) -> Result<(), Wrong> {
        if self.spaces.is_empty() {
            let mm = MmRef::new().map_err(|e| format!("a new address space: {e:?}"))?;
            let pages = BTreeMap::new();
            self.spaces.push(Space { mm, pages });
        }
        let i = self.rng.usize(..self.spaces.len());
        match self.rng.u32(..100) {
            0..34 => self.touch(i),
            34..46 => self.map(i),
            46..52 => self.unmap(i),
            52..60 => self.protect(i),
            60..67 => self.relocate(i),
            67..74 => self.advise(i),
            74..78 => self.fork(i),
            78..80 => {
                self.spaces.swap_remove(i);
                Ok(())
            }
            80..87 => self.read_or_write(),
            87..91 => self.msync(i),
            91..92 => self.sync_all(),
            92..94 => self.resize(),
            94..95 => self.punch(),
            95..98 => {
                file::drop_caches();
                Ok(())
            }
            _ => self.check(i),
        }
    }

    /// A part of the window, mostly short.
    fn range(&mut self) -> (u64, u64) {
        let n = if self.rng.bool() {
            self.rng.u64(1..5)
        } else {
            self.rng.u64(1..40)
        };
        (BASE + self.rng.u64(..WINDOW - n), n)
    }

    fn value(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn prot(&mut self) -> Prot {
        [Prot::NONE, Prot::READ, Prot::RW, Prot::RW][self.rng.usize(..4)]
    }

    fn touch(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range();
        let store = self.rng.bool();
        for page in first..first + n.min(6) {
            if store {
                self.store(i, page)?;
            } else {
                self.load(i, page)?;
            }
        }
        Ok(())
    }

    fn load(&mut self, i: usize, page: u64) -> Result<(), Wrong> {
        let space = &self.spaces[i];
        let _adopted = space.mm.adopt();
        let expected = match space.pages.get(&page) {
            None => Err(FaultError::Unmapped),
            Some(p) if p.prot == Prot::NONE => Err(FaultError::Protection),
            Some(p) => self.content(p),
        };
        let what = || format!("a load of page {page:#x} of space {i}");
        same(&what(), user::load(word(page)), expected)
    }

    /// What the page holds, if it is within the file.
    fn content(&self, page: &Page) -> Result<u64, FaultError> {
        match (page.own, page.shows) {
            (Some(own), _) => Ok(own),
            (None, Some(index)) => {
                let held = self.file.get(index as usize).copied();
                held.ok_or(FaultError::Bus)
            }
            (None, None) => Ok(0),
        }
    }

    fn store(&mut self, i: usize, page: u64) -> Result<(), Wrong> {
        let value = self.value();
        let space = &mut self.spaces[i];
        let _adopted = space.mm.adopt();
        let end = self.file.len() as u32;
        let beyond = |p: &Page| p.own.is_none() && p.shows.is_some_and(|at| at >= end);
        let expected = match space.pages.get_mut(&page) {
            None => Err(FaultError::Unmapped),
            Some(p) if !p.prot.has(Prot::WRITE) => Err(FaultError::Protection),
            Some(p) if beyond(p) => Err(FaultError::Bus),
            Some(p) => {
                match p.shows.filter(|_| p.shared) {
                    Some(index) => self.file[index as usize] = value,
                    None => p.own = Some(value),
                }
                Ok(())
            }
        };
        let what = format!("a store to page {page:#x} of space {i}");
        same(&what, user::store(word(page), value), expected)
    }

    fn map(&mut self, i: usize) -> Result<(), Wrong> {
        let ((first, n), prot) = (self.range(), self.prot());
        let index = self.rng.u32(..FILE + BEYOND);
        let (shared, anon) = (self.rng.bool(), self.rng.u32(..6) == 0);
        let space = &mut self.spaces[i];
        let (at, len) = (Some(va(first)), n * PAGE_SIZE);
        let got = if anon {
            space.mm.mmap(at, len, prot, MapFlags::FIXED)
        } else {
            let how = if shared {
                MapFlags::FIXED | MapFlags::SHARED
            } else {
                MapFlags::FIXED
            };
            space.mm.mmap_file(at, len, prot, how, &self.opener, index)
        };
        same("mmap", got, Ok(va(first)))?;
        space.pages.extend((0..n).map(|k| {
            let page = Page {
                prot,
                shows: (!anon).then_some(index + k as u32),
                shared: shared && !anon,
                own: None,
            };
            (first + k, page)
        }));
        Ok(())
    }

    fn unmap(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range();
        let space = &mut self.spaces[i];
        same("munmap", space.mm.munmap(va(first), n * PAGE_SIZE), Ok(()))?;
        space.pages.retain(|&p, _| !(first..first + n).contains(&p));
        Ok(())
    }

    fn protect(&mut self, i: usize) -> Result<(), Wrong> {
        let ((first, n), prot) = (self.range(), self.prot());
        let space = &mut self.spaces[i];
        let whole = space.pages.range(first..first + n).count() as u64 == n;
        let got = space.mm.mprotect(va(first), n * PAGE_SIZE, prot);
        // What lies in front of a hole is changed.
        let mapped = space.pages.range_mut(first..first + n);
        for ((_, page), _) in mapped.zip(first..).take_while(|((p, _), at)| **p == *at) {
            page.prot = prot;
        }
        let expected = if whole {
            Ok(())
        } else {
            Err(MmError::NotMapped)
        };
        same("mprotect", got, expected)
    }

    /// Moves pages to elsewhere in the window.
    fn relocate(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range();
        let to = BASE + self.rng.u64(..WINDOW - n);
        if to < first + n && first < to + n {
            return Ok(());
        }
        if self.rng.u32(..4) == 0 {
            return self.duplicate(i, first, n, to);
        }
        let space = &mut self.spaces[i];
        let moving: Vec<Page> = space
            .pages
            .range(first..first + n)
            .map(|(_, p)| *p)
            .collect();
        let len = n * PAGE_SIZE;
        match space
            .mm
            .mremap(va(first), len, len, RemapFlags::FIXED, Some(va(to)))
        {
            // One area must hold all of it; one page always lies in one.
            Err(MmError::Fault) if n > 1 || moving.is_empty() => return Ok(()),
            got => same("mremap", got, Ok(va(to)))?,
        }
        same("pages that mremap moved", moving.len() as u64, n)?;
        space.pages.retain(|&p, _| !(first..first + n).contains(&p));
        space.pages.extend((to..).zip(moving));
        Ok(())
    }

    /// Maps what a shared page and those behind it in the file show a second time.
    fn duplicate(&mut self, i: usize, first: u64, n: u64, to: u64) -> Result<(), Wrong> {
        let space = &mut self.spaces[i];
        let page = space.pages.get(&first).copied();
        let expected = match page {
            None => Err(MmError::Fault),
            Some(p) if !p.shared => Err(MmError::Invalid),
            Some(_) => Ok(va(to)),
        };
        let len = n * PAGE_SIZE;
        let got = space
            .mm
            .mremap(va(first), 0, len, RemapFlags::FIXED, Some(va(to)));
        same("mremap of nothing", got, expected)?;
        if let Some(page) = page.filter(|p| p.shared) {
            let shown = (0..n as u32).map(|k| Page {
                shows: page.shows.map(|at| at + k),
                ..page
            });
            space.pages.extend((to..).zip(shown));
        }
        Ok(())
    }

    fn advise(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range();
        let advice = [
            Advice::DontNeed,
            Advice::WillNeed,
            Advice::Cold,
            Advice::PageOut,
        ][self.rng.usize(..4)];
        let space = &mut self.spaces[i];
        let whole = space.pages.range(first..first + n).count() as u64 == n;
        let got = space.mm.madvise(va(first), n * PAGE_SIZE, advice);
        if advice == Advice::DontNeed {
            for (_, page) in space.pages.range_mut(first..first + n) {
                page.own = None;
            }
        }
        let expected = if whole {
            Ok(())
        } else {
            Err(MmError::NotMapped)
        };
        same("madvise", got, expected)
    }

    fn fork(&mut self, i: usize) -> Result<(), Wrong> {
        if self.spaces.len() < FAMILY {
            let parent = &self.spaces[i];
            let mm = parent.mm.fork().map_err(|e| format!("fork: {e:?}"))?;
            let pages = parent.pages.clone();
            self.spaces.push(Space { mm, pages });
        }
        Ok(())
    }

    /// Writes to a page; one beyond the end makes the file grow, where it can.
    fn write(&mut self, index: u32) -> Result<(), Wrong> {
        let value = self.value();
        if index as usize >= self.file.len() {
            self.file.resize(index as usize + 1, 0);
        }
        self.file[index as usize] = value;
        same(
            "write",
            self.opener.write(pos(index), &value.to_le_bytes()),
            Ok(8),
        )
    }

    fn read_or_write(&mut self) -> Result<(), Wrong> {
        let index = self.rng.u32(..FILE);
        if self.rng.bool() {
            return self.write(index);
        }
        let mut bytes = [0; 8];
        let read = self.opener.read(pos(index), &mut bytes);
        let Some(&expected) = self.file.get(index as usize) else {
            return same("read beyond the end", read, Ok(0));
        };
        same("read", read, Ok(8))?;
        let found = u64::from_le_bytes(bytes);
        same(&format!("page {index} as read"), found, expected)
    }

    fn msync(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range();
        let space = &self.spaces[i];
        let part = || space.pages.range(first..first + n);
        let got = space.mm.msync(va(first), n * PAGE_SIZE, Sync::Wait);
        let expected = if part().count() as u64 == n {
            Ok(())
        } else {
            Err(MmError::NotMapped)
        };
        same("msync", got, expected)?;
        let synced = part().filter(|(_, page)| page.shared);
        synced
            .filter_map(|(_, page)| page.shows)
            .try_for_each(|index| self.on_disk(index))
    }

    fn sync_all(&mut self) -> Result<(), Wrong> {
        same("sync", self.opener.sync(), Ok(()))?;
        (0..FILE).try_for_each(|index| self.on_disk(index))
    }

    /// Cuts the file, or makes it longer.
    fn resize(&mut self) -> Result<(), Wrong> {
        let pages = self.rng.u32(..=FILE);
        let got = self.opener.truncate(u64::from(pages) * PAGE_SIZE);
        if self.place == Place::Extent {
            return same("truncate of an extent", got, Err(MmError::Invalid));
        }
        self.file.resize(pages as usize, 0);
        // Private copies of what was cut off go as well.
        let all = self.spaces.iter_mut().flat_map(|s| s.pages.values_mut());
        all.filter(|page| page.shows.is_some_and(|index| index >= pages))
            .for_each(|page| page.own = None);
        same("truncate", got, Ok(()))
    }

    fn punch(&mut self) -> Result<(), Wrong> {
        let (first, n) = (self.rng.u32(..FILE), self.rng.u32(1..6));
        for held in self.file.iter_mut().skip(first as usize).take(n as usize) {
            *held = 0;
        }
        let got = self
            .opener
            .punch(u64::from(first) * PAGE_SIZE, u64::from(n) * PAGE_SIZE);
        same("punch", got, Ok(()))
    }

    /// The disk holds what the file holds in page `index`, if it has that.
    fn on_disk(&self, index: u32) -> Result<(), Wrong> {
        let held = self.file.get(index as usize);
        let Some((&expected, at)) = held.zip(self.place.on_disk(index)) else {
            return Ok(());
        };
        let mut page = Box::new([0; PAGE]);
        same("a read of the disk", file::read_raw(at, &mut page), Ok(()))?;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&page[PAGE - 8..]);
        let found = u64::from_le_bytes(bytes);
        same(&format!("page {index} on the disk"), found, expected)
    }

    /// Every page holds what it should; its entry maps what it may; and the counters say the same.
    fn check(&mut self, i: usize) -> Result<(), Wrong> {
        let pages: Vec<u64> = self.spaces[i].pages.keys().copied().collect();
        for &page in &pages {
            self.load(i, page)?;
        }
        let Space { mm, pages } = &self.spaces[i];
        let areas = mm.areas();
        areas.validate().map_err(String::from)?;
        let (mut anon, mut of_file) = (0, 0);
        for (&at, page) in pages {
            let entry = areas.with_entry(va(at), |entry| entry);
            let Some(entry) = entry.filter(|e| e.is_mapped() && !e.is_special()) else {
                continue;
            };
            if frame(entry.pfn()).usage() == Use::Anon {
                anon += 1;
                same("an anonymous page for the file's", page.own.is_some(), true)?;
            } else {
                of_file += 1;
                let writable = entry.is_write() || entry.is_dirty();
                same("a writable private entry", writable && !page.shared, false)?;
                let dirty = frame(entry.pfn()).has(mm::inspect::flag::DIRTY);
                same(
                    "a writable entry of a clean page",
                    writable && !dirty,
                    false,
                )?;
            }
        }
        let counted = (mm.anon_pages.raw(), mm.file_pages.raw());
        same("pages counted (anonymous, file)", counted, (anon, of_file))?;
        crate::oracle::take().map_or(Ok(()), Err)
    }
}
