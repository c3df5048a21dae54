//! The memmap: the records of all frames, by frame number.
//!
//! It is put in place once, at boot, and stays. No lock is taken here, nothing sleeps.

#![expect(unsafe_code, reason = "the table of all records")]

use super::Frame;
use arch::Pfn;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static MEMMAP: AtomicPtr<Frame> = AtomicPtr::new(core::ptr::null_mut());
static MAX_PFN: AtomicUsize = AtomicUsize::new(0);

/// Number of frames the memmap covers: one more than the highest frame number.
#[inline]
pub fn max_pfn() -> usize {
    MAX_PFN.load(Ordering::Relaxed)
}

/// What is known of `pfn`.
///
/// # Panics
/// If the memmap does not cover it: a frame number was made up.
#[inline]
pub fn frame(pfn: Pfn) -> &'static Frame {
    assert!(pfn.index() < max_pfn(), "no such frame");
    // SAFETY: `install` made MEMMAP point to MAX_PFN initialised frames that are never freed; the
    // index is below MAX_PFN, and before `install` MAX_PFN is 0. All fields are atomics, so sharing
    // is sound.
    unsafe { &*MEMMAP.load(Ordering::Relaxed).add(pfn.index()) }
}

impl Frame {
    /// The number of the frame that the record is about.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        // Records exist in the memmap only.
        let base = MEMMAP.load(Ordering::Relaxed).addr();
        let from_base = (&raw const *self).addr() - base;
        Pfn((from_base / size_of::<Self>()) as u32)
    }
}

/// Whether the memmap covers `pfn`.
pub(crate) fn valid(pfn: Pfn) -> bool {
    pfn.index() < max_pfn()
}

/// Puts the memmap for `frames` frames into the physically contiguous RAM from `at` on, all
/// reserved. Called once, by the boot CPU alone.
pub(crate) fn install(at: Pfn, frames: usize) {
    assert!(max_pfn() == 0, "memmap installed twice");
    let base = arch::frame_ptr(at).cast::<Frame>();
    for i in 0..frames {
        // SAFETY: the caller gives contiguous usable RAM of at least `frames * 32` bytes that
        // nobody else uses; the direct map makes it writable; page alignment satisfies Frame's.
        unsafe {
            base.add(i).write(Frame::reserved());
        }
    }
    MEMMAP.store(base, Ordering::Relaxed);
    MAX_PFN.store(frames, Ordering::Release);
}

/// The memmap's list links, for the lists of `algo` (buddy, per-CPU, LRU).
#[derive(Clone, Copy)]
pub(crate) struct FrameLinks;

impl algo::list::Links for FrameLinks {
    #[inline]
    fn next(&self, i: u32) -> u32 {
        frame(Pfn(i)).next()
    }
    #[inline]
    fn set_next(&self, i: u32, v: u32) {
        frame(Pfn(i)).set_next(v);
    }
    #[inline]
    fn prev(&self, i: u32) -> u32 {
        frame(Pfn(i)).prev()
    }
    #[inline]
    fn set_prev(&self, i: u32, v: u32) {
        frame(Pfn(i)).set_prev(v);
    }
}
