//! What a frame holds, as words: for whoever has the frame to himself or a reference on it.
//!
//! The words are atomic, so that a racing access is a value and never undefined behaviour; which
//! order counts, and under which lock, is the caller's. No locks, nothing sleeps.

#![expect(unsafe_code, reason = "the words of a frame that a handle keeps")]

use arch::Pfn;
use arch::addr::WORDS;
use core::sync::atomic::AtomicU64;

/// A handle that keeps a frame what it is: a page of the allocator's, or a folio.
///
/// # Safety
/// For as long as the handle lives, [`HasContent::frame_number`] names one frame of RAM that holds
/// a block of the allocator or a folio: no page table, and nothing that Rust keeps objects in.
pub unsafe trait HasContent {
    /// The (first) frame.
    fn frame_number(&self) -> Pfn;

    /// The frame as words.
    #[inline]
    fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: this trait's contract; the cells are not used beyond the handle.
        unsafe { arch::frame_words(self.frame_number()) }
    }

    /// Fills the frame with zeroes.
    #[inline]
    fn zero(&self) {
        // SAFETY: this trait's contract.
        unsafe { arch::zero_frame(self.frame_number()) };
    }

    /// Copies what the frame of `from` holds.
    #[inline]
    fn copy_from(&self, from: &impl HasContent) {
        // SAFETY: this trait's contract, for both.
        unsafe { arch::copy_frame(self.frame_number(), from.frame_number()) };
    }
}

/// A frame that the caller keeps as it is by other means than a handle.
pub(crate) struct Kept(Pfn);

impl Kept {
    /// # Safety
    /// What [`HasContent`] asks for, as long as this lives.
    #[inline]
    pub(crate) unsafe fn new(pfn: Pfn) -> Self {
        Self(pfn)
    }
}

// SAFETY: by the word of who made it.
unsafe impl HasContent for Kept {
    #[inline]
    fn frame_number(&self) -> Pfn {
        self.0
    }
}
