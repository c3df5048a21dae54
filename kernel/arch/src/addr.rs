//! Frame numbers, physical and virtual addresses: three types that do not mix.

use core::fmt;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a base page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Entries in a page-table page of any level.
pub const ENTRIES: usize = 512;
/// Bytes that one PMD entry maps.
pub const PMD_SIZE: u64 = PAGE_SIZE << 9;
/// Bytes that one PUD entry maps.
pub const PUD_SIZE: u64 = PMD_SIZE << 9;
/// Bytes that one PGD entry maps.
pub const PGD_SIZE: u64 = PUD_SIZE << 9;
/// First address above the user half: 16 TiB, so that a page index fits 32 bits.
pub const USER_TOP: u64 = 1 << 44;
/// Lowest address that may be mapped: the first 64 KiB stay empty, so that a null pointer faults.
pub const USER_MIN: u64 = 0x1_0000;

/// A physical frame number: physical address divided by [`PAGE_SIZE`]. At most 2^32 - 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pfn(pub u32);

/// A physical address in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// A virtual address in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VirtAddr(pub u64);

impl Pfn {
    /// Physical address of the frame's first byte.
    #[inline]
    pub const fn phys(self) -> PhysAddr {
        PhysAddr((self.0 as u64) << PAGE_SHIFT)
    }
    /// The frame number as an array index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
    /// The frame `n` frames after this one.
    #[inline]
    pub const fn add(self, n: u32) -> Self {
        Self(self.0 + n)
    }
}

impl PhysAddr {
    /// The frame that holds this byte.
    #[inline]
    pub const fn pfn(self) -> Pfn {
        Pfn((self.0 >> PAGE_SHIFT) as u32)
    }
}

impl VirtAddr {
    /// The address rounded down to a page.
    #[inline]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }
    /// The page index (address divided by the page size); fits 32 bits below [`USER_TOP`].
    #[inline]
    pub const fn page_index(self) -> u32 {
        (self.0 >> PAGE_SHIFT) as u32
    }
    /// Index into the table of `level` (0 = PTE, 1 = PMD, 2 = PUD, 3 = PGD).
    #[inline]
    pub const fn table_index(self, level: u32) -> usize {
        ((self.0 >> (PAGE_SHIFT + 9 * level)) & 511) as usize
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}
impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phys {:#x}", self.0)
    }
}
impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
impl fmt::LowerHex for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Rounds `bytes` up to whole pages.
#[inline]
pub const fn page_align_up(bytes: u64) -> u64 {
    (bytes + PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
}
