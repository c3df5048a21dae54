//! What the `virtio-drivers` crate needs of the kernel: DMA memory and device registers.
//!
//! All DMA memory and all buffers lie in the direct map, so that sharing one is arithmetic. There
//! is no IOMMU. Locks: none of its own. Never sleeps.

use core::ptr::NonNull;

use arch::{PAGE_SIZE, Pfn};
use spin::Once;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// Allocates so many physically contiguous pages.
pub(crate) type Allocate = fn(usize) -> Option<Pfn>;

static ALLOCATE: Once<Allocate> = Once::new();

/// Says where DMA memory comes from. Before the first device.
pub(super) fn set_allocator(allocate: Allocate) {
    ALLOCATE.call_once(|| allocate);
}

/// The physical address of a byte in the direct map.
fn phys(byte: *const u8) -> PhysAddr {
    let base = arch::frame_ptr(Pfn(0));
    byte as u64 - base as u64
}

/// The kernel's side of the crate.
pub(super) struct KernelHal;

// SAFETY: memory from the page allocator is page aligned, exclusive and never returned; the direct
// map is valid for all of RAM; `map_mmio` maps for good.
unsafe impl Hal for KernelHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = ALLOCATE.get().and_then(|allocate| allocate(pages));
        let Some(first) = first else {
            // The crate takes address 0 for failure.
            return (0, NonNull::dangling());
        };
        for i in 0..pages as u32 {
            // SAFETY: the allocator gave the pages away for good.
            unsafe { arch::zero_frame(first.add(i)) };
        }
        let start = arch::frame_ptr(first);
        (
            first.phys().0,
            NonNull::new(start).unwrap_or(NonNull::dangling()),
        )
    }

    /// Devices live as long as the machine: this runs only when one fails to set up, and then its
    /// pages stay with it, since it may have been told of them.
    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(at: PhysAddr, size: usize) -> NonNull<u8> {
        let registers = arch::map_mmio(arch::PhysAddr(at), (size as u64).max(PAGE_SIZE));
        NonNull::new(registers).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        phys(buffer.cast::<u8>().as_ptr())
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
