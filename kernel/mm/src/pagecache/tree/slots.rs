//! Pages of a file in memory that are on the swap disk: the tree has their slots in the place of
//! their folios.
//!
//! A slot in the tree counts as one use of it, as a page-table entry that names it does. A folio
//! changes its use with its place: of a file while it is in the tree, anonymous while it is in the
//! swap cache only. Locks: the tree's; the caller holds the folio's lock where there is one.

#![expect(unsafe_code, reason = "the reference of the cache")]

use super::{Cache, Entry, Pool, Reserve, SLOT, entry};
use crate::folio::{self, Folio};
use crate::stats::Use;

/// As [`Entry`], with a reference.
pub(crate) enum Held {
    /// It is in memory.
    Folio(folio::Ref),
    /// It is, or is about to be, on the swap disk.
    Slot(u32),
}

impl Cache {
    /// What there is of page `index`.
    pub(crate) fn look(&self, index: u32) -> Option<Held> {
        self.next(index, index).map(|(_, held)| held)
    }

    /// The first that there is from page `from` to `last`.
    pub(crate) fn next(&self, from: u32, last: u32) -> Option<(u32, Held)> {
        let inner = self.0.lock();
        let (index, value) = inner.radix.next(&Pool, from)?;
        let held = match entry(value) {
            _ if index > last => return None,
            Entry::Folio(folio) => Held::Folio(inner.hold(folio)),
            Entry::Slot(slot) => Held::Slot(slot),
        };
        Some((index, held))
    }

    /// The locked folio, which is in the swap cache as the content of `slot` and mapped nowhere,
    /// leaves the tree; the slot is in its place. The caller has a reference, and has counted the
    /// tree's use of the slot.
    pub(crate) fn swap_out(&self, f: Folio, slot: u32) {
        f.flags_point();
        let mut inner = self.0.lock();
        let before = inner.radix.replace(&Pool, f.index(), SLOT | slot);
        debug_assert!(before == Some(f.pfn().0), "{f:?} is not in its place");
        f.set_mapping(0);
        f.change_use(Use::File, Use::Anon);
        drop(inner);
        // SAFETY: the cache's reference, of the folio that just left it.
        unsafe { f.put() };
    }

    /// The locked folio, which is in the swap cache as the content of `slot`, becomes page `index`
    /// of file `id`, whose tree this is, if that is on the slot still. The tree's use of the slot
    /// is the caller's then.
    pub(crate) fn swap_in(&self, id: u32, index: u32, slot: u32, f: Folio) -> bool {
        f.flags_point();
        let mut inner = self.0.lock();
        if inner.radix.get(&Pool, index).map(entry) != Some(Entry::Slot(slot)) {
            return false;
        }
        inner.radix.replace(&Pool, index, f.pfn().0);
        f.get();
        f.set_mapping(id + 1);
        f.set_index(index);
        f.change_use(Use::Anon, Use::File);
        true
    }

    /// Takes the slot of page `index` out, if it is there. Its use is the caller's then.
    pub(crate) fn remove_slot(&self, index: u32, slot: u32) -> bool {
        let mut inner = self.0.lock();
        if inner.radix.get(&Pool, index).map(entry) != Some(Entry::Slot(slot)) {
            return false;
        }
        let removed = inner.radix.remove(&Pool, index);
        drop(inner);
        drop(removed.map(|removed| Reserve(removed.freed)));
        true
    }
}
