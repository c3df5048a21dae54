//! What the firmware says of CPUs and interrupt controllers: the MADT, through the `acpi` crate.
//!
//! Runs once, on the boot CPU. Locks: none. Never sleeps. Only static tables are read, never AML,
//! so the parts of the crate's handler that AML would use are not reachable.

use core::ptr::NonNull;

use acpi::sdt::madt::{Madt, MadtEntry};
use acpi::{AcpiTables, Handle, Handler, PciAddress, PhysicalMapping, aml};

use super::MAX_X86_CPUS;
use super::ioapic::{Description, Override};
use super::paging::phys_ptr;
use crate::addr::PhysAddr;

/// The CPUs and interrupt controllers of this machine.
pub(super) struct Machine {
    /// Local APIC ids of the CPUs that can be used, in the MADT's order.
    pub(super) apic_ids: [u32; MAX_X86_CPUS],
    /// How many of `apic_ids` count.
    pub(super) cpus: usize,
    /// Usable CPUs beyond [`MAX_X86_CPUS`], which stay off.
    pub(super) ignored: usize,
    /// Physical address of the local APICs.
    pub(super) lapic: PhysAddr,
    /// The IOAPIC with the lowest interrupt number.
    pub(super) ioapic: Option<Description>,
}

/// Reads the MADT behind the RSDP at physical address `rsdp`.
///
/// # Errors
/// Says which table is missing or broken.
pub(super) fn read(rsdp: u64) -> Result<Machine, &'static str> {
    // SAFETY: the bootloader found the RSDP; the handler maps what the tables point to.
    let tables = unsafe { AcpiTables::from_rsdp(Tables, rsdp as usize) }
        .map_err(|_| "the ACPI root table is broken")?;
    let madt = tables.find_table::<Madt>().ok_or("there is no ACPI MADT")?;
    let mut found = Machine {
        apic_ids: [0; MAX_X86_CPUS],
        cpus: 0,
        ignored: 0,
        lapic: PhysAddr(u64::from(madt.get().local_apic_address)),
        ioapic: None,
    };
    let mut overrides = [None; 16];
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::LocalApic(e) => found.add_cpu(u32::from(e.apic_id), e.flags),
            MadtEntry::LocalX2Apic(e) => found.add_cpu(e.x2apic_id, e.flags),
            MadtEntry::LocalApicAddressOverride(e) => found.lapic = PhysAddr(e.local_apic_address),
            MadtEntry::IoApic(e) => {
                let base = e.global_system_interrupt_base;
                if found.ioapic.as_ref().is_none_or(|o| base < o.gsi_base) {
                    found.ioapic = Some(Description {
                        address: PhysAddr(u64::from(e.io_apic_address)),
                        gsi_base: base,
                        overrides: [None; 16],
                    });
                }
            }
            MadtEntry::InterruptSourceOverride(e) if e.irq < 16 => {
                overrides[e.irq as usize] = Some(Override {
                    line: e.irq,
                    gsi: e.global_system_interrupt,
                    active_low: e.flags & 3 == 3,
                    level: e.flags >> 2 & 3 == 3,
                });
            }
            _ => {}
        }
    }
    if let Some(ioapic) = &mut found.ioapic {
        ioapic.overrides = overrides;
    }
    Ok(found)
}

impl Machine {
    fn add_cpu(&mut self, id: u32, flags: u32) {
        const ENABLED: u32 = 1;
        if flags & ENABLED == 0 || self.apic_ids[..self.cpus].contains(&id) {
            return;
        }
        if self.cpus == MAX_X86_CPUS {
            self.ignored += 1;
            return;
        }
        self.apic_ids[self.cpus] = id;
        self.cpus += 1;
    }
}

/// Maps tables; nothing else of the handler is reached without AML.
#[derive(Clone, Copy)]
struct Tables;

fn no_aml() -> ! {
    unreachable!("AML is never run")
}

macro_rules! no_aml {
    ($(fn $name:ident($($arg:ident: $t:ty),*) $(-> $ret:ty)?;)*) => {
        $(fn $name(&self, $(_: $t),*) $(-> $ret)? { no_aml() })*
    };
}

impl Handler for Tables {
    unsafe fn map_physical_region<T>(&self, phys: usize, size: usize) -> PhysicalMapping<Self, T> {
        let ptr = phys_ptr(PhysAddr(phys as u64), size as u64);
        PhysicalMapping {
            physical_start: phys,
            virtual_start: NonNull::new(ptr.cast()).expect("a mapping is not null"),
            region_length: size,
            mapped_length: size,
            handler: *self,
        }
    }
    /// The direct map and the MMIO window stay.
    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}

    no_aml! {
        fn read_u8(a: usize) -> u8;
        fn read_u16(a: usize) -> u16;
        fn read_u32(a: usize) -> u32;
        fn read_u64(a: usize) -> u64;
        fn write_u8(a: usize, v: u8);
        fn write_u16(a: usize, v: u16);
        fn write_u32(a: usize, v: u32);
        fn write_u64(a: usize, v: u64);
        fn read_io_u8(p: u16) -> u8;
        fn read_io_u16(p: u16) -> u16;
        fn read_io_u32(p: u16) -> u32;
        fn write_io_u8(p: u16, v: u8);
        fn write_io_u16(p: u16, v: u16);
        fn write_io_u32(p: u16, v: u32);
        fn read_pci_u8(a: PciAddress, o: u16) -> u8;
        fn read_pci_u16(a: PciAddress, o: u16) -> u16;
        fn read_pci_u32(a: PciAddress, o: u16) -> u32;
        fn write_pci_u8(a: PciAddress, o: u16, v: u8);
        fn write_pci_u16(a: PciAddress, o: u16, v: u16);
        fn write_pci_u32(a: PciAddress, o: u16, v: u32);
        fn nanos_since_boot() -> u64;
        fn stall(us: u64);
        fn sleep(ms: u64);
        fn create_mutex() -> Handle;
        fn acquire(m: Handle, t: u16) -> Result<(), aml::AmlError>;
        fn release(m: Handle);
    }
}
