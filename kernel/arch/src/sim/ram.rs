//! Simulated RAM: one host allocation of atomic words, zeroed, and touched only where it is used.
//!
//! No locks. All access is through atomics, so a race of the simulated CPUs is a race of the memory
//! manager and never undefined behaviour of the host program. Whole-frame operations are Relaxed,
//! word by word, as the string instructions of the real machine are.

use super::board::machine;
use crate::addr::{PAGE_SIZE, Pfn, WORDS};
use std::alloc::{Layout, alloc_zeroed};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) struct Ram {
    /// From the first page boundary of the allocation on.
    words: &'static [AtomicU64],
}

/// Zeroed words that the host maps when they are first touched; never freed.
///
/// # Panics
/// If the host refuses to promise that much memory.
pub(super) fn lazy_words(words: usize) -> &'static [AtomicU64] {
    let refused =
        || -> ! { panic!("the host refuses {words} words of 8 bytes for the simulated machine") };
    let Ok(layout) = Layout::array::<AtomicU64>(words.max(1)) else {
        refused()
    };
    // SAFETY: the layout has a size above zero.
    let cells = unsafe { alloc_zeroed(layout) }.cast::<AtomicU64>();
    if cells.is_null() {
        refused()
    }
    // SAFETY: `words` zeroed words, which are valid as `AtomicU64`, and are never freed.
    unsafe { std::slice::from_raw_parts(cells, words) }
}

impl Ram {
    /// `frames` frames, never freed.
    pub(super) fn new(frames: usize) -> Self {
        // A page more than asked for, to start at a page boundary: asking the allocator for the
        // alignment would make it touch all of it.
        let cells = lazy_words((frames + 1) * WORDS);
        let skip = cells.as_ptr().align_offset(PAGE_SIZE as usize);
        Self {
            words: &cells[skip..skip + frames * WORDS],
        }
    }

    pub(super) fn frames(&self) -> usize {
        self.words.len() / WORDS
    }

    pub(super) fn word(&self, pfn: Pfn, index: usize) -> &'static AtomicU64 {
        &self.frame(pfn)[index]
    }

    pub(super) fn frame(&self, pfn: Pfn) -> &'static [AtomicU64; WORDS] {
        let at = pfn.index() * WORDS;
        self.words
            .get(at..)
            .and_then(|w| w.first_chunk())
            .unwrap_or_else(|| panic!("{pfn:?} is not RAM: there are {:#x} frames", self.frames()))
    }

    fn ptr(&self, pfn: Pfn) -> *mut u8 {
        assert!(pfn.index() < self.frames(), "{pfn:?} is not RAM");
        // From the whole allocation, so that the pointer may be used across frames.
        self.words
            .as_ptr()
            .wrapping_add(pfn.index() * WORDS)
            .cast_mut()
            .cast()
    }
}

/// Where the frame `p` lies in the simulator's memory; the frames of RAM are contiguous there.
///
/// # Panics
/// If there is no such frame; so for everything below.
pub fn frame_ptr(p: Pfn) -> *mut u8 {
    machine().ram.ptr(p)
}

/// The frame as atomic words.
pub(crate) fn frame_words(p: Pfn) -> &'static [AtomicU64; WORDS] {
    machine().ram.frame(p)
}

/// Entry `index` (below 512) of the page-table page `table`.
pub(crate) fn pt_cell(table: Pfn, index: usize) -> &'static AtomicU64 {
    machine().ram.word(table, index)
}

/// Fills the frame with zeroes.
pub(crate) fn zero_frame(p: Pfn) {
    fill_frame(p, 0);
}

/// Fills the frame with `word`.
pub(crate) fn fill_frame(p: Pfn, word: u64) {
    for cell in frame_words(p) {
        cell.store(word, Relaxed);
    }
}

/// Copies the frame `src` to `dst`.
pub(crate) fn copy_frame(dst: Pfn, src: Pfn) {
    for (to, from) in frame_words(dst).iter().zip(frame_words(src)) {
        to.store(from.load(Relaxed), Relaxed);
    }
}
