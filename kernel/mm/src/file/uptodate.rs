//! The content of one locked page: valid, newer than the disk's, or to be read.
//!
//! Sleeps, for a read.

use super::{balance, io};
use crate::content::HasContent;
use crate::error::MmError;
use crate::folio::{Folio, FolioGuard};
use crate::frame::flag;
use crate::pagecache::File;
use arch::block::Op;

/// The locked folio has content that is not the disk's: an error of reading is of no interest any
/// more.
pub(super) fn became_uptodate(guard: &FolioGuard) {
    if guard.set(flag::UPTODATE) & flag::UPTODATE == 0 {
        guard.clear(flag::ERROR | flag::SUSPECT);
    }
}

/// The locked folio is a page that the file did not have: zeroes.
pub(super) fn make_zero(guard: &FolioGuard) {
    if !guard.has(flag::UPTODATE) {
        guard.zero();
        became_uptodate(guard);
    }
}

/// The content of the locked folio is newer than the disk's: the flusher looks after it from now
/// on.
pub(super) fn mark_dirty(f: &File, folio: Folio) {
    if f.set_dirty(folio) {
        balance::note_dirty();
    }
}

/// The locked folio holds what the disk holds, or newer: reads it, alone, if it was not read or
/// that failed. Sleeps.
///
/// # Errors
/// [`MmError::Io`] when the disk fails.
pub(super) fn make_uptodate(f: &File, index: u32, guard: &FolioGuard) -> Result<(), MmError> {
    guard.wait_read();
    if guard.has(flag::UPTODATE) {
        return Ok(());
    }
    guard.clear(flag::ERROR | flag::SUSPECT);
    guard.set(flag::READING);
    io::start(f, Op::Read, &[(index, guard.pfn().0)]);
    guard.wait_read();
    if guard.has(flag::UPTODATE) {
        Ok(())
    } else {
        Err(MmError::Io)
    }
}
