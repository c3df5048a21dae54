//! L1: locks with ranks, per-CPU data, interrupt and preemption tokens, wait queues, and the words
//! by which CPUs agree in a TLB shootdown.
//!
//! Everything here works before a scheduler exists (locks spin then) and never allocates. What a
//! CPU is comes from [`cpu::CpuLocal`]; what a thread is comes from the machine through
//! [`Threads`]. On the host every OS thread that takes a lock gets a `CpuLocal` of its own, so the
//! same code runs under `cargo test`, Miri and the simulator.
#![cfg_attr(target_os = "none", no_std)]

mod atomic;
mod check;
mod counter;
pub mod cpu;
mod cpumask;
#[cfg(not(target_os = "none"))]
pub mod host;
pub mod irq;
mod irqlock;
#[cfg(feature = "loom")]
pub mod model;
mod mutex;
mod object;
#[cfg(not(any(target_os = "none", feature = "loom")))]
mod own;
mod percpu;
pub mod point;
pub mod preempt;
pub mod rank;
mod rawrwsem;
mod rawspin;
mod rwsem;
#[cfg(feature = "lab")]
mod slot;
mod spinlock;
pub mod task;
mod tasklist;
mod threads;
pub mod tlb;
mod twin;
mod unwind;
mod waitqueue;

pub use check::{held, held_by, lock_acquired, lock_released, might_sleep, might_wait_for_ipi};
pub use counter::Counter;
pub use cpumask::{AtomicCpuMask, CpuMask};
pub use irqlock::{IrqSpinGuard, IrqSpinLock};
#[cfg(feature = "loom")]
use model::own;
pub use mutex::{Mutex, MutexGuard};
pub use percpu::{PerCpu, Pinned};
pub use rank::Rank;
pub use rawrwsem::SemState;
pub use rawspin::{RawGuard, RawIrqGuard, RawSpin};
pub use rwsem::{ReadGuard, RwSem, WriteGuard};
pub use spinlock::{SpinGuard, SpinLock};
pub use task::TaskId;
pub use threads::{Threads, set_threads, threads, threads_ready};
#[cfg(feature = "loom")]
pub use twin::Twin;
pub use unwind::unwinding;
pub use waitqueue::WaitQueue;

/// Most CPUs of either machine (the real one uses at most 16).
pub const MAX_CPUS: usize = 32;
