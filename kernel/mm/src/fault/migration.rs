//! Faults on a migration entry: wait until the page has arrived (Linux: `migration_entry_wait`).
//!
//! `mmap_lock` is held shared. The waiter has no reference on the folio: a move ends where somebody
//! has one, so faults that took one would keep a page that is used much from ever moving (Linux
//! commit 9a1ea439b16b). What it relies on instead is the PTL: while that is held and the entry is
//! there, the folio is locked, and its unlocking, which comes after the entry's end, is still to
//! come. Sleeps.

#![expect(unsafe_code, reason = "with the rule broken, a reference")]

use super::{Fault, Step};
use crate::folio::Folio;
use crate::knobs::{self, Knob};
use arch::pte::Entry;

impl Fault<'_> {
    /// Sleeps until the entry is another one.
    pub(super) fn wait_for_migration(&self, seen: Entry) -> Step {
        let folio = Folio::of(seen.pfn());
        if !knobs::on(Knob::MigrateWait) && self.wait_with_reference(seen, folio) {
            return Step::Retry;
        }
        folio.wait_migrated(|| {
            let pte = self.lock_same(seen);
            if pte.is_some() {
                folio.mark_waited_for();
            }
            pte.is_none()
        });
        Step::Retry
    }
    /// Rule 17 broken: as Linux did before. False where no reference is to be had any more.
    fn wait_with_reference(&self, seen: Entry, folio: Folio) -> bool {
        let Some(pte) = self.lock_same(seen) else {
            return true;
        };
        if !folio.try_get() {
            return false;
        }
        drop(pte);
        drop(folio.lock());
        // SAFETY: the reference taken above.
        unsafe { folio.put() };
        true
    }
}
