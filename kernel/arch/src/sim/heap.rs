//! The kernel heap's window. The host program has its own allocator; this is for tests of the memory manager's
//! heap. The window is host memory of its own, so the frames mapped into it are only accounted for.

use super::board::machine;
use super::cpu::lock;
use super::ram::lazy_words;
use crate::addr::{PAGE_SIZE, PMD_SIZE, Pfn, VirtAddr};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

/// Bytes in the window.
const SIZE: u64 = 64 << 20;

/// No frame was to be had for a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

pub(super) struct Window {
    memory: &'static [AtomicU64],
    mapped: Mutex<HashMap<u64, Pfn>>,
    tables: Mutex<HashMap<u64, Pfn>>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            memory: lazy_words(((SIZE + PAGE_SIZE) / 8) as usize),
            mapped: Mutex::default(),
            tables: Mutex::default(),
        }
    }

    fn base(&self) -> u64 {
        crate::addr::page_align_up(self.memory.as_ptr().expose_provenance() as u64)
    }
}

/// First address and length of the kernel heap's window.
pub fn heap_window() -> (VirtAddr, u64) {
    (VirtAddr(machine().heap.base()), SIZE)
}

/// Maps `pfn` at `va` in the window, readable and writable. `alloc` gives frames for page tables (one for every
/// 2 MiB), which are never given back. Serialised by the caller.
///
/// # Errors
/// [`NoMemory`] when `alloc` gives nothing.
///
/// # Panics
/// When `va` lies outside of the window or is mapped already.
pub fn map_kernel_page(
    va: VirtAddr,
    pfn: Pfn,
    alloc: &mut dyn FnMut() -> Option<Pfn>,
) -> Result<(), NoMemory> {
    let heap = &machine().heap;
    let base = heap.base();
    assert!(
        (base..base + SIZE).contains(&va.0),
        "{va:?} is outside of the kernel heap's window"
    );
    let slot = (va.0 - base) / PMD_SIZE;
    if let Entry::Vacant(slot) = lock(&heap.tables).entry(slot) {
        slot.insert(alloc().ok_or(NoMemory)?);
    }
    let old = lock(&heap.mapped).insert(va.page().0, pfn);
    assert!(old.is_none(), "{va:?} is mapped already");
    Ok(())
}
