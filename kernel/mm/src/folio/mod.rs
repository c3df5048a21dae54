//! Folios: frames that hold user data, under one lock and one count of references.
//!
//! `lock` is the folio lock, `wait` what is waited for. The last [`put`](Folio::put) takes the
//! folio off the LRU (`Rank::LruLock`) and frees it; it never sleeps.

#![expect(
    unsafe_code,
    reason = "a counted reference becomes a value, and a folio an owned block"
)]

mod expected;
mod lock;
mod wait;

pub use crate::frame::Folio;
pub use lock::FolioGuard;

use crate::buddy::Page;
use crate::content::HasContent;
use crate::lru;
use arch::Pfn;

impl Folio {
    /// The page is user data from now on; its one reference goes to what keeps the folio.
    #[inline]
    pub(crate) fn made_of(page: Page) -> Self {
        Self::of(page.into_pfn())
    }
    /// Gives up one reference; the last one frees the folio.
    ///
    /// # Safety
    /// As [`Ref::new`].
    #[inline]
    pub(crate) unsafe fn put(self) {
        if self.put_testzero() {
            // SAFETY: that was the last one.
            unsafe { self.release() };
        }
    }
    /// Frees a folio that nobody refers to any more.
    ///
    /// # Safety
    /// The last reference is gone, or all are frozen by the caller; nothing maps the folio, and no
    /// CPU can still reach it.
    pub(crate) unsafe fn release(self) {
        lru::remove(self);
        // SAFETY: as above; and no list leads to it now.
        drop(unsafe { Page::take_back(self.pfn(), self.order()) });
    }
}

/// A reference, given up when this is dropped.
pub struct Ref(Folio);

impl Ref {
    /// Takes charge of a reference that the caller has on `folio`.
    ///
    /// # Safety
    /// The reference was counted, and nobody else gives it up.
    #[inline]
    pub(crate) unsafe fn new(folio: Folio) -> Self {
        Self(folio)
    }
    /// Hands the reference to what keeps the folio from now on.
    #[inline]
    pub fn into_folio(self) -> Folio {
        let folio = self.0;
        core::mem::forget(self);
        folio
    }
}

impl core::ops::Deref for Ref {
    type Target = Folio;
    #[inline]
    fn deref(&self) -> &Folio {
        &self.0
    }
}

// SAFETY: the reference keeps the folio.
unsafe impl HasContent for Ref {
    #[inline]
    fn frame_number(&self) -> Pfn {
        self.pfn()
    }
}

impl Drop for Ref {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference is this value's.
        unsafe { self.0.put() };
    }
}
