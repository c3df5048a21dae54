//! PCI configuration space through ports 0xcf8 and 0xcfc, the walk over all buses, and MSI-X.
//!
//! Locks: none. The boot thread finds and sets up every device before anybody else could use these
//! ports. Never sleeps.

use alloc::vec::Vec;

use arch::PhysAddr;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, DeviceFunctionInfo, HeaderType, PciRoot,
};
use x86_64::instructions::port::Port;

/// Offset of the bridge register whose second byte is the bus behind it.
const BUS_NUMBERS: u8 = 0x18;
/// Capability number of MSI-X.
const CAP_MSIX: u8 = 0x11;
/// Bits of MSI-X's first word: deliver interrupts by messages; all vectors masked.
const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_MASK_ALL: u32 = 1 << 30;

/// Configuration mechanism 1.
pub(crate) struct ConfigPorts;

impl ConfigPorts {
    fn select(function: DeviceFunction, offset: u8) {
        let (bus, device) = (u32::from(function.bus), u32::from(function.device));
        let place = bus << 16 | device << 11 | u32::from(function.function) << 8;
        // SAFETY: writing the address register only picks what the data register shows.
        unsafe { Port::<u32>::new(0xcf8).write(1 << 31 | place | u32::from(offset & 0xfc)) };
    }
}

impl ConfigurationAccess for ConfigPorts {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        Self::select(function, offset);
        // SAFETY: reading configuration space has no side effects in the standard header and
        // capabilities.
        unsafe { Port::new(0xcfc).read() }
    }
    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        Self::select(function, offset);
        // SAFETY: callers write command bits, BARs and MSI-X control of a device they are setting
        // up.
        unsafe { Port::new(0xcfc).write(data) };
    }
    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}

/// The root complex.
pub(crate) type Root = PciRoot<ConfigPorts>;

/// The root complex, and every function on every bus that can be reached through bridges.
pub(crate) fn scan() -> (Root, Vec<(DeviceFunction, DeviceFunctionInfo)>) {
    let root = Root::new(ConfigPorts);
    let mut found = Vec::new();
    let mut buses = Vec::from([0]);
    let mut next = 0;
    while let Some(&bus) = buses.get(next) {
        next += 1;
        for (function, info) in root.enumerate_bus(bus) {
            if info.header_type == HeaderType::PciPciBridge {
                let behind = (ConfigPorts.read_word(function, BUS_NUMBERS) >> 8) as u8;
                if behind != 0 && !buses.contains(&behind) {
                    buses.push(behind);
                }
            }
            found.push((function, info));
        }
    }
    (root, found)
}

/// Lets the function decode its addresses and use memory.
pub(crate) fn enable(root: &mut Root, function: DeviceFunction) {
    let (_, command) = root.get_status_command(function);
    let on = Command::IO_SPACE | Command::MEMORY_SPACE | Command::BUS_MASTER;
    root.set_command(function, command | on);
}

/// The registers at `offset..offset + len` of memory BAR `bar`, mapped uncached for good.
pub(crate) fn map_bar(
    root: &mut Root,
    function: DeviceFunction,
    bar: u8,
    offset: u32,
    len: u64,
) -> Option<*mut u8> {
    let info = root.bar_info(function, bar).ok().flatten()?;
    match info {
        BarInfo::Memory { address, size, .. }
            if u64::from(offset) + len <= size && address != 0 =>
        {
            Some(arch::map_mmio(PhysAddr(address + u64::from(offset)), len))
        }
        _ => None,
    }
}

/// Makes MSI-X table entry 0 raise `data` at `address`, masks nothing, and turns MSI-X on. False
/// when the function has no (usable) MSI-X.
pub(crate) fn enable_msix(
    root: &mut Root,
    function: DeviceFunction,
    address: u64,
    data: u32,
) -> bool {
    let Some(cap) = root.capabilities(function).find(|c| c.id == CAP_MSIX) else {
        return false;
    };
    let place = ConfigPorts.read_word(function, cap.offset + 4);
    let Some(entry) = map_bar(root, function, (place & 7) as u8, place & !7, 16) else {
        return false;
    };
    let entry = entry.cast::<u32>();
    let words = [address as u32, (address >> 32) as u32, data, 0];
    for (i, word) in words.into_iter().enumerate() {
        // SAFETY: the first entry of the device's MSI-X table, 16 bytes, mapped just above.
        unsafe { entry.add(i).write_volatile(word) };
    }
    let control = ConfigPorts.read_word(function, cap.offset);
    let control = (control | MSIX_ENABLE) & !MSIX_MASK_ALL;
    ConfigPorts.write_word(function, cap.offset, control);
    true
}
