//! The simulated machine: the same memory manager on the host.
//!
//! Each simulated CPU is an OS thread with a TLB of its own, which keeps every translation until it
//! is told to drop it. RAM is one host allocation of atomic words; user accesses go through an MMU
//! that walks the memory manager's own page tables there and sets accessed and dirty bits by
//! compare-exchange, as hardware does. IPIs and disk interrupts are messages, taken at polling
//! places with interrupts on: a user access, the end of an interrupts-off section, an unlock, every
//! turn of a wait. A CPU that sleeps serves its messages too.
//!
//! Nothing but [`simctl::boot`] makes the machine; everything else here needs it.

#[cfg(feature = "lab")]
pub(crate) mod actor;
mod board;
mod clock;
mod cpu;
mod disk;
mod heap;
mod ipi;
mod mmu;
mod oracle;
mod ram;
#[cfg(reach)]
pub mod reach;
pub mod simctl;
#[cfg(test)]
mod tests;
pub mod thread;
mod tlb;
pub mod user;
mod volatile;

pub use board::{exit, fatal, kernel_root, memory_map, ram_bytes};
pub use clock::{cycles, now_ns};
pub use disk::{data_disk, swap_disk};
pub(crate) use heap::map_kernel_page;
pub use heap::{NoMemory, heap_window, unmap_kernel_spans};
pub use ipi::{call_on, nr_cpus, online};
pub(crate) use ipi::{kick, send_tlb_ipi, wait_for};
pub use mmu::current_root;
pub(crate) use mmu::{flush_local, invlpg, switch_root};
pub(crate) use oracle::frame_freed;
pub use ram::frame_ptr;
pub(crate) use ram::{copy_frame, fill_frame, frame_words, pt_cell, zero_frame};
