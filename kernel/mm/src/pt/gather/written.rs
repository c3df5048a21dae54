//! File folios that were written through an entry that is gone: when they become dirty, and when they stop counting as
//! mapped.
//!
//! Rule 2: dirty at once, under the PTL, so that the mark comes before whoever cleans the folio next; counted as mapped
//! until every CPU was flushed. The variants make it dirty only then, and then may put flush and mark off until the
//! lock is dropped: between the two a sync finds the folio clean, unless it waits for the folio's *pending* count. Takes
//! the file's tree lock; never sleeps.

use super::BATCH;
use crate::folio;
use crate::frame::frame;
use crate::knobs::{self, Knob};
use crate::pagecache;
use crate::stats::{Event, count};
use arch::Pfn;

/// A file folio whose entry, through which it was written, is gone, but which a TLB may still translate to. Holds the entry's
/// reference, and counts as mapped.
#[must_use = "an unhooked folio must go to a gather"]
pub struct Written {
    pfn: Pfn,
}

impl Written {
    /// The folio of an entry that was just taken out.
    #[inline]
    pub(crate) fn new(pfn: Pfn) -> Self {
        Self { pfn }
    }

    pub(super) fn pfn(&self) -> Pfn {
        self.pfn
    }
}

/// When the flush comes, and with it the end of counting as mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment {
    /// Before the table is unlocked.
    Locked,
    /// With the batch's own flush.
    Unlocked,
}

/// When the folio becomes dirty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    /// Before the flush.
    AtOnce,
    /// After it.
    Late(Moment),
    /// After it and after unlocking; until then the folio counts as pending.
    Pending,
}

impl Mark {
    fn chosen() -> Self {
        if knobs::on(Knob::LateDirtyPending) {
            Self::Pending
        } else if knobs::on(Knob::LateDirtyUnlocked) {
            Self::Late(Moment::Unlocked)
        } else if knobs::on(Knob::LateDirty) {
            Self::Late(Moment::Locked)
        } else {
            Self::AtOnce
        }
    }
}

/// Which pages of a batch still count as mapped.
pub(super) struct Delayed {
    bits: [u64; BATCH / 64],
    any: bool,
    mark: Mark,
}

impl Delayed {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            bits: [0; BATCH / 64],
            any: false,
            mark: Mark::chosen(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        !self.any
    }

    pub(super) fn moment(&self) -> Moment {
        match self.mark {
            Mark::AtOnce => Moment::Locked,
            Mark::Late(moment) => moment,
            Mark::Pending => Moment::Unlocked,
        }
    }

    /// Page `at` of the batch is a folio that was written.
    pub(super) fn add(&mut self, at: usize, page: Written) {
        count(Event::ZapWritten);
        match self.mark {
            Mark::AtOnce => pagecache::set_dirty(page.pfn),
            Mark::Late(_) => {}
            Mark::Pending => folio::begin_pending(page.pfn),
        }
        if !knobs::on(Knob::DelayRmap) {
            drop_one(page.pfn, self.mark);
            return;
        }
        self.bits[at / 64] |= 1 << (at % 64);
        self.any = true;
    }

    /// No CPU translates to any of them any more.
    pub(super) fn drop_all(&mut self, pages: &[Pfn; BATCH]) {
        if !self.any {
            return;
        }
        self.any = false;
        for (word, bits) in self.bits.iter_mut().enumerate() {
            while *bits != 0 {
                drop_one(pages[64 * word + bits.trailing_zeros() as usize], self.mark);
                *bits &= *bits - 1;
            }
        }
    }
}

/// The folio stops counting as mapped for one entry, and is dirty at the latest now.
fn drop_one(pfn: Pfn, mark: Mark) {
    if mark != Mark::AtOnce {
        pagecache::set_dirty(pfn);
    }
    frame(pfn).map_dec();
    if mark == Mark::Pending {
        folio::end_pending(pfn);
    }
}
