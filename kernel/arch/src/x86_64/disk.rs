//! The disks that the kernel's drivers found, in bus order. The data disk is the one that says so
//! by its serial number ([`DATA_SERIAL`]); the first of the others is for swap.
//!
//! Locks: none; drivers register at boot, in order. Never sleeps.

use spin::Once;

use crate::block::BlockDevice;

/// Most disks that are used.
pub const MAX_DISKS: usize = 8;

/// The serial number of the disk for files: no other disk is written to for them.
pub const DATA_SERIAL: &str = "data";

static SWAP: Once<&'static dyn BlockDevice> = Once::new();
static DATA: Once<&'static dyn BlockDevice> = Once::new();

/// Adds the next disk, whose serial number is `serial`. The first of a kind stays.
pub fn register_disk(disk: &'static dyn BlockDevice, serial: &str) {
    let place = if serial == DATA_SERIAL { &DATA } else { &SWAP };
    place.call_once(|| disk);
}

/// The disk for swap, if the machine has one.
pub fn swap_disk() -> Option<&'static dyn BlockDevice> {
    SWAP.get().copied()
}

/// The disk for files, if the machine has one.
pub fn data_disk() -> Option<&'static dyn BlockDevice> {
    DATA.get().copied()
}
