//! The page cache of one file: page index → folio, with marks and counts; of a file in memory also
//! page index → swap slot.
//!
//! Locks: `Rank::FileTree`, one per file, with interrupts off: completed writes change marks.
//! Inside it no other lock is taken, nothing is allocated and nothing sleeps; nodes are reserved
//! before ([`Reserve`]) and go back after. The cache has one reference on each folio. A folio flag
//! with a mark (DIRTY, WRITEBACK) changes with it under this lock.

#![expect(unsafe_code, reason = "the reference of the cache")]

use super::{File, file};
use crate::arena::{Arena, NoObject, Slot};
use crate::buddy::Page;
use crate::folio::{self, Folio};
use crate::frame::flag;
use crate::lru;
use crate::stats::{Use, use_pages};
use crate::workingset;
use algo::radix::{Mark, Node, Nodes, Radix, Refused, Spare};
use arch::Pfn;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::point::AccessKind;
use sync::{IrqSpinLock, Rank};

mod census;
mod slots;
mod unwritten;

pub(crate) use census::census;
pub(crate) use slots::Held;
pub use unwritten::{Unwritten, unwritten};

impl Slot for Node {
    fn link(&self) -> &AtomicU32 {
        Node::link(self)
    }
}

static NODES: Arena<Node> = Arena::new();

/// The pool of nodes, for the explorer.
#[cfg(feature = "lab")]
pub(crate) fn nodes() -> &'static Arena<Node> {
    &NODES
}

struct Pool;

impl Nodes for Pool {
    #[inline]
    fn node(&self, id: u32) -> &Node {
        NODES.get(id)
    }
}

/// Folios in the cache of all files.
pub fn cached() -> u64 {
    use_pages(Use::File)
}
/// In the tree's value: it is a swap slot. (Frame numbers and slots are smaller.)
pub(crate) const SLOT: u32 = 1 << 31;

/// What the tree has for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// It is in memory.
    Folio(Folio),
    /// It is, or is about to be, on the swap disk.
    Slot(u32),
}

fn entry(value: u32) -> Entry {
    if value & SLOT == 0 {
        Entry::Folio(Folio::of(Pfn(value)))
    } else {
        Entry::Slot(value & !SLOT)
    }
}

/// What became of an insertion.
pub(crate) enum Inserted {
    /// The folio is the page.
    Fresh(folio::Ref),
    /// Another folio is.
    Other(folio::Ref),
    /// The page is on the swap disk.
    Slot,
    /// It lies beyond the end of the file.
    Beyond,
}

/// Where pages may be put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Within {
    /// Below the end of the file.
    Size,
    /// Anywhere: the caller holds the file's `resize` lock and is about to move the end.
    Limit,
}

/// Nodes in reserve for insertions; the rest goes back when it is dropped.
pub(crate) struct Reserve(Spare);

impl Reserve {
    pub(crate) const fn new() -> Self {
        Self(Spare::new())
    }

    /// Whether one insertion finds its nodes, of those that need no more memory. Never sleeps.
    pub(crate) fn is_ready(&mut self) -> bool {
        while !self.0.is_full() {
            let Some(id) = NODES.alloc_ready() else {
                return false;
            };
            if let Err(id) = self.0.push(id) {
                NODES.free(id);
            }
        }
        true
    }

    /// Makes sure that one insertion finds its nodes. May sleep for memory.
    ///
    /// # Errors
    /// [`NoObject`].
    pub(crate) fn fill(&mut self) -> Result<(), NoObject> {
        while !self.0.is_full() {
            let id = NODES.alloc()?;
            if let Err(id) = self.0.push(id) {
                NODES.free(id);
            }
        }
        Ok(())
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        while let Some(id) = self.0.pop() {
            NODES.free(id);
        }
    }
}

struct Inner {
    radix: Radix,
    dirty: u32,
    writeback: u32,
}

/// The cache of one file.
pub(crate) struct Cache(IrqSpinLock<Inner>);

impl Default for Cache {
    fn default() -> Self {
        Self(IrqSpinLock::new(Rank::FileTree, Inner::EMPTY))
    }
}

/// What was taken from the tree in one go: (index, folio), each with a reference.
pub(crate) const BATCH: usize = 32;
pub(crate) struct Found {
    folios: [Option<(u32, folio::Ref)>; BATCH],
    n: usize,
}

impl Found {
    pub(crate) fn into_iter(self) -> impl Iterator<Item = (u32, folio::Ref)> {
        self.folios.into_iter().take(self.n).flatten()
    }
    /// The index of the last one.
    pub(crate) fn last(&self) -> Option<u32> {
        let last = self.folios.get(self.n.checked_sub(1)?)?;
        last.as_ref().map(|(index, _)| *index)
    }
}

impl Inner {
    const EMPTY: Self = Self {
        radix: Radix::new(),
        dirty: 0,
        writeback: 0,
    };

    /// A reference on a folio in the tree.
    fn hold(&self, folio: Folio) -> folio::Ref {
        // In the tree, so the cache's reference exists.
        folio.get();
        // SAFETY: just counted.
        unsafe { folio::Ref::new(folio) }
    }

    /// Sets or clears DIRTY, flag and mark; how many more folios are dirty now, for the caller to
    /// account for.
    fn mark(&mut self, f: Folio, dirty: bool) -> i64 {
        if f.has(flag::SWAPBACKED) {
            // Reclaim's, not the flusher's: it is not counted.
            if dirty {
                f.set(flag::DIRTY);
            } else {
                f.clear(flag::DIRTY);
            }
            return 0;
        }
        if f.has(flag::DIRTY) == dirty {
            return 0;
        }
        if dirty {
            self.radix.set_mark(&Pool, f.index(), Mark::Dirty);
            f.set(flag::DIRTY);
            self.dirty += 1;
            1
        } else {
            f.clear(flag::DIRTY);
            self.radix.clear_mark(&Pool, f.index(), Mark::Dirty);
            self.radix.clear_mark(&Pool, f.index(), Mark::ToWrite);
            self.dirty -= 1;
            -1
        }
    }

    /// As [`Inner::mark`], accounted for: nothing else of the folio changes.
    fn set_dirty(&mut self, folio: Folio, dirty: bool) {
        let more = self.mark(folio, dirty);
        if more != 0 {
            unwritten::change(more, 0);
        }
    }
}

impl Cache {
    /// Folios and slots in it.
    pub(crate) fn len(&self) -> u64 {
        self.0.lock().radix.count()
    }

    /// The folio of page `index`, with a reference.
    pub(crate) fn find(&self, index: u32) -> Option<folio::Ref> {
        let inner = self.0.lock();
        match entry(inner.radix.get(&Pool, index)?) {
            Entry::Folio(folio) => Some(inner.hold(folio)),
            Entry::Slot(_) => None,
        }
    }

    /// Puts a fresh frame into file `id` as its page `index`, in the `state` given, unless there is
    /// something already. `reserve` is full.
    ///
    /// # Errors
    /// [`NoObject`]: it was not.
    pub(crate) fn insert(
        id: u32,
        index: u32,
        page: Page,
        state: u32,
        reserve: &mut Reserve,
        within: Within,
    ) -> Result<Inserted, NoObject> {
        let f = Folio::of(page.pfn());
        f.init_flags(state, lru::local_shard(), Use::File);
        f.set_mapping(id + 1);
        f.set_index(index);
        f.init_mapcount(0);
        // The allocator leaves the order of the block that the frame was in.
        f.set_private(0);
        let mut inner = file(id).tree.0.lock();
        let other = if within == Within::Size && index >= file(id).pages() {
            Some(Inserted::Beyond)
        } else {
            match inner
                .radix
                .insert(&Pool, index, page.pfn().0, &mut reserve.0)
            {
                Ok(()) => None,
                Err(Refused::NoNodes) => {
                    f.set_mapping(0);
                    return Err(NoObject::NoMemory);
                }
                Err(Refused::Occupied(value)) => Some(match entry(value) {
                    Entry::Folio(other) => Inserted::Other(inner.hold(other)),
                    Entry::Slot(_) => Inserted::Slot,
                }),
            }
        };
        if let Some(other) = other {
            f.set_mapping(0);
            return Ok(other);
        }
        // The cache's reference beside the caller's.
        f.get();
        drop(inner);
        // SAFETY: the page's own reference; the cache's was counted above.
        let folio = unsafe { folio::Ref::new(Folio::made_of(page)) };
        let came_back = workingset::file_refault(id, index);
        if came_back != 0 {
            f.set(came_back);
        }
        lru::add(f, came_back != 0);
        Ok(Inserted::Fresh(folio))
    }

    /// Takes the locked folio out, whoever else refers to it; it is clean then, and nobody's page.
    /// No I/O of it is under way. The caller has a reference.
    pub(crate) fn remove(&self, f: Folio) {
        f.flags_point();
        let mut inner = self.0.lock();
        debug_assert!(f.flags() & (flag::WRITEBACK | flag::READING) == 0);
        inner.set_dirty(f, false);
        let removed = inner.radix.remove(&Pool, f.index());
        f.set_mapping(0);
        drop(inner);
        if let Some(removed) = removed {
            drop(Reserve(removed.freed));
            // SAFETY: the cache's reference, of the folio that just left it.
            unsafe { f.put() };
        }
    }

    /// Takes a clean folio out that only the cache and the caller (with `ours` references and the
    /// folio lock) know. True: its count is frozen, and the caller frees it. False: nothing has
    /// changed.
    pub(crate) fn remove_frozen(&self, f: Folio, ours: u32) -> bool {
        f.flags_point();
        let mut inner = self.0.lock();
        let busy = flag::DIRTY | flag::WRITEBACK | flag::READING;
        if f.flags() & busy != 0 || !f.freeze_unmapped(ours) {
            return false;
        }
        let removed = inner.radix.remove(&Pool, f.index());
        drop(inner);
        f.set_mapping(0);
        if let Some(removed) = removed {
            drop(Reserve(removed.freed));
        }
        true
    }

    /// See [`super::set_dirty`]. True when the file had no dirty page before.
    pub(super) fn mark_dirty(&self, folio: Folio) -> bool {
        folio.flags_point();
        let mut inner = self.0.lock();
        if inner.radix.get(&Pool, folio.index()) != Some(folio.pfn().0) {
            return false;
        }
        let first = inner.dirty == 0;
        inner.set_dirty(folio, true);
        first && inner.dirty == 1
    }

    /// From DIRTY to WRITEBACK, under the folio lock; false when it is not dirty. The caller must
    /// submit the write.
    pub(crate) fn begin_write(&self, f: Folio) -> bool {
        f.flags_point();
        let mut inner = self.0.lock();
        if !f.has(flag::DIRTY) || f.has(flag::WRITEBACK) {
            return false;
        }
        let dirty = inner.mark(f, false);
        inner.radix.set_mark(&Pool, f.index(), Mark::Writeback);
        f.set(flag::WRITEBACK);
        inner.writeback += 1;
        unwritten::change(dirty, 1);
        true
    }

    /// The write has ended, `Err` with the flags of a failure: then it is dirty as before. Any
    /// context. Waiters are not woken yet: `Folio::end_writeback` clears the flag.
    pub(crate) fn end_write(&self, f: Folio, result: Result<(), u32>) {
        let mut inner = self.0.lock();
        inner.radix.clear_mark(&Pool, f.index(), Mark::Writeback);
        inner.writeback -= 1;
        let dirty = match result {
            Ok(()) => {
                f.clear(flag::ERROR | flag::SUSPECT);
                0
            }
            Err(failed) => {
                f.set(failed);
                inner.mark(f, true)
            }
        };
        unwritten::change(dirty, -1);
    }

    /// Marks what is dirty from `from` to `last` to be written, a bounded number in one go; where
    /// to go on.
    pub(crate) fn tag(&self, from: u32, last: u32) -> Option<u32> {
        let mut inner = self.0.lock();
        let mut at = from;
        for _ in 0..4 * BATCH {
            let (index, _) = inner.radix.next_marked(&Pool, at, Mark::Dirty)?;
            if index > last {
                return None;
            }
            inner.radix.set_mark(&Pool, index, Mark::ToWrite);
            at = index.checked_add(1)?;
        }
        Some(at)
    }

    /// The first folios with `mark` (without one: any) from `from` to `last`. Slots are passed
    /// over, so not for large ranges of files in memory.
    pub(crate) fn collect(&self, from: u32, last: u32, mark: Option<Mark>) -> Found {
        let mut found = Found {
            folios: [const { None }; BATCH],
            n: 0,
        };
        let inner = self.0.lock();
        let mut at = Some(from);
        while let Some(from) = at.filter(|_| found.n < BATCH) {
            let next = match mark {
                Some(mark) => inner.radix.next_marked(&Pool, from, mark),
                None => inner.radix.next(&Pool, from),
            };
            let Some((index, value)) = next.filter(|&(index, _)| index <= last) else {
                break;
            };
            at = index.checked_add(1);
            if let Entry::Folio(folio) = entry(value) {
                found.folios[found.n] = Some((index, inner.hold(folio)));
                found.n += 1;
            }
        }
        found
    }
}

/// For the explorer.
#[cfg(feature = "lab")]
impl Cache {
    /// What there is of page `index`, without a reference.
    pub(crate) fn peek(&self, index: u32) -> Option<Entry> {
        self.0.lock().radix.get(&Pool, index).map(entry)
    }

    /// The content of a folio, which its caller has locked, is of no use to anybody: it need not be
    /// written.
    pub(crate) fn clean(&self, folio: Folio) {
        self.0.lock().set_dirty(folio, false);
    }

    /// Nothing is in it, whatever became of what was.
    pub(crate) fn abandon(&self) {
        let mut inner = self.0.lock();
        unwritten::change(-i64::from(inner.dirty), -i64::from(inner.writeback));
        *inner = Inner::EMPTY;
    }
}

/// Whether the file has pages to be written.
pub(crate) fn has_dirty(f: &File) -> bool {
    f.tree.0.lock().dirty > 0
}

/// Whether something of the file is not on the disk yet, or on its way.
pub(crate) fn has_unwritten(f: &File) -> bool {
    let inner = f.tree.0.lock();
    inner.dirty + inner.writeback > 0
}

/// Sets the file's size. The caller holds its `resize` lock, or is alone with it.
///
/// Under the lock of the tree: from then on no page is put into the cache beyond the end.
pub(crate) fn set_size(f: &File, size: u64) {
    let _inner = f.tree.0.lock();
    f.touch(AccessKind::Write, &f.size);
    f.size.store(size, Ordering::Relaxed);
}

/// When the file got dirty, or was last written.
pub(crate) fn since(f: &File) -> u64 {
    f.since.load(Ordering::Relaxed)
}
