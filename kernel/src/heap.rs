//! The boot heap: a fixed region of the kernel's data, enough until the memory manager's heap takes over.
//!
//! Lock: its own, with interrupts left as they are. Never sleeps.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use spin::Mutex;

const BYTES: usize = 1 << 20;

#[repr(align(4096))]
struct Region(UnsafeCell<[u8; BYTES]>);
// SAFETY: only the heap, under its lock, hands out parts of it.
unsafe impl Sync for Region {}

static REGION: Region = Region(UnsafeCell::new([0; BYTES]));

struct BootHeap(Mutex<Heap>);

#[global_allocator]
static HEAP: BootHeap = BootHeap(Mutex::new(Heap::empty()));

/// Opens the heap. Called once, before anything is allocated.
pub(crate) fn init() {
    // SAFETY: the region is static and given away only here.
    unsafe { HEAP.0.lock().init(REGION.0.get().cast(), BYTES) };
}

// SAFETY: `Heap` returns blocks of the layout asked for, disjoint while allocated.
unsafe impl GlobalAlloc for BootHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.0.lock().allocate_first_fit(layout);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got `block` from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}
