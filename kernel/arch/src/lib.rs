//! L2: one facade, two machines chosen at compile time.
//!
//! `x86_64` is the real one (target `x86_64-unknown-none`); `sim` runs the same memory manager on
//! the host, with CPUs as threads, simulated RAM and an MMU that walks our page tables and keeps
//! stale TLB entries. What is common to both lies in this folder: addresses, the page-table entry
//! format, the block-device interface and the calls the machine makes upwards.
//!
//! What works on a frame that a number names is unsafe: the number proves nothing.
//!
//! ```compile_fail,E0133
//! fn forged(p: arch::Pfn) { arch::frame_words(p); }
//! ```
//! ```compile_fail,E0133
//! fn forged(p: arch::Pfn) { arch::pt_cell(p, 0); }
//! ```
//! ```compile_fail,E0133
//! fn forged(p: arch::Pfn) { arch::zero_frame(p); }
//! ```
//! ```compile_fail,E0133
//! fn forged(p: arch::Pfn) { arch::fill_frame(p, 0); }
//! ```
//! ```compile_fail,E0133
//! fn forged(p: arch::Pfn) { arch::copy_frame(p, p); }
//! ```
//! ```compile_fail,E0133
//! fn forged(p: arch::Pfn) { arch::switch_root(p); }
//! ```
//! ```compile_fail,E0133
//! fn forged(va: arch::VirtAddr, p: arch::Pfn) { let _ = arch::map_kernel_page(va, p, &mut || None); }
//! ```
//!
//! So is what makes others rely on something: which address space is there, and when a device is
//! done.
//!
//! ```compile_fail,E0133
//! fn forged() { arch::thread::set_adopted(7); }
//! ```
//! ```compile_fail,E0133
//! fn early(bio: &arch::block::Bio) { bio.complete(Ok(())); }
//! ```
//! ```compile_fail,E0133
//! use arch::block::{Bio, BlockDevice, Op};
//! fn forged(disk: &dyn BlockDevice, bio: &'static Bio, p: arch::Pfn) {
//!     bio.prepare(Op::Read, 0, &[p]);
//!     let _ = disk.submit(bio);
//! }
//! ```
//! ```compile_fail,E0200
//! struct Liar;
//! impl arch::upcall::Upcalls for Liar {
//!     fn page_fault(&self, _: arch::VirtAddr, _: arch::upcall::Access) -> Result<(), arch::upcall::FaultError> { Ok(()) }
//!     fn tlb_ipi(&self) {}
//!     fn bio_done(&self, _: &'static arch::block::Bio) {}
//!     fn switch_mm(&self, _: &sync::irq::IrqGuard, _: u64) {}
//! }
//! ```
#![cfg_attr(target_os = "none", no_std)]

#[cfg(any(target_os = "none", feature = "lab"))]
extern crate alloc;

#[cfg(feature = "lab")]
pub mod actor;
pub mod addr;
pub mod block;
#[cfg(any(target_os = "none", test))]
mod countdown;
pub mod pte;
mod regions;
mod seen;
mod spawn;
pub mod upcall;

#[cfg(not(target_os = "none"))]
#[path = "sim/mod.rs"]
mod machine;
#[cfg(target_os = "none")]
#[path = "x86_64/mod.rs"]
mod machine;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr, USER_TOP, VirtAddr};
pub use machine::*;
pub use regions::{MemRegion, RegionKind};
// In place of the machine's own.
pub use seen::{
    copy_frame, fill_frame, flush_local, frame_freed, frame_words, invlpg, kick, map_kernel_page,
    pt_cell, send_tlb_ipi, switch_root, wait_for, zero_frame,
};
