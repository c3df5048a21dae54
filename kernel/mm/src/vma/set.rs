//! The areas of one address space, by address: what `mmap_lock` guards.
//!
//! A gap tree ([`algo::gap`]) over the records of the pool; the links lie in the records. Every
//! method that takes `&mut self` needs `mmap_lock` held exclusively, the others at least shared:
//! the lock hands the set out. Never sleeps, never allocates.

use super::{Vma, vma};
use algo::gap::{Direction, Summary, VmaNodes, VmaTree};
use algo::tree::{self, TreeLinks};
use arch::VirtAddr;
use arch::addr::{PAGE_SIZE, USER_MIN, USER_TOP};
use core::sync::atomic::Ordering::Relaxed;

/// Left free below an area that grows downwards, so that an overrun stack meets nothing (Linux:
/// `stack_guard_gap`, 256 pages).
pub const STACK_GUARD_GAP: u64 = 256 * PAGE_SIZE;
/// Most areas of one address space (Linux's usual `vm.max_map_count`): the records are nobody's
/// pages, so the OOM killer could not tell whose they are.
pub const MAX_AREAS: usize = 65_530;

/// Highest address that a request without a hint gets: room above for a stack that somebody places
/// at the top (Linux: `mmap_base`, at least 128 MiB below the top).
pub const MMAP_TOP: u64 = USER_TOP - (128 << 20);

/// How the tree sees the records.
struct Areas;

impl TreeLinks for Areas {
    links!(i, vma(i); left set_left left: u32, right set_right right: u32);
    links!(i, vma(i); parent set_parent parent: u32, rank set_rank rank: u8);
}

impl VmaNodes for Areas {
    #[inline]
    fn start(&self, i: u32) -> u64 {
        vma(i).start()
    }
    #[inline]
    fn end(&self, i: u32) -> u64 {
        vma(i).end()
    }
    #[inline]
    fn summary(&self, i: u32) -> Summary {
        let v = vma(i);
        Summary {
            start: v.span_start.load(Relaxed),
            end: v.span_end.load(Relaxed),
            gap: v.gap.load(Relaxed),
        }
    }
    #[inline]
    fn set_summary(&self, i: u32, to: Summary) {
        let v = vma(i);
        v.span_start.store(to.start, Relaxed);
        v.span_end.store(to.end, Relaxed);
        v.gap.store(to.gap, Relaxed);
    }
}

/// The areas, disjoint and in order.
#[derive(Debug, Default)]
pub struct VmaSet {
    tree: VmaTree,
    count: usize,
}

impl VmaSet {
    /// No areas.
    pub const fn new() -> Self {
        Self {
            tree: VmaTree::new(),
            count: 0,
        }
    }

    /// Number of areas.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first area that ends above `va`: it contains `va` or lies above it.
    #[inline]
    pub fn find(&self, va: VirtAddr) -> Option<&'static Vma> {
        self.find_id(va).map(vma)
    }

    /// As [`VmaSet::find`], its id.
    #[inline]
    pub fn find_id(&self, va: VirtAddr) -> Option<u32> {
        self.tree.find(&Areas, va.0)
    }

    /// The id of the area that contains `va`.
    #[inline]
    pub fn find_exact(&self, va: VirtAddr) -> Option<u32> {
        self.tree.containing(&Areas, va.0)
    }

    /// The last area that ends at or below `va`, and the first that ends above it.
    pub(crate) fn neighbours(&self, va: u64) -> (Option<u32>, Option<u32>) {
        self.tree.neighbours(&Areas, va)
    }

    /// The area with the lowest addresses.
    pub fn first(&self) -> Option<u32> {
        self.tree.first(&Areas)
    }

    /// The area after `id`.
    #[inline]
    pub fn next(&self, id: u32) -> Option<u32> {
        tree::next(&Areas, id)
    }

    /// The area before `id`.
    #[inline]
    pub fn prev(&self, id: u32) -> Option<u32> {
        tree::prev(&Areas, id)
    }

    /// The areas in order: id and record.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &'static Vma)> + '_ {
        self.tree.iter(&Areas).map(|id| (id, vma(id)))
    }

    /// The areas that meet `start..end`, in order.
    pub(crate) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = u32> + '_ {
        self.tree.overlapping(&Areas, start, end)
    }

    /// Puts an area in.
    ///
    /// # Panics
    /// If it meets an area that is there: the caller did not clear the range.
    pub(crate) fn insert(&mut self, id: u32) {
        let inserted = self.tree.insert(&Areas, id);
        assert!(inserted.is_ok(), "overlapping areas: {inserted:?}");
        self.count += 1;
    }

    /// Takes an area out.
    pub(crate) fn remove(&mut self, id: u32) {
        self.tree.remove(&Areas, id);
        self.count -= 1;
    }

    /// Takes the lowest area out.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let id = self.first()?;
        self.remove(id);
        Some(id)
    }

    /// The bounds of `id` were moved (not past a neighbour).
    pub(crate) fn moved(&mut self, id: u32) {
        self.tree.update(&Areas, id);
    }

    /// The highest free range of `len` bytes in `low..high` with nothing nearer than the stack
    /// guard gap below an area that grows downwards. Sizes and bounds are page aligned.
    pub(crate) fn find_gap(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut high = high;
        loop {
            let at = self
                .tree
                .find_gap(&Areas, len, low, high, Direction::TopDown)?;
            let limit = self.guarded_start(at + len);
            if limit >= at + len {
                return Some(at);
            }
            // The area above keeps its distance: end below its guard gap, or look further down.
            high = limit;
        }
    }

    /// The lowest address of the guard gap of the area that follows `end`; [`USER_TOP`] when none
    /// follows.
    fn guarded_start(&self, end: u64) -> u64 {
        self.find(VirtAddr(end)).map_or(USER_TOP, guarded)
    }

    /// Nothing lies in `start..end`, and the area above keeps its guard gap.
    pub(crate) fn is_free(&self, start: u64, end: u64) -> bool {
        self.find(VirtAddr(start))
            .is_none_or(|area| guarded(area) >= end)
    }

    /// Checks the tree and the count. O(n).
    ///
    /// # Errors
    /// What is wrong.
    pub fn validate(&self) -> Result<(), &'static str> {
        let n = self.tree.validate(&Areas).map_err(|c| c.what)?;
        if n as usize != self.count {
            return Err("vma set: wrong count");
        }
        if self
            .iter()
            .any(|(_, v)| v.start() < USER_MIN || v.end() > USER_TOP)
        {
            return Err("vma set: area outside the user half");
        }
        Ok(())
    }
}

/// Where the space kept free below an area begins: its start, or its guard gap's.
fn guarded(area: &Vma) -> u64 {
    if area.has(super::vm::GROWSDOWN) {
        area.start().saturating_sub(STACK_GUARD_GAP)
    } else {
        area.start()
    }
}

#[cfg(test)]
mod tests;
