//! What is private to the memory manager without the lab, for its own tests: the lock of the areas,
//! an entry and a PMD as one likes, a reference without a holder, a wrong count, a gather that
//! takes nothing out, a folio on no list, the swap area that comes and goes while the flusher is
//! kept still. No locks of their own.

#![expect(unsafe_code, reason = "frames looked at while nobody runs")]

use crate::frame::{Folio, frame};
use crate::handle::MmRef;
use crate::knobs::Knob;
use crate::lru;
use crate::mm::Mm;
use crate::ops::swapoff::swapoff_at_once;
use crate::ops::weakened::Weakened;
use crate::pt::{self, Invalidation, gather::Gather};
use crate::swap::{SwapOpError, area, swapon_at_once};
use crate::vma::set::VmaSet;
use arch::addr::{PAGE_SIZE, WORDS};
use arch::block::BlockDevice;
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use core::sync::atomic::AtomicU64;
use sync::RwSem;

/// The lock of the areas, to be held for a change that does not come.
pub fn mmap_lock(mm: &Mm) -> &RwSem<VmaSet> {
    &mm.mmap_lock
}

/// What a frame holds, also a page table. While nobody else runs, of a frame that an entry or a
/// cache names.
pub fn words(pfn: Pfn) -> &'static [AtomicU64; WORDS] {
    // SAFETY: what entries and caches name are tables and folios, and nobody frees one meanwhile.
    unsafe { arch::frame_words(pfn) }
}

/// Makes `entry` the one of `va`, whatever was there.
///
/// # Panics
/// If there is no table for it.
pub fn set_entry(mm: &Mm, va: VirtAddr, entry: Entry) {
    let mut pte = pt::lock_at(mm, va).expect("a table");
    let _ = pte.unhook(entry).noted();
}

/// Makes `entry` the PMD of `va`, whatever was there.
///
/// # Panics
/// If a level above is missing.
pub fn set_pmd(mm: &Mm, va: VirtAddr, entry: Entry) {
    let pmd = pt::PmdRef::lookup(mm, va).expect("a PMD table");
    pmd.overwrite(entry);
}

/// Takes a reference on `pfn` that nobody gives up.
pub fn reference(pfn: Pfn) {
    frame(pfn).get();
}

/// An empty gather: somebody else unmaps pages of `mm` until it is dropped.
pub fn gather(mm: &MmRef) -> impl Sized {
    Gather::new(mm.id(), mm)
}

/// An invalidation of the page of `va` in `mm` that lasts until it is dropped.
pub fn invalidation(mm: &MmRef, va: VirtAddr) -> impl Sized {
    Invalidation::begin(mm.id(), mm, va, PAGE_SIZE)
}

/// Somebody weakens entries of `mm` until it is dropped: none so far.
pub fn weakening(mm: &MmRef) -> impl Sized {
    Weakened::new(mm.id(), mm, Knob::WpFlush)
}

/// So many entries map `pfn`, says its record from now on.
pub fn set_mapcount(pfn: Pfn, n: u32) {
    frame(pfn).init_mapcount(n);
}

/// Sets state bits in the record of `pfn`.
pub fn set_flags(pfn: Pfn, bits: u32) {
    frame(pfn).set(bits);
}

/// Takes a folio that somebody refers to off its LRU list, or puts it back.
pub fn set_listed(pfn: Pfn, listed: bool) {
    let folio = Folio::of(pfn);
    if listed {
        lru::add(folio, false);
    } else {
        lru::remove(folio);
    }
}

/// The calling thread, which keeps the flusher still, begins to swap to `disk`.
///
/// # Errors
/// As [`crate::swap::swapon`].
pub fn swapon(disk: &'static dyn BlockDevice) -> Result<(), SwapOpError> {
    swapon_at_once(disk).map(drop)
}

/// A swapoff that waits for others looks again: an operation of theirs is over, whatever it had in
/// hand.
pub fn look_again() {
    area::note_change();
}

/// The calling thread, which keeps the flusher still, ends swapping.
///
/// # Errors
/// As [`crate::ops::swapoff::swapoff`].
pub fn swapoff() -> Result<(), SwapOpError> {
    swapoff_at_once()
}
