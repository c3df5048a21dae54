//! Interrupt vectors: the fixed ones of the kernel, and those given to devices.
//!
//! Locks: none; a vector's slot is filled once, before the device is told about it. Handlers run
//! with interrupts off on the CPU that the interrupt was routed to; they take irq-safe locks only
//! and never sleep.

use core::sync::atomic::{AtomicUsize, Ordering};

use spin::Once;

use super::apic;
use super::ioapic;

/// First vector for devices.
pub(super) const DEVICE_FIRST: u8 = 0x30;
/// Number of vectors for devices.
pub(super) const DEVICE_COUNT: usize = 64;
/// The local APIC timer. The kernel's own vectors lie above the devices', so that they win.
pub(super) const TIMER: u8 = 0xe0;
/// Reschedule, or end a wait.
pub(super) const KICK: u8 = 0xf0;
/// Run a function.
pub(super) const CALL: u8 = 0xf1;
/// TLB shootdown.
pub(super) const TLB: u8 = 0xf2;
/// What the local APIC delivers when an interrupt went away.
pub(super) const SPURIOUS: u8 = 0xff;

/// What runs when a device interrupts, with its argument.
type Handler = (fn(usize), usize);

static HANDLERS: [Once<Handler>; DEVICE_COUNT] = [const { Once::new() }; DEVICE_COUNT];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A vector that a device may raise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector(u8);

/// Takes a vector for `handler(arg)`, for good. `None` when all are taken.
pub fn allocate(handler: fn(usize), arg: usize) -> Option<Vector> {
    let n = NEXT
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < DEVICE_COUNT).then_some(n + 1)
        })
        .ok()?;
    HANDLERS[n].call_once(|| (handler, arg));
    Some(Vector(DEVICE_FIRST + n as u8))
}

impl Vector {
    /// The message (address, data) by which a device raises the vector on `cpu`: MSI and MSI-X.
    pub fn msi(self, cpu: usize) -> (u64, u32) {
        let destination = u64::from(apic::id_of(cpu));
        (0xfee0_0000 | destination << 12, u32::from(self.0))
    }
}

/// Routes ISA interrupt `line` (4 is COM1) to `handler(arg)` on the boot CPU and unmasks it.
///
/// # Errors
/// Says what is missing: a free vector, or the IOAPIC.
pub fn enable_isa(line: u8, handler: fn(usize), arg: usize) -> Result<(), &'static str> {
    let vector = allocate(handler, arg).ok_or("no interrupt vector is free")?;
    ioapic::route_isa(line, vector.0)
}

/// Runs the handler of device vector `vector`.
pub(super) fn dispatch(vector: u8) {
    if let Some((handler, arg)) = HANDLERS[(vector - DEVICE_FIRST) as usize].get() {
        handler(*arg);
    }
}
