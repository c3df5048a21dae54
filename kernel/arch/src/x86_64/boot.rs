//! The machine's part of power-on.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bootloader_api::BootInfo;
use x86_64::registers::control::{Cr4, Cr4Flags};

use super::frame::{current_root, zero_frame};
use super::layout::DIRECT_BASE;
use super::paging::{NoMemory, kernel_root};
use super::smp::{self, StartedCpus};
use super::{acpi, apic, cpu, entry, hooks, ioapic, memory, paging, sched, stack, time};
use crate::addr::Pfn;
use crate::upcall::upcalls;

/// Least RAM, in MiB as QEMU counts it, that the kernel is made for.
const MIN_MIB: u64 = 32;
/// What the firmware may keep of it for itself.
const FIRMWARE_SHARE_MIB: u64 = 4;

/// Why the kernel cannot start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootError {
    /// Less RAM (bytes) than the kernel needs.
    TooLittleMemory(u64),
    /// The bootloader mapped physical memory somewhere else than [`DIRECT_BASE`].
    Mapping,
    /// The firmware left five page-table levels on.
    FiveLevels,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLittleMemory(bytes) => {
                let mib = bytes >> 20;
                write!(
                    f,
                    "too little memory: {mib} MiB of RAM, at least {MIN_MIB} MiB are needed"
                )
            }
            Self::FiveLevels => write!(
                f,
                "the firmware left five-level paging on, the kernel has four (QEMU: -cpu max,la57=off)"
            ),
            Self::Mapping => write!(f, "the bootloader did not map memory at {DIRECT_BASE:#x}"),
        }
    }
}

static RSDP: AtomicU64 = AtomicU64::new(0);
static FOUND_CPUS: AtomicUsize = AtomicUsize::new(1);

/// Physical address of the ACPI root pointer; 0 when the bootloader found none.
pub fn rsdp() -> u64 {
    RSDP.load(Ordering::Relaxed)
}

/// A zeroed frame for the machine's own stacks and page tables, for good: from the early allocator,
/// then from the memory manager.
///
/// Zeroed also because of TCG: where firmware or bootloader code ran, QEMU keeps its translations,
/// and every write to such a page takes a slow path (a stack there made everything 30 times slower)
/// until the whole page has been overwritten.
pub fn kernel_frame() -> Option<Pfn> {
    let frame = memory::early_frame().or_else(|| upcalls()?.kernel_frame())?;
    zero_frame(frame);
    Some(frame)
}

/// Takes the machine over from the bootloader: own page tables, exception handling, and a guarded
/// stack, on which `next` runs. Interrupts stay off. Nothing of the bootloader's memory is used
/// afterwards.
///
/// # Safety
/// `boot` is what the bootloader passed, and this is the first thing that the kernel does. `next`
/// calls [`init_interrupts`] and [`start_cpus`], once each and in this order, before it ends in
/// [`idle`].
///
/// # Errors
/// See [`BootError`]; `next` has not run then.
pub unsafe fn start(
    boot: &BootInfo,
    next: fn() -> !,
) -> Result<core::convert::Infallible, BootError> {
    // Locks need the per-CPU data from the start.
    cpu::init_local(0);
    let offset = boot.physical_memory_offset.as_ref().copied();
    if offset != Some(DIRECT_BASE) {
        return Err(BootError::Mapping);
    }
    if Cr4::read().contains(Cr4Flags::L5_PAGING) {
        return Err(BootError::FiveLevels);
    }
    RSDP.store(
        boot.rsdp_addr.as_ref().copied().unwrap_or(0),
        Ordering::Relaxed,
    );
    memory::take(&boot.memory_regions);
    let ram = memory::ram_bytes();
    if ram < (MIN_MIB - FIRMWARE_SHARE_MIB) << 20 {
        return Err(BootError::TooLittleMemory(ram));
    }
    let top = build(current_root()).map_err(|NoMemory| BootError::TooLittleMemory(ram))?;
    // SAFETY: the new tables map the image at the same addresses, the direct map, and the new
    // stack; the old stack, which they do not map, is not used again.
    unsafe {
        asm!("mov cr3, {root}", "mov rsp, {top}", "xor ebp, ebp", "push 0", "jmp {entered}",
             root = in(reg) kernel_root().phys().0, top = in(reg) top,
             in("rdi") next as usize, entered = sym entered, options(noreturn));
    }
}

/// Tables and the boot CPU's stacks; returns the top of the first.
fn build(boot_root: Pfn) -> Result<u64, NoMemory> {
    cpu::init_control();
    paging::claim_image(boot_root);
    paging::build(boot_root)?;
    stack::map_exception_stacks(0)?;
    stack::thread_stack(0)
}

extern "sysv64" fn entered(next: usize) -> ! {
    cpu::enable_global_pages();
    cpu::init_segments(0);
    cpu::init_local(0);
    entry::init_idt();
    if cpu::features().smap {
        entry::enable_smap();
    }
    smp::boot_cpu_online();
    // SAFETY: `start` passed a `fn() -> !` as an integer.
    let next = unsafe { core::mem::transmute::<usize, fn() -> !>(next) };
    next()
}

/// Finds CPUs and interrupt controllers, starts the clock and the timer, and makes the calling
/// context the boot CPU's idle thread; interrupts are on from here, threads can be spawned, and
/// locks sleep.
///
/// # Safety
/// As [`start`] says.
///
/// # Errors
/// Says what of ACPI is missing, or that there is no clock.
pub unsafe fn init_interrupts() -> Result<(), &'static str> {
    let mut found = acpi::read(rsdp())?;
    let present = found.cpus + found.ignored;
    apic::init(found.lapic, &mut found.apic_ids[..found.cpus], present);
    if let Some(description) = found.ioapic {
        ioapic::init(description);
    }
    FOUND_CPUS.store(found.cpus, Ordering::Relaxed);
    time::calibrate()?;
    sched::init_cpu(0);
    hooks::register();
    x86_64::instructions::interrupts::enable();
    Ok(())
}

/// Starts the other CPUs of those that the firmware lists (at most 16).
///
/// # Safety
/// As [`start`] says.
pub unsafe fn start_cpus() -> StartedCpus {
    smp::start_all(FOUND_CPUS.load(Ordering::Relaxed))
}

/// The boot context becomes the boot CPU's idle thread.
pub fn idle() -> ! {
    sched::idle()
}
