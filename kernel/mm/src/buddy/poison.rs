//! Free-page poisoning: in debug builds a free frame is filled with a word that must still be there when
//! the frame is handed out again. Takes no lock; the caller owns the frame.

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

/// Fills a block that is about to be free.
#[inline]
pub(super) fn fill(pfn: Pfn, order: u8) {
    if cfg!(debug_assertions) {
        for i in 0..1 << order {
            arch::fill_frame(pfn.add(i), WORD);
        }
    }
}

/// Checks that nobody wrote to a block since it was filled.
///
/// # Errors
/// The first wrong word.
pub(super) fn check(pfn: Pfn, order: u8) -> Result<(), Scribble> {
    if cfg!(debug_assertions) {
        for i in 0..1 << order {
            let pfn = pfn.add(i);
            for (word, cell) in arch::frame_words(pfn).iter().enumerate() {
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
