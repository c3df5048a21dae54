//! The arguments of the operations: protections, flags, advice, ranges. Plain values.

use crate::error::MmError;
use crate::vma::vm;
use arch::VirtAddr;
use arch::addr::{PAGE_SIZE, USER_TOP, page_align_up};

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident { $($(#[$cdoc:meta])* $c:ident = $v:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(u32);
        impl $name {
            /// Nothing set.
            pub const NONE: Self = Self(0);
            $($(#[$cdoc])* pub const $c: Self = Self($v);)*
            /// All of `other` is set.
            #[inline]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }
        impl core::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    };
}

bits! {
    /// What may be done with pages. As on x86, pages that may be written or executed may be read.
    Prot {
        /// Loads.
        READ = vm::READ,
        /// Stores.
        WRITE = vm::WRITE,
        /// Instruction fetches.
        EXEC = vm::EXEC,
        /// Loads and stores.
        RW = vm::READ | vm::WRITE,
    }
}

impl Prot {
    /// The bits of [`vm`].
    #[inline]
    pub(crate) const fn vm(self) -> u32 {
        self.0
    }
}

bits! {
    /// How to map.
    MapFlags {
        /// Exactly at the hint; what is mapped there goes.
        FIXED = 1 << 0,
        /// Exactly at the hint, which must be free.
        FIXED_NOREPLACE = 1 << 1,
        /// A stack: grows downwards on a fault just below it.
        GROWSDOWN = 1 << 2,
        /// Of a file: stores go to it, and whoever else maps it sees them.
        SHARED = 1 << 3,
    }
}

bits! {
    /// How to move a mapping.
    RemapFlags {
        /// It may move when it cannot grow where it is.
        MAYMOVE = 1 << 0,
        /// It moves to the given address; what is mapped there goes.
        FIXED = 1 << 0 | 1 << 1,
    }
}

/// How far [`msync`](crate::MmRef::msync) goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// The writes are begun.
    Start,
    /// They are durable.
    Wait,
}

/// What the caller expects to do with a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Drop the content: the next access finds zeroes.
    DontNeed,
    /// The content may be dropped when memory is short, unless it is written before.
    Free,
    /// Read in what is swapped out, or not in memory of a file.
    WillNeed,
    /// Reclaim these pages before others.
    Cold,
    /// Reclaim these pages now.
    PageOut,
    /// Use huge pages.
    HugePage,
    /// Use none.
    NoHugePage,
}

/// A page-aligned, non-empty range below [`USER_TOP`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Range {
    /// `len` bytes from `va` on, rounded up to whole pages; `None` when that is empty.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for an unaligned start; `beyond` when the range ends above the user
    /// half.
    pub(crate) fn new(va: VirtAddr, len: u64, beyond: MmError) -> Result<Option<Self>, MmError> {
        if !va.0.is_multiple_of(PAGE_SIZE) {
            return Err(MmError::Invalid);
        }
        let start = va.0;
        if start > USER_TOP || len > USER_TOP - start {
            return Err(beyond);
        }
        let end = start + page_align_up(len);
        Ok((start < end).then_some(Self { start, end }))
    }

    /// As [`Range::new`], but a range that ends above the user half is cut off there: the flag says
    /// whether it was left whole.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for an unaligned start; `beyond` when no page of it lies in the user
    /// half, or its end is no address at all.
    pub(crate) fn clipped(
        va: VirtAddr,
        len: u64,
        beyond: MmError,
    ) -> Result<Option<(Self, bool)>, MmError> {
        let room = USER_TOP.saturating_sub(va.0);
        let is_address =
            va.0.checked_add(len)
                .is_some_and(|end| end <= !(PAGE_SIZE - 1));
        if len > room && room > 0 && is_address {
            return Ok(Self::new(va, room, beyond)?.map(|range| (range, false)));
        }
        Ok(Self::new(va, len, beyond)?.map(|range| (range, true)))
    }

    /// Bytes in it.
    pub(crate) fn len(self) -> u64 {
        self.end - self.start
    }

    /// The two share a page.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}
