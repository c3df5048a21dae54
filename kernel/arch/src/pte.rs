//! The page-table entry format of x86-64, which both machines use (the simulator walks the same
//! tables).
//!
//! Non-present entries that are not zero are ours to define: a swap entry has bit 1 set
//! ([`SWAP_MARK`]) and the slot in bits 12 and up; a migration entry has bit 2 set as well
//! ([`MIGRATION`]) and keeps the frame of a page that is being moved; an entry of an area without
//! any permission has bit 8 set ([`PROT_NONE`]), never bit 1, and keeps its frame. At PMD level
//! [`HUGE`] stays set where a huge page is mapped without a permission ([`PROT_NONE`]) or is being
//! split; without it, [`SWAP_MARK`] tells that one is being moved. Source: Intel SDM vol. 3, 4.5.

use crate::addr::Pfn;

/// The entry translates.
pub const PRESENT: u64 = 1 << 0;
/// Writes are allowed.
pub const WRITE: u64 = 1 << 1;
/// The user half may use it.
pub const USER: u64 = 1 << 2;
/// Set by the MMU at the first use of the translation.
pub const ACCESSED: u64 = 1 << 5;
/// Set by the MMU at the first write through the translation.
pub const DIRTY: u64 = 1 << 6;
/// At PMD or PUD level: maps a large page.
pub const HUGE: u64 = 1 << 7;
/// Survives a root change (kernel mappings).
pub const GLOBAL: u64 = 1 << 8;
/// Software bit: the frame has no folio behind it (the shared zero page).
pub const SPECIAL: u64 = 1 << 9;
/// Instructions may not be fetched.
pub const NX: u64 = 1 << 63;
/// In a non-present entry: the frame is mapped, but every access faults.
pub const PROT_NONE: u64 = 1 << 8;
/// In a non-present entry: a swap entry, or with [`MIGRATION`] a migration entry.
pub const SWAP_MARK: u64 = 1 << 1;
/// Beside [`SWAP_MARK`]: the page in this frame is being moved.
pub const MIGRATION: u64 = 1 << 2;
/// In a migration entry: the page belongs to the entry's address space alone.
pub const MIGRATION_EXCLUSIVE: u64 = 1 << 3;
/// The frame-number field.
pub const ADDR_MASK: u64 = 0x000f_ffff_ffff_f000;

/// What an entry above the PTE tables says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upper {
    /// Nothing.
    None,
    /// The table in this frame is next on the way down.
    Table(Pfn),
    /// A huge page, which the MMU may use or not ([`PROT_NONE`]).
    Huge,
    /// A huge page that is being moved.
    Migration,
    /// A huge page that is being split.
    Invalid,
}

/// One page-table entry, as a value (a snapshot of a cell).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(pub u64);

impl Entry {
    /// No translation, nothing remembered.
    pub const NONE: Self = Self(0);

    /// A present entry for `pfn` with `flags`.
    #[inline]
    pub const fn new(pfn: Pfn, flags: u64) -> Self {
        Self(((pfn.0 as u64) << 12) | flags | PRESENT)
    }
    /// An entry for `pfn` with exactly `bits` ([`PRESENT`] or [`PROT_NONE`] among them).
    #[inline]
    pub const fn from_bits(pfn: Pfn, bits: u64) -> Self {
        Self(((pfn.0 as u64) << 12) | bits)
    }
    /// A frame is mapped here, usable by the MMU or not ([`PROT_NONE`]).
    #[inline]
    pub const fn is_mapped(self) -> bool {
        self.0 & PRESENT != 0 || self.0 & (SWAP_MARK | PROT_NONE) == PROT_NONE
    }
    /// A non-present entry that remembers swap slot `slot`.
    #[inline]
    pub const fn swap(slot: u32) -> Self {
        Self(((slot as u64) << 12) | SWAP_MARK)
    }
    /// A migration entry: `old`, which maps a page that is to move, as the MMU cannot use it. It
    /// keeps the frame and the accessed and dirty bits.
    #[inline]
    pub const fn migration(old: Self, exclusive: bool) -> Self {
        let kept = old.0 & (ADDR_MASK | ACCESSED | DIRTY);
        let exclusive = if exclusive { MIGRATION_EXCLUSIVE } else { 0 };
        Self(kept | SWAP_MARK | MIGRATION | exclusive)
    }
    /// Not present, and remembers the frame of a page that is being moved.
    #[inline]
    pub const fn is_migration(self) -> bool {
        self.0 & (PRESENT | SWAP_MARK | MIGRATION) == SWAP_MARK | MIGRATION
    }
    /// Of a migration entry: the page belongs to the entry's address space alone.
    #[inline]
    pub const fn is_migration_exclusive(self) -> bool {
        self.is_migration() && self.0 & MIGRATION_EXCLUSIVE != 0
    }
    /// Nothing is mapped or remembered here.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
    /// The MMU would use this entry.
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }
    /// Not present, and remembers a swap slot.
    #[inline]
    pub const fn is_swap(self) -> bool {
        self.0 & (PRESENT | SWAP_MARK | MIGRATION) == SWAP_MARK
    }
    /// The slot of a swap entry.
    #[inline]
    pub const fn swap_slot(self) -> u32 {
        ((self.0 & ADDR_MASK) >> 12) as u32
    }
    /// The frame of an entry that maps one or remembers it.
    #[inline]
    pub const fn pfn(self) -> Pfn {
        Pfn(((self.0 & ADDR_MASK) >> 12) as u32)
    }
    /// Writes are allowed.
    #[inline]
    pub const fn is_write(self) -> bool {
        self.0 & WRITE != 0
    }
    /// The MMU saw a write.
    #[inline]
    pub const fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }
    /// The MMU saw a use.
    #[inline]
    pub const fn is_accessed(self) -> bool {
        self.0 & ACCESSED != 0
    }
    /// Maps a large page (PMD, PUD level only).
    #[inline]
    pub const fn is_huge(self) -> bool {
        self.0 & (PRESENT | HUGE) == PRESENT | HUGE
    }
    /// Of an entry that maps a huge page: the PTE that maps its page `i` with the same rights and
    /// the same state.
    #[inline]
    pub const fn piece(self, i: u32) -> Self {
        Self(self.0 & !HUGE).add_frames(i)
    }
    const fn add_frames(self, n: u32) -> Self {
        Self(self.0 + ((n as u64) << 12))
    }
    /// Of an entry that maps a huge page: the same, as the MMU cannot use it, while it is split.
    #[inline]
    pub const fn being_split(self) -> Self {
        self.without(PRESENT | PROT_NONE)
    }
    /// What an entry above the PTE tables says.
    #[inline]
    pub const fn upper(self) -> Upper {
        if let Some(table) = self.table() {
            return Upper::Table(table);
        }
        if self.is_none() {
            Upper::None
        } else if self.0 & (HUGE | SWAP_MARK) == SWAP_MARK {
            Upper::Migration
        } else if self.0 & (PRESENT | PROT_NONE) != 0 {
            Upper::Huge
        } else {
            Upper::Invalid
        }
    }
    /// The table that an entry above the PTE tables names, if it does.
    #[inline]
    pub const fn table(self) -> Option<Pfn> {
        if self.0 & (PRESENT | HUGE) == PRESENT {
            Some(self.pfn())
        } else {
            None
        }
    }
    /// Has no folio behind it.
    #[inline]
    pub const fn is_special(self) -> bool {
        self.0 & SPECIAL != 0
    }
    /// The entry with `bits` set.
    #[inline]
    pub const fn with(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }
    /// The entry with `bits` cleared.
    #[inline]
    pub const fn without(self, bits: u64) -> Self {
        Self(self.0 & !bits)
    }
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "pte {:#x}", self.0)
    }
}
