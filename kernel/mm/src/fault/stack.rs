//! Growing a stack area downwards on a fault just below it.
//!
//! Takes `mmap_lock` exclusively; sleeps. The area's own anon_vma tree is adjusted with it.

use crate::error::MmError;
use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::stats::{Event, count};
use crate::vma::set::STACK_GUARD_GAP;
use crate::vma::{links, vm, vma};
use arch::VirtAddr;

/// Most bytes that an area grows to by faults (Linux's usual RLIMIT_STACK).
pub const STACK_MAX: u64 = 8 << 20;

/// Grows the area above `va` down to it, if that is a stack and the gap below it stays. As on
/// Linux, a neighbour without rights needs no gap, as it stops an overrun itself; nor does another
/// stack.
///
/// # Errors
/// [`MmError::NotMapped`] when nothing that may grow lies above, or its neighbour is too close, or
/// the area would exceed [`STACK_MAX`].
pub(crate) fn expand(mm: &Mm, va: VirtAddr) -> Result<(), MmError> {
    let mut set = mm.mmap_lock.write();
    let id = set.find_id(va).ok_or(MmError::NotMapped)?;
    let area = vma(id);
    let start = va.page().0;
    // Another thread's fault has grown it, or put something else there, before this one had the
    // lock.
    if area.contains(va) && knobs::on(Knob::GrowRecheck) {
        return Ok(());
    }
    let floor = set.prev(id).map_or(arch::addr::USER_MIN, |below| {
        let below = vma(below);
        let can_be_overrun = below.flags() & vm::PROT != 0 && !below.has(vm::GROWSDOWN);
        below.end() + if can_be_overrun { STACK_GUARD_GAP } else { 0 }
    });
    let grown = (area.start().saturating_sub(start) >> arch::PAGE_SHIFT) as u32;
    let too_large = area.end() - start > STACK_MAX;
    if !area.has(vm::GROWSDOWN) || too_large || start < floor || area.pgoff() < grown {
        return Err(MmError::NotMapped);
    }
    links::adjust(&[id], || {
        area.set_start(start);
        area.set_pgoff(area.pgoff() - grown);
    });
    set.moved(id);
    mm.total_vm.add(i64::from(grown));
    count(Event::StackGrow);
    Ok(())
}
