//! The operations on address spaces: what system calls do. Each file says what it locks.
//!
//! All take `mmap_lock`, most exclusively; none may be called with a lock held. An operation that fails
//! has changed nothing, unless its text says otherwise: objects and tables are reserved first.

pub mod args;
mod cold;
mod fork;
mod lazyfree;
mod madvise;
mod mmap;
mod mprotect;
mod mremap;
mod msync;
mod munmap;
pub mod swapoff;
mod weakened;

use crate::error::MmError;
use crate::mm::Mm;
use crate::vma::set::VmaSet;
use sync::{ReadGuard, WriteGuard};

/// The areas for a change.
///
/// # Errors
/// [`MmError::Killed`].
fn write(mm: &Mm) -> Result<WriteGuard<'_, VmaSet>, MmError> {
    let set = mm.mmap_lock.write();
    if mm.is_killed() {
        Err(MmError::Killed)
    } else {
        Ok(set)
    }
}

/// The areas for looking at, and for changing entries.
///
/// # Errors
/// [`MmError::Killed`].
fn read(mm: &Mm) -> Result<ReadGuard<'_, VmaSet>, MmError> {
    let set = mm.mmap_lock.read();
    if mm.is_killed() {
        Err(MmError::Killed)
    } else {
        Ok(set)
    }
}
