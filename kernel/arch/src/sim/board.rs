//! The one simulated machine of the process: what it is made of, its memory map and its end.

use super::cpu::SimCpu;
use super::disk::{Cache, RamDisk};
use super::heap::Window;
use super::oracle::Oracle;
use super::ram::Ram;
use super::simctl::Config;
use crate::addr::{PAGE_SIZE, Pfn, PhysAddr};
use crate::pte::{Entry, GLOBAL, HUGE, NX, WRITE};
use crate::regions::{MemRegion, RegionKind};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

pub(super) struct Machine {
    pub(super) config: Config,
    pub(super) ram: Ram,
    pub(super) cpus: Vec<SimCpu>,
    pub(super) oracle: Oracle,
    pub(super) swap: Option<RamDisk>,
    pub(super) data: Option<RamDisk>,
    pub(super) heap: Window,
    map: Vec<MemRegion>,
}

static MACHINE: OnceLock<Machine> = OnceLock::new();

/// The machine.
///
/// # Panics
/// Before [`super::simctl::boot`].
pub(super) fn machine() -> &'static Machine {
    MACHINE
        .get()
        .expect("there is no simulated machine yet: call arch::simctl::boot first")
}

/// The kernel's root and the table below it, as the real machine's boot leaves them at 1 MiB.
const ROOT: Pfn = Pfn(0x100);
const DIRECT_PUD: Pfn = Pfn(0x101);
/// Slot of the direct map in the root.
const DIRECT_SLOT: usize = 273;
/// First frame after the kernel's.
const KERNEL_END: u64 = 0x110;

/// Makes the machine if there is none; true if this call did.
pub(super) fn make(config: Config) -> bool {
    let mut first = false;
    MACHINE.get_or_init(|| {
        first = true;
        let ram = Ram::new((config.ram / PAGE_SIZE) as usize);
        build_root(&ram);
        let oracle = Oracle::new(ram.frames());
        // The root that every CPU starts with.
        (0..config.cpus).for_each(|_| oracle.hold(ROOT));
        Machine {
            cpus: (0..config.cpus).map(|i| SimCpu::new(i, &config)).collect(),
            oracle,
            swap: (config.swap > 0).then(|| RamDisk::new("ram0", config.swap, Cache::Through)),
            data: (config.data > 0).then(|| RamDisk::new("ram1", config.data, Cache::Volatile)),
            heap: Window::new(),
            map: regions(config.ram),
            ram,
            config,
        }
    });
    first
}

/// A PC's map: the first page kept back, a hole below 1 MiB, the kernel, then RAM to the end.
fn regions(ram: u64) -> Vec<MemRegion> {
    let kernel_end = KERNEL_END * PAGE_SIZE;
    let cuts = [
        (0, PAGE_SIZE, RegionKind::Kernel),
        (PAGE_SIZE, 0xa_0000, RegionKind::Usable),
        (0xa_0000, 0x10_0000, RegionKind::Firmware),
        (0x10_0000, kernel_end, RegionKind::Kernel),
        (kernel_end, ram, RegionKind::Usable),
    ];
    let region = |(start, end, kind)| MemRegion {
        start: PhysAddr(start),
        end: PhysAddr(end),
        kind,
    };
    cuts.into_iter().map(region).collect()
}

/// A direct map of the first GiB: enough for the upper half to be recognised when it is copied.
fn build_root(ram: &Ram) {
    let flags = WRITE | NX;
    ram.word(ROOT, DIRECT_SLOT)
        .store(Entry::new(DIRECT_PUD, flags).0, Relaxed);
    ram.word(DIRECT_PUD, 0)
        .store(Entry::new(Pfn(0), flags | HUGE | GLOBAL).0, Relaxed);
}

/// Physical memory, sorted, without overlaps, page aligned.
pub fn memory_map() -> &'static [MemRegion] {
    &machine().map
}

/// Bytes of RAM, the kernel's included.
pub fn ram_bytes() -> u64 {
    let ram = |r: &&MemRegion| r.kind != RegionKind::Firmware;
    let size = |r: &MemRegion| r.end.0 - r.start.0;
    memory_map().iter().filter(ram).map(size).sum()
}

/// The root whose upper 256 entries are complete and never change; new address spaces copy them.
pub fn kernel_root() -> Pfn {
    ROOT
}

/// Ends the process with `status`.
pub fn exit(status: u8) -> ! {
    std::process::exit(i32::from(status))
}

/// Nothing sensible can follow: unwinds the thread, so that a test or the program's `main` reports
/// it.
///
/// # Panics
/// Always, with `msg`.
pub fn fatal(msg: &str) -> ! {
    panic!("{msg}")
}
