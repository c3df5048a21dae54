//! Loads and stores in the user half by the running thread, through the simulated MMU.
//!
//! A thread that has adopted no address space has no user memory, whatever root its CPU has
//! borrowed. A fault runs the `page_fault` upcall with interrupts on and retries; so these may
//! sleep, except for the `_nofault` ones. Each access is one step and a place where an interrupt
//! may arrive before it. Loads acquire, stores release, the read-modify-write ones do both.

use super::{mmu, thread};
use crate::addr::{USER_TOP, VirtAddr};
use crate::upcall::{Access, FaultError, upcalls};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// An address outside of the user half has no mapping; nor has any without an adopted address
/// space.
fn is_user(va: VirtAddr) -> bool {
    va.0 < USER_TOP && thread::adopted() != 0
}

fn attempt<R>(va: VirtAddr, want: Access, op: impl Fn(&AtomicU64) -> R) -> Result<R, FaultError> {
    if !is_user(va) {
        return Err(FaultError::Unmapped);
    }
    let word = VirtAddr(va.0 & !7);
    loop {
        sync::irq::poll();
        if let Ok(r) = mmu::access(word, want, &op) {
            return Ok(r);
        }
        sync::might_sleep("a page fault");
        let up = upcalls().ok_or(FaultError::Unmapped)?;
        up.page_fault(va, want)?;
    }
}

fn aligned(va: VirtAddr) -> VirtAddr {
    debug_assert!(
        va.0.is_multiple_of(8),
        "user access at {va:?} is not 8-byte aligned"
    );
    va
}

/// Loads the word at `va` (8-byte aligned).
///
/// # Errors
/// What the page-fault upcall says, or [`FaultError::Unmapped`] outside of the user half and for a
/// thread that has adopted no address space; so for all below.
pub fn load(va: VirtAddr) -> Result<u64, FaultError> {
    attempt(aligned(va), Access::Read, |w| w.load(Acquire))
}

/// Stores the word at `va` (8-byte aligned).
///
/// # Errors
/// As [`load`].
pub fn store(va: VirtAddr, value: u64) -> Result<(), FaultError> {
    attempt(aligned(va), Access::Write, |w| w.store(value, Release))
}

/// Loads the byte at `va`.
///
/// # Errors
/// As [`load`].
pub fn load8(va: VirtAddr) -> Result<u8, FaultError> {
    let shift = (va.0 & 7) * 8;
    attempt(va, Access::Read, |w| (w.load(Acquire) >> shift) as u8)
}

/// Stores the byte at `va`.
///
/// # Errors
/// As [`load`].
pub fn store8(va: VirtAddr, value: u8) -> Result<(), FaultError> {
    let shift = (va.0 & 7) * 8;
    let with = |old: u64| old & !(0xff << shift) | u64::from(value) << shift;
    attempt(va, Access::Write, |w| {
        let mut old = w.load(Relaxed);
        while let Err(now) = w.compare_exchange_weak(old, with(old), AcqRel, Relaxed) {
            old = now;
        }
    })
}

/// Adds `n` to the word at `va` (8-byte aligned), wrapping; returns what was there.
///
/// # Errors
/// As [`load`].
pub fn fetch_add(va: VirtAddr, n: u64) -> Result<u64, FaultError> {
    attempt(aligned(va), Access::Write, |w| w.fetch_add(n, AcqRel))
}

/// Stores `new` at `va` (8-byte aligned) if `old` is there; returns what was there.
///
/// # Errors
/// As [`load`].
pub fn compare_exchange(va: VirtAddr, old: u64, new: u64) -> Result<u64, FaultError> {
    attempt(aligned(va), Access::Write, |w| {
        w.compare_exchange(old, new, AcqRel, Acquire)
            .unwrap_or_else(|seen| seen)
    })
}

/// What the MMU reads at `va` now, without an upcall: `None` where it faults.
pub fn load_nofault(va: VirtAddr) -> Option<u64> {
    if !is_user(va) {
        return None;
    }
    sync::irq::poll();
    mmu::access(aligned(va), Access::Read, |w| w.load(Acquire)).ok()
}

/// Stores where the MMU allows it now, without an upcall; whether it did.
pub fn store_nofault(va: VirtAddr, value: u64) -> bool {
    if !is_user(va) {
        return false;
    }
    sync::irq::poll();
    mmu::access(aligned(va), Access::Write, |w| w.store(value, Release)).is_ok()
}
