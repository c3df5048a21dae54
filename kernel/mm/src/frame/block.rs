//! Blocks of several frames: a head and its tails.
//!
//! The first frame's record is the *head*: it says what the block is, and how large. The records of
//! the others, its *tails*, are not touched when the block is handed out and taken back, so a block
//! costs one record whatever its size. A tail's flags are those with which it last ended as a head:
//! free, without state and of order 0. So no tail looks like a head of more than one frame, and
//! none like something that could be freed. No lock is taken here, nothing sleeps.

use super::{Frame, flag, frame};
use crate::stats::Use;
use algo::buddy::MAX_ORDER;
use arch::Pfn;
use core::sync::atomic::Ordering;

impl Frame {
    /// Makes a record that nobody else can see the head of a block: its state, order and use.
    #[inline]
    pub(crate) fn init_head(&self, state: u32, order: u8, usage: Use) {
        self.flags.store(
            state | (u32::from(order) << flag::ORDER_SHIFT) | ((usage as u32) << flag::USE_SHIFT),
            Ordering::Relaxed,
        );
    }
    /// The order of the block that the record is the head of; 0 of a tail.
    #[inline]
    pub fn order(&self) -> u8 {
        // As with the use.
        Self::order_in(self.flags.load(Ordering::Relaxed))
    }
    /// A folio that nobody else can see becomes one of `2^order` pages.
    #[inline]
    pub(crate) fn init_order(&self, order: u8) {
        self.flags
            .fetch_or(u32::from(order) << flag::ORDER_SHIFT, Ordering::Relaxed);
    }
    /// The pages of the folio that the record is the head of.
    #[inline]
    pub fn pages(&self) -> u32 {
        1 << self.order()
    }
    /// The same of what [`Frame::flags`] said.
    #[inline]
    pub(crate) fn order_in(flags: u32) -> u8 {
        (flags >> flag::ORDER_SHIFT & 15) as u8
    }
}

/// The first frame and the order of the block that `pfn` lies in, free or not.
///
/// Blocks are aligned to their size. So the head is `pfn`, or `pfn` with its lowest set bits
/// cleared, and those few frames are looked at, the nearest first: the first whose block reaches as
/// far as `pfn` is the head. A hint, unless the caller keeps the block what it is.
///
/// # Panics
/// If the memmap does not cover the frame.
pub fn block_of(pfn: Pfn) -> (Pfn, u8) {
    let lowest = pfn.0 & !((1 << MAX_ORDER) - 1);
    let mut head = pfn.0;
    loop {
        let order = frame(Pfn(head)).order();
        if order != 0 && pfn.0 - head < 1 << order {
            return (Pfn(head), order);
        }
        if head == lowest {
            return (pfn, 0);
        }
        head &= head - 1;
    }
}
