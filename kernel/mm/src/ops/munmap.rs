//! munmap: areas go, with their pages and the tables that nobody else needs.
//!
//! Takes `mmap_lock` exclusively; sleeps. Order: the areas leave the set (or are cut shorter) →
//! their entries go to the gather → the areas leave their reverse maps → tables without an area go
//! to the gather → one flush → frames and tables are freed. Entries go before the reverse map does,
//! because a mapped folio's anon_vma must be live, and all writable entries of a file's page must
//! be found; tables go after it, because a reverse walk may be in them until then. Only cutting a
//! hole into one area allocates, and that comes first.

use super::args::Range;
use super::write;
use crate::error::MmError;
use crate::frame::NIL;
use crate::handle::MmRef;
use crate::knobs::{self, Knob};
use crate::pt::gather::Gather;
use crate::pt::split::split_ends;
use crate::vma::edit::{self, Taken};
use crate::vma::set::VmaSet;
use crate::vma::vma;
use crate::zap;
use arch::addr::USER_TOP;
use arch::{PAGE_SHIFT, VirtAddr};

impl MmRef {
    /// Unmaps `len` bytes (rounded up to pages) from `va` on. Holes in the range are no error.
    ///
    /// # Errors
    /// Invalid: empty, unaligned, or beyond the user half. NoMemory, TooMany: no record for the
    /// second half of an area whose middle goes. Killed. Nothing is changed then.
    pub fn munmap(&self, va: VirtAddr, len: u64) -> Result<(), MmError> {
        let range = Range::new(va, len, MmError::Invalid)?.ok_or(MmError::Invalid)?;
        let mut set = write(self)?;
        unmap(self, &mut set, range, OldTables::Free)
    }
}

/// What becomes of the tables of an unmapped range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OldTables {
    /// Those that no area needs are freed.
    Free,
    /// They stay for what is mapped there next.
    Keep,
}

/// Unmaps the range. Fails before anything is changed, and only when the range lies strictly inside
/// one area.
///
/// # Errors
/// [`MmError::NoMemory`].
pub(super) fn unmap(
    mm: &MmRef,
    set: &mut VmaSet,
    range: Range,
    tables: OldTables,
) -> Result<(), MmError> {
    split_ends(mm.id(), mm, range.start, range.end);
    let mut gather = Gather::new(mm.id(), mm);
    let Some(span) = detach(mm, set, range, &mut gather)? else {
        return Ok(());
    };
    let (taken, Range { start, end }) = span;
    zap::all(&mut gather, start, end);
    let mut late = None;
    if knobs::on(Knob::UnlinkFirst) {
        taken.discard();
    } else {
        late = Some(taken);
    }
    if tables == OldTables::Free {
        free_tables(&mut gather, set, start, end);
    }
    if let Some(taken) = late {
        // The rule is broken: a reverse walk may still be in the tables.
        gather.flush();
        taken.discard();
    }
    Ok(())
}

/// Takes the range out of the set: whole areas into the list, the rest by making areas shorter.
/// Returns them with the part of the range where something was mapped; `None` when nothing was.
fn detach(
    mm: &MmRef,
    set: &mut VmaSet,
    range: Range,
    gather: &mut Gather<'_>,
) -> Result<Option<(Taken, Range)>, MmError> {
    let Range { start, end } = range;
    let Some(mut at) = set
        .find_id(VirtAddr(start))
        .filter(|&id| vma(id).start() < end)
    else {
        return Ok(None);
    };
    if vma(at).start() < start && end < vma(at).end() {
        edit::cut(set, end)?;
    }
    let mut span = Range {
        start: start.max(vma(at).start()),
        end: start,
    };
    let mut taken = Taken::new();
    let mut bytes = 0;
    loop {
        let (area, next) = (vma(at), set.next(at));
        let (low, high) = (area.start().max(start), area.end().min(end));
        bytes += high - low;
        span.end = high;
        let stays = high - low < area.end() - area.start();
        if area.file() != NIL && stays && knobs::on(Knob::ZapFirst) {
            // An entry that may be written to must be found by whoever cleans the folio.
            zap::all(gather, low, high);
        }
        if low > area.start() {
            edit::trim(set, at, area.start(), low);
        } else if high < area.end() {
            edit::trim(set, at, high, area.end());
        } else {
            taken.take(set, at);
        }
        match next {
            Some(next) if vma(next).start() < end => at = next,
            _ => break,
        }
    }
    mm.total_vm.add(-((bytes >> PAGE_SHIFT) as i64));
    span.start = span.start.max(start);
    Ok(Some((taken, span)))
}

/// Hands tables that covered `start..end`, and that no area needs now, to the gather.
pub(super) fn free_tables(gather: &mut Gather<'_>, set: &VmaSet, start: u64, end: u64) {
    let (below, above) = set.neighbours(start);
    let floor = below.map_or(0, |id| vma(id).end());
    let ceiling = above.map_or(USER_TOP, |id| vma(id).start());
    zap::tables(gather, start, end, floor, ceiling);
}
