//! MADV_FREE: pages whose content may be dropped when memory is short, unless they are written
//! first.
//!
//! A page becomes lazily freeable when nothing but its content says that it is wanted: not dirty,
//! no slot on disk, not SWAPBACKED. A write sets the entry's D bit again, which reclaim looks at
//! after it has unmapped the page. That is why the cleared D bits are flushed before `mmap_lock` is
//! dropped (rule 3): a CPU that still thinks the page dirty would write without setting the bit.
//!
//! Runs with `mmap_lock` held shared; takes one PTL at a time, inside it only tries folio locks,
//! then the LRU lock. Pages that others share or are busy with are left as they are. Never sleeps,
//! never allocates.

use super::args::Range;
use super::weakened::Weakened;
use crate::folio::Folio;
use crate::frame::flag;
use crate::handle::MmRef;
use crate::knobs::Knob;
use crate::lru;
use crate::pt::range::{self, Leaf};
use crate::pt::{PteLocked, tlb};
use crate::rmap::sole;
use crate::swap;
use arch::VirtAddr;
use arch::pte::{self, Entry};

/// One call of madvise.
pub(super) struct Lazy<'a> {
    mm: &'a MmRef,
    cleaned: Weakened<'a>,
}

/// Runs `f`, then flushes what it cleaned.
pub(super) fn with<R>(mm: &MmRef, f: impl FnOnce(&mut Lazy<'_>) -> R) -> R {
    f(&mut Lazy {
        mm,
        cleaned: Weakened::new(mm.id(), mm, Knob::LazyFlush),
    })
}

impl Lazy<'_> {
    /// Makes the pages of the range lazily freeable; slots on disk are given back.
    pub(super) fn range(&mut self, range: Range) {
        range::locked(
            self.mm.id(),
            self.mm,
            range.start,
            range.end,
            |mut pte, start, end| {
                tlb::flush_batched_pending(self.mm.id(), self.mm);
                range::every_entry(&mut pte, start, end, |pte, va, entry| {
                    self.entry(pte, va, entry);
                });
                end
            },
        );
    }

    fn entry(&mut self, pte: &mut PteLocked, va: VirtAddr, entry: Entry) {
        match Leaf::of(entry) {
            Leaf::Swap(slot) => {
                pte.set(Entry::NONE);
                swap::free_entry(slot);
                self.mm.swap_entries.add(-1);
            }
            Leaf::Page(pfn) if make_clean(Folio::of(pfn)) => self.clean_entry(pte, va, entry),
            Leaf::Page(_) | Leaf::Special | Leaf::Migration => {}
        }
    }

    fn clean_entry(&mut self, pte: &mut PteLocked, va: VirtAddr, entry: Entry) {
        if entry.is_present() {
            self.cleaned
                .note(va, pte.weaken(pte::ACCESSED | pte::DIRTY));
        } else {
            pte.set(entry.without(pte::ACCESSED | pte::DIRTY));
        }
    }
}

/// Under the PTL of the folio's only entry: from "wanted" to "may be dropped". False when others
/// share it or are busy with it.
fn make_clean(folio: Folio) -> bool {
    if folio.is_file() {
        return false;
    }
    let Some(guard) = folio.try_lock() else {
        return false;
    };
    if !sole::is_ours(&guard, 1, 0) {
        return false;
    }
    if folio.has(flag::SWAPCACHE) && !swap::cache::try_drop(&guard) {
        return false;
    }
    if !lru::make_lazy(folio) {
        return false;
    }
    folio.clear(flag::DIRTY);
    true
}
