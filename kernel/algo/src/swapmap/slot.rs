//! The byte that the swap map keeps for each slot: a reference count and two flags, as in Linux,
//! plus "failing" for a slot whose write failed while it was in use. Locks: see [`super`]. Does not
//! sleep.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Most references that a slot's byte counts; more go on elsewhere (see `more`).
pub const MAX_COUNT: u8 = 0x3e;

pub(super) const COUNT: u8 = 0x3f;
/// As a whole byte: the slot must not be used.
pub(super) const BAD: u8 = 0x3f;
/// The swap cache holds the page.
pub(super) const HAS_CACHE: u8 = 0x40;
/// The slot turns [`BAD`] instead of free when nothing uses it any more.
pub(super) const FAILING: u8 = 0x80;

/// What the map says about one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotState(u8);

impl SlotState {
    /// The state in one byte of the lent map. Relaxed: without the lock it may be out of date at
    /// once.
    #[inline]
    pub fn load(byte: &AtomicU8) -> Self {
        Self(byte.load(Relaxed))
    }

    /// References by page-table entries, as far as the byte counts them: all of them up to
    /// [`MAX_COUNT`], 0 only when there are none ([`super::SwapMap::references`] knows the rest).
    #[inline]
    pub const fn count(self) -> u8 {
        if self.is_bad() { 0 } else { self.0 & COUNT }
    }

    /// The swap cache holds the page.
    #[inline]
    pub const fn is_cached(self) -> bool {
        self.0 & HAS_CACHE != 0
    }

    /// Never to be used.
    #[inline]
    pub const fn is_bad(self) -> bool {
        self.0 == BAD
    }

    /// In use, and bad from the moment it no longer is.
    #[inline]
    pub const fn is_failing(self) -> bool {
        self.0 & FAILING != 0
    }

    /// Free to be allocated.
    #[inline]
    pub const fn is_free(self) -> bool {
        self.0 == 0
    }
}
