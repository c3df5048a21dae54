//! File folios that were written through an entry that is gone: when they become dirty, and when
//! they stop counting as mapped.
//!
//! Rule 2: dirty at once, under the PTL, so that the mark comes before whoever cleans the folio
//! next; counted as mapped until every CPU was flushed. The variants make it dirty only then, and
//! then may put flush and mark off until the lock is dropped: between the two a sync finds the
//! folio clean, unless it waits for the folio's *pending* count. Takes the file's tree lock; never
//! sleeps.

use crate::folio::Folio;
use crate::knobs::{self, Knob};
use crate::pagecache;
use crate::stats::{Event, count};

/// When such a folio becomes dirty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    /// Before the flush.
    AtOnce,
    /// After it.
    Late,
    /// After it, and after the table was unlocked.
    LateUnlocked,
    /// As before; until then the folio counts as pending.
    LatePending,
}

impl Rule {
    pub(super) fn chosen() -> Self {
        if knobs::on(Knob::LateDirtyPending) {
            Self::LatePending
        } else if knobs::on(Knob::LateDirtyUnlocked) {
            Self::LateUnlocked
        } else if knobs::on(Knob::LateDirty) {
            Self::Late
        } else {
            Self::AtOnce
        }
    }

    /// The flush comes before the table is unlocked.
    pub(super) fn before_unlock(self) -> bool {
        matches!(self, Self::AtOnce | Self::Late)
    }

    /// The table is locked, and no CPU flushed yet. [`Rule::flushed`] follows.
    pub(super) fn taken_out(self, folio: Folio) {
        count(Event::ZapWritten);
        match self {
            Self::AtOnce => pagecache::set_dirty(folio),
            Self::Late | Self::LateUnlocked => {}
            Self::LatePending => folio.begin_pending(),
        }
    }

    /// No CPU translates to it any more: it stops counting as mapped for one entry.
    pub(super) fn flushed(self, folio: Folio) {
        if self != Self::AtOnce {
            pagecache::set_dirty(folio);
        }
        folio.map_dec();
        if self == Self::LatePending {
            folio.end_pending();
        }
    }
}
