//! The shared zero page: what a read of never-written anonymous memory sees. No reference is
//! counted on it and no rmap leads to it; its entries carry [`arch::pte::SPECIAL`]. Set once at
//! boot.

use crate::content::HasContent;
use arch::Pfn;
use arch::pte::{self, Entry};
use core::sync::atomic::{AtomicU32, Ordering};

static ZERO: AtomicU32 = AtomicU32::new(0);

/// Makes `page` the zero page, for good.
pub(crate) fn init(page: impl HasContent) {
    page.zero();
    ZERO.store(page.frame_number().0, Ordering::Release);
    core::mem::forget(page);
}

/// The frame.
#[inline]
pub fn pfn() -> Pfn {
    Pfn(ZERO.load(Ordering::Relaxed))
}

/// A read-only entry for it with the area's `bits`.
#[inline]
pub(crate) fn entry(bits: u64) -> Entry {
    Entry::from_bits(pfn(), bits | pte::SPECIAL | pte::ACCESSED)
}
