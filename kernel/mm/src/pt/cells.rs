//! Page-table cells: every way to look at one and to change one, each with what the explorer is
//! told.
//!
//! A look without the lock that guards the cell, and every change, is a point; a look under the
//! lock, or at an upper level, only touches. Takes no lock; which one the caller needs says
//! [`super`].

#![expect(unsafe_code, reason = "a page table is looked at as cells")]

use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use core::sync::atomic::{AtomicU64, Ordering};
use sync::point::{self, AccessKind, Note, PointKind, class};

/// The cell for `va` in the table of `level`.
#[inline]
pub(super) fn cell(table: Pfn, va: VirtAddr, level: u32) -> &'static AtomicU64 {
    cell_at(table, va.table_index(level))
}

/// Entry `index` of `table`, which the caller keeps a table: it came from a root or from an entry,
/// and `mmap_lock`, a lock of a reverse map or interrupts off hold off who would free it (see
/// [`super`]).
#[inline]
pub(super) fn cell_at(table: Pfn, index: usize) -> &'static AtomicU64 {
    // SAFETY: a page-table page, as said above.
    unsafe { arch::pt_cell(table, index) }
}

/// A point before a change of the cell.
#[inline(always)]
fn changing(cell: &AtomicU64) {
    point::at(PointKind::CellWrite, AccessKind::Write, || {
        point::object_at(class::CELL, cell)
    });
}

/// The running actor relies on `table` still being a table: its frame's content.
#[inline(always)]
pub(super) fn relies_on(table: Pfn) {
    point::note(|| Note::Walked(table.0));
}

/// What stands for the words of a table that may be freed.
pub(super) fn content(table: Pfn) -> u32 {
    point::object(class::CONTENT, u64::from(table.0))
}

/// Acquire: pairs with the Release of [`publish`], so that the contents of a table are seen by
/// whoever finds the table.
#[inline]
fn load(cell: &AtomicU64) -> Entry {
    Entry(cell.load(Ordering::Acquire))
}

/// For assertions: not a step of any actor.
#[inline]
pub(super) fn is_present(cell: &AtomicU64) -> bool {
    load(cell).is_present()
}

/// Reads a cell of which only the MMU can change bits meanwhile, or on the way down to one.
#[inline]
pub(super) fn read(cell: &AtomicU64) -> Entry {
    point::touch(AccessKind::Read, || point::object_at(class::CELL, cell));
    load(cell)
}

/// Reads a cell of `table` that another CPU may be changing.
#[inline]
pub(super) fn look(table: Pfn, cell: &AtomicU64) -> Entry {
    point::at(PointKind::CellRead, AccessKind::Read, || {
        point::object_at(class::CELL, cell)
    });
    relies_on(table);
    load(cell)
}

/// Makes an entry visible; what it points to was initialised before.
#[inline]
pub(super) fn publish(cell: &AtomicU64, entry: Entry) {
    changing(cell);
    cell.store(entry.0, Ordering::Release);
}

/// Fills a cell of a table that nobody can find yet.
#[inline]
pub(super) fn fill(cell: &AtomicU64, entry: Entry) {
    cell.store(entry.0, Ordering::Relaxed);
}

/// Puts `entry` in and returns what was there, with the bits that the MMU had set.
#[inline]
pub(super) fn exchange(cell: &AtomicU64, entry: Entry) -> Entry {
    changing(cell);
    Entry(cell.swap(entry.0, Ordering::AcqRel))
}

/// Clears `bits`. Returns the entry before.
#[inline]
pub(super) fn clear_bits(cell: &AtomicU64, bits: u64) -> Entry {
    changing(cell);
    Entry(cell.fetch_and(!bits, Ordering::AcqRel))
}

/// Sets `bits`. Returns the entry before.
#[inline]
pub(super) fn set_bits(cell: &AtomicU64, bits: u64) -> Entry {
    changing(cell);
    Entry(cell.fetch_or(bits, Ordering::AcqRel))
}

/// Keeps the bits `kept` and gives the entry `bits` besides. Returns the entry before.
#[inline]
pub(super) fn replace_bits(cell: &AtomicU64, kept: u64, bits: u64) -> Entry {
    changing(cell);
    let mut old = load(cell);
    loop {
        let new = old.0 & kept | bits;
        match cell.compare_exchange_weak(old.0, new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return old,
            // The MMU set A or D meanwhile.
            Err(now) => old = Entry(now),
        }
    }
}
