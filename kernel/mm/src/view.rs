//! Looking at address spaces and folios from outside: for the console and for tests.
//!
//! Nothing here changes an entry, a count or a list, and what a look relies on is held for as long
//! as the look lasts: that is why these are safe where the functions below them have conditions.
//! Locks: `mmap_lock` shared for an address space; the folio lock and that of its reverse map for a
//! folio. Sleeps.

#![expect(unsafe_code, reason = "a reference counted under the lock of a list")]

use crate::folio::{self, Folio, FolioGuard};
use crate::frame::flag;
use crate::lru;
use crate::mm::{Mm, by_id};
use crate::pt;
use crate::vma::set::VmaSet;
use crate::vma::{Vma, anon, imap};
use arch::addr::{PAGE_SIZE, entries};
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use sync::ReadGuard;

/// An address space's areas and page tables, held as they are.
pub struct Areas<'a> {
    mm: &'a Mm,
    set: ReadGuard<'a, VmaSet>,
}

impl core::ops::Deref for Areas<'_> {
    type Target = VmaSet;
    fn deref(&self) -> &VmaSet {
        &self.set
    }
}

impl Mm {
    /// The areas, for looking. Sleeps while somebody changes them; holds off who wants to.
    pub fn areas(&self) -> Areas<'_> {
        let set = self.mmap_lock.read();
        Areas { mm: self, set }
    }
}

impl Areas<'_> {
    /// Calls `f` with the entry of `va` under the lock of its table, so that what the entry maps
    /// stays mapped meanwhile. `None` where there is no table. Of a huge page the entry is what it
    /// would be if that were split.
    pub fn with_entry<R>(&self, va: VirtAddr, f: impl FnOnce(Entry) -> R) -> Option<R> {
        let mut leaf = pt::lock_leaf(self.mm, va)?;
        let entry = leaf.entry(va);
        Some(f(entry))
    }

    /// Copies the entries from `va` on, as they are at one moment; those of a missing table are
    /// empty.
    ///
    /// # Panics
    /// If they lie in more than one table.
    pub fn copy_entries(&self, va: VirtAddr, into: &mut [Entry]) {
        assert!(
            va.table_index(0) + into.len() <= entries(0),
            "{} entries from {va:?} on lie in more than one table",
            into.len()
        );
        into.fill(Entry::NONE);
        let Some(mut leaf) = pt::lock_leaf(self.mm, va) else {
            return;
        };
        for (i, entry) in (0..).zip(into) {
            *entry = leaf.entry(VirtAddr(va.0 + i * PAGE_SIZE));
        }
    }
}

/// A folio that is locked and does not go away.
pub struct LockedFolio {
    // Before the reference: fields are dropped in this order.
    guard: FolioGuard,
    _held: folio::Ref,
}

/// A place where a folio may be mapped.
pub struct Mapping {
    /// The address space's id.
    pub mm: u32,
    /// The area.
    pub area: &'static Vma,
    /// Where the area would show the folio.
    pub va: VirtAddr,
    /// What is there, if there is a table.
    pub entry: Option<Entry>,
}

/// Locks the folio in `pfn`; `None` if the frame holds none, one of several pages, or one that is
/// on no LRU list now. Sleeps.
pub fn lock_folio(pfn: Pfn) -> Option<LockedFolio> {
    if !crate::frame::valid(pfn) {
        return None;
    }
    let f = Folio::of(pfn);
    // Only its entry keeps a huge one.
    if f.order() != 0 {
        return None;
    }
    let shard = f.shard();
    let held = {
        let _list = lru::lock(shard);
        // Under the lock of its list a folio stays one: it leaves the list before it is freed.
        let listed = f.has(flag::LRU) && f.shard() == shard && f.order() == 0;
        // SAFETY: just counted, for a folio.
        (listed && f.try_get()).then(|| unsafe { folio::Ref::new(f) })
    }?;
    Some(LockedFolio {
        guard: f.lock(),
        _held: held,
    })
}

impl LockedFolio {
    /// The folio.
    pub fn folio(&self) -> Folio {
        self.guard.folio()
    }

    /// Calls `f` with each place that may map the folio. False if it has none: it is mapped
    /// nowhere, or its file has let go of it.
    pub fn each_mapping(&self, f: &mut dyn FnMut(&Mapping)) -> bool {
        let folio = self.folio();
        let index = folio.index();
        let mut each = |area: &'static Vma| {
            if let Some(va) = area.address_of(index) {
                let mm = area.mm();
                let entry = pt::lock_leaf(by_id(mm), va).map(|mut leaf| leaf.entry(va));
                f(&Mapping {
                    mm,
                    area,
                    va,
                    entry,
                });
            }
            true
        };
        if folio.is_file() {
            let Some(file) = folio.mapping().checked_sub(1) else {
                return false;
            };
            imap::read(file).for_each_vma(index, index, each);
        } else {
            let Some(family) = anon::lock_folio(folio) else {
                return false;
            };
            family.for_each_vma(index, &mut each);
        }
        true
    }
}
