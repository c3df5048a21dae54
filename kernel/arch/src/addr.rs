//! Frame numbers, physical and virtual addresses: three types that do not mix. And the geometry of
//! page tables: how many entries a table has, and how much each maps.
//!
//! The feature `small-tables`, of the simulated machine only, gives PTE and PMD tables 8 entries in
//! place of 512: a huge page has 8 pages, and what is to be known of it is explored at small cost.

use core::fmt;

#[cfg(all(target_os = "none", feature = "small-tables"))]
compile_error!("the MMU's tables have 512 entries: small-tables is the simulator's");

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a base page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// 64-bit words in a frame, as many as an upper table has entries.
pub const WORDS: usize = PAGE_SIZE as usize / 8;
/// Index bits of PUD and PGD tables.
const UPPER_BITS: u32 = 9;
/// Index bits of PTE and PMD tables.
const LOWER_BITS: u32 = if cfg!(feature = "small-tables") { 3 } else { 9 };

/// log2 of the bytes that one entry of a table of `level` maps (0 = PTE, 1 = PMD, 2 = PUD, 3 = PGD;
/// 4: log2 of the whole space).
#[inline]
pub const fn shift(level: u32) -> u32 {
    if LOWER_BITS == UPPER_BITS || level <= 2 {
        PAGE_SHIFT + LOWER_BITS * level
    } else {
        PAGE_SHIFT + LOWER_BITS * 2 + UPPER_BITS * (level - 2)
    }
}
/// Bytes that one entry of a table of `level` maps, and a table of the level below; as [`shift`].
#[inline]
pub const fn span(level: u32) -> u64 {
    1 << shift(level)
}
/// Entries in a table of `level`.
#[inline]
pub const fn entries(level: u32) -> usize {
    1 << (shift(level + 1) - shift(level))
}
/// Bytes that one PMD entry maps.
pub const PMD_SIZE: u64 = span(1);
/// Bytes that one PUD entry maps.
pub const PUD_SIZE: u64 = span(2);
/// Bytes that one PGD entry maps.
pub const PGD_SIZE: u64 = span(3);
/// log2 of the pages that one PMD entry maps.
pub const HPAGE_PMD_ORDER: u8 = LOWER_BITS as u8;
/// First address above the user half. At most 16 TiB, so that a page index fits 32 bits, and at
/// most the lower half of the space.
pub const USER_TOP: u64 = if shift(4) > 44 { 1 << 44 } else { span(4) / 2 };
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
        (self.0 >> shift(level)) as usize & (entries(level) - 1)
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
