//! Migration entries: what stands for a page while it moves to another frame (Linux:
//! `try_to_migrate`, `remove_migration_ptes`).
//!
//! The folio is locked, anonymous, and stays locked for as long as an entry names its frame. Takes
//! the lock of its family of areas shared, and PTLs inside. Sleeps for the former; never allocates.
//!
//! A migration entry holds no reference and is not counted as mapping; its page counts as resident
//! still. It remembers the accessed and dirty bits, and whether the folio was its address space's
//! alone: the folio itself is no longer marked EXCLUSIVE, so that a fork, which finds only the
//! entry, has one place to take that away from (rule 17). What the entry allows again afterwards
//! its area says.

use super::walk::Areas;
use crate::folio::{Folio, FolioGuard};
use crate::frame::flag;
use crate::knobs::Knob;
use crate::pt::{Invalidation, PteLocked};
use crate::vma::{Vma, vm};
use arch::VirtAddr;
use arch::pte::{self, Entry};

/// Puts a migration entry in the place of each entry that maps the folio, each flushed before its
/// table is unlocked. True when none maps it any more: no CPU translates to it then.
pub(crate) fn try_to_migrate(folio: &FolioGuard) -> bool {
    if let Some(areas) = Areas::of_anon(folio) {
        areas.invalidate_each(folio, super::walk::Sync::Always, |within, va, pte| {
            depart(within, va, pte, folio.folio());
            folio.mapcount() > 0
        });
    }
    folio.mapcount() == 0
}

/// From an entry that maps the folio to one that remembers it.
fn depart(within: &Invalidation<'_>, va: VirtAddr, pte: &mut PteLocked, folio: Folio) {
    // Under the PTL of the only entry, if it was set.
    let exclusive = folio.clear(flag::EXCLUSIVE) & flag::EXCLUSIVE != 0;
    // An accessed bit that the MMU sets between look and exchange is lost; a dirty one is not.
    let old = pte.unhook(Entry::migration(pte.get(), exclusive));
    if old.entry().is_dirty() {
        folio.set(flag::DIRTY);
    }
    old.flush_at_once(within, va, Knob::MigrateFlush);
    folio.map_dec();
    let last = folio.put_testzero();
    debug_assert!(!last, "the mover has a reference");
}

/// Makes each migration entry that names the frame of `from` an entry that maps `to`: the same
/// folio, or the one that has taken its place. Both are locked.
pub(crate) fn remove_migration_entries(from: &FolioGuard, to: &FolioGuard) {
    if let Some(areas) = Areas::of_moving(to) {
        areas.for_each_migration(from, to.index(), |area, pte| arrive(area, pte, to));
    }
}

/// Maps the folio where the entry has remembered it.
fn arrive(area: &Vma, pte: &mut PteLocked, folio: &FolioGuard) {
    let was = pte.get();
    let mut bits = area.entry_bits() | was.0 & (pte::ACCESSED | pte::DIRTY);
    if was.is_migration_exclusive() {
        folio.set(flag::EXCLUSIVE);
        if area.has(vm::WRITE) {
            bits |= pte::WRITE;
        }
    }
    folio.get();
    folio.map_inc();
    pte.set(Entry::from_bits(folio.pfn(), bits));
}
