//! The local APIC: x2APIC by MSR where the CPU has it, else xAPIC by MMIO.
//!
//! Locks: none; every register is this CPU's own. Interrupts are off between the two halves of an
//! xAPIC command. Never sleeps.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use sync::CpuMask;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::{MAX_X86_CPUS, cpu, irq, paging};
use crate::addr::PhysAddr;

const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const EOI: u32 = 0xb0;
const LOGICAL_DESTINATION: u32 = 0xd0;
const DESTINATION_FORMAT: u32 = 0xe0;
const SPURIOUS_VECTOR: u32 = 0xf0;
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_ERROR: u32 = 0x370;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const MASKED: u32 = 1 << 16;
const ENABLED: u32 = 1 << 8;
const DIVIDE_BY_1: u32 = 0xb;

const APIC_BASE: u32 = 0x1b;
const X2APIC_ENABLE: u64 = 1 << 10;
const APIC_ENABLE: u64 = 1 << 11;

/// Bits of the command register.
const LOGICAL: u32 = 1 << 11;
const BUSY: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const ALL_OTHERS: u32 = 3 << 18;
const DELIVERY: u32 = 7 << 8;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;

/// The command register's number with x2APIC.
pub(super) const X2APIC_COMMAND: u32 = 0x830;

/// Reads of xAPIC's command register before a command is held to be stuck: more than a tenth of a
/// second, where a command takes microseconds.
const BUSY_READS: u32 = 1_000_000;

/// Most CPUs in xAPIC's flat logical mode, where one command reaches any set of them.
const FLAT: usize = 8;

/// The registers' address; 0 with x2APIC.
static BASE: AtomicU64 = AtomicU64::new(0);
/// Local APIC ids by CPU number.
static IDS: [AtomicU32; MAX_X86_CPUS] = [const { AtomicU32::new(0) }; MAX_X86_CPUS];
/// CPUs that the firmware lists, started or not.
static PRESENT: AtomicUsize = AtomicUsize::new(1);

fn x2apic_msr(register: u32) -> Msr {
    Msr::new(0x800 + (register >> 4))
}

fn read(register: u32) -> u32 {
    match BASE.load(Ordering::Relaxed) {
        // SAFETY: x2APIC is on, and the register exists in it.
        0 => unsafe { x2apic_msr(register).read() as u32 },
        base => read_at(base, register),
    }
}

fn write(register: u32, value: u32) {
    match BASE.load(Ordering::Relaxed) {
        // SAFETY: x2APIC is on, and the register exists in it.
        0 => unsafe { x2apic_msr(register).write(u64::from(value)) },
        base => write_at(base, register, value),
    }
}

/// `base` is [`BASE`], and xAPIC is used.
fn read_at(base: u64, register: u32) -> u32 {
    // SAFETY: the registers are mapped for good at `base`.
    unsafe { ((base + u64::from(register)) as *const u32).read_volatile() }
}

/// As [`read_at`].
fn write_at(base: u64, register: u32, value: u32) {
    // SAFETY: the registers are mapped for good at `base`.
    unsafe { ((base + u64::from(register)) as *mut u32).write_volatile(value) }
}

/// The local APIC id of `cpu`.
pub(super) fn id_of(cpu: usize) -> u32 {
    IDS[cpu].load(Ordering::Relaxed)
}

/// Chooses the interface and silences the old interrupt controller. `ids` are those of the CPUs;
/// the calling CPU is made number 0. `present` counts all CPUs, also those that stay off.
pub(super) fn init(registers: PhysAddr, ids: &mut [u32], present: usize) {
    if !cpu::features().x2apic {
        let base = paging::map_mmio(registers, 0x1000) as u64;
        BASE.store(base, Ordering::Relaxed);
    }
    mask_8259();
    enable(0);
    let own = read(ID)
        >> if BASE.load(Ordering::Relaxed) == 0 {
            0
        } else {
            24
        };
    if let Some(at) = ids.iter().position(|id| *id == own) {
        ids[..=at].rotate_right(1);
    }
    for (slot, id) in IDS.iter().zip(ids) {
        slot.store(*id, Ordering::Relaxed);
    }
    PRESENT.store(present, Ordering::Relaxed);
}

/// Masks both 8259s: their interrupts come by the IOAPIC.
fn mask_8259() {
    for port in [0x21, 0xa1] {
        // SAFETY: the mask registers of the two 8259s, on every PC.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Turns on this CPU's local APIC: all local interrupts masked, timer one-shot.
pub(super) fn enable(cpu: usize) {
    let x2 = BASE.load(Ordering::Relaxed) == 0;
    let mut base = Msr::new(APIC_BASE);
    // SAFETY: sets the enable bits; the mode matches the interface that `read` and `write` use.
    // From off to x2APIC there is no way but by xAPIC.
    unsafe {
        let on = base.read() | APIC_ENABLE;
        base.write(on);
        if x2 {
            base.write(on | X2APIC_ENABLE);
        }
    }
    write(SPURIOUS_VECTOR, ENABLED | u32::from(irq::SPURIOUS));
    write(TASK_PRIORITY, 0);
    if !x2 && cpu < FLAT {
        write(DESTINATION_FORMAT, u32::MAX);
        write(LOGICAL_DESTINATION, 1 << (24 + cpu));
    }
    write(LVT_LINT0, MASKED);
    write(LVT_ERROR, MASKED);
    write(TIMER_DIVIDE, DIVIDE_BY_1);
    write(LVT_TIMER, u32::from(irq::TIMER));
}

/// The interrupt being handled is done with.
#[inline]
pub(super) fn eoi() {
    write(EOI, 0);
}

/// Starts the timer: it interrupts once after `ticks` (0 stops it).
pub(super) fn start_timer(ticks: u32) {
    write(TIMER_INITIAL, ticks);
}

/// What is left of the timer's ticks.
pub(super) fn timer_left() -> u32 {
    read(TIMER_CURRENT)
}

/// Gives a command. What this CPU stored before is visible to what the command interrupts: a store
/// to device memory (xAPIC) comes after earlier stores, and before a WRMSR there are fences.
///
/// # Panics
/// When an earlier command is stuck; never for an NMI, which is part of a panic.
fn command(destination: u32, low: u32) {
    let base = BASE.load(Ordering::Relaxed);
    if base == 0 {
        x2apic_command(destination, low);
        return;
    }
    let _off = sync::irq::disable();
    let idle = (0..BUSY_READS).any(|_| {
        let idle = read_at(base, COMMAND) & BUSY == 0;
        if !idle {
            core::hint::spin_loop();
        }
        idle
    });
    assert!(
        idle || low & DELIVERY == DELIVER_NMI,
        "the local APIC of CPU {} does not deliver a command",
        sync::cpu::id()
    );
    write_at(base, COMMAND_HIGH, destination << 24);
    write_at(base, COMMAND, low);
}

/// The command register of x2APIC. WRMSR to it serialises nothing, and MFENCE alone does not hold
/// it back: it takes MFENCE, then LFENCE (Intel SDM volume 3, "MSR Access in x2APIC Mode"). One
/// piece of assembly, so that nothing comes between; [`super::audit_commands`] looks for others.
fn x2apic_command(destination: u32, low: u32) {
    // SAFETY: the x2APIC command register; an interrupt to a CPU of ours.
    unsafe {
        asm!("mov ecx, {msr}", "mfence", "lfence", "wrmsr", msr = const X2APIC_COMMAND,
             in("eax") low, in("edx") destination, out("ecx") _, options(nostack, preserves_flags));
    }
}

/// Raises `vector` on each CPU of `to` but the calling one. Does not wait for it.
pub(super) fn send(to: CpuMask, vector: u8) {
    send_mode(to, u32::from(vector));
}

/// An NMI to each CPU of `to` but the calling one.
pub(super) fn send_nmi(to: CpuMask) {
    send_mode(to, DELIVER_NMI);
}

/// One command where the hardware can address the set at once, else one for each CPU.
fn send_mode(to: CpuMask, mode: u32) {
    let _pinned = sync::preempt::disable();
    let to = to.without(sync::cpu::id());
    let present = PRESENT.load(Ordering::Relaxed);
    let xapic = BASE.load(Ordering::Relaxed) != 0;
    if to.is_empty() {
        return;
    }
    if to.count() + 1 == present {
        command(0, mode | ASSERT | ALL_OTHERS);
    } else if xapic && to.count() > 1 && to.bits() < 1 << FLAT {
        command(to.bits(), mode | ASSERT | LOGICAL);
    } else {
        for cpu in to.iter() {
            command(id_of(cpu), mode | ASSERT);
        }
    }
}

/// INIT to `cpu`: it then waits for a start-up command.
pub(super) fn send_init(cpu: usize) {
    command(id_of(cpu), DELIVER_INIT | ASSERT);
}

/// Start-up: `cpu` runs real-mode code at `address` (page aligned, below 1 MiB).
pub(super) fn send_startup(cpu: usize, address: u64) {
    command(
        id_of(cpu),
        DELIVER_STARTUP | ASSERT | (address >> 12) as u32,
    );
}
