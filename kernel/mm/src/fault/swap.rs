//! Faults on an entry that names a swap slot: bring the page in and map it (Linux: `do_swap_page`).
//!
//! `mmap_lock` is held shared, also over the read: areas and tables stay. Then the folio lock, then
//! the PTL, under which the entry must still be what it was: a zap, another fault or swapoff may
//! have been faster, and then the attempt is void. The folio that was found may meanwhile have left
//! the cache and even be in use for another page, so its slot is checked under the folio lock too.

use super::{Fault, Step, Stop};
use crate::buddy::Gfp;
use crate::folio::FolioGuard;
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::pt::PteLocked;
use crate::rmap::sole;
use crate::stats::{Event, count};
use crate::swap::readahead::{self, Neighbours};
use crate::swap::{area, cache};
use crate::vma::{anon, vm};
use algo::swapmap::Left;
use arch::pte::{self, Entry};
use arch::upcall::FaultError;

/// What became of one attempt.
enum Outcome {
    Step(Step),
    /// The disk could not read the page, in a request of this attempt's `own` or of another's.
    Unreadable {
        own: bool,
    },
}

impl Fault<'_> {
    pub(super) fn swap_in(&self, entry: Entry) -> Result<Step, Stop> {
        self.swap_in_with(entry, Gfp::RECLAIM)
    }

    /// As a fault does it, with a choice of how hard to try for a frame.
    pub(crate) fn swap_in_with(&self, entry: Entry, gfp: Gfp) -> Result<Step, Stop> {
        match self.try_swap_in(entry, gfp, Neighbours::Too)? {
            Outcome::Step(step) => return Ok(step),
            Outcome::Unreadable { .. } => {}
        }
        // A page that shared the request may be to blame, or a read of somebody else's long ago:
        // this page fails only if a read for it alone does.
        loop {
            match self.try_swap_in(entry, gfp, Neighbours::Never)? {
                Outcome::Step(step) => return Ok(step),
                Outcome::Unreadable { own: false } => {}
                Outcome::Unreadable { own: true } if self.lock_same(entry).is_none() => {
                    return Ok(Step::Retry);
                }
                Outcome::Unreadable { own: true } => {
                    return Err(Stop::Signal(FaultError::Bus));
                }
            }
        }
    }

    fn try_swap_in(&self, entry: Entry, gfp: Gfp, neighbours: Neighbours) -> Result<Outcome, Stop> {
        let slot = entry.swap_slot();
        let retry = Ok(Outcome::Step(Step::Retry));
        let Some((folio, own)) = readahead::bring_in(slot, gfp, neighbours)? else {
            // Whoever let go of the slot changes the entry before it drops the PTL. To look again
            // earlier is of no use.
            drop(self.lock());
            return retry;
        };
        if own {
            count(Event::PgMajFault);
        }
        let waits = own || knobs::on(Knob::SwapinWait);
        if waits {
            folio.wait_read();
        }
        let guard = folio.lock();
        if cache::slot_of(&guard) != Some(slot) && knobs::on(Knob::SlotRecheck) {
            return retry;
        }
        if waits && !guard.has(flag::UPTODATE) {
            cache::drop_failed(&guard);
            return Ok(Outcome::Unreadable { own });
        }
        let Some(mut pte) = self.lock_same(entry) else {
            drop(guard);
            drop(folio);
            // A sweep of the swap cache can take it now.
            area::note_change();
            return retry;
        };
        self.map_swapped(&mut pte, &guard, slot);
        drop(pte);
        drop(guard);
        // The entry's reference is the one that came from the cache.
        let _ = folio.into_folio();
        Ok(Outcome::Step(Step::Done))
    }

    /// Replaces the swap entry under the cursor by one that maps the folio.
    fn map_swapped(&self, pte: &mut PteLocked, guard: &FolioGuard, slot: u32) {
        let f = guard.folio();
        // No other entry names the slot (none can come about: copying this one needs its PTL), and
        // nobody but this fault and the cache refers to the folio: it is this address space's
        // alone.
        let sole = area::put(slot) == Left::CacheOnly && sole::is_ours(guard, 0, 1);
        if f.mapcount() == 0 {
            // Nobody walks from the folio while it is locked. A page that others may map as well
            // must be found from the family's oldest anon_vma, which all of their areas are linked
            // to.
            let own = self.vma.anon();
            let home = if sole { own } else { anon::root_of(own) };
            f.set_mapping(home + 1);
            f.set_index(self.vma.index_of(self.va));
        }
        let mut bits = self.vma.entry_bits() | pte::ACCESSED;
        if sole {
            f.set(flag::EXCLUSIVE);
            if self.vma.has(vm::WRITE) {
                bits |= pte::WRITE;
            }
            if self.write {
                bits |= pte::DIRTY;
            }
            // The copy on disk is worth keeping only while it is the content.
            if self.write || area::nearly_full() || f.has(flag::ERROR) {
                cache::try_drop(guard);
            }
        }
        f.map_inc();
        // A write to a page that is shared faults again and copies.
        pte.set(Entry::from_bits(guard.pfn(), bits));
        self.mm.anon_pages.add(1);
        self.mm.swap_entries.add(-1);
    }
}
