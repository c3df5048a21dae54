//! Checks that no CPU can reach a frame through its TLB once the frame is free.
//!
//! Every frame has a generation, bumped when it is freed, and a count of the TLB entries
//! (translations, cached tables, roots) that lead to it. A free with a count above zero is a
//! violation; so is a use through an entry of an older generation. Violations are collected, not
//! fatal: tests that break a rule on purpose want to see them. Locks: its own mutex and the TLBs',
//! one at a time, never both.

use super::board::machine;
use crate::addr::{Pfn, VirtAddr};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What went wrong with a freed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// The frame was freed while `cpu`, whose thread has adopted an address space, could reach it
    /// at `va`.
    FreedWhileCached {
        /// The frame.
        pfn: Pfn,
        /// The CPU with the stale translation.
        cpu: usize,
        /// Where it translates.
        va: VirtAddr,
    },
    /// A page-table page was freed while `cpu` could still walk through it.
    TableFreedWhileCached {
        /// The table's frame.
        pfn: Pfn,
        /// The CPU that cached it, or whose root it is.
        cpu: usize,
    },
    /// A CPU accessed a frame through a translation older than the frame's last free.
    UsedAfterFree {
        /// The frame.
        pfn: Pfn,
        /// The CPU.
        cpu: usize,
        /// The address accessed.
        va: VirtAddr,
    },
    /// A CPU walked through a page-table page that had been freed.
    WalkedAfterFree {
        /// The table's frame.
        pfn: Pfn,
        /// The address translated.
        va: VirtAddr,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreedWhileCached { pfn, cpu, va } => {
                write!(
                    f,
                    "{pfn:?} freed while CPU {cpu} can reach it at {:#x}",
                    va.0
                )
            }
            Self::TableFreedWhileCached { pfn, cpu } => {
                write!(f, "table {pfn:?} freed while CPU {cpu} can walk it")
            }
            Self::UsedAfterFree { pfn, cpu, va } => {
                write!(f, "CPU {cpu} used {pfn:?}, freed, at {:#x}", va.0)
            }
            Self::WalkedAfterFree { pfn, va } => {
                write!(
                    f,
                    "a walk for {:#x} went through table {pfn:?}, freed",
                    va.0
                )
            }
        }
    }
}

/// Violations kept; later ones are only counted by the vector's being full.
const MAX_KEPT: usize = 1024;

#[derive(Default)]
struct FrameState {
    generation: AtomicU32,
    holds: AtomicU32,
}

pub(super) struct Oracle {
    frames: Box<[FrameState]>,
    violations: Mutex<Vec<Violation>>,
}

impl Oracle {
    pub(super) fn new(frames: usize) -> Self {
        let cells = Box::<[FrameState]>::new_zeroed_slice(frames);
        Self {
            // SAFETY: a `FrameState` is two atomics, for which all-zero bytes are valid.
            frames: unsafe { cells.assume_init() },
            violations: Mutex::new(Vec::new()),
        }
    }

    /// Frees of `pfn` so far. A frame outside of RAM has none.
    pub(super) fn generation(&self, pfn: Pfn) -> u32 {
        self.frames
            .get(pfn.index())
            .map_or(0, |f| f.generation.load(Ordering::Acquire))
    }

    /// A TLB entry leads to `pfn`.
    pub(super) fn hold(&self, pfn: Pfn) {
        if let Some(f) = self.frames.get(pfn.index()) {
            f.holds.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// It does no longer.
    pub(super) fn drop_hold(&self, pfn: Pfn) {
        if let Some(f) = self.frames.get(pfn.index()) {
            f.holds.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub(super) fn check_use(&self, cpu: usize, va: VirtAddr, pfn: Pfn, generation: u32) {
        if self.generation(pfn) != generation {
            self.record(Violation::UsedAfterFree { pfn, cpu, va });
        }
    }

    pub(super) fn check_walk(&self, pfn: Pfn, generation: u32, va: VirtAddr) {
        if self.generation(pfn) != generation {
            self.record(Violation::WalkedAfterFree { pfn, va });
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Violation>> {
        self.violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, v: Violation) {
        let mut kept = self.kept();
        if kept.len() < MAX_KEPT {
            kept.push(v);
        }
    }

    pub(super) fn take(&self) -> Vec<Violation> {
        std::mem::take(&mut *self.kept())
    }
}

/// The memory manager frees frame `pfn`: nothing may lead to it any more. Call it for each 4 KiB
/// frame just before it goes back to the allocator.
pub(crate) fn frame_freed(pfn: Pfn) {
    let m = machine();
    let Some(frame) = m.oracle.frames.get(pfn.index()) else {
        return;
    };
    if frame.holds.load(Ordering::Acquire) != 0 {
        for cpu in &m.cpus {
            // A lazy CPU (its thread has adopted nothing) uses no translation; it must forget them
            // before it takes an address space again, and a use after that is caught as
            // `UsedAfterFree`. Asked before its TLB is looked at: a CPU that has adopted has
            // switched, so what is there afterwards is not from the time before.
            let lazy = super::thread::adopted_on(cpu.id) == 0;
            let (stale, walked) = {
                let tlb = cpu.tlb();
                let stale: Vec<_> = tlb.translations_to(pfn).collect();
                (stale, tlb.walks_through(pfn))
            };
            for va in stale.into_iter().filter(|_| !lazy) {
                let cpu = cpu.id;
                m.oracle
                    .record(Violation::FreedWhileCached { pfn, cpu, va });
            }
            if walked {
                let cpu = cpu.id;
                m.oracle
                    .record(Violation::TableFreedWhileCached { pfn, cpu });
            }
        }
    }
    frame.generation.fetch_add(1, Ordering::AcqRel);
}
