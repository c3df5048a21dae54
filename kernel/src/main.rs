//! L4: the freestanding kernel binary. This file is the power-on order.
#![no_std]
#![no_main]

extern crate alloc;

mod console;
mod fwcfg;
mod panic;
mod pci;
mod serial;
mod virtio;

use alloc::boxed::Box;

use bootloader_api::config::Mapping;
use bootloader_api::{BootInfo, BootloaderConfig, entry_point};

/// What the bootloader shall set up: everything it maps out of the user half, and physical memory
/// where the kernel's own tables show it too.
static BOOT_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.dynamic_range_start = Some(0xffff_8000_0000_0000);
    config.mappings.physical_memory = Some(Mapping::FixedAddress(arch::layout::DIRECT_BASE));
    config.kernel_stack_size = 64 * 1024;
    config
};

#[global_allocator]
static HEAP: mm::heap::KernelHeap = mm::heap::KernelHeap;

entry_point!(start, config = &BOOT_CONFIG);

/// The first bytes of our own on the serial port; `run-qemu.sh` drops what firmware and bootloader
/// print before this line.
const MARKER: &str = "=== quire ===";

/// On the bootloader's stack and page tables.
fn start(boot: &'static mut BootInfo) -> ! {
    serial::early_init();
    serial::emergency(format_args!("\n{MARKER}\n"));
    // SAFETY: the bootloader has just jumped here; `run` keeps to the order.
    let Err(why) = unsafe { arch::start(boot, run) };
    serial::emergency(format_args!("quire: {why}\n"));
    arch::exit(1)
}

/// On our own stack and page tables, interrupts off.
fn run() -> ! {
    serial::init();
    if let Err(mm::InitError::TooLittleMemory { pages }) = mm::init() {
        println!(
            "quire: too little memory: {pages} usable pages, {} are needed",
            mm::MIN_PAGES
        );
        arch::exit(1);
    }
    fwcfg::init();
    println!("cpu: {}", arch::features());
    // SAFETY: once, on the tables that `arch::start` made.
    if let Err(why) = unsafe { arch::init_interrupts() } {
        panic!("cannot start: {why}");
    }
    virtio::init(dma_pages);
    // SAFETY: once, after `init_interrupts`.
    let cpus = unsafe { arch::start_cpus() };
    mm::cpus_known();
    println!(
        "cpus: {cpus}, tsc {} kHz, icount {}",
        arch::tsc_hz() / 1000,
        arch::counts_instructions()
    );
    let spawn = arch::thread::Spawn {
        name: "console",
        cpu: None,
    };
    if arch::thread::spawn(spawn, Box::new(console::main)).is_err() {
        panic!("no memory for the console's thread");
    }
    arch::idle()
}

/// Physically contiguous pages for a device, for good.
fn dma_pages(pages: usize) -> Option<arch::Pfn> {
    let order = pages.next_power_of_two().trailing_zeros() as u8;
    mm::buddy::alloc(order, mm::stats::Use::Misc, mm::buddy::Gfp::NOWAIT)
        .ok()
        .map(mm::buddy::Page::into_pfn)
}
