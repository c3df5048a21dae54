//! Reclaim: making free frames out of pages that are not in use, anonymous ones and those of files.
//!
//! `scan_count` says how much of which LRU list is looked at, `shrink` looks at their old ends,
//! `evict` unmaps what was not used, `dispose` frees or writes it; `laundry` frees what has been
//! written; `let_go` is how one folio leaves reclaim's hands; `scan` is what a run has achieved.
//! `kswapd` reclaims in the background between the watermarks, `direct` in an allocation that finds
//! nothing free; `oom` ends an address space when all that is in vain; `advice` is what madvise
//! asks for.
//!
//! Nothing here allocates from the heap, or needs a frame but one from the reserve for the counts
//! of widely shared slots (`swap::area`). Sleeps; called with no spin lock held, possibly with
//! `mmap_lock`s held, so those are only tried. Folio locks are tried, too, except for folios that
//! reclaim itself has in hand.

#![cfg_attr(
    feature = "lab",
    expect(unsafe_code, reason = "the reference of an isolated folio")
)]

pub(crate) mod advice;
mod direct;
mod dispose;
mod evict;
pub mod kswapd;
mod laundry;
mod let_go;
pub mod oom;
mod scan;
mod scan_count;
mod shrink;

#[cfg(feature = "lab")]
use crate::folio::Folio;

/// Registers reclaim with the page allocator. Once, at boot.
pub(crate) fn init() {
    crate::buddy::set_slow_path(direct::slow_path);
}

/// Writes back and frees everything that is in reclaim's hands. For tests and measurements that
/// want a quiet state.
pub fn settle() {
    kswapd::wait_asleep();
    advice::finish();
    crate::swap::cache::sweep();
}

/// Folios that were unmapped and are being written, or are written and not yet freed.
pub fn in_laundry() -> usize {
    laundry::len()
}

/// For the explorer: reclaims this one folio if it still is one that can go, as `MADV_PAGEOUT`
/// would, and waits for the disk. Sleeps.
#[cfg(feature = "lab")]
pub fn one(pfn: arch::Pfn) {
    let mut pages = isolate(Folio::of(pfn));
    pages.evict();
    advice::finish();
}

/// For the explorer: what reclaim does when it comes to the huge page in `pfn`, if there is one by
/// then.
#[cfg(feature = "lab")]
pub fn split_huge(pfn: arch::Pfn) {
    if let Some(huge) = crate::lru::huge_in(pfn) {
        crate::rmap::huge::split(huge);
    }
}

/// For the explorer: as [`one`], as kswapd would if it came to the folio: a used one is spared, and
/// a look without the lock at an entry is believed.
#[cfg(feature = "lab")]
pub fn one_if_unused(pfn: arch::Pfn) {
    let mut pages = isolate(Folio::of(pfn));
    pages.evict_as_kswapd();
    advice::finish();
}

/// For the explorer: as [`one_if_unused`], of these folios in one batch, with one flush.
#[cfg(feature = "lab")]
pub fn some_if_unused(pfns: &[arch::Pfn]) {
    let mut pages = advice::Pages::new();
    for &pfn in pfns.iter().take(crate::rmap::batch::BATCH) {
        isolate_into(&mut pages, Folio::of(pfn));
    }
    pages.evict_as_kswapd();
    advice::finish();
}

/// For the explorer: the folio looks unused, whatever happened before. Sleeps.
#[cfg(feature = "lab")]
pub fn age(pfn: arch::Pfn) {
    let guard = Folio::of(pfn).lock();
    crate::rmap::scan::referenced(&guard);
    guard.clear(crate::frame::flag::SIGNS);
}

/// For the explorer: takes the pages of a killed address space away, as the OOM killer would. False
/// when its `mmap_lock` is not to be had.
#[cfg(feature = "lab")]
pub fn reap(mm: &crate::MmRef) -> bool {
    crate::exit::reap(mm.id(), mm)
}

#[cfg(feature = "lab")]
fn isolate(folio: Folio) -> advice::Pages {
    let mut pages = advice::Pages::new();
    isolate_into(&mut pages, folio);
    pages
}

/// The folio as well, if it still is one that can go.
#[cfg(feature = "lab")]
fn isolate_into(pages: &mut advice::Pages, folio: Folio) {
    if folio.try_get() {
        if crate::lru::remove(folio) {
            let _room = pages.take(folio);
        } else {
            // SAFETY: just counted.
            unsafe { folio.put() };
        }
    }
}

/// For the explorer: the folio is being written, or was and has not been freed.
#[cfg(feature = "lab")]
pub(crate) fn is_in_laundry(folio: Folio) -> bool {
    laundry::has(folio)
}

/// For the explorer: does what kswapd does when it is woken. Sleeps.
#[cfg(feature = "lab")]
pub fn as_kswapd() {
    kswapd::turn();
}

/// For the explorer: nothing is in reclaim's hands, and what it does next does not depend on what
/// it did. How many folios it let go of, which keep its references.
#[cfg(feature = "lab")]
pub(crate) fn forget() -> usize {
    shrink::reset_turn();
    oom::forget();
    scan_count::end_run();
    crate::workingset::forget();
    crate::buddy::kswapd::RUNS.hope();
    laundry::forget()
}
