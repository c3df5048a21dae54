//! What faults ask of files: a page to map, locked and with its content; and leave to write to it
//! through an entry.
//!
//! Sleeps: for memory, for reads, for the page's lock and writeback. The caller may hold
//! `mmap_lock`, and no lock inside it.

use super::uptodate::{make_uptodate, mark_dirty};
use super::{Opener, balance};
use crate::error::MmError;
use crate::folio::{self, Folio, FolioGuard};
use crate::frame::flag;
use crate::pagecache::file;
use crate::pagecache::opened::OpenFile;

/// Why a page cannot be had.
pub(crate) enum NoPage {
    /// The file does not reach as far (any more).
    Beyond,
    /// The disk could not read it.
    Unreadable,
    /// The folio is not the page any more: look again.
    Moved,
}

/// The folio of page `index`, and whether its read was begun here; it may be under way. Reads ahead
/// as for a read of the pages up to `last`, which the fault maps if they are in memory. `None`
/// beyond the end.
///
/// # Errors
/// [`MmError::NoMemory`]; [`MmError::Io`] when the page is on the swap disk and cannot be read.
pub(crate) fn find(
    opened: OpenFile,
    index: u32,
    last: u32,
) -> Result<Option<(folio::Ref, bool)>, MmError> {
    opened.begin(index, last);
    Opener(opened).bring_in(index, last)
}

/// Locks the folio that was found as page `index` of file `id`, read.
///
/// # Errors
/// [`NoPage`].
pub(crate) fn lock(id: u32, index: u32, folio: Folio) -> Result<FolioGuard, NoPage> {
    // Not under the lock: others look at pages of the same request meanwhile.
    folio.wait_read();
    let guard = folio.lock();
    check(id, index, &guard)?;
    make_uptodate(file(id), index, &guard).map_err(|_| NoPage::Unreadable)?;
    Ok(guard)
}

/// The locked folio is page `index` of file `id`, which reaches as far. That stays so until it is
/// unlocked, and is what allows an entry to map it: truncation sets the size first, and unmaps each
/// folio under its lock before it goes.
///
/// # Errors
/// [`NoPage`].
pub(crate) fn check(id: u32, index: u32, guard: &FolioGuard) -> Result<(), NoPage> {
    if guard.mapping() != id + 1 || guard.index() != index {
        Err(NoPage::Moved)
    } else if index >= file(id).pages() {
        Err(NoPage::Beyond)
    } else {
        Ok(())
    }
}

/// The locked page of file `id` is about to be written through an entry (Linux: `page_mkwrite`): it
/// is dirty before the entry is writable, and not on its way to the disk. Whether it was clean:
/// then the caller owes a [`balance()`] once it holds no lock. (One that is dirty already, as its
/// write has failed, adds nothing to what waits to be written.)
pub(crate) fn make_writable(id: u32, guard: &FolioGuard) -> bool {
    guard.wait_writeback();
    let was_clean = !guard.has(flag::DIRTY);
    mark_dirty(file(id), guard.folio());
    was_clean
}

/// After pages became dirty through entries: waits while too much is. A disk that takes nothing is
/// the next sync's to tell.
pub(crate) fn balance() {
    let _ = balance::wait_room();
}
