//! The IOAPIC: where the interrupts of ISA devices arrive.
//!
//! Locks: its own around the index and data registers; routing happens at boot. Never sleeps.

use spin::{Mutex, Once};

use super::apic;
use super::paging::map_mmio;
use crate::addr::PhysAddr;

const REDIRECTION: u32 = 0x10;
const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// Where an ISA interrupt really arrives, by the MADT.
#[derive(Clone, Copy)]
pub(super) struct Override {
    pub(super) line: u8,
    pub(super) gsi: u32,
    pub(super) active_low: bool,
    pub(super) level: bool,
}

/// What the MADT says of the IOAPIC that serves the ISA interrupts.
pub(super) struct Description {
    pub(super) address: PhysAddr,
    pub(super) gsi_base: u32,
    pub(super) overrides: [Option<Override>; 16],
}

struct Registers(*mut u32);
// SAFETY: the registers are reached only under the lock around them.
unsafe impl Send for Registers {}

impl Registers {
    fn write(&mut self, index: u32, value: u32) {
        // SAFETY: the IOAPIC's index register and data window, mapped for good.
        unsafe {
            self.0.write_volatile(index);
            self.0.add(4).write_volatile(value);
        }
    }
    fn read(&mut self, index: u32) -> u32 {
        // SAFETY: as in `write`.
        unsafe {
            self.0.write_volatile(index);
            self.0.add(4).read_volatile()
        }
    }
}

static IOAPIC: Once<(Mutex<Registers>, Description)> = Once::new();

/// Maps the IOAPIC and masks all of its inputs.
pub(super) fn init(found: Description) {
    let mut registers = Registers(map_mmio(found.address, 0x20).cast());
    let inputs = (registers.read(1) >> 16 & 0xff) + 1;
    for input in 0..inputs {
        registers.write(REDIRECTION + 2 * input, MASKED);
    }
    IOAPIC.call_once(|| (Mutex::new(registers), found));
}

/// Sends ISA interrupt `line` to the boot CPU as `vector`.
pub(super) fn route_isa(line: u8, vector: u8) -> Result<(), &'static str> {
    let (registers, found) = IOAPIC.get().ok_or("the MADT names no IOAPIC")?;
    let special = found.overrides.iter().flatten().find(|o| o.line == line);
    let gsi = special.map_or(u32::from(line), |o| o.gsi);
    let input = gsi
        .checked_sub(found.gsi_base)
        .ok_or("the interrupt belongs to another IOAPIC")?;
    let mut low = u32::from(vector);
    if special.is_some_and(|o| o.active_low) {
        low |= ACTIVE_LOW;
    }
    if special.is_some_and(|o| o.level) {
        low |= LEVEL;
    }
    let mut registers = registers.lock();
    registers.write(REDIRECTION + 2 * input + 1, apic::id_of(0) << 24);
    registers.write(REDIRECTION + 2 * input, low);
    Ok(())
}
