//! Moving a folio to another frame while it is in use (Linux: `migrate_folio`).
//!
//! Anonymous folios, in the swap cache or not. In this order (rule 17):
//! 1. the folio, off the LRU and referenced, is locked, and writes of it are over;
//! 2. its entries become migration entries, each flushed under its PTL: a fault on the page waits;
//! 3. the references are frozen, and in the swap cache the new folio takes its place, in one step;
//!    if there is another reference the move ends here, and step 5 brings the old entries back;
//! 4. content and state are copied;
//! 5. the migration entries become entries that map the new folio;
//! 6. the folios are unlocked, so faults that wait go on; the new one is listed, the old one freed.
//!
//! Locks: the folio lock, then what `rmap::migrate` takes, then the swap cache's. No lock may be
//! held but `mmap_lock`. Sleeps for the lock and for writes under way; a frame has to be free, for
//! a move is not worth reclaiming for.

#![expect(
    unsafe_code,
    reason = "the reference of an isolated folio, and a frame whose references are frozen"
)]

use crate::buddy::{self, Gfp, Page};
use crate::content::HasContent;
use crate::folio::{self, Folio, FolioGuard};
use crate::frame::flag;
use crate::knobs::{self, Knob};
use crate::lru;
use crate::rmap::migrate::{remove_migration_entries, try_to_migrate};
use crate::stats::{Event, Use, count};
use crate::swap::cache;

/// Why a folio stays where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stays {
    /// There is no frame for it.
    NoMemory,
    /// It is in use: by reclaim, a reader from disk, a holder of a reference.
    Busy,
    /// A page of a file.
    File,
}

/// What goes with the content. (LRU and ACTIVE are the list's, SWAPCACHE the cache's, EXCLUSIVE the
/// entry's.)
const STATE: u32 = flag::DIRTY
    | flag::UPTODATE
    | flag::SWAPBACKED
    | flag::SIGNS
    | flag::ERROR
    | flag::SUSPECT
    | flag::READAHEAD
    | flag::WORKINGSET;

/// A folio that was taken off its LRU list, with a reference.
#[must_use = "it is on no list"]
pub(crate) struct Isolated {
    folio: folio::Ref,
    active: bool,
}

impl Isolated {
    /// Takes a folio off its list that something keeps: an entry under its PTL, or a reference.
    /// `None` when it is on none: it is in use elsewhere.
    pub(crate) fn take(folio: Folio) -> Option<Self> {
        if !lru::remove(folio) {
            return None;
        }
        let active = folio.has(flag::ACTIVE);
        folio.get();
        // SAFETY: just counted.
        let folio = unsafe { folio::Ref::new(folio) };
        Some(Self { folio, active })
    }

    /// Back to the list.
    fn put_back(self) {
        lru::add(*self.folio, self.active);
    }

    /// Moves it to a frame of its own choice.
    ///
    /// # Errors
    /// Why it stays; nothing has changed then, but that it may be younger in its list.
    pub(crate) fn migrate(self) -> Result<(), Stays> {
        let result = match buddy::alloc(0, Use::Anon, Gfp::NOWAIT) {
            Ok(page) => self.migrate_to(page),
            Err(buddy::Oom) => {
                self.put_back();
                Err(Stays::NoMemory)
            }
        };
        count(match result {
            Ok(()) => Event::PgMigrateSuccess,
            Err(_) => Event::PgMigrateFail,
        });
        result
    }

    fn migrate_to(self, page: Page) -> Result<(), Stays> {
        let guard = self.folio.lock();
        guard.wait_writeback();
        if let Err(why) = may_move(&guard) {
            drop(guard);
            self.put_back();
            return Err(why);
        }
        match move_locked(&guard, page) {
            Some(new) => {
                self.replaced_by(new, guard);
                Ok(())
            }
            None => {
                remove_migration_entries(&guard, &guard);
                drop(guard);
                self.put_back();
                Err(Stays::Busy)
            }
        }
    }

    /// The last step: `new` is in its place everywhere.
    fn replaced_by(self, new: FolioGuard, old: FolioGuard) {
        let (folio, active) = (new.folio(), self.active);
        remove_migration_entries(&old, &new);
        if !knobs::on(Knob::MigrateCopy) {
            folio.flags_point();
            new.copy_from(&old);
        }
        drop(new);
        lru::add(folio, active);
        // SAFETY: the one reference that the fresh page came with.
        unsafe { folio.put() };
        // A fault that waits for an entry that named the old frame finds the new one.
        drop(old);
        if knobs::on(Knob::MigrateFreeze) {
            let old = self.folio.into_folio();
            // SAFETY: its references are frozen, nothing maps it, and no CPU can reach it.
            drop(unsafe { Page::take_back(old.pfn(), 0) });
        }
    }
}

/// Whether the locked folio is of a kind that moves.
fn may_move(guard: &FolioGuard) -> Result<(), Stays> {
    if guard.is_file() {
        return Err(Stays::File);
    }
    if guard.flags() & (flag::READING | flag::LAUNDRY) != 0 || !guard.has(flag::UPTODATE) {
        return Err(Stays::Busy);
    }
    Ok(())
}

/// Steps 2 to 4: the new folio, locked and with the reference of its page, and the old one frozen.
/// `None` when there is another reference on it; it may have migration entries then.
fn move_locked(old: &FolioGuard, page: Page) -> Option<FolioGuard> {
    if !try_to_migrate(old) {
        return None;
    }
    let new = Folio::of(page.pfn());
    new.init_flags(0, old.shard() as u32, Use::Anon);
    new.set_mapping(old.mapping());
    new.set_index(old.index());
    let Some(new) = new.try_lock() else {
        unreachable!("a fresh frame is locked");
    };
    if !cache::replace_frozen(old, &new) {
        drop(new);
        return None;
    }
    if knobs::on(Knob::MigrateCopy) {
        new.copy_from(old);
    }
    // A waiter may have set its mark on the new one.
    new.set(old.flags() & STATE);
    // The reference goes on with the guard's folio.
    let _ = page.into_pfn();
    Some(new)
}

/// For the explorer: moves the folio that the swap cache has for this slot, if there is one that
/// can be had.
///
/// # Errors
/// Why it stays.
#[cfg(feature = "lab")]
pub fn one_in_slot(slot: u32) -> Result<(), Stays> {
    let found = cache::find(slot).map(|folio| folio.pfn());
    one(found.ok_or(Stays::Busy)?)
}

/// For the explorer: moves the folio in this frame, if there is one that can be had.
///
/// # Errors
/// Why it stays.
#[cfg(feature = "lab")]
pub fn one(pfn: arch::Pfn) -> Result<(), Stays> {
    let folio = Folio::of(pfn);
    if folio.order() != 0 || !folio.try_get() {
        return Err(Stays::Busy);
    }
    let isolated = Isolated::take(folio);
    // SAFETY: counted above.
    unsafe { folio.put() };
    isolated.ok_or(Stays::Busy)?.migrate()
}
