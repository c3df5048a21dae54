//! The lockless walk: from an address to a referenced folio without any lock (Linux's fast GUP).
//!
//! Interrupts stay off for the whole walk, in the address space that the running thread has
//! adopted: page tables are freed only after a shootdown IPI that this CPU would have to
//! acknowledge (rule 5), so no table goes away underneath. (A CPU that does not run the address
//! space gets no such IPI and must not walk it this way.) A reference is taken only if the count
//! was not zero, and kept only if the entry is still the same: the frame may have been freed and
//! reused in between. Never sleeps, never allocates.
//!
//! A reference keeps the frame, not the page where it is: reclaim, fork and a copy on write may put
//! another frame, or another address space, in the entry's place. Who reads has the page as it was
//! then. Who writes must have written before that: so a [`HeldToWrite`] ends before interrupts are
//! on again. Each of those three waits for this CPU's acknowledgement before anybody can use the
//! page another way.

#![expect(unsafe_code, reason = "the reference that a lockless walk counted")]

use super::{Pmd, PmdRef, tlb};
use crate::content::HasContent;
use crate::folio::{self, Folio};
use crate::frame::flag;
use crate::mm::Mm;
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use core::marker::PhantomData;
use sync::irq::IrqGuard;

/// A folio that the walk found, with a reference that keeps it.
pub struct Held(folio::Ref);

impl Held {
    /// The page's frame.
    pub fn pfn(&self) -> Pfn {
        self.0.pfn()
    }
}

// SAFETY: the reference keeps the folio.
unsafe impl HasContent for Held {
    fn frame_number(&self) -> Pfn {
        self.0.pfn()
    }
}

/// As [`Held`], to be written while interrupts are off. The folio becomes dirty when this is
/// dropped, before the reference goes: the entry's own D bit may have been taken away meanwhile.
pub struct HeldToWrite<'irq> {
    held: Held,
    irq: PhantomData<&'irq IrqGuard>,
}

// SAFETY: as for `Held`.
unsafe impl HasContent for HeldToWrite<'_> {
    fn frame_number(&self) -> Pfn {
        self.held.pfn()
    }
}

impl Drop for HeldToWrite<'_> {
    fn drop(&mut self) {
        self.held.0.flags_point();
        self.held.0.set(flag::DIRTY);
    }
}

/// See `adopt::follow_fast`. `mm` is the address space that the running thread has adopted.
pub(crate) fn follow_fast(_irq: &IrqGuard, mm: &Mm, va: VirtAddr) -> Option<Held> {
    walk(mm, va, false)
}

/// See `adopt::follow_fast_to_write`.
pub(crate) fn follow_fast_to_write<'irq>(
    _irq: &'irq IrqGuard,
    mm: &Mm,
    va: VirtAddr,
) -> Option<HeldToWrite<'irq>> {
    let held = walk(mm, va, true)?;
    Some(HeldToWrite {
        held,
        irq: PhantomData,
    })
}

/// Interrupts are off.
fn walk(mm: &Mm, va: VirtAddr, write: bool) -> Option<Held> {
    debug_assert!(
        tlb::holds_off_shootdown(mm),
        "lockless walk of an address space that this CPU does not run"
    );
    let entry = peek(mm, va)?;
    if !entry.is_present() || entry.is_special() || (write && !entry.is_write()) {
        return None;
    }
    let folio = Folio::of(entry.pfn());
    if !folio.try_get() {
        return None;
    }
    // SAFETY: just counted.
    let held = Held(unsafe { folio::Ref::new(folio) });
    if write && folio.is_file() {
        // Writeback cleans entries, not references: a store through one would go unnoticed.
        return None;
    }
    let again = peek(mm, va)?;
    super::same(again, entry).then_some(held)
}

/// The entry of `va`. Where no table is, whatever else is there, a fault is the slow way.
fn peek(mm: &Mm, va: VirtAddr) -> Option<Entry> {
    match PmdRef::read_at(mm, va) {
        Pmd::Table(table) => Some(table.peek(va)),
        Pmd::None | Pmd::Huge(_) | Pmd::Migration(_) | Pmd::Invalid(_) => None,
    }
}
