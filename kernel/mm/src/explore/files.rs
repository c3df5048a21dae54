//! Files of the explorer's own, on a disk of its own.
//!
//! [`lend()`] before the pocket is opened, [`discard`] for each file before it is rewound. Sleeps.

use super::scan::{Content, of_slot};
use crate::error::MmError;
use crate::file::{self, Opener, lend};
use crate::pagecache;
use crate::pagecache::layout::Kind;
use crate::pagecache::tree::Entry;
use arch::block::BlockDevice;

/// Until it is dropped, files lie on the explorer's disk, and the flusher stands still.
pub struct Lent {
    _lent: lend::Lent,
}

/// Makes `disk`, always the same one, the disk for files; no extent of it may be one of the
/// machine's disk. What the machine's files have in memory is written and, where nobody has it
/// mapped, dropped.
///
/// # Errors
/// Io: something cannot be written.
pub fn lend(disk: &'static dyn BlockDevice) -> Result<Lent, MmError> {
    Ok(Lent {
        _lent: lend::lend(disk)?,
    })
}

/// Drops the pages of a file, written or not. What somebody still has stays. (A file in memory goes
/// by itself, with who has it open.)
pub fn discard(opener: &Opener) {
    let f = opener.opened().file();
    if f.layout.kind() != Kind::Memory {
        file::discard(f);
    }
}

/// Gives back the records of files that nobody has open.
pub fn forget_closed() {
    pagecache::forget_unused();
}

/// The id of the file: its folios have it, plus one, in `mapping`.
pub fn file_id(opener: &Opener) -> u32 {
    opener.opened().file_id()
}

/// Where page `index` of the file is, unless that is its disk, or nowhere.
pub fn file_page(opener: &Opener, index: u32) -> Option<Content> {
    let entry = opener.opened().file().tree.peek(index)?;
    Some(match entry {
        Entry::Folio(folio) => Content::Frame(folio.pfn()),
        Entry::Slot(slot) => of_slot(slot),
    })
}
