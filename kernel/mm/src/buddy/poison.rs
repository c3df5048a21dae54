//! Free-page poisoning: in debug builds a free frame is filled with a word that must still be there
//! when the frame is handed out again. Takes no lock; the caller owns the frame.

#![expect(unsafe_code, reason = "free frames are filled and looked at")]

use crate::frame::frame;
use arch::Pfn;

/// What a free frame is filled with in debug builds.
pub const WORD: u64 = 0xdead_f4ee_dead_f4ee;

/// A free frame was written to: the frame, the byte offset and what was found there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scribble {
    /// The frame.
    pub pfn: Pfn,
    /// Byte offset of the first wrong word.
    pub offset: usize,
    /// The wrong word.
    pub found: u64,
}

/// What the `index` word of a filled frame holds. Memory that was never allocated is not filled:
/// touching all of it at boot would take seconds per GiB.
const FILLED: u32 = 0xdead_f4ee;

/// Fills a block that is about to be free.
#[inline]
pub(super) fn fill(pfn: Pfn, order: u8) {
    if cfg!(debug_assertions) {
        for i in 0..1 << order {
            // SAFETY: the block is the allocator's.
            unsafe { arch::fill_frame(pfn.add(i), WORD) };
            frame(pfn.add(i)).set_index(FILLED);
        }
    }
}

/// As [`check`], for a block that is about to be used.
///
/// # Errors
/// The first wrong word.
pub(super) fn take(pfn: Pfn, order: u8) -> Result<(), Scribble> {
    check(pfn, order)?;
    for i in 0..1 << order {
        frame(pfn.add(i)).set_index(0);
    }
    Ok(())
}

/// Checks that nobody wrote to the filled frames of a block since.
///
/// # Errors
/// The first wrong word.
pub(super) fn check(pfn: Pfn, order: u8) -> Result<(), Scribble> {
    if cfg!(debug_assertions) {
        for i in 0..1 << order {
            let pfn = pfn.add(i);
            if frame(pfn).index() != FILLED {
                continue;
            }
            // SAFETY: as above.
            let words = unsafe { arch::frame_words(pfn) };
            for (word, cell) in words.iter().enumerate() {
                let found = cell.load(core::sync::atomic::Ordering::Relaxed);
                if found != WORD {
                    return Err(Scribble {
                        pfn,
                        offset: word * 8,
                        found,
                    });
                }
            }
        }
    }
    Ok(())
}
