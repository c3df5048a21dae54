//! Frames through the direct map, and the operations on page tables and TLBs that need an
//! instruction.
//!
//! Locks: none. Never sleeps. Frames are reached as cells of `AtomicU64`, so that a racing access
//! is a value, never undefined behaviour; the ordering is the caller's.

use core::arch::asm;
use core::sync::atomic::AtomicU64;

use x86_64::registers::control::{Cr4, Cr4Flags};

use super::layout::DIRECT_BASE;
use crate::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn, VirtAddr, WORDS};

/// Address of the frame's first byte in the direct map.
#[inline]
pub fn frame_ptr(p: Pfn) -> *mut u8 {
    (DIRECT_BASE + ((p.0 as u64) << PAGE_SHIFT)) as *mut u8
}

/// The frame as 512 cells.
#[inline]
pub(crate) fn frame_words(p: Pfn) -> &'static [AtomicU64; WORDS] {
    // SAFETY: the direct map shows every frame of RAM for ever, page aligned; cells tolerate
    // sharing.
    unsafe { &*frame_ptr(p).cast() }
}

/// Entry `index` of page-table page `table`.
#[inline]
pub(crate) fn pt_cell(table: Pfn, index: usize) -> &'static AtomicU64 {
    &frame_words(table)[index]
}

/// Fills the frame with zeros.
#[inline]
pub(crate) fn zero_frame(p: Pfn) {
    fill_frame(p, 0);
}

/// Fills the frame with `word`.
#[inline]
pub(crate) fn fill_frame(p: Pfn, word: u64) {
    // SAFETY: writes exactly the frame's 4096 bytes through the direct map; the caller owns the
    // frame.
    unsafe {
        asm!("rep stosq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") frame_ptr(p) => _, in("rax") word,
             options(nostack, preserves_flags));
    }
}

/// Copies frame `src` to frame `dst`.
#[inline]
pub(crate) fn copy_frame(dst: Pfn, src: Pfn) {
    // SAFETY: moves exactly 4096 bytes between two frames of the direct map; the caller owns `dst`,
    // and a torn copy of a `src` that others write is only a value.
    unsafe {
        asm!("rep movsq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") frame_ptr(dst) => _,
             inout("rsi") frame_ptr(src) => _, options(nostack, preserves_flags));
    }
}

/// Loads `root` as this CPU's page-table root, dropping every non-global translation. Interrupts
/// off: otherwise the caller's idea of which root is loaded could be a thread switch old.
#[inline]
pub(crate) fn switch_root(root: Pfn) {
    // SAFETY: every root shares the kernel's upper half, so the code, the stack and the data that
    // run on stay mapped.
    unsafe {
        asm!("mov cr3, {}", in(reg) root.phys().0, options(nostack, preserves_flags));
    }
}

/// The root that this CPU has loaded.
#[inline]
pub fn current_root() -> Pfn {
    let cr3: u64;
    // SAFETY: reading CR3 has no effect.
    unsafe {
        asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack, preserves_flags));
    }
    Pfn((cr3 >> PAGE_SHIFT) as u32)
}

/// Drops this CPU's translation of the page of `va`, and its paging-structure caches.
#[inline]
pub(crate) fn invlpg(va: VirtAddr) {
    // SAFETY: dropping a translation is always allowed.
    unsafe {
        asm!("invlpg [{}]", in(reg) va.0, options(nostack, preserves_flags));
    }
}

/// Drops all non-global translations of this CPU.
#[inline]
pub(crate) fn flush_local() {
    // SAFETY: reloads the root that is loaded.
    unsafe {
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
    }
}

/// Drops all translations of this CPU, the kernel's global ones and those of tables too.
pub(super) fn flush_global() {
    let cr4 = Cr4::read();
    if !cr4.contains(Cr4Flags::PAGE_GLOBAL) {
        return flush_local();
    }
    // SAFETY: off and on again, with nothing in between: a change of the bit drops everything
    // (Intel SDM 3A 4.10.4.1).
    unsafe {
        Cr4::write(cr4.difference(Cr4Flags::PAGE_GLOBAL));
        Cr4::write(cr4);
    }
}

/// The memory manager gave a frame back. The real machine keeps no account of it; the simulator
/// looks for stale translations.
#[inline]
pub(crate) fn frame_freed(_: Pfn) {}
