//! Write faults on a present, read-only entry: take the page over, or copy it.
//!
//! A folio marked EXCLUSIVE belongs to this address space alone (fork clears the mark) and is taken
//! over at once. Otherwise, under the folio lock, a folio whose only reference is this entry's is
//! taken over too; everything else is copied. Pages of files are `file`'s to say. The reference
//! count decides, not the mapcount: whoever else holds a reference may be reading (Linux commit
//! 09854ba9, "mm: do_wp_page() simplification").

#![expect(unsafe_code, reason = "a folio that a counted reference keeps")]

use super::{Fault, Step, Stop};
use crate::buddy::{self, Gfp, Page};
use crate::content::{HasContent, Kept};
use crate::folio::Folio;
use crate::frame::flag;
use crate::knobs::Knob;
use crate::pt::{Invalidation, PteLocked};
use crate::rmap::sole;
use crate::stats::{Event, Use, count};
use crate::swap;
use crate::vma::vm;
use arch::addr::PAGE_SIZE;
use arch::pte::{self, Entry};

impl Fault<'_> {
    pub(super) fn write_protected(&self, seen: Entry) -> Result<Step, Stop> {
        let Some(mut pte) = self.lock_same(seen) else {
            return Ok(Step::Retry);
        };
        if seen.is_special() {
            drop(pte);
            return self.replace(seen, None);
        }
        let folio = Folio::of(seen.pfn());
        if sole::is_exclusive(folio) {
            self.take_over(&mut pte);
            return Ok(Step::Done);
        }
        // While the entry maps it: a page of a file in memory that loses its entry may go to swap,
        // and is anonymous there.
        let of_file = folio.is_file();
        // The folio lock comes before the PTL: keep the folio with a reference and let go.
        folio.get();
        drop(pte);
        let result = if !of_file {
            self.reuse_or_copy(seen, folio)
        } else if self.vma.has(vm::SHARED) {
            self.shared_protected(seen, folio)
        } else {
            // The file's page, never ours to take.
            self.replace(seen, Some(folio))
        };
        // SAFETY: the reference taken above.
        unsafe { folio.put() };
        result
    }

    /// The caller's extra reference keeps `folio`.
    fn reuse_or_copy(&self, seen: Entry, folio: Folio) -> Result<Step, Stop> {
        let guard = folio.lock();
        if guard.has(flag::SWAPCACHE) && sole::is_ours(&guard, 1, 1) {
            swap::cache::try_drop(&guard);
        }
        // This entry's reference and the one just taken. (The folio lock keeps it out of the swap
        // cache.)
        if guard.has(flag::SWAPCACHE) || !sole::is_ours(&guard, 1, 1) {
            drop(guard);
            return self.replace(seen, Some(folio));
        }
        let Some(mut pte) = self.lock_same(seen) else {
            return Ok(Step::Retry);
        };
        // From now on only this area's own anon_vma leads here: later walks visit fewer areas.
        guard.set_mapping(self.vma.anon() + 1);
        guard.set(flag::EXCLUSIVE);
        self.take_over(&mut pte);
        Ok(Step::Done)
    }

    /// Gives the entry the write bit. An upgrade: no other CPU needs to forget anything, the weaker
    /// translation that it may hold only faults once more.
    pub(super) fn take_over(&self, pte: &mut PteLocked) {
        pte.strengthen(pte::WRITE | pte::DIRTY | pte::ACCESSED);
        arch::invlpg(self.va);
        count(Event::CowReuse);
        count(Event::TlbAvoided);
    }

    /// Puts a private copy (of `old`, or of the zero page) in place of the entry `seen`.
    fn replace(&self, seen: Entry, old: Option<Folio>) -> Result<Step, Stop> {
        let page = buddy::alloc(0, Use::Anon, Gfp::RECLAIM)?;
        match old {
            // SAFETY: the caller's reference keeps the folio.
            Some(old) => page.copy_from(&unsafe { Kept::new(old.pfn()) }),
            None => page.zero(),
        }
        let within = Invalidation::begin(self.mm_id, self.mm, self.va, PAGE_SIZE);
        let Some(mut pte) = self.lock_same(seen) else {
            return Ok(Step::Retry);
        };
        // While the entry maps it, as above.
        let of_file = old.is_some_and(|old| old.is_file());
        self.swap_frames(&within, &mut pte, page);
        drop(pte);
        drop(within);
        if of_file {
            self.mm.file_pages.add(-1);
        }
        if of_file || old.is_none() {
            self.mm.anon_pages.add(1);
        }
        if let Some(old) = old {
            // SAFETY: the reference of the entry, which every CPU has forgotten.
            unsafe { old.put() };
        }
        count(Event::CowCopy);
        Ok(Step::Done)
    }

    /// Unhooks the old frame, makes every CPU forget it, drops its rmap, then maps the new one: no
    /// CPU may read the old frame after another has written the new.
    fn swap_frames(&self, within: &Invalidation<'_>, pte: &mut PteLocked, page: Page) {
        let old = pte.unhook(Entry::NONE);
        count(Event::TlbFlushPages);
        let old = old.flush_at_once(within, self.va, Knob::CowFlush);
        if !old.is_special() {
            Folio::of(old.pfn()).map_dec();
        }
        self.map_fresh(pte, page);
    }
}
