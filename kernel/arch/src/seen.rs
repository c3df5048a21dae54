//! What the explorer hears of, or does in the machine's place, when an actor does it: the same on
//! both machines. For everybody else these are the machine's own functions, and without the feature
//! `lab` nothing is added to them.
//!
//! Takes no lock and never sleeps, but for [`wait_for`], which waits.

use crate::addr::{Pfn, VirtAddr, WORDS};
use crate::machine::{self, NoMemory};
use core::sync::atomic::AtomicU64;
use sync::CpuMask;
use sync::point::{self, AccessKind, Note, class};

/// Drops this CPU's translations of the page at `va`.
#[inline(always)]
pub fn invlpg(va: VirtAddr) {
    machine::invlpg(va);
    point::note(|| Note::Invlpg(va.0));
}

/// Drops all of this CPU's translations (on the real machine, those that are not global).
#[inline(always)]
pub fn flush_local() {
    machine::flush_local();
    point::note(|| Note::FlushLocal);
}

/// Loads `root` as this CPU's page-table root, dropping every translation that is not global.
///
/// # Safety
/// `root` is the kernel's, or the root of an address space whose upper half is the kernel's; none
/// of its tables is freed before this CPU has left it. Interrupts are off: otherwise the caller's
/// idea of which root is loaded could be a thread switch old.
#[inline(always)]
pub unsafe fn switch_root(root: Pfn) {
    machine::switch_root(root);
    point::note(|| Note::SwitchRoot(root.0));
}

/// The memory manager frees frame `pfn`: nothing may lead to it any more. Call it for each 4 KiB
/// frame just before it goes back to the allocator.
#[inline(always)]
pub fn frame_freed(pfn: Pfn) {
    point::note(|| Note::FrameFreed(pfn.0));
    machine::frame_freed(pfn);
}

#[inline(always)]
fn touch_content(access: AccessKind, p: Pfn) {
    point::touch(access, || point::object(class::CONTENT, u64::from(p.0)));
}

/// The frame as 512 words.
///
/// # Safety
/// The frame is RAM and no Rust object lies in it, for as long as the words are used: it is a block
/// of the memory manager's allocator, or a page-table page.
///
/// # Panics
/// On the simulated machine, if there is no such frame; so for all below.
#[inline(always)]
pub unsafe fn frame_words<'a>(p: Pfn) -> &'a [AtomicU64; WORDS] {
    machine::frame_words(p)
}

/// Entry `index` of the page-table page `table`.
///
/// # Safety
/// `table` is a page-table page for as long as the entry is used.
///
/// # Panics
/// If `index` is 512 or more.
#[inline(always)]
pub unsafe fn pt_cell<'a>(table: Pfn, index: usize) -> &'a AtomicU64 {
    machine::pt_cell(table, index)
}

/// Fills the frame with zeros.
///
/// # Safety
/// As [`frame_words`]; so for the two below.
#[inline(always)]
pub unsafe fn zero_frame(p: Pfn) {
    touch_content(AccessKind::Write, p);
    machine::zero_frame(p);
}

/// Fills the frame with `word`.
///
/// # Safety
/// As [`frame_words`].
#[inline(always)]
pub unsafe fn fill_frame(p: Pfn, word: u64) {
    touch_content(AccessKind::Write, p);
    machine::fill_frame(p, word);
}

/// Copies the frame `src` to `dst`.
///
/// # Safety
/// As [`frame_words`], for both.
#[inline(always)]
pub unsafe fn copy_frame(dst: Pfn, src: Pfn) {
    touch_content(AccessKind::Write, dst);
    touch_content(AccessKind::Read, src);
    machine::copy_frame(dst, src);
}

/// Maps `pfn` at `va`, readable and writable, not executable, in a window of the kernel's. `alloc`
/// gives frames for page tables, of which those of whole spans of 2 MiB come back from
/// [`crate::unmap_kernel_spans`].
///
/// # Safety
/// The frame, and those of `alloc`, belong to the window until they come back. Nothing is mapped at
/// `va`, and nobody else maps in the window meanwhile.
///
/// # Errors
/// [`NoMemory`] when `alloc` gives nothing; tables made so far stay and are used by the next call.
///
/// # Panics
/// When `va` lies in no window.
pub unsafe fn map_kernel_page(
    va: VirtAddr,
    pfn: Pfn,
    alloc: &mut dyn FnMut() -> Option<Pfn>,
) -> Result<(), NoMemory> {
    machine::map_kernel_page(va, pfn, alloc)
}

/// Runs the `tlb_ipi` upcall on each CPU of `to`, with interrupts off there; does not wait. What
/// was stored before is visible to the upcall.
#[inline(always)]
pub fn send_tlb_ipi(to: CpuMask) {
    if !point::tlb_ipi(to) {
        machine::send_tlb_ipi(to);
    }
}

/// Waits until `cond` holds, which reads the object `what` (see [`point::object`]). Whoever makes
/// it true calls [`kick`] for this CPU, or does it in an interrupt handler here. Interrupts are on,
/// and served; preemption may be off.
///
/// # Panics
/// In checked builds if this must not be waited for here; with interrupts off, if `cond` does not
/// come true for seconds.
#[inline(always)]
pub fn wait_for(what: impl FnOnce() -> u32, cond: &(dyn Fn() -> bool + Sync)) {
    if !point::wait_acks(what, cond) {
        machine::wait_for(cond);
    }
}

/// Wakes `cpu` out of [`wait_for`]. An actor's wait is a state, which needs no waking.
#[inline(always)]
pub fn kick(cpu: usize) {
    if !point::exploring() {
        machine::kick(cpu);
    }
}
