//! Turns a kernel ELF into bootable disk images.
fn main() {}
