//! The end: leaving QEMU, stopping the other CPUs for a panic, and walking the stack.
//!
//! Locks: none; all of it must work whatever is broken. Never sleeps, never returns to normal work.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

use super::{apic, paging, smp};
use crate::addr::VirtAddr;

/// Ends the machine with `status` (0..=15) through QEMU's isa-debug-exit, whose process status is
/// then `2 * value + 1`. The value carries 0x10 so that no status of ours looks like one of QEMU's
/// own (0 and 1); `run-qemu.sh` takes both off again. Without that device: halts.
pub fn exit(status: u8) -> ! {
    // SAFETY: port 0xf4 belongs to isa-debug-exit, or to nobody.
    unsafe { Port::new(0xf4).write(u32::from(status & 15) | 0x10) };
    halt()
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}

/// A state that the kernel cannot go on from: panics.
///
/// # Panics
/// Always.
#[track_caller]
pub fn fatal(msg: &str) -> ! {
    panic!("{msg}")
}

const NOBODY: usize = usize::MAX;
/// The CPU that panics.
static PANICKING: AtomicUsize = AtomicUsize::new(NOBODY);
static STOP: AtomicBool = AtomicBool::new(false);

/// Begins a panic: interrupts off, every other CPU stopped by NMI. Returns false when this CPU was
/// panicking already (a panic inside the panic); does not return at all when another CPU is first.
pub fn panic_begin() -> bool {
    interrupts::disable();
    let me = smp::cpu_id_or_boot();
    match PANICKING.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(first) if first == me => return false,
        Err(_) => halt(),
    }
    if smp::nr_cpus() > 1 {
        STOP.store(true, Ordering::Release);
        apic::send_nmi(smp::online());
        // Long enough for the others to stop before the report; nothing depends on it.
        for _ in 0..100_000 {
            core::hint::spin_loop();
        }
    }
    true
}

/// An NMI arrived: stop if a panic asks for it.
pub(super) fn nmi() {
    if STOP.load(Ordering::Acquire) {
        halt();
    }
}

/// Calls `f` with each return address on the stack, innermost first, at most `most`. Frames of
/// exceptions and interrupts are part of the chain (see `entry`). Touches only memory that is
/// mapped.
pub fn backtrace(most: usize, mut f: impl FnMut(u64)) {
    let mut frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    let mapped = |va: u64| va >= 1 << 63 && paging::translate(VirtAddr(va)).is_some();
    for _ in 0..most {
        if !frame.is_multiple_of(8) || !mapped(frame) || !mapped(frame.saturating_add(15)) {
            return;
        }
        // SAFETY: both words are mapped, in the kernel's half; whatever they hold is only compared.
        let (next, address) = unsafe { *(frame as *const (u64, u64)) };
        if !paging::in_text(address) {
            return;
        }
        f(address);
        frame = next;
    }
}
