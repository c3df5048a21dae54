//! Loads and stores in the user half by the running thread, with the real MMU.
//!
//! A thread that has adopted no address space has no user memory, whatever root its CPU has
//! borrowed: what that root leads to may have been freed, because a lazy CPU is told of nothing. A
//! fault runs the `page_fault` upcall on the thread's own stack with interrupts on, and the access
//! is retried or fails with the upcall's error; so these may sleep, and need interrupts and
//! preemption on. The `_nofault` ones make no upcall and may be used anywhere. The accesses are
//! single instructions: aligned 8-byte ones are atomic, with the ordering of plain x86 accesses
//! (loads acquire, stores release; the read-modify-write ones are sequentially consistent).

use super::thread;
use crate::addr::{USER_TOP, VirtAddr};
use crate::upcall::FaultError;

/// Status in RAX, value in RDX.
#[repr(C)]
struct Loaded {
    status: u64,
    value: u64,
}

unsafe extern "C" {
    safe fn user_load(va: u64) -> Loaded;
    safe fn user_store(va: u64, value: u64) -> u64;
    safe fn user_load8(va: u64) -> Loaded;
    safe fn user_store8(va: u64, value: u8) -> u64;
    safe fn user_fetch_add(va: u64, n: u64) -> Loaded;
    safe fn user_compare_exchange(va: u64, old: u64, new: u64) -> Loaded;
    safe fn user_load_nofault(va: u64) -> Loaded;
    safe fn user_store_nofault(va: u64, value: u64) -> u64;
}

/// The statuses that [`super::trap::user_page_fault`] hands to the functions above.
pub(super) fn status_of(e: FaultError) -> u64 {
    match e {
        FaultError::Unmapped => 1,
        FaultError::Protection => 2,
        FaultError::Bus => 3,
        FaultError::Killed => 4,
    }
}

#[inline]
fn checked(status: u64) -> Result<(), FaultError> {
    match status {
        0 => Ok(()),
        2 => Err(FaultError::Protection),
        3 => Err(FaultError::Bus),
        4 => Err(FaultError::Killed),
        _ => Err(FaultError::Unmapped),
    }
}

/// An address outside of the user half has no mapping, whatever the kernel's tables say; nor has
/// any without an adopted address space. (A thread that is switched away from here comes back to
/// its own root.)
#[inline]
fn user(va: VirtAddr) -> Result<u64, FaultError> {
    if va.0 < USER_TOP && thread::has_adopted() {
        Ok(va.0)
    } else {
        Err(FaultError::Unmapped)
    }
}

#[inline]
fn aligned(va: VirtAddr) -> Result<u64, FaultError> {
    debug_assert!(
        va.0.is_multiple_of(8),
        "user access at {va:?} is not aligned"
    );
    user(va)
}

/// Loads the word at `va` (8-byte aligned).
///
/// # Errors
/// What the page-fault upcall says, or [`FaultError::Unmapped`] outside of the user half and for a
/// thread that has adopted no address space; so for all below.
#[inline]
pub fn load(va: VirtAddr) -> Result<u64, FaultError> {
    let loaded = user_load(aligned(va)?);
    checked(loaded.status).map(|()| loaded.value)
}

/// Stores the word at `va` (8-byte aligned).
///
/// # Errors
/// As [`load`].
#[inline]
pub fn store(va: VirtAddr, value: u64) -> Result<(), FaultError> {
    checked(user_store(aligned(va)?, value))
}

/// Loads the byte at `va`.
///
/// # Errors
/// As [`load`].
#[inline]
pub fn load8(va: VirtAddr) -> Result<u8, FaultError> {
    let loaded = user_load8(user(va)?);
    checked(loaded.status).map(|()| loaded.value as u8)
}

/// Stores the byte at `va`.
///
/// # Errors
/// As [`load`].
#[inline]
pub fn store8(va: VirtAddr, value: u8) -> Result<(), FaultError> {
    checked(user_store8(user(va)?, value))
}

/// Adds `n` to the word at `va` (8-byte aligned), wrapping; returns what was there.
///
/// # Errors
/// As [`load`].
#[inline]
pub fn fetch_add(va: VirtAddr, n: u64) -> Result<u64, FaultError> {
    let loaded = user_fetch_add(aligned(va)?, n);
    checked(loaded.status).map(|()| loaded.value)
}

/// Stores `new` at `va` (8-byte aligned) if `old` is there; returns what was there.
///
/// # Errors
/// As [`load`].
#[inline]
pub fn compare_exchange(va: VirtAddr, old: u64, new: u64) -> Result<u64, FaultError> {
    let loaded = user_compare_exchange(aligned(va)?, old, new);
    checked(loaded.status).map(|()| loaded.value)
}

/// What the MMU reads at `va` now, without an upcall: `None` where it faults.
#[inline]
pub fn load_nofault(va: VirtAddr) -> Option<u64> {
    let loaded = user_load_nofault(aligned(va).ok()?);
    (loaded.status == 0).then_some(loaded.value)
}

/// This CPU's MMU translates `va` (8-byte aligned) for reading, under whatever root is loaded.
#[cfg(feature = "lab")]
pub(super) fn reads(va: u64) -> bool {
    user_load_nofault(va).status == 0
}

/// Stores where the MMU allows it now, without an upcall; whether it did.
#[inline]
pub fn store_nofault(va: VirtAddr, value: u64) -> bool {
    aligned(va).is_ok_and(|va| user_store_nofault(va, value) == 0)
}
