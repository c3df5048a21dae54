//! One TLB shootdown for many unmapped folios.
//!
//! Reclaim unmaps a batch of folios and flushes once, before any of them is written or freed (rule 1). Each
//! change bumps the generation of its address space at once, so a CPU that takes the space anew, and any
//! other flush of it, covers the change; operations that rely on the entry being gone call
//! `tlb::flush_batched_pending`, and faults that fill an empty one `tlb::flush_emptied_pending`. (Linux:
//! `try_to_unmap_flush`.) Takes no lock; [`Batch::flush`] needs interrupts on.

use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::pt::tlb;
use sync::CpuMask;

/// CPUs that may still translate to folios unmapped so far.
#[must_use = "the batch must be flushed"]
#[derive(Default)]
pub(crate) struct Batch {
    cpus: CpuMask,
}

impl Batch {
    /// An entry of `mm` that mapped a folio was taken out, under its PTL which is still held.
    #[inline]
    pub(crate) fn note(&mut self, mm: &Mm) {
        tlb::note_batched(mm, &mut self.cpus);
    }

    /// As [`Batch::note`], when the entry is empty now.
    #[inline]
    pub(crate) fn note_emptied(&mut self, mm: &Mm) {
        tlb::note_emptied(mm, &mut self.cpus);
    }

    /// Afterwards no CPU translates to any of the folios.
    pub(crate) fn flush(&mut self) {
        let cpus = core::mem::take(&mut self.cpus);
        if !cpus.is_empty() && knobs::on(Knob::ReclaimFlush) {
            tlb::flush_batch(cpus);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        debug_assert!(self.cpus.is_empty(), "unmapped entries were not flushed");
    }
}
