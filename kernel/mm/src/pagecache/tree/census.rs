//! Does the cache of a file add up?

use super::super::{File, file};
use super::{Entry, Pool, entry};
use crate::frame::flag;
use crate::stats::Use;
use algo::radix::Mark;

/// What a look at one file's whole cache found.
pub(crate) struct Census {
    /// Folios in the tree.
    pub(crate) folios: u32,
    /// Dirty ones, and ones being written.
    pub(crate) dirty: u32,
    pub(crate) writeback: u32,
}

/// Counts a cache and holds marks against flags. Under its lock throughout, so for tests and checks
/// only.
///
/// # Errors
/// What does not fit, and the page index.
pub(crate) fn census(id: u32) -> Result<Census, (&'static str, u32)> {
    let f: &File = file(id);
    let inner = f.tree.0.lock();
    inner.radix.validate(&Pool).map_err(|c| (c.what, c.at))?;
    let mut all = Census {
        folios: 0,
        dirty: 0,
        writeback: 0,
    };
    let mut at = Some(0);
    while let Some((index, value)) = at.and_then(|from| inner.radix.next(&Pool, from)) {
        at = index.checked_add(1);
        if index >= f.pages() {
            return Err(("there is a page beyond the end", index));
        }
        let Entry::Folio(page) = entry(value) else {
            continue;
        };
        let marked = |mark| inner.radix.is_marked(&Pool, index, mark);
        let (dirty, writing) = (marked(Mark::Dirty), marked(Mark::Writeback));
        if page.usage() != Use::File || page.mapping() != id + 1 || page.index() != index {
            return Err(("a folio in the cache is another's", index));
        }
        // What swap takes has no marks: nothing writes it back.
        if dirty != page.has(flag::DIRTY) && !page.has(flag::SWAPBACKED) {
            return Err(("DIRTY is not what is marked", index));
        }
        // The flag goes after the mark.
        if writing && !page.has(flag::WRITEBACK) {
            return Err(("WRITEBACK is not what is marked", index));
        }
        all.folios += 1;
        all.dirty += u32::from(dirty);
        all.writeback += u32::from(writing);
    }
    if (all.dirty, all.writeback) != (inner.dirty, inner.writeback) {
        return Err(("the counts are not the marks'", 0));
    }
    Ok(all)
}
