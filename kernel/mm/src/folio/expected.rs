//! The references that a folio has without anybody's holding it (Linux:
//! `folio_expected_ref_count`).
//!
//! Each entry that maps it has one, the cache that it is in has one, and reclaim's laundry has one.
//! A caller that asks whether a folio is in use otherwise compares the count with these and its
//! own. Takes no lock: under the folio lock the answer stays true but for entries.

use super::Folio;
use crate::frame::{Frame, flag};

impl Folio {
    /// The references of `entries` page-table entries, of the page cache or the swap cache, and of
    /// the laundry. (An entry that names the folio's slot has none: the slot's count knows it.)
    #[inline]
    pub(crate) fn expected_refs(self, entries: u32) -> u32 {
        let flags = self.flags();
        entries + of_cache(flags) + u32::from(flags & flag::LAUNDRY != 0)
    }

    /// From no references but its cache's and `ours` to none at all, so that nobody can take one
    /// any more. Nothing maps the folio. False, and nothing has changed, when there are others.
    ///
    /// The laundry's is one of the others: it would lead to a frame that is free.
    #[inline]
    pub(crate) fn freeze_unmapped(self, ours: u32) -> bool {
        self.freeze(of_cache(self.flags()) + ours)
    }

    /// Ends that.
    pub(crate) fn thaw_unmapped(self, ours: u32) {
        self.unfreeze(of_cache(self.flags()) + ours);
    }
}

/// The reference of the page cache or the swap cache.
fn of_cache(flags: u32) -> u32 {
    u32::from(flags & flag::SWAPCACHE != 0 || Frame::of_file(flags))
}
