//! Kernel stacks: fixed slots of the stack window, each with unmapped guard pages below it.
//!
//! Slot `t` belongs to task `t`; the slots above are the exception stacks of the CPUs. A stack is
//! mapped at its slot's first use and never unmapped, so that no CPU ever holds a stale translation
//! of one.
//!
//! Locks: the window's, around page-table changes. Never sleeps (frames come from
//! [`super::kernel_frame`], which does not either).

use core::sync::atomic::{AtomicU8, Ordering};

use spin::Mutex;
use sync::task::MAX_TASKS;

use super::layout::{STACK_BASE, STACK_SLOT};
use super::paging::{NoMemory, map_kernel_page};
use super::{MAX_X86_CPUS, kernel_frame};
use crate::addr::{PAGE_SIZE, VirtAddr};

/// Pages of a thread's stack.
const THREAD_PAGES: u64 = 8;
/// Pages of an idle thread's stack: interrupt handlers run on it.
const IDLE_PAGES: u64 = 4;
/// Pages of the exception stacks. The report of a double fault runs on the first; an NMI does
/// little.
const EXCEPTION_PAGES: [u64; 2] = [4, 1];
const EXCEPTION_STACKS: usize = EXCEPTION_PAGES.len();
const SLOTS: usize = MAX_TASKS + MAX_X86_CPUS * EXCEPTION_STACKS;

static WINDOW: Mutex<()> = Mutex::new(());
/// Pages mapped in each slot, from the top.
static MAPPED: [AtomicU8; SLOTS] = [const { AtomicU8::new(0) }; SLOTS];

fn top(slot: usize) -> u64 {
    STACK_BASE + (slot as u64 + 1) * STACK_SLOT
}

fn map(slot: usize, pages: u64) -> Result<u64, NoMemory> {
    if u64::from(MAPPED[slot].load(Ordering::Acquire)) >= pages {
        return Ok(top(slot));
    }
    let _pinned = sync::preempt::disable();
    let _window = WINDOW.lock();
    for page in u64::from(MAPPED[slot].load(Ordering::Relaxed))..pages {
        let frame = kernel_frame().ok_or(NoMemory)?;
        let va = VirtAddr(top(slot) - (page + 1) * PAGE_SIZE);
        map_kernel_page(va, frame, &mut kernel_frame)?;
        // Release: pairs with the Acquire above; who sees the count sees the pages mapped.
        MAPPED[slot].store(page as u8 + 1, Ordering::Release);
    }
    Ok(top(slot))
}

/// The top of task `task`'s stack, mapped.
pub(super) fn thread_stack(task: usize) -> Result<u64, NoMemory> {
    map(task, THREAD_PAGES)
}

/// The top of the stack of `cpu`'s idle thread, mapped.
pub(super) fn idle_stack(cpu: usize) -> Result<u64, NoMemory> {
    map(cpu, IDLE_PAGES)
}

fn exception_slot(cpu: usize, ist: u16) -> usize {
    MAX_TASKS + cpu * EXCEPTION_STACKS + ist as usize
}

/// Maps the exception stacks of `cpu`.
pub(super) fn map_exception_stacks(cpu: usize) -> Result<(), NoMemory> {
    for (ist, pages) in EXCEPTION_PAGES.into_iter().enumerate() {
        map(exception_slot(cpu, ist as u16), pages)?;
    }
    Ok(())
}

/// The top of `cpu`'s exception stack number `ist`.
pub(super) fn exception_stack_top(cpu: usize, ist: u16) -> u64 {
    top(exception_slot(cpu, ist))
}

/// Every slot in use: its first byte, the first byte of its stack, the first byte after both.
pub(super) fn mapped() -> impl Iterator<Item = (u64, u64, u64)> {
    (0..SLOTS).filter_map(|slot| {
        // Acquire: pairs with the Release in `map`.
        let pages = u64::from(MAPPED[slot].load(Ordering::Acquire));
        let end = top(slot);
        (pages > 0).then_some((end - STACK_SLOT, end - pages * PAGE_SIZE, end))
    })
}

/// What a faulting address in a guard says: the task whose stack overflowed.
pub(super) fn overflowed_task(va: u64) -> Option<usize> {
    let slot = (va.checked_sub(STACK_BASE)? / STACK_SLOT) as usize;
    let mapped = u64::from(MAPPED.get(slot)?.load(Ordering::Relaxed));
    let in_guard = va < top(slot) - mapped * PAGE_SIZE;
    (in_guard && slot < MAX_TASKS && mapped > 0).then_some(slot)
}
