//! The kernel heap's window. The host program has its own allocator; this is for tests of the
//! memory manager's heap. The window is host memory of its own, so the frames mapped into it are
//! only accounted for.

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

/// Maps `pfn` at `va` in the window, readable and writable. `alloc` gives frames for page tables
/// (one for every 2 MiB), which go back with [`unmap_kernel_spans`]. Serialised by the caller.
///
/// # Errors
/// [`NoMemory`] when `alloc` gives nothing.
///
/// # Panics
/// When `va` lies outside of the window or is mapped already.
pub(crate) fn map_kernel_page(
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

/// Takes everything out that [`map_kernel_page`] has mapped in `spans` whole spans of 2 MiB from
/// `va` on; then `freed` gets each frame, and each page table. Serialised by the caller.
///
/// # Safety
/// Nobody uses an address of these spans any more, nor will before it is mapped again.
///
/// # Panics
/// When the spans do not lie in the window, or `va` is no multiple of 2 MiB from its begin.
pub unsafe fn unmap_kernel_spans(va: VirtAddr, spans: u64, freed: &mut dyn FnMut(Pfn)) {
    sync::might_wait_for_ipi();
    let heap = &machine().heap;
    let base = heap.base();
    let at = va.0.wrapping_sub(base);
    let end = at.saturating_add(spans * PMD_SIZE);
    assert!(
        end <= SIZE && at.is_multiple_of(PMD_SIZE),
        "unmap_kernel_spans: {va:?} and {spans} spans of 2 MiB are not the heap window's"
    );
    let pages: Vec<Pfn> = {
        let mut mapped = lock(&heap.mapped);
        let inside = |page: &u64, _: &mut Pfn| (at..end).contains(&(page - base));
        mapped.extract_if(inside).map(|(_, pfn)| pfn).collect()
    };
    let tables: Vec<Pfn> = {
        let mut tables = lock(&heap.tables);
        let inside = |slot: &u64, _: &mut Pfn| (at..end).contains(&(slot * PMD_SIZE));
        tables.extract_if(inside).map(|(_, pfn)| pfn).collect()
    };
    pages.into_iter().chain(tables).for_each(freed);
}
