//! The references that a folio has without anybody's holding it (Linux:
//! `folio_expected_ref_count`).
//!
//! Each entry that maps it has one, the cache that it is in has one, and reclaim's laundry has one.
//! Whoever wants to know whether a folio is in use otherwise compares the count with these and its
//! own. Takes no lock: under the folio lock the answer stays true but for entries.

use super::Folio;
use crate::frame::{Frame, flag};

impl Folio {
    /// The references of `entries` page-table entries, of the page cache or the swap cache, and of
    /// the laundry. (An entry that names the folio's slot has none: the slot's count knows it.)
    #[inline]
    pub(crate) fn expected_refs(self, entries: u32) -> u32 {
        let flags = self.flags();
        let set = |bit| u32::from(flags & bit != 0);
        let cached = flags & flag::SWAPCACHE != 0 || Frame::of_file(flags);
        entries + u32::from(cached) + set(flag::LAUNDRY)
    }

    /// From no references but the expected ones and `ours` to none at all, so that nobody can take
    /// one any more. Nothing maps the folio. False, and nothing has changed, when there are others.
    #[inline]
    pub(crate) fn freeze_unmapped(self, ours: u32) -> bool {
        self.freeze(self.expected_refs(0) + ours)
    }

    /// Ends that.
    pub(crate) fn thaw_unmapped(self, ours: u32) {
        self.unfreeze(self.expected_refs(0) + ours);
    }
}
