//! L4: the freestanding kernel binary. This file is the power-on order.
#![no_std]
#![no_main]

extern crate alloc;

mod fwcfg;
mod heap;
mod panic;
mod pci;
mod serial;
mod virtio;

use bootloader_api::config::Mapping;
use bootloader_api::{BootInfo, BootloaderConfig, entry_point};

/// What the bootloader shall set up: everything it maps out of the user half, and physical memory where the
/// kernel's own tables show it too.
static BOOT_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.dynamic_range_start = Some(0xffff_8000_0000_0000);
    config.mappings.physical_memory = Some(Mapping::FixedAddress(arch::layout::DIRECT_BASE));
    config.kernel_stack_size = 64 * 1024;
    config
};

entry_point!(start, config = &BOOT_CONFIG);

/// The first bytes of our own on the serial port; `run-qemu.sh` drops what firmware and bootloader print
/// before this line.
const MARKER: &str = "=== quire ===";

/// On the bootloader's stack and page tables.
fn start(boot: &'static mut BootInfo) -> ! {
    serial::early_init();
    serial::emergency(format_args!("\n{MARKER}\n"));
    let Err(why) = arch::start(boot, run);
    serial::emergency(format_args!("quire: {why}\n"));
    arch::exit(1)
}

/// On our own stack and page tables, interrupts off.
fn run() -> ! {
    serial::init();
    heap::init();
    fwcfg::init();
    serial::print(format_args!("cpu: {}\n", arch::features()));
    if let Err(why) = arch::init_interrupts() {
        panic!("cannot start: {why}");
    }
    virtio::init(dma_pages);
    let (running, found) = arch::start_cpus();
    serial::print(format_args!(
        "cpus: {running} of {found}, tsc {} kHz, icount {}\n",
        arch::tsc_hz() / 1000,
        arch::counts_instructions()
    ));
    for r in arch::memory_map() {
        serial::print(format_args!(
            "{:#x}..{:#x} {:?}\n",
            r.start.0, r.end.0, r.kind
        ));
    }
    arch::exit(0)
}

/// Physically contiguous pages before the memory manager runs: the early allocator gives consecutive frames,
/// but where a region ends.
fn dma_pages(pages: usize) -> Option<arch::Pfn> {
    let mut first = arch::kernel_frame()?;
    let mut len = 1;
    while len < pages {
        let next = arch::kernel_frame()?;
        if next == first.add(len as u32) {
            len += 1;
        } else {
            (first, len) = (next, 1);
        }
    }
    Some(first)
}
