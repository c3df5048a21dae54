//! An address space as actors use it: mm's operations in pages instead of bytes.
//!
//! Sleeps (every operation takes `mmap_lock`). No operation may be called with a lock held.

use arch::{PAGE_SIZE, VirtAddr};
use mm::file::Opener;
pub use mm::ops::move_pages::Moved;
use mm::{Adopted, MapFlags, MmError, MmRef, RemapFlags, Sync};
pub use mm::{Advice, Prot};

use crate::stress::team::Stop;

/// Bytes of `pages` pages.
pub const fn bytes(pages: usize) -> u64 {
    pages as u64 * PAGE_SIZE
}

/// The address `pages` pages above `base`.
pub const fn at(base: VirtAddr, pages: usize) -> VirtAddr {
    VirtAddr(base.0 + bytes(pages))
}

/// A handle on an address space.
#[derive(Clone)]
pub struct Space(MmRef);

impl Space {
    /// A new, empty one.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> Result<Self, MmError> {
        MmRef::new().map(Self)
    }
    /// The address space itself.
    pub fn mm(&self) -> &MmRef {
        &self.0
    }
    /// Until the guard is dropped, the calling thread's user half is this address space.
    pub fn enter(&self) -> Adopted {
        self.0.adopt()
    }
    /// Maps `pages` fresh pages at `va`, over whatever was there.
    ///
    /// # Errors
    /// As mmap with MAP_FIXED.
    pub fn map(&self, va: VirtAddr, pages: usize, prot: Prot) -> Result<(), MmError> {
        self.0
            .mmap(Some(va), bytes(pages), prot, MapFlags::FIXED)
            .map(drop)
    }
    /// Maps `pages` pages of a file from its page `first` on at `va`, over whatever was there:
    /// shared, or private.
    ///
    /// # Errors
    /// As mmap with MAP_FIXED.
    pub fn map_file(
        &self,
        va: VirtAddr,
        pages: usize,
        prot: Prot,
        flags: MapFlags,
        file: &Opener,
        first: u32,
    ) -> Result<(), MmError> {
        let flags = flags | MapFlags::FIXED;
        self.0
            .mmap_file(Some(va), bytes(pages), prot, flags, file, first)
            .map(drop)
    }
    /// Makes durable what was stored through shared mappings of these pages.
    ///
    /// # Errors
    /// As msync with MS_SYNC.
    pub fn sync(&self, va: VirtAddr, pages: usize) -> Result<(), MmError> {
        self.0.msync(va, bytes(pages), Sync::Wait)
    }
    /// Maps `pages` fresh pages where there is room.
    ///
    /// # Errors
    /// As mmap.
    pub fn map_anywhere(&self, pages: usize) -> Result<VirtAddr, MmError> {
        self.0.mmap(None, bytes(pages), Prot::RW, MapFlags::NONE)
    }
    /// Maps `pages` fresh pages at `hint` if there is room, elsewhere if not.
    ///
    /// # Errors
    /// As mmap.
    pub fn map_near(&self, hint: VirtAddr, pages: usize) -> Result<VirtAddr, MmError> {
        self.0
            .mmap(Some(hint), bytes(pages), Prot::RW, MapFlags::NONE)
    }
    /// Maps `pages` fresh pages at `va` and nowhere else, unless something is there.
    ///
    /// # Errors
    /// As mmap with MAP_FIXED_NOREPLACE.
    pub fn map_noreplace(&self, va: VirtAddr, pages: usize) -> Result<(), MmError> {
        self.0
            .mmap(Some(va), bytes(pages), Prot::RW, MapFlags::FIXED_NOREPLACE)
            .map(drop)
    }
    /// Changes the size of a mapping, which may move; returns where it is now.
    ///
    /// # Errors
    /// As mremap with MREMAP_MAYMOVE.
    pub fn resize(&self, va: VirtAddr, old: usize, new: usize) -> Result<VirtAddr, MmError> {
        self.0
            .mremap(va, bytes(old), bytes(new), RemapFlags::MAYMOVE, None)
    }
    /// Unmaps what is mapped there.
    ///
    /// # Errors
    /// As munmap.
    pub fn unmap(&self, va: VirtAddr, pages: usize) -> Result<(), MmError> {
        self.0.munmap(va, bytes(pages))
    }
    /// Changes the protection.
    ///
    /// # Errors
    /// As mprotect.
    pub fn protect(&self, va: VirtAddr, pages: usize, prot: Prot) -> Result<(), MmError> {
        self.0.mprotect(va, bytes(pages), prot)
    }
    /// Gives advice.
    ///
    /// # Errors
    /// As madvise.
    pub fn advise(&self, va: VirtAddr, pages: usize, advice: Advice) -> Result<(), MmError> {
        self.0.madvise(va, bytes(pages), advice)
    }
    /// Moves pages to `to`, over whatever was there.
    ///
    /// # Errors
    /// As mremap with MREMAP_FIXED.
    pub fn move_to(&self, from: VirtAddr, pages: usize, to: VirtAddr) -> Result<(), MmError> {
        let len = bytes(pages);
        self.0
            .mremap(from, len, len, RemapFlags::FIXED, Some(to))
            .map(drop)
    }
    /// Moves what is mapped in `pages` pages from `va` on to other frames.
    ///
    /// # Errors
    /// As move_pages.
    pub fn migrate(&self, va: VirtAddr, pages: usize) -> Result<Moved, MmError> {
        self.0.move_pages(va, bytes(pages))
    }
    /// A copy-on-write copy.
    ///
    /// # Errors
    /// As fork.
    pub fn fork(&self) -> Result<Self, MmError> {
        self.0.fork().map(Self)
    }
}

/// What an actor makes of a refused operation: the OOM killer's verdict ends it, anything else but
/// want of memory is a failure.
///
/// # Errors
/// See above; `Ok` means: refused for want of memory.
pub fn refused(what: &str, e: MmError) -> Result<(), Stop> {
    match e {
        MmError::NoMemory => Ok(()),
        MmError::Killed => Err(Stop::Killed),
        e => Err(Stop::Wrong(alloc::format!("{what} failed with {e:?}"))),
    }
}
