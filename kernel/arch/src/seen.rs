//! What the explorer hears of, or does in the machine's place, when an actor does it: the same on both machines. For everybody
//! else these are the machine's own functions, and without the feature `lab` nothing is added to them.
//!
//! Takes no lock and never sleeps, but for [`wait_for`], which waits.

use crate::addr::{Pfn, VirtAddr};
use crate::machine;
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

/// Loads `root` as this CPU's page-table root, dropping every translation that is not global. Interrupts are off:
/// otherwise the caller's idea of which root is loaded could be a thread switch old.
#[inline(always)]
pub fn switch_root(root: Pfn) {
    machine::switch_root(root);
    point::note(|| Note::SwitchRoot(root.0));
}

/// The memory manager frees frame `pfn`: nothing may lead to it any more. Call it for each 4 KiB frame just before it
/// goes back to the allocator.
#[inline(always)]
pub fn frame_freed(pfn: Pfn) {
    point::note(|| Note::FrameFreed(pfn.0));
    machine::frame_freed(pfn);
}

#[inline(always)]
fn touch_content(access: AccessKind, p: Pfn) {
    point::touch(access, || point::object(class::CONTENT, u64::from(p.0)));
}

/// Fills the frame with zeros.
///
/// # Panics
/// On the simulated machine, if there is no such frame; so for the two below.
#[inline(always)]
pub fn zero_frame(p: Pfn) {
    touch_content(AccessKind::Write, p);
    machine::zero_frame(p);
}

/// Fills the frame with `word`.
#[inline(always)]
pub fn fill_frame(p: Pfn, word: u64) {
    touch_content(AccessKind::Write, p);
    machine::fill_frame(p, word);
}

/// Copies the frame `src` to `dst`.
#[inline(always)]
pub fn copy_frame(dst: Pfn, src: Pfn) {
    touch_content(AccessKind::Write, dst);
    touch_content(AccessKind::Read, src);
    machine::copy_frame(dst, src);
}

/// Runs the `tlb_ipi` upcall on each CPU of `to`, with interrupts off there; does not wait. What was stored before is
/// visible to the upcall.
#[inline(always)]
pub fn send_tlb_ipi(to: CpuMask) {
    if !point::tlb_ipi(to) {
        machine::send_tlb_ipi(to);
    }
}

/// Waits until `cond` holds, which reads the object `what` (see [`point::object`]). Whoever makes it true calls
/// [`kick`] for this CPU, or does it in an interrupt handler here. Interrupts are on, and served; preemption may
/// be off.
///
/// # Panics
/// In checked builds if this must not be waited for here; with interrupts off, if `cond` does not come true for seconds.
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
