//! Where things lie in the upper half. One PGD entry (512 GiB) for each window, so that the upper
//! half of every root is the same handful of entries, complete before the first address space
//! exists.
//!
//! | window | base | what |
//! |---|---|---|
//! | direct map | [`DIRECT_BASE`] | all RAM, RW NX, large pages |
//! | MMIO | [`MMIO_BASE`] | device registers, uncached, 2 MiB pages |
//! | heap | [`HEAP_BASE`] | frames that the memory manager maps with `map_kernel_page` |
//! | stacks | [`STACK_BASE`] | kernel stacks, each above unmapped guard pages |
//! | image | [`IMAGE_BASE`] | the kernel, W^X by section |

use crate::addr::{PGD_SIZE, PUD_SIZE, VirtAddr};

/// The direct map: physical address 0. The bootloader maps physical memory here too, so that
/// [`super::frame_ptr`] holds before and after the kernel's own tables are loaded.
pub const DIRECT_BASE: u64 = 0xffff_8800_0000_0000;
/// Most physical memory that the direct map can show.
pub const DIRECT_SIZE: u64 = PGD_SIZE;
/// Device registers.
pub const MMIO_BASE: u64 = 0xffff_c800_0000_0000;
/// Bytes in the MMIO window: what one PMD table of 2 MiB pages maps.
pub const MMIO_SIZE: u64 = PUD_SIZE;
/// First address of the kernel heap's window.
pub const HEAP_BASE: u64 = 0xffff_d000_0000_0000;
/// First address above the kernel heap's window.
pub const HEAP_MAX: u64 = HEAP_BASE + PGD_SIZE;
/// Kernel stacks.
pub const STACK_BASE: u64 = 0xffff_d800_0000_0000;
/// Distance between kernel stacks. The upper part of each slot is the stack, the rest its guard.
pub const STACK_SLOT: u64 = 64 * 1024;
/// The kernel image (see `kernel/link.ld`).
pub const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

/// The kernel heap's window: first address and bytes.
pub fn heap_window() -> (VirtAddr, u64) {
    (VirtAddr(HEAP_BASE), HEAP_MAX - HEAP_BASE)
}
