//! The operations on address spaces: what system calls do. Each file says what it locks.
//!
//! All take `mmap_lock`, most exclusively; none may be called with a lock held. An operation that
//! fails has changed nothing, unless its text says otherwise: objects and tables are reserved
//! first.

pub mod args;
mod cold;
mod fork;
mod hugepage;
mod lazyfree;
mod madvise;
mod mmap;
pub mod move_pages;
mod mprotect;
mod mremap;
mod msync;
mod munmap;
pub mod swapoff;
pub(crate) mod weakened;

use crate::error::MmError;
use crate::mm::Mm;
use crate::vma::set::VmaSet;
use core::ops::{Deref, DerefMut};
use sync::{ReadGuard, WriteGuard};

/// The areas for a change.
///
/// # Errors
/// [`MmError::Killed`].
fn write(mm: &Mm) -> Result<Changing<'_>, MmError> {
    let set = Changing::new(mm, mm.mmap_lock.write());
    if mm.is_killed() {
        Err(MmError::Killed)
    } else {
        Ok(set)
    }
}

/// The areas of an address space, to be changed, and the knowledge by whom: should it be killed
/// meanwhile, this thread must not wait for the memory that comes back only when it lets go.
struct Changing<'a> {
    mm: &'a Mm,
    set: WriteGuard<'a, VmaSet>,
}

impl<'a> Changing<'a> {
    fn new(mm: &'a Mm, set: WriteGuard<'a, VmaSet>) -> Self {
        mm.set_changing(true);
        Self { mm, set }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.mm.set_changing(false);
    }
}

impl Deref for Changing<'_> {
    type Target = VmaSet;
    fn deref(&self) -> &VmaSet {
        &self.set
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut VmaSet {
        &mut self.set
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
