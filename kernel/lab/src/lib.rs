//! The laboratory on top of the memory manager: self-tests, stress, bench and the console commands,
//! the same bodies on the host simulator and in QEMU.
#![no_std]
extern crate alloc;
