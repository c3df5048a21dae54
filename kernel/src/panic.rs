//! A panic: stop every other CPU, say what broke and where, leave with status 3.
//!
//! Takes no lock and does not allocate. The addresses of the backtrace are those of the ELF;
//! `run-qemu.sh` adds the names. A panic inside the panic says so and leaves at once.

use core::panic::PanicInfo;

use crate::serial;

/// Exit status of a panic.
const STATUS: u8 = 3;
/// Most lines of the backtrace.
const FRAMES: usize = 32;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if !arch::panic_begin() {
        serial::emergency(format_args!("\npanic inside a panic: {info}\n"));
        arch::exit(STATUS);
    }
    let cpu = sync::cpu::id();
    let task = sync::task::current();
    serial::emergency(format_args!(
        "\nkernel panic on CPU {cpu}, task {} ({}): {info}\n",
        task.0,
        arch::thread::name(task),
    ));
    serial::emergency(format_args!("backtrace:\n"));
    arch::backtrace(FRAMES, |address| {
        serial::emergency(format_args!("  at {address:#x}\n"));
    });
    arch::exit(STATUS)
}
