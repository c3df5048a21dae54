//! The laboratory on top of the memory manager: self-tests, stress, bench and the console commands,
//! the same bodies on the host simulator and in QEMU.
#![no_std]
extern crate alloc;

use alloc::vec::Vec;

pub mod args;
pub mod cancel;
pub mod console;
pub mod ktap;
pub mod line;
pub mod out;
pub mod selftest;
pub mod shell;

/// The console: every command of the laboratory.
pub fn shell() -> shell::Shell {
    shell::Shell::new(&[selftest::COMMANDS])
}

/// Every self-test that runs on this machine.
pub fn suites() -> Vec<&'static selftest::Suite> {
    Vec::new()
}
