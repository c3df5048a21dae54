//! Virtual memory areas: one record per mapped range, in a pool, named by id.
//!
//! Fields are written under the owner's `mmap_lock` held exclusively, and `start`, `end` and
//! `pgoff` also under the locks of the reverse maps that lead to the area (the anon_vma's, the
//! file's `IMmap`); reading needs either. Tree links belong to the [`set::VmaSet`], the chain head
//! to `mmap_lock` plus the anon_vma lock, the `imap` links to the file's lock.

/// Cells of a record as the links of a tree: `links!(i, record of i; get set cell, …)`.
macro_rules! links {
    ($i:ident, $record:expr; $($get:ident $set:ident $cell:ident: $ty:ty),*) => { $(
        #[inline]
        fn $get(&self, $i: u32) -> $ty {
            $record.$cell.load(core::sync::atomic::Ordering::Relaxed)
        }
        #[inline]
        fn $set(&self, $i: u32, to: $ty) {
            $record.$cell.store(to, core::sync::atomic::Ordering::Relaxed);
        }
    )* };
}

pub mod anon;
pub(crate) mod edit;
pub mod imap;
pub(crate) mod links;
pub mod set;

use crate::arena::{Arena, Slot};
use crate::frame::NIL;
use crate::pagecache::opened::OpenFile;
use arch::VirtAddr;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// What may be done with the pages of an area, and how it behaves: [`Vma::flags`].
pub mod vm {
    /// Loads are allowed.
    pub const READ: u32 = 1 << 0;
    /// Stores are allowed.
    pub const WRITE: u32 = 1 << 1;
    /// Instruction fetches are allowed.
    pub const EXEC: u32 = 1 << 2;
    /// Grows downwards on a fault just below it.
    pub const GROWSDOWN: u32 = 1 << 3;
    /// Stores go to the file, and whoever else maps it sees them. Without it, to a copy of the
    /// page.
    pub const SHARED: u32 = 1 << 4;
    /// Huge pages were advised.
    pub const HUGEPAGE: u32 = 1 << 5;
    /// It was advised against huge pages.
    pub const NOHUGEPAGE: u32 = 1 << 6;
    /// Every protection bit.
    pub const PROT: u32 = READ | WRITE | EXEC;
}

/// One area. See the module text for who may write what.
pub struct Vma {
    start: AtomicU64,
    end: AtomicU64,
    /// What the subtree in the VMA tree spans, and its largest gap (see `set`).
    span_start: AtomicU64,
    span_end: AtomicU64,
    gap: AtomicU64,
    pgoff: AtomicU32,
    flags: AtomicU32,
    mm: AtomicU32,
    anon: AtomicU32,
    chain: AtomicU32,
    file: AtomicU32,
    open_file: AtomicU32,
    imap: ImapLinks,
    left: AtomicU32,
    right: AtomicU32,
    parent: AtomicU32,
    rank: AtomicU8,
}

impl Default for Vma {
    fn default() -> Self {
        Self {
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            span_start: AtomicU64::new(0),
            span_end: AtomicU64::new(0),
            gap: AtomicU64::new(0),
            pgoff: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            mm: AtomicU32::new(NIL),
            anon: AtomicU32::new(NIL),
            chain: AtomicU32::new(NIL),
            file: AtomicU32::new(NIL),
            open_file: AtomicU32::new(NIL),
            imap: ImapLinks::default(),
            left: AtomicU32::new(NIL),
            right: AtomicU32::new(NIL),
            parent: AtomicU32::new(NIL),
            rank: AtomicU8::new(0),
        }
    }
}

/// An area's place in its file's interval tree.
#[derive(Default)]
struct ImapLinks {
    left: AtomicU32,
    right: AtomicU32,
    parent: AtomicU32,
    max_last: AtomicU32,
    rank: AtomicU8,
}

impl Slot for Vma {
    fn link(&self) -> &AtomicU32 {
        &self.left
    }
}

static VMAS: Arena<Vma> = Arena::new();

/// The pool of areas.
pub(crate) fn pool() -> &'static Arena<Vma> {
    &VMAS
}

/// Live areas.
pub fn live() -> usize {
    VMAS.live()
}

/// The area with this id.
#[inline]
pub fn vma(id: u32) -> &'static Vma {
    VMAS.get(id)
}

macro_rules! field {
    ($get:ident, $set:ident, $ty:ty, $doc:literal) => {
        #[doc = $doc]
        #[inline]
        pub fn $get(&self) -> $ty {
            self.$get.load(Ordering::Relaxed)
        }
        #[doc = concat!("Sets: ", $doc)]
        #[inline]
        pub(crate) fn $set(&self, v: $ty) {
            self.$get.store(v, Ordering::Relaxed);
        }
    };
}

impl Vma {
    field!(start, set_start, u64, "First byte, page aligned.");
    field!(end, set_end, u64, "First byte after, page aligned.");
    field!(
        pgoff,
        set_pgoff,
        u32,
        "Page index of `start` in the file, or without one in the anon_vma's order."
    );
    field!(flags, set_flags, u32, "Bits of [`vm`].");
    field!(mm, set_mm, u32, "Id of the owner.");
    field!(anon, set_anon, u32, "Id of the anon_vma, or NIL.");
    field!(
        chain,
        set_chain,
        u32,
        "First anon_vma_chain of this area, or NIL."
    );

    field!(file, set_file, u32, "Id of the file that it maps, or NIL.");
    field!(
        open_file,
        set_open_file,
        u32,
        "Id of the open file that it holds, or NIL."
    );

    /// The open file through which it was mapped, with a count of its own; `None` without one.
    pub(crate) fn opened(&self) -> Option<OpenFile> {
        let id = self.open_file();
        (id != NIL).then(|| OpenFile::share_id(id))
    }

    /// The area after this one in an [`edit::Taken`]: outside of a set, a tree link is free for
    /// that.
    fn next_taken(&self) -> u32 {
        self.right.load(Ordering::Relaxed)
    }
    fn set_next_taken(&self, to: u32) {
        self.right.store(to, Ordering::Relaxed);
    }

    /// Pages in the area.
    pub fn pages(&self) -> u64 {
        (self.end() - self.start()) >> arch::PAGE_SHIFT
    }
    /// The address lies in the area.
    #[inline]
    pub fn contains(&self, va: VirtAddr) -> bool {
        self.start() <= va.0 && va.0 < self.end()
    }
    /// All of `bits` are set.
    #[inline]
    pub fn has(&self, bits: u32) -> bool {
        self.flags() & bits == bits
    }
    /// Page index, in the file or the anon_vma's order, of the page at `va`.
    #[inline]
    pub fn index_of(&self, va: VirtAddr) -> u32 {
        self.pgoff() + ((va.0 - self.start()) >> arch::PAGE_SHIFT) as u32
    }
    /// Where page `index` of the file or the anon_vma's order lies in this area, if it does.
    #[inline]
    pub fn address_of(&self, index: u32) -> Option<VirtAddr> {
        let pages = index.checked_sub(self.pgoff())?;
        let va = self.start() + ((pages as u64) << arch::PAGE_SHIFT);
        (va < self.end()).then_some(VirtAddr(va))
    }
    /// The bits of an entry in this area, without the write bit. An area without any permission
    /// keeps its frames mapped to the rmap, but not to the MMU.
    #[inline]
    pub fn entry_bits(&self) -> u64 {
        use arch::pte::{NX, PRESENT, PROT_NONE, USER};
        match self.flags() & vm::PROT {
            0 => PROT_NONE | NX,
            p if p & vm::EXEC != 0 => PRESENT | USER,
            _ => PRESENT | USER | NX,
        }
    }
}
