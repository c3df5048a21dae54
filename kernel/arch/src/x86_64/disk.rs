//! The disks that the kernel's drivers found, in bus order: the first one is for swap.
//!
//! Locks: none; drivers register at boot, in order. Never sleeps.

use spin::Once;

use crate::block::BlockDevice;

/// Most disks that are used.
pub const MAX_DISKS: usize = 8;

static DISKS: [Once<&'static dyn BlockDevice>; MAX_DISKS] = [const { Once::new() }; MAX_DISKS];

/// Adds the next disk. False when there is no room for it.
pub fn register_disk(disk: &'static dyn BlockDevice) -> bool {
    let free = DISKS.iter().find(|d| !d.is_completed());
    free.map(|d| d.call_once(|| disk)).is_some()
}

/// Disk number `n` in bus order.
pub fn disk(n: usize) -> Option<&'static dyn BlockDevice> {
    DISKS.get(n)?.get().copied()
}

/// The disk for swap.
pub fn swap_disk() -> Option<&'static dyn BlockDevice> {
    disk(0)
}
