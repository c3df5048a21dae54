//! An area in the reverse maps that lead to it: its file's and its anon_vmas'.
//!
//! Takes the file's `Rank::IMmap` lock, then the family's `Rank::AnonVma`, exclusively. The owner's
//! `mmap_lock` is held exclusively. Sleeps; [`clone`] allocates.

use super::{anon, imap};
use crate::error::MmError;
use crate::knobs::{self, Knob};

/// Runs `change`, which alters `start`, `end` or `pgoff` of the given areas of one family and file:
/// reverse walks see before or after.
pub(crate) fn adjust(areas: &[u32], change: impl FnOnce()) {
    imap::adjust(areas, || anon::adjust(areas, change));
}

/// Lets an area end elsewhere.
pub(crate) fn set_end(vma_id: u32, end: u64) {
    imap::resize(vma_id, || anon::set_end(vma_id, end));
}

/// Gives `dst` (same page indexes as `src`, not yet visible) every link that `src` has.
///
/// # Errors
/// [`MmError::NoMemory`]; `dst` has no links then.
pub(crate) fn clone(dst: u32, src: u32) -> Result<(), MmError> {
    anon::clone(dst, src)?;
    imap::clone(dst, src);
    Ok(())
}

/// As [`clone`], for the copy of an area in a forked child. It comes after the parent's area in
/// each tree: a walk that changes entries while the fork copies them finds the parent's before it
/// is copied, or the copy afterwards.
///
/// # Errors
/// [`MmError::NoMemory`]; `child` has no links then.
pub(crate) fn fork(child: u32, parent: u32) -> Result<(), MmError> {
    anon::fork(child, parent)?;
    if !knobs::on(Knob::ChildAfter) {
        // What goes in last comes after its equals.
        anon::adjust(&[parent], || ());
    }
    if knobs::on(Knob::ForkLinked) {
        link_file(child, parent);
    }
    Ok(())
}

/// The file's half of [`fork`].
pub(crate) fn link_file(child: u32, parent: u32) {
    imap::clone(child, parent);
    if !knobs::on(Knob::ChildAfter) {
        // As above.
        imap::adjust(&[parent], || ());
    }
}

/// Takes an area out of every reverse map: its tables may be freed afterwards.
pub(crate) fn unlink(vma_id: u32) {
    imap::unlink(vma_id);
    anon::unlink(vma_id);
}
