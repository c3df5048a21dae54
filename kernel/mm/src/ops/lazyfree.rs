//! MADV_FREE: pages whose content may be dropped when memory is short, unless they are written first.
//!
//! A page becomes lazily freeable when nothing but its content says that it is wanted: not dirty, no slot on
//! disk, not SWAPBACKED. A write sets the entry's D bit again, which reclaim looks at after it has
//! unmapped the page. That is why the cleared D bits are flushed before `mmap_lock` is dropped (rule 3): a
//! CPU that still thinks the page dirty would write without setting the bit.
//!
//! Runs with `mmap_lock` held shared; takes one PTL at a time, inside it only tries folio locks, then the
//! LRU lock. Pages that others share or are busy with are left as they are. Never sleeps, never allocates.

use super::args::Range;
use super::weakened::Weakened;
use crate::folio;
use crate::frame::{flag, frame};
use crate::handle::MmRef;
use crate::knobs::Knob;
use crate::lru;
use crate::pt::tables::{Span, Tables};
use crate::pt::{PteLocked, tlb};
use crate::rmap::sole;
use crate::swap;
use arch::addr::PAGE_SIZE;
use arch::pte::{self, Entry};
use arch::{Pfn, VirtAddr};

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
        for span in Tables::new(self.mm, range.start, range.end) {
            self.table(&span);
        }
    }

    fn table(&mut self, span: &Span) {
        let Some(mut pte) = span.pmd.lock(VirtAddr(span.start)) else {
            return;
        };
        tlb::flush_batched_pending(self.mm.id(), self.mm);
        let mut va = span.start;
        while va < span.end {
            pte.seek(VirtAddr(va));
            let entry = pte.get();
            if entry.is_swap() {
                pte.set(Entry::NONE);
                swap::free_entry(entry.swap_slot());
                self.mm.swap_entries.add(-1);
            } else if entry.is_mapped() && !entry.is_special() && make_clean(entry.pfn()) {
                self.clean_entry(&mut pte, VirtAddr(va), entry);
            }
            va += PAGE_SIZE;
        }
    }

    fn clean_entry(&mut self, pte: &mut PteLocked, va: VirtAddr, entry: Entry) {
        if entry.is_present() {
            pte.clear_bits(pte::ACCESSED | pte::DIRTY);
            self.cleaned.note(va);
        } else {
            pte.set(entry.without(pte::ACCESSED | pte::DIRTY));
        }
    }
}

/// Under the PTL of the folio's only entry: from "wanted" to "may be dropped". False when others share it
/// or are busy with it.
fn make_clean(pfn: Pfn) -> bool {
    let f = frame(pfn);
    let Some(guard) = folio::try_lock(pfn) else {
        return false;
    };
    if !sole::is_ours(&guard, 1, 0) {
        return false;
    }
    if f.has(flag::SWAPCACHE) && !swap::cache::try_drop(&guard) {
        return false;
    }
    if !lru::make_lazy(pfn) {
        return false;
    }
    f.clear(flag::DIRTY);
    true
}
