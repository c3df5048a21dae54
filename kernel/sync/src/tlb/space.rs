//! What an address space knows of its flushes: which CPUs may hold translations of it, and its
//! generations.
//!
//! Takes no lock. Every change of a generation comes after the change of the entries that it stands
//! for.

use crate::atomic::{AtomicU64, fence};
use crate::point::{self, AccessKind, PointKind, class};
use crate::twin::{Twin, broken, order_of};
use crate::{AtomicCpuMask, CpuMask};
use core::sync::atomic::Ordering;

/// See the module text.
#[derive(Default)]
pub struct Space {
    /// CPUs that may hold translations of this address space.
    cpus: AtomicCpuMask,
    /// Bumped by every flush request after the entries were changed.
    current: AtomicU64,
    /// The generation of the last entry that reclaim took out without flushing.
    batched: AtomicU64,
    /// The same for the last entry that it left empty, which a fault may fill before the flush.
    emptied: AtomicU64,
    /// Every CPU is known to have caught up with this generation; kept only as far as `batched`
    /// needs.
    flushed: AtomicU64,
}

impl Space {
    /// For the explorer: the running actor looks at, or changes, the generations and the mask of
    /// CPUs.
    #[inline(always)]
    pub(super) fn touch(&self, access: AccessKind) {
        point::touch(access, || point::object_at(class::SPACE, self));
    }

    /// As [`Space::touch`], and stands at a point before.
    #[inline(always)]
    fn point(&self, access: AccessKind) {
        point::at(PointKind::Space, access, || {
            point::object_at(class::SPACE, self)
        });
    }

    /// CPUs that may hold translations.
    pub fn cpus(&self) -> CpuMask {
        self.touch(AccessKind::Read);
        self.cpus.load(Ordering::Acquire)
    }

    /// The current generation.
    pub fn generation(&self) -> u64 {
        self.touch(AccessKind::Read);
        self.current.load(Ordering::Relaxed)
    }

    /// Entries were changed: the generation that says so. Which CPUs are to be asked is looked at
    /// after it.
    #[inline]
    pub(super) fn bump(&self) -> u64 {
        self.point(AccessKind::Write);
        // Release: entries changed before it are changed for whoever reads this generation.
        let before = self
            .current
            .fetch_add(1, order_of(Twin::BumpRelaxed, Ordering::AcqRel));
        // Either a CPU that takes the space sees what was changed, or we see it in the mask and not
        // lazy. Pairs with the fences of `enter` and `awake`.
        if !broken(Twin::BumpNoFence) {
            fence(Ordering::SeqCst);
        }
        before + 1
    }

    /// The CPUs but `me` that may hold translations.
    #[inline]
    pub(super) fn others(&self, me: usize) -> CpuMask {
        self.point(AccessKind::Read);
        self.asked().without(me)
    }

    /// Acquire pairs with the Release of `leave`: a CPU that is not in the mask any more is done
    /// with its translations.
    #[inline]
    fn asked(&self) -> CpuMask {
        self.cpus
            .load(order_of(Twin::MaskRelaxed, Ordering::Acquire))
    }

    /// CPU `cpu` is about to load the root, and is in the mask before it can walk a table. The
    /// generation that it begins with.
    #[inline]
    pub(super) fn enter(&self, cpu: usize) -> u64 {
        self.point(AccessKind::Write);
        self.cpus.insert(cpu, Ordering::AcqRel);
        // Either the flusher sees this CPU in the mask, or the walks of this CPU see what the
        // flusher has changed. Pairs with the fence of `bump`.
        if !broken(Twin::EnterNoFence) {
            fence(Ordering::SeqCst);
        }
        self.point(AccessKind::Read);
        self.seen()
    }

    /// The generation for a CPU that walks the tables after this look. Acquire pairs with the
    /// Release of `bump`: what was changed before it is seen as changed.
    #[inline]
    fn seen(&self) -> u64 {
        self.current
            .load(order_of(Twin::SeenRelaxed, Ordering::Acquire))
    }

    /// As [`Space::enter`], for a CPU that is in the mask and was lazy until a moment ago.
    #[inline]
    pub(super) fn awake(&self) -> u64 {
        // Either the flusher sees this CPU not lazy, or this CPU sees the flusher's generation.
        // Pairs with the fence of `bump`.
        if !broken(Twin::AwakeNoFence) {
            fence(Ordering::SeqCst);
        }
        self.point(AccessKind::Read);
        self.seen()
    }

    /// The generation for a CPU that answers a request.
    #[inline]
    pub(super) fn answered(&self) -> u64 {
        self.touch(AccessKind::Read);
        self.seen()
    }

    /// CPU `cpu` has another root loaded. Release pairs with the Acquire of `asked`.
    #[inline]
    pub(super) fn leave(&self, cpu: usize) {
        self.cpus
            .remove(cpu, order_of(Twin::LeaveRelaxed, Ordering::Release));
    }

    /// As [`Space::leave`], and stands at a point before.
    #[inline]
    pub(super) fn point_and_leave(&self, cpu: usize) {
        self.point(AccessKind::Write);
        self.leave(cpu);
    }

    /// Reclaim took an entry out and will flush later, with many others. Adds the CPUs that may
    /// cache the entry to `cpus`. Under the PTL of the entry, after the change. Returns the
    /// generation that covers it.
    #[inline]
    pub fn note_batched(&self, cpus: &mut CpuMask) -> u64 {
        let generation = self.bump();
        self.point(AccessKind::Read);
        *cpus = cpus.or(self.asked());
        self.touch(AccessKind::Write);
        // Relaxed: whoever relies on the entry looks under the same PTL.
        self.batched.fetch_max(generation, Ordering::Relaxed);
        generation
    }

    /// As [`Space::note_batched`], for an entry that is empty now.
    #[inline]
    pub fn note_emptied(&self, cpus: &mut CpuMask) {
        let generation = self.note_batched(cpus);
        self.point(AccessKind::Write);
        // Relaxed: as above.
        self.emptied.fetch_max(generation, Ordering::Relaxed);
    }

    /// A request of this generation is acknowledged everywhere.
    #[inline]
    pub(super) fn note_flushed(&self, generation: u64) {
        self.point(AccessKind::Write);
        if self.batched.load(Ordering::Relaxed) > self.flushed.load(Ordering::Relaxed) {
            // A CPU that missed batched changes before this request flushed everything for it.
            // Release: whoever sees this number skips its flush on the strength of this one.
            self.flushed.fetch_max(
                generation,
                order_of(Twin::FlushedRelaxed, Ordering::Release),
            );
        }
    }

    /// Reclaim owes a flush of an entry that it took out. Under the PTL of that entry.
    #[inline]
    pub fn has_batched(&self) -> bool {
        self.owes(&self.batched)
    }

    /// Reclaim owes a flush of an entry that it left empty. Under the PTL of that entry.
    #[inline]
    pub fn has_emptied(&self) -> bool {
        self.owes(&self.emptied)
    }

    #[inline]
    fn owes(&self, changed: &AtomicU64) -> bool {
        self.touch(AccessKind::Read);
        // Relaxed: the PTL orders it. Acquire pairs with the Release of `note_flushed`.
        let changed = changed.load(Ordering::Relaxed);
        changed
            > self
                .flushed
                .load(order_of(Twin::OwesRelaxed, Ordering::Acquire))
    }
}

/// For the explorer.
#[cfg(feature = "lab")]
impl Space {
    /// Counts from 0 again, so that runs begin alike. No CPU has the root loaded, so nobody knows a
    /// generation of the life before.
    pub fn forget_generations(&self) {
        for generation in [&self.current, &self.batched, &self.emptied, &self.flushed] {
            generation.store(0, Ordering::Relaxed);
        }
    }

    /// No CPU has translations, whatever the mask says.
    pub fn forget_cpus(&self) {
        self.cpus.store(CpuMask::EMPTY, Ordering::SeqCst);
    }
}
