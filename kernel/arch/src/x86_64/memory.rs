//! The physical memory map, and frames before the memory manager runs.
//!
//! The bootloader's map is copied once, early frames are bumped off its usable regions from 1 MiB
//! upwards, and [`memory_map`] is what is left: sorted, page aligned, every page of RAM
//! in exactly one region.
//!
//! Locks: none; everything here runs on the boot CPU before the others start. Never sleeps.

use core::sync::atomic::{AtomicU64, Ordering};

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use spin::{Mutex, Once};

use super::layout::DIRECT_SIZE;
use crate::addr::{PAGE_SIZE, Pfn, PhysAddr, page_align_up};
use crate::regions::{MemRegion, RegionKind, Regions};

/// Frames below this are not used early: the first MiB is where CPUs start.
const EARLY_MIN: u64 = 0x10_0000;
/// Where CPUs start in real mode.
pub(super) const TRAMPOLINE: u64 = 0x8000;

/// What the bootloader left, until [`memory_map`] is asked for.
struct Boot {
    /// Usable and firmware regions; what only the bootloader used counts as usable.
    list: Regions,
    /// Usable for early frames now: not what the bootloader still uses.
    early: Regions,
    /// The next early frame.
    cursor: u64,
}

static BOOT: Mutex<Boot> = Mutex::new(Boot {
    list: Regions::new(),
    early: Regions::new(),
    cursor: EARLY_MIN,
});
static MAP: Once<Regions> = Once::new();
static RAM_TOP: AtomicU64 = AtomicU64::new(0);

/// Copies the bootloader's map.
pub(super) fn take(regions: &[MemoryRegion]) {
    let mut boot = BOOT.lock();
    for r in regions {
        let (start, end) = (r.start, r.end);
        match r.kind {
            MemoryRegionKind::Usable | MemoryRegionKind::Bootloader => {
                let (first, last) = (page_align_up(start), end & !(PAGE_SIZE - 1));
                let last = last.min(DIRECT_SIZE);
                if first >= last {
                    continue;
                }
                boot.list.push(first, last, RegionKind::Usable);
                if r.kind == MemoryRegionKind::Usable {
                    boot.early.push(first, last, RegionKind::Usable);
                }
                RAM_TOP.fetch_max(last, Ordering::Relaxed);
            }
            _ => {
                let (first, last) = (start & !(PAGE_SIZE - 1), page_align_up(end));
                boot.list.push(first, last, RegionKind::Firmware);
                boot.early.push(first, last, RegionKind::Firmware);
            }
        }
    }
    boot.list.settle();
    boot.early.settle();
    // Frame 0 stays out of use (frame number 0 means "none" in places); the trampoline is ours.
    boot.list.claim(0, PAGE_SIZE);
    boot.list.claim(TRAMPOLINE, TRAMPOLINE + PAGE_SIZE);
}

/// Marks physical memory of the kernel image.
pub(super) fn claim_image(start: u64, end: u64) {
    BOOT.lock().list.claim(start, end);
}

/// A frame for the kernel's own tables and stacks, not zeroed, below 4 GiB as long as there is one
/// there. `None` when memory is out or [`memory_map`] was called.
pub(super) fn early_frame() -> Option<Pfn> {
    if MAP.is_completed() {
        return None;
    }
    let mut boot = BOOT.lock();
    let at = boot.cursor;
    let mut early = boot.early.as_slice().iter();
    let region = early.find(|r| r.kind == RegionKind::Usable && r.end.0 > at)?;
    let frame = region.start.0.max(at);
    boot.cursor = frame + PAGE_SIZE;
    Some(PhysAddr(frame).pfn())
}

/// All of physical memory that the firmware told of: sorted, page aligned, no overlaps. The first
/// call ends early allocation, and what only the bootloader used is free from then on.
pub fn memory_map() -> &'static [MemRegion] {
    let list = MAP.call_once(|| {
        let mut boot = BOOT.lock();
        let early = boot.early;
        let cursor = boot.cursor;
        for r in early.as_slice() {
            let (start, end) = (r.start.0.max(EARLY_MIN), r.end.0.min(cursor));
            if start < end {
                boot.list.claim(start, end);
            }
        }
        boot.list
    });
    list.as_slice()
}

/// First byte above RAM.
pub(super) fn ram_top() -> u64 {
    RAM_TOP.load(Ordering::Relaxed)
}

/// Bytes of RAM that are usable or the kernel's.
pub fn ram_bytes() -> u64 {
    let list = MAP.get().map_or_else(|| BOOT.lock().list, |m| *m);
    let ram = list.as_slice().iter();
    ram.filter(|r| r.kind != RegionKind::Firmware)
        .map(|r| r.end.0 - r.start.0)
        .sum()
}

/// Whether there is RAM that is not the firmware's in `[start, end)`: what the direct map shows.
pub(super) fn has_ram(start: u64, end: u64) -> bool {
    let list = MAP.get().map_or_else(|| BOOT.lock().list, |m| *m);
    let mut regions = list.as_slice().iter();
    regions.any(|r| r.kind != RegionKind::Firmware && r.start.0 < end && r.end.0 > start)
}

/// Whether all of `[start, end)` is RAM that is not the firmware's.
pub(super) fn all_ram(start: u64, end: u64) -> bool {
    let list = MAP.get().map_or_else(|| BOOT.lock().list, |m| *m);
    let regions = list.as_slice().iter();
    let ram = regions.filter(|r| r.kind != RegionKind::Firmware);
    let inside = ram.map(|r| r.end.0.min(end).saturating_sub(r.start.0.max(start)));
    inside.sum::<u64>() == end - start
}
