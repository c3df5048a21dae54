//! The state bits of a record, with its use, its LRU shard and the order of its block beside them
//! in one word.
//!
//! Which lock guards a bit is said where the bit is. No lock is taken here, nothing sleeps.

use super::Frame;
use crate::stats::{self, Use};
use core::sync::atomic::Ordering;
use sync::point::{self, AccessKind, PointKind, class};

/// State bits of [`Frame::flags`].
pub mod flag {
    /// The folio lock (see `folio::lock`).
    pub const LOCKED: u32 = 1 << 0;
    /// Somebody sleeps on the folio lock or on writeback.
    pub const WAITERS: u32 = 1 << 1;
    /// The content is newer than what swap or the file's disk holds.
    pub const DIRTY: u32 = 1 << 2;
    /// The content is valid (a swap read that failed leaves it clear).
    pub const UPTODATE: u32 = 1 << 3;
    /// On an LRU list; links belong to the shard's lock.
    pub const LRU: u32 = 1 << 4;
    /// On (or meant for) the active list.
    pub const ACTIVE: u32 = 1 << 5;
    /// Reclaim needs swap for it. Clear for files, and after MADV_FREE (lazily freeable). (Next to
    /// ACTIVE: the two bits are the number of an LRU list.)
    pub const SWAPBACKED: u32 = 1 << 6;
    /// Seen accessed once while inactive.
    pub const REFERENCED: u32 = 1 << 7;
    /// In the swap cache; `private` holds the slot.
    pub const SWAPCACHE: u32 = 1 << 8;
    /// A write of the content is in flight.
    pub const WRITEBACK: u32 = 1 << 9;
    /// The last read or write of the content failed.
    pub const ERROR: u32 = 1 << 10;
    /// Mapped by one address space only: a write fault may take it over.
    pub const EXCLUSIVE: u32 = 1 << 11;
    /// Read ahead, not used yet.
    pub const READAHEAD: u32 = 1 << 12;
    /// Head of a free block of the buddy allocator.
    pub const BUDDY: u32 = 1 << 13;
    /// A read of the content is in flight.
    pub const READING: u32 = 1 << 14;
    /// With ERROR: the write failed in a request together with others, any of which may be the
    /// culprit.
    pub const SUSPECT: u32 = 1 << 15;
    /// Was active once: should it come back after its eviction, memory is too small for what is in
    /// use.
    pub const WORKINGSET: u32 = 1 << 16;
    /// Reclaim's laundry has a reference, and does nothing with the content but under the folio
    /// lock. Changes under that.
    pub const LAUNDRY: u32 = 1 << 17;
    /// Was used again since reclaim looked, so that reclaim makes it active when it comes to it.
    pub const USED: u32 = 1 << 18;
    /// The signs of use.
    pub const SIGNS: u32 = REFERENCED | USED;
    /// First of the twelve bits that hold the order (4), the LRU shard (4) and the
    /// [`Use`](crate::stats::Use) (4).
    pub(in crate::frame) const ORDER_SHIFT: u32 = 20;
    /// The order's bits.
    pub(crate) const ORDER: u32 = 15 << ORDER_SHIFT;
    pub(super) const SHARD_SHIFT: u32 = 24;
    pub(in crate::frame) const USE_SHIFT: u32 = 28;
    /// Every state bit, without order, shard and use.
    pub const STATE: u32 = (1 << ORDER_SHIFT) - 1;
}

impl Frame {
    /// A point before a change of the flags that others look at without the lock it is made under.
    #[inline(always)]
    pub(crate) fn flags_point(&self) {
        point::at(PointKind::Count, AccessKind::Write, || self.object());
    }

    /// State bits, shard and use.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.touch(AccessKind::Read);
        self.flags.load(Ordering::Relaxed)
    }
    /// All of `bits` are set.
    #[inline]
    pub fn has(&self, bits: u32) -> bool {
        self.flags() & bits == bits
    }
    /// Sets `bits`; returns the flags before.
    #[inline]
    pub(crate) fn set(&self, bits: u32) -> u32 {
        self.touch(AccessKind::Write);
        self.flags.fetch_or(bits, Ordering::AcqRel)
    }
    /// Clears `bits`; returns the flags before.
    #[inline]
    pub(crate) fn clear(&self, bits: u32) -> u32 {
        self.touch(AccessKind::Write);
        self.flags.fetch_and(!bits, Ordering::AcqRel)
    }
    /// The folio lock's bit, for `folio`: an object of its own.
    #[inline]
    pub(crate) fn lock_object(&self) -> u32 {
        point::object_at(class::LOCK, &self.flags)
    }
    /// The folio is locked; only a hint unless the caller holds the lock.
    #[inline]
    pub(crate) fn is_locked(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & flag::LOCKED != 0
    }
    /// Sets LOCKED; false when it was set. Acquire: pairs with the Release of [`Frame::unlock`].
    #[inline]
    pub(crate) fn set_locked(&self) -> bool {
        self.flags.fetch_or(flag::LOCKED, Ordering::AcqRel) & flag::LOCKED == 0
    }
    /// Clears LOCKED; returns the flags before.
    #[inline]
    pub(crate) fn unlock(&self) -> u32 {
        self.touch(AccessKind::Read);
        self.flags.fetch_and(!flag::LOCKED, Ordering::AcqRel)
    }
    /// Sets state, shard and use at once, of a block of one frame that nobody else can see.
    #[inline]
    pub(crate) fn init_flags(&self, state: u32, shard: u32, usage: Use) {
        self.flags.store(
            state | (shard << flag::SHARD_SHIFT) | ((usage as u32) << flag::USE_SHIFT),
            Ordering::Relaxed,
        );
    }
    /// What the frame is used for.
    #[inline]
    pub fn usage(&self) -> Use {
        // Stays as it is for as long as the frame is somebody's, but for `change_use`: no touch.
        Use::from_bits(self.flags.load(Ordering::Relaxed) >> flag::USE_SHIFT)
    }
    /// Anonymous, and not in the swap cache. (One look at one word, for paths that see little
    /// else.)
    #[inline]
    pub(crate) fn is_plain_anon(&self) -> bool {
        const OTHERS: u32 =
            flag::SWAPCACHE | (Use::File as u32 & !(Use::Anon as u32)) << flag::USE_SHIFT;
        self.flags() & OTHERS == 0
    }
    /// A page of a file's cache.
    #[inline]
    pub(crate) fn is_file(&self) -> bool {
        // As with the use.
        Self::of_file(self.flags.load(Ordering::Relaxed))
    }
    /// What [`Frame::flags`] said was a page of a file's cache.
    #[inline]
    pub(crate) fn of_file(flags: u32) -> bool {
        flags >> flag::USE_SHIFT == Use::File as u32
    }
    /// A folio's use changes, under its lock: a page of a file in memory goes to swap, or comes
    /// back.
    pub(crate) fn change_use(&self, from: Use, to: Use) {
        debug_assert!(self.usage() == from);
        self.touch(AccessKind::Write);
        let change = (from as u32 ^ to as u32) << flag::USE_SHIFT;
        self.flags.fetch_xor(change, Ordering::AcqRel);
        stats::move_use(from, to, 1);
    }
    /// The LRU shard that the folio belongs to, 0 to 15.
    #[inline]
    pub fn shard(&self) -> usize {
        // As with the use.
        ((self.flags.load(Ordering::Relaxed) >> flag::SHARD_SHIFT) & 15) as usize
    }
}
