//! L4: the freestanding kernel binary. This file is the power-on order.
#![no_std]
#![no_main]

mod heap;
mod serial;

use core::panic::PanicInfo;

use bootloader_api::config::Mapping;
use bootloader_api::{BootInfo, BootloaderConfig, entry_point};

/// What the bootloader shall set up. The dynamic range keeps everything it maps out of the user half;
/// the direct map of physical memory serves until the kernel has built its own tables.
static BOOT_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.dynamic_range_start = Some(0xffff_8000_0000_0000);
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    config.kernel_stack_size = 64 * 1024;
    config
};

entry_point!(start, config = &BOOT_CONFIG);

/// The first bytes of our own on the serial port; `run-qemu.sh` drops what firmware and bootloader print
/// before this line.
const MARKER: &str = "=== quire ===";

fn start(boot: &'static mut BootInfo) -> ! {
    heap::init();
    serial::init();
    serial::print(format_args!("\n{MARKER}\n"));
    serial::print(format_args!(
        "Quire: {} memory regions, physical memory at {:#x}\n",
        boot.memory_regions.len(),
        boot.physical_memory_offset.into_option().unwrap_or(0),
    ));
    arch::exit(0)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    serial::emergency(format_args!("\n{info}\n"));
    arch::exit(3)
}
