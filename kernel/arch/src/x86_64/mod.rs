//! The real machine: x86-64 with local APICs, as QEMU's PC.
//!
//! Power-on, in this order: [`start`] (own page tables, stack, descriptor tables; no allocation),
//! [`init_interrupts`] (ACPI, APICs, clock, threads on the boot CPU), [`start_cpus`] (the others;
//! takes frames), then [`idle`] for the boot context.

mod acpi;
#[cfg(feature = "lab")]
pub(crate) mod actor;
mod apic;
mod audit;
mod boot;
mod cpu;
mod disk;
mod entry;
mod frame;
mod hooks;
mod identity;
mod ioapic;
mod ipi;
pub mod irq;
pub mod layout;
mod memory;
mod paging;
mod power;
mod queue;
mod sched;
mod smp;
mod stack;
mod switch;
pub mod thread;
mod time;
mod trap;
pub mod user;

pub use audit::{Audit, Flaw, audit, audit_commands};
pub use boot::{BootError, idle, init_interrupts, kernel_frame, rsdp, start, start_cpus};
pub use cpu::{Features, features, global_pages};
pub use disk::{DATA_SERIAL, MAX_DISKS, data_disk, register_disk, swap_disk};
pub(crate) use frame::{
    copy_frame, fill_frame, flush_local, frame_freed, frame_words, invlpg, pt_cell, switch_root,
    zero_frame,
};
pub use frame::{current_root, frame_ptr};
#[cfg(feature = "lab")]
pub use identity::{Identity, identity_seen};
pub use ipi::call_on;
pub(crate) use ipi::{kick, send_tlb_ipi, wait_for};
pub use layout::{HEAP_BASE, HEAP_MAX, heap_window};
pub use memory::{memory_map, ram_bytes};
pub(crate) use paging::map_kernel_page;
pub use paging::{NoMemory, kernel_root, map_mmio, phys_ptr, translate, unmap_kernel_spans};
pub use power::{backtrace, exit, fatal, halt, panic_begin};
pub use smp::{CpuFault, StartedCpus, nr_cpus, online, started_with_global_pages};
pub use time::{counts_instructions, cycles, now_ns, tsc_hz};

/// Most CPUs that are started.
pub const MAX_X86_CPUS: usize = 16;
