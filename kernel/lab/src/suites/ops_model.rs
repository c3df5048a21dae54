//! Random operations on several address spaces against a map of pages: results, contents,
//! protections, statistics, and that nothing is left behind.
//!
//! The windows lie across table boundaries of every level and at both ends of the user half, so
//! that areas, tables and holes meet in every way. Single threaded: the seed replays it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use fastrand::Rng;
use mm::inspect::frame;
use mm::stats::{Use, use_pages};
use mm::view::Areas;
use mm::vma::Vma;
use mm::{Advice, MapFlags, MmError, MmRef, Prot, RemapFlags};

use crate::selftest::{Failure, Suite, TestCtx};
use crate::tests;

pub(super) static SUITE: Suite = Suite {
    name: "ops",
    tests: tests![random_operations],
};

fn random_operations(t: &mut TestCtx<'_>) -> Result<(), Failure> {
    walk(t.seed, 2000).map_err(Failure::new)
}

/// First page of each window; all are [`WINDOW`] pages long.
const WINDOWS: [u64; 4] = [
    0x10,
    (0x4000_0000 >> 12) - 24,
    (0x80_0000_0000 >> 12) - 40,
    (arch::USER_TOP >> 12) - WINDOW,
];
const WINDOW: u64 = 64;
const FAMILY: usize = 4;

/// What a page must hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Exactly(u64),
    /// After MADV_FREE: this, or zero.
    Perhaps(u64),
}

#[derive(Clone, Copy, Debug)]
struct Page {
    prot: Prot,
    content: Content,
}

type Pages = BTreeMap<u64, Page>;

/// An address space and what it should be.
struct Space {
    mm: MmRef,
    pages: Pages,
}

/// What differed from the model.
type Wrong = String;

macro_rules! ensure {
    ($cond:expr, $($arg:tt)+) => {
        if !$cond {
            return Err(format!($($arg)+));
        }
    };
}

fn va(page: u64) -> VirtAddr {
    VirtAddr(page * PAGE_SIZE)
}

/// The word of a page that is written and read: its last, so that whole pages must be copied and
/// moved.
fn word(page: u64) -> VirtAddr {
    VirtAddr(page * PAGE_SIZE + PAGE_SIZE - 8)
}

struct Walk {
    rng: Rng,
    spaces: Vec<Space>,
    /// Contents are unique: the next one.
    next: u64,
}

/// Takes `steps` random steps and checks everything on the way and at the end.
///
/// # Errors
/// What differed from the model, and at which step.
fn walk(seed: u64, steps: usize) -> Result<(), Wrong> {
    let before = left_behind();
    let mut walk = Walk {
        rng: Rng::with_seed(seed),
        spaces: Vec::new(),
        next: 1,
    };
    for step in 0..steps {
        walk.step().map_err(|e| format!("step {step}: {e}"))?;
    }
    for i in 0..walk.spaces.len() {
        walk.check(i)?;
    }
    drop(walk);
    let after = left_behind();
    ensure!(
        before == after,
        "left behind: before {before:?}, after {after:?}"
    );
    mm::check()
}

/// Everything that must be as it was before, once all address spaces are gone: areas, anon_vmas and
/// chains, anonymous pages, tables. Pages that were being read when their slot went stay in the
/// swap cache until reclaim settles.
fn left_behind() -> (usize, (usize, usize), u64, u64) {
    mm::reclaim::settle();
    (
        mm::vma::live(),
        mm::vma::anon::live(),
        use_pages(Use::Anon),
        use_pages(Use::Table),
    )
}

fn refuse<T: core::fmt::Debug>(what: &str, found: T, expected: &str) -> Result<(), Wrong> {
    Err(format!("{what}: found {found:?}, expected {expected}"))
}

impl Space {
    fn mapped(&self, first: u64, n: u64) -> u64 {
        self.pages.range(first..first + n).count() as u64
    }

    fn fill(&mut self, first: u64, n: u64, prot: Prot) {
        let fresh = Page {
            prot,
            content: Content::Exactly(0),
        };
        self.pages.extend((first..first + n).map(|p| (p, fresh)));
    }

    fn clear(&mut self, first: u64, n: u64) {
        for p in first..first + n {
            self.pages.remove(&p);
        }
    }

    fn read(&mut self, page: u64) -> Result<(), Wrong> {
        let found = user::load(word(page));
        match (self.pages.get_mut(&page), found) {
            (None, Err(FaultError::Unmapped)) => Ok(()),
            (Some(p), Err(FaultError::Protection)) if p.prot == Prot::NONE => Ok(()),
            (Some(p), Ok(v)) if p.prot != Prot::NONE => match p.content {
                Content::Exactly(c) if c == v => Ok(()),
                Content::Perhaps(c) if c == v || v == 0 => Ok(()),
                c => Err(format!("page {page:#x} holds {v:#x}, expected {c:?}")),
            },
            (p, found) => Err(format!(
                "load of page {page:#x} gave {found:?}; it is {p:?}"
            )),
        }
    }

    fn write(&mut self, page: u64, value: u64) -> Result<(), Wrong> {
        let found = user::store(word(page), value);
        match (self.pages.get_mut(&page), found) {
            (None, Err(FaultError::Unmapped)) => Ok(()),
            (Some(p), Err(FaultError::Protection)) if !p.prot.has(Prot::WRITE) => Ok(()),
            (Some(p), Ok(())) if p.prot.has(Prot::WRITE) => {
                p.content = Content::Exactly(value);
                Ok(())
            }
            (p, found) => Err(format!(
                "store to page {page:#x} gave {found:?}; it is {p:?}"
            )),
        }
    }
}

impl Walk {
    fn step(&mut self) -> Result<(), Wrong> {
        if self.spaces.is_empty() {
            let mm = MmRef::new().map_err(|e| format!("a new address space: {e:?}"))?;
            self.spaces.push(Space {
                mm,
                pages: Pages::new(),
            });
        }
        let i = self.rng.usize(..self.spaces.len());
        match self.rng.u32(..100) {
            0..30 => self.touch(i),
            30..42 => self.mmap(i),
            42..52 => self.munmap(i),
            52..66 => self.mprotect(i),
            66..80 => self.mremap(i),
            80..92 => self.madvise(i),
            92..95 => self.fork(i),
            95..96 => {
                self.spaces.swap_remove(i);
                Ok(())
            }
            _ => self.check(i),
        }
    }

    /// A random range: mostly short, mostly in a window.
    fn range(&mut self, i: usize) -> (u64, u64) {
        let n = match self.rng.u32(..10) {
            0..6 => self.rng.u64(1..8),
            6..9 => self.rng.u64(1..WINDOW),
            _ => self.rng.u64(1..700),
        };
        let mut window = WINDOWS[self.rng.usize(..WINDOWS.len())];
        if self.rng.u32(..8) == 0
            && let Some((&p, _)) = self.spaces[i].pages.iter().next_back()
        {
            window = p.saturating_sub(WINDOW / 2);
        }
        let first = (window + self.rng.u64(..WINDOW)).max(WINDOWS[0]);
        let last = arch::USER_TOP >> 12;
        (first.min(last - 1), n.min(last - first.min(last - 1)))
    }

    fn prot(&mut self) -> Prot {
        [Prot::NONE, Prot::READ, Prot::RW, Prot::RW][self.rng.usize(..4)]
    }

    fn touch(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range(i);
        let write = self.rng.bool();
        let space = &mut self.spaces[i];
        let _adopted = space.mm.adopt();
        for page in first..first + n.min(8) {
            if write {
                space.write(page, self.next)?;
                self.next += 1;
            } else {
                space.read(page)?;
            }
        }
        Ok(())
    }

    fn mmap(&mut self, i: usize) -> Result<(), Wrong> {
        let ((first, n), prot) = (self.range(i), self.prot());
        let space = &mut self.spaces[i];
        let (hint, flags) = match self.rng.u32(..10) {
            0..6 => (Some(va(first)), MapFlags::FIXED),
            6..8 => (Some(va(first)), MapFlags::FIXED_NOREPLACE),
            8 => (Some(va(first)), MapFlags::NONE),
            _ => (None, MapFlags::NONE),
        };
        let free = space.mapped(first, n) == 0;
        let got = space
            .mm
            .mmap(hint, n * PAGE_SIZE - self.rng.u64(..PAGE_SIZE), prot, flags);
        let start = match got {
            Err(MmError::Exists) if flags == MapFlags::FIXED_NOREPLACE && !free => return Ok(()),
            Ok(start) => start.page_index().into(),
            Err(e) => return refuse("mmap", e, "a place"),
        };
        ensure!(
            flags != MapFlags::FIXED_NOREPLACE || free,
            "mmap: FIXED_NOREPLACE mapped over something"
        );
        if flags == MapFlags::NONE {
            let wanted = hint.is_none() || !free || start == first;
            ensure!(
                wanted,
                "mmap: the hint's place is free, got page {start:#x}"
            );
            ensure!(
                space.mapped(start, n) == 0,
                "mmap: page {start:#x} is taken"
            );
        } else {
            ensure!(start == first, "mmap: FIXED gave page {start:#x}");
        }
        space.fill(start, n, prot);
        Ok(())
    }

    fn munmap(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range(i);
        let space = &mut self.spaces[i];
        if let Err(e) = space.mm.munmap(va(first), n * PAGE_SIZE) {
            return refuse("munmap", e, "success");
        }
        space.clear(first, n);
        Ok(())
    }

    fn mprotect(&mut self, i: usize) -> Result<(), Wrong> {
        let ((first, n), prot) = (self.range(i), self.prot());
        let space = &mut self.spaces[i];
        let whole = space.mapped(first, n) == n;
        let got = space.mm.mprotect(va(first), n * PAGE_SIZE, prot);
        // What lies in front of a hole is changed.
        for p in first..first + n {
            match space.pages.get_mut(&p) {
                Some(page) => page.prot = prot,
                None => break,
            }
        }
        match got {
            Ok(()) if whole => Ok(()),
            Err(MmError::NotMapped) if !whole => Ok(()),
            other => refuse(
                "mprotect",
                other,
                if whole { "success" } else { "NotMapped" },
            ),
        }
    }

    fn mremap(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range(i);
        let (to, new_n) = self.range(i);
        let new_n = if self.rng.bool() { n } else { new_n };
        // Often to a place of the same alignment, where whole tables can move.
        let to = if self.rng.bool() {
            to & !511 | first & 511
        } else {
            to
        };
        let to = to.max(WINDOWS[0]);
        let (flags, fixed) = match self.rng.u32(..4) {
            0 => (RemapFlags::NONE, None),
            1 => (RemapFlags::MAYMOVE, None),
            _ => (RemapFlags::FIXED, Some(va(to))),
        };
        let space = &mut self.spaces[i];
        if self.rng.u32(..16) == 0 {
            // Nothing here is shared: nothing can be duplicated.
            let mapped = space.pages.contains_key(&first);
            let got = space
                .mm
                .mremap(va(first), 0, new_n * PAGE_SIZE, flags, fixed);
            return match got {
                Err(MmError::Invalid) if mapped => Ok(()),
                Err(MmError::Fault) if !mapped => Ok(()),
                other => refuse("mremap of nothing", other, "Invalid or Fault"),
            };
        }
        let got = space
            .mm
            .mremap(va(first), n * PAGE_SIZE, new_n * PAGE_SIZE, flags, fixed);
        let beyond = fixed.is_some() && to + new_n > arch::USER_TOP >> 12;
        let meets = fixed.is_some() && to < first + n && first < to + new_n;
        if beyond || meets {
            return match got {
                Err(MmError::Invalid) => Ok(()),
                other => refuse("mremap", other, "Invalid"),
            };
        }
        let shrinks = fixed.is_none() && new_n <= n;
        let kept = n.min(new_n);
        let needed = if shrinks { 1 } else { kept };
        let prots: Vec<Prot> = space
            .pages
            .range(first..first + needed)
            .map(|(_, p)| p.prot)
            .collect();
        let holes = prots.len() as u64 != needed;
        let uniform = prots.windows(2).all(|w| w[0] == w[1]);
        match got {
            // Alike areas may be one or several (or have page indexes at the end of the line).
            Err(MmError::Fault) if holes || !uniform || !shrinks => Ok(()),
            Err(MmError::Invalid) if !holes && new_n > n => Ok(()),
            Err(MmError::NoRoom) if flags == RemapFlags::NONE && new_n > n && !holes => Ok(()),
            Ok(at) if !holes && uniform => {
                let at = u64::from(at.page_index());
                space.moved((first, n), (at, new_n), fixed.map(|_| to))
            }
            other => Err(format!(
                "mremap of {first:#x}+{n} to {to:#x}+{new_n}, {flags:?}: {other:?}; holes {holes}, uniform {uniform}"
            )),
        }
    }

    fn madvise(&mut self, i: usize) -> Result<(), Wrong> {
        let (first, n) = self.range(i);
        let advice = [
            Advice::DontNeed,
            Advice::Free,
            Advice::WillNeed,
            Advice::Cold,
            Advice::PageOut,
        ][self.rng.usize(..5)];
        let space = &mut self.spaces[i];
        let whole = space.mapped(first, n) == n;
        let got = space.mm.madvise(va(first), n * PAGE_SIZE, advice);
        for (_, page) in space.pages.range_mut(first..first + n) {
            page.content = match (advice, page.content) {
                (Advice::DontNeed, _) => Content::Exactly(0),
                (Advice::Free, Content::Exactly(c)) => Content::Perhaps(c),
                (_, c) => c,
            };
        }
        match got {
            Ok(()) if whole => Ok(()),
            Err(MmError::NotMapped) if !whole => Ok(()),
            other => refuse(
                "madvise",
                other,
                if whole { "success" } else { "NotMapped" },
            ),
        }
    }

    fn fork(&mut self, i: usize) -> Result<(), Wrong> {
        if self.spaces.len() == FAMILY {
            return Ok(());
        }
        let mm = self.spaces[i]
            .mm
            .fork()
            .map_err(|e| format!("fork: {e:?}"))?;
        let pages = self.spaces[i].pages.clone();
        self.spaces.push(Space { mm, pages });
        Ok(())
    }

    /// Every page holds what it should, and the books are right.
    fn check(&mut self, i: usize) -> Result<(), Wrong> {
        let space = &mut self.spaces[i];
        {
            let areas = space.mm.areas();
            areas.validate().map_err(String::from)?;
            for (_, area) in areas.iter() {
                check_indexes(&areas, area)?;
            }
        }
        let (counted, expected) = (space.mm.total_vm.get(), space.pages.len() as u64);
        ensure!(
            counted == expected,
            "total_vm: found {counted}, expected {expected}"
        );
        let _adopted = space.mm.adopt();
        let pages: Vec<u64> = space.pages.keys().copied().collect();
        for page in pages {
            space.read(page)?;
        }
        match crate::oracle::take() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }
}

/// Every folio that the area maps has the index by which reverse walks look for it there.
fn check_indexes(areas: &Areas<'_>, area: &Vma) -> Result<(), Wrong> {
    for page in (area.start()..area.end())
        .step_by(PAGE_SIZE as usize)
        .map(VirtAddr)
    {
        // Under the lock, so that reclaim cannot free the folio meanwhile.
        let index = areas.with_entry(page, |e| {
            (e.is_mapped() && !e.is_special()).then(|| frame(e.pfn()).index())
        });
        if let Some(found) = index.flatten() {
            let expected = area.index_of(page);
            ensure!(
                found == expected,
                "the folio at {page:?} has index {found:#x}, its area says {expected:#x}"
            );
        }
    }
    Ok(())
}

impl Space {
    /// What a successful mremap of `old` must have done.
    fn moved(&mut self, old: (u64, u64), new: (u64, u64), fixed: Option<u64>) -> Result<(), Wrong> {
        let ((first, n), (at, new_n)) = (old, new);
        ensure!(
            fixed.is_none_or(|to| to == at),
            "mremap: FIXED gave page {at:#x}"
        );
        if fixed.is_none() && new_n <= n {
            ensure!(at == first, "mremap: moved to page {at:#x} only to shrink");
            self.clear(first + new_n, n - new_n);
            return Ok(());
        }
        let kept = n.min(new_n);
        let prot = self.pages[&first].prot;
        let moving: Vec<Page> = (first..first + kept).map(|p| self.pages[&p]).collect();
        if at == first {
            ensure!(
                new_n <= n || self.mapped(first + n, new_n - n) == 0,
                "mremap: grew over something"
            );
        } else {
            ensure!(
                fixed.is_some() || self.mapped(at, new_n) == 0,
                "mremap: moved over something"
            );
            self.clear(at, new_n);
        }
        self.clear(first, n);
        self.fill(at, new_n, prot);
        self.pages.extend((at..).zip(moving));
        Ok(())
    }
}
