//! L3: the memory manager. Knows no instruction set: it sees the machine through `arch` only.
#![no_std]
extern crate alloc;
