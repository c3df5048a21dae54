//! A folio, as the record of its frame.

use super::{Frame, frame};
use arch::Pfn;

/// A folio, by its record: as small as a pointer, and copied as freely.
///
/// It stays the folio that it was only while something keeps it: a reference, the PTL of an entry
/// that maps it, the lock of the tree or list that has it, or the folio lock of a folio that stays
/// in its cache.
#[derive(Clone, Copy)]
pub struct Folio(&'static Frame);

impl Folio {
    /// The folio in `pfn`. What keeps it one is the caller's to hold.
    ///
    /// # Panics
    /// If the memmap does not cover the frame.
    #[inline]
    pub fn of(pfn: Pfn) -> Self {
        Self(frame(pfn))
    }
}

/// The record says what the folio is.
impl core::ops::Deref for Folio {
    type Target = Frame;
    #[inline]
    fn deref(&self) -> &Frame {
        self.0
    }
}

impl PartialEq for Folio {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.0, other.0)
    }
}

impl Eq for Folio {}

impl core::fmt::Debug for Folio {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "folio {:?}", self.pfn())
    }
}
