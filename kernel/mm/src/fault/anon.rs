//! First touch of an anonymous page: the shared zero page for a load, a fresh frame for a store.

use super::{Fault, Step, Stop};
use crate::buddy::{self, Gfp, Page};
use crate::content::HasContent;
use crate::folio::Folio;
use crate::frame::flag;
use crate::lru;
use crate::pt::{PteLocked, tlb};
use crate::stats::{Event, Use, count};
use crate::zero;
use arch::pte::Entry;

impl Fault<'_> {
    pub(super) fn first_read(&self) -> Result<Step, Stop> {
        let Some(mut pte) = self.lock_empty() else {
            return Ok(Step::Retry);
        };
        // None to present: no CPU can hold a translation, nothing to flush.
        pte.set(zero::entry(self.vma.entry_bits()));
        count(Event::ZeroFault);
        Ok(Step::Done)
    }

    pub(super) fn first_write(&self) -> Result<Step, Stop> {
        let page = buddy::alloc(0, Use::Anon, Gfp::RECLAIM)?;
        page.zero();
        let Some(mut pte) = self.lock_empty() else {
            return Ok(Step::Retry);
        };
        self.map_fresh(&mut pte, page);
        self.mm.anon_pages.add(1);
        count(Event::AnonFault);
        Ok(Step::Done)
    }

    /// The PTL, if the entry still is empty, and not because the OOM killer took the page: a
    /// program that is about to end must not see zeros in its place. (The PTL orders the killer's
    /// mark before its zap.)
    pub(super) fn lock_empty(&self) -> Option<PteLocked> {
        let pte = self.lock_same(Entry::NONE)?;
        if self.mm.is_killed() {
            return None;
        }
        tlb::flush_emptied_pending(self.mm_id, self.mm);
        Some(pte)
    }

    /// Maps a frame that nobody else knows: it becomes an exclusive anonymous folio of this area,
    /// on the inactive list. Under the PTL throughout, so that no zap can free it before it is
    /// listed.
    pub(super) fn map_fresh(&self, pte: &mut PteLocked, page: Page) {
        let entry = Entry::from_bits(page.pfn(), self.bits());
        let folio = Folio::made_of(page);
        self.init_folio(folio);
        pte.set(entry);
        lru::add(folio, false);
    }

    /// Makes a fresh frame an anonymous folio mapped once, at this fault's page. The frame's one
    /// reference is the mapping's.
    fn init_folio(&self, f: Folio) {
        let state = flag::SWAPBACKED | flag::UPTODATE | flag::EXCLUSIVE | flag::DIRTY;
        f.init_flags(state, lru::local_shard(), Use::Anon);
        f.set_mapping(self.vma.anon() + 1);
        f.set_index(self.vma.index_of(self.va));
        f.init_mapcount(1);
    }
}
