//! Folios that reclaim has begun to unmap, and the one TLB shootdown that it owes for all of them.
//!
//! Reclaim unmaps a batch of folios and flushes once, before any of them is written, freed, listed
//! or unlocked. Types keep that order (rules 1 and 13). `unmap::try_to_unmap` takes the lock of a
//! folio and gives an [`Owing`] back; only a [`Batch`] accepts one, and only its flush gives the
//! lock back. The same holds for a folio that kept some of its entries: another reclaimer that
//! found nothing left to unmap would otherwise free it, while a CPU still translates to it through
//! an entry of this batch.
//!
//! Each change bumps the generation of its address space at once, so a CPU that takes the space
//! anew, and any other flush of it, covers the change; operations that rely on the entry being gone
//! call `tlb::flush_batched_pending`, and faults that fill an empty one
//! `tlb::flush_emptied_pending`. (Linux: `try_to_unmap_flush`.) Takes no lock, keeps those of its
//! folios; [`Batch::flush`] needs interrupts on.

use crate::folio::{Folio, FolioGuard};
use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::pt::{Unhooked, tlb};
use arch::pte::Entry;
use core::mem::ManuallyDrop;
use sync::CpuMask;

/// Folios in a batch, at most.
pub(crate) const BATCH: usize = 32;

/// A locked folio that may have lost entries: some CPU may still translate to it.
#[must_use = "a folio whose flush is owed goes to a batch"]
pub(crate) struct Owing {
    folio: ManuallyDrop<FolioGuard>,
    is_gone: bool,
}

impl Owing {
    /// The folio whose entries were just taken out: all of them when `is_gone`.
    pub(super) fn new(folio: FolioGuard, is_gone: bool) -> Self {
        Self {
            folio: ManuallyDrop::new(folio),
            is_gone,
        }
    }
    /// No entry maps it any more.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }
    /// The folio, which stays locked.
    #[inline]
    pub(crate) fn folio(&self) -> &FolioGuard {
        &self.folio
    }
}

/// Folios with what is to become of each, a `T`, and the CPUs that may still translate to them.
#[must_use = "the batch must be flushed"]
pub(crate) struct Batch<T> {
    cpus: CpuMask,
    folios: [Option<(Folio, T)>; BATCH],
    n: usize,
}

impl<T: Copy> Batch<T> {
    pub(crate) const fn new() -> Self {
        Self {
            cpus: CpuMask::EMPTY,
            folios: [None; BATCH],
            n: 0,
        }
    }

    /// An entry of `mm` that mapped a folio was taken out, under its PTL which is still held.
    #[inline]
    pub(super) fn note(&mut self, mm: &Mm, old: Unhooked) -> Entry {
        mm.tlb.note_batched(&mut self.cpus);
        old.noted()
    }

    /// As [`Batch::note`], when the entry is empty now.
    #[inline]
    pub(super) fn note_emptied(&mut self, mm: &Mm, old: Unhooked) -> Entry {
        mm.tlb.note_emptied(&mut self.cpus);
        old.noted()
    }

    /// Keeps a folio, locked, until the flush. (With rule 13 broken it is unlocked, and one that
    /// kept entries comes back at once.)
    pub(crate) fn keep(&mut self, owing: Owing, then: T) -> Option<(FolioGuard, T)> {
        let folio = ManuallyDrop::into_inner(owing.folio);
        let kept = if knobs::on(Knob::KeepLocked) {
            folio.hand_over()
        } else if owing.is_gone {
            folio.folio()
        } else {
            return Some((folio, then));
        };
        self.folios[self.n] = Some((kept, then));
        self.n += 1;
        None
    }

    /// Flushes. Afterwards no CPU translates to a folio through an entry that was taken out.
    pub(crate) fn flush(mut self) -> Flushed<T> {
        let cpus = core::mem::take(&mut self.cpus);
        if !cpus.is_empty() && knobs::on(Knob::ReclaimFlush) {
            tlb::flush_batch(cpus);
        }
        Flushed {
            folios: core::mem::replace(&mut self.folios, [None; BATCH]),
            next: 0,
            n: core::mem::take(&mut self.n),
        }
    }
}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        debug_assert!(
            self.cpus.is_empty() && self.n == 0 || sync::unwinding(),
            "unmapped entries were not flushed"
        );
    }
}

/// The folios of a batch after its flush: each once, with its lock. Must be taken to the end.
#[must_use = "the folios are locked"]
pub(crate) struct Flushed<T> {
    folios: [Option<(Folio, T)>; BATCH],
    next: usize,
    n: usize,
}

impl<T> Flushed<T> {
    /// The lock that was handed over.
    fn lock(folio: Folio) -> Option<FolioGuard> {
        if knobs::on(Knob::KeepLocked) {
            return Some(FolioGuard::take_over(folio));
        }
        // Rule 13 broken: somebody else may have had it meanwhile.
        folio.try_lock()
    }
}

impl<T: Copy> Iterator for Flushed<T> {
    /// A folio, its lock (unless rule 13 is broken and somebody else has it) and what is to become
    /// of it.
    type Item = (Folio, Option<FolioGuard>, T);

    fn next(&mut self) -> Option<Self::Item> {
        let (folio, then) = self.folios[..self.n].get(self.next).copied()??;
        self.next += 1;
        Some((folio, Self::lock(folio), then))
    }
}

impl<T> Drop for Flushed<T> {
    fn drop(&mut self) {
        debug_assert!(
            self.next == self.n || sync::unwinding(),
            "a folio stays locked for ever"
        );
    }
}
