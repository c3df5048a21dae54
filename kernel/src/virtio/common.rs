//! The registers of a modern virtio PCI device that the crate's transport keeps to itself: the
//! queue's MSI-X vector and its doorbell. And waiting for a device, which has an end.
//!
//! Source: virtio 1.1, 4.1.4. Locks: none; set-up is the boot thread's, the doorbell is one store.

use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR};
use virtio_drivers::transport::{DeviceStatus, Transport};

use crate::pci::{ConfigPorts, Root, map_bar};

/// So long a device may take for its reset. Nanoseconds.
pub(super) const RESET_NS: u64 = 1_000_000_000;
/// So often its configuration may change while it is read.
const CONFIG_READS: usize = 1000;

/// Resets the device. False: it does not show within [`RESET_NS`] that the reset is over, so it may
/// still use memory that it was told of.
#[must_use]
pub(super) fn reset(transport: &mut impl Transport) -> bool {
    transport.set_status(DeviceStatus::empty());
    let end = arch::now_ns() + RESET_NS;
    loop {
        if transport.get_status().is_empty() {
            return true;
        }
        if arch::now_ns() > end {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// The crate's transport, but for its end: the crate would wait for the device's reset without one.
pub(super) struct Device(ManuallyDrop<PciTransport>);

impl Device {
    pub(super) fn new(transport: PciTransport) -> Self {
        Self(ManuallyDrop::new(transport))
    }
}

impl Deref for Device {
    type Target = PciTransport;
    fn deref(&self) -> &PciTransport {
        &self.0
    }
}

impl DerefMut for Device {
    fn deref_mut(&mut self) -> &mut PciTransport {
        &mut self.0
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Its memory stays with it, whether the reset ends or not.
        let _ = reset(&mut **self);
    }
}

/// Sectors of a disk: the first field of its configuration, read whole.
pub(super) fn sectors(transport: &impl Transport) -> Option<u64> {
    (0..CONFIG_READS).find_map(|_| {
        let before = transport.read_config_generation();
        let low: u32 = transport.read_config_space(0).ok()?;
        let high: u32 = transport.read_config_space(4).ok()?;
        let whole = transport.read_config_generation() == before;
        whole.then_some(u64::from(high) << 32 | u64::from(low))
    })
}

/// Kinds of capability.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
/// Offsets in the common structure.
const QUEUE_SELECT: usize = 22;
const QUEUE_MSIX_VECTOR: usize = 26;
const QUEUE_NOTIFY_OFF: usize = 30;
const COMMON_BYTES: u64 = 56;
/// What the vector register reads when the device took none.
const NO_VECTOR: u16 = 0xffff;

/// The registers of one device.
pub(super) struct Registers {
    common: *mut u8,
    notify: *mut u8,
    notify_bytes: u64,
    notify_multiplier: u64,
}

/// A virtio structure in a BAR.
struct Place {
    cap: u8,
    bar: u8,
    offset: u32,
    length: u32,
}

fn place(root: &Root, function: DeviceFunction, kind: u8) -> Option<Place> {
    let mut caps = root.capabilities(function);
    let cap = caps.find(|c| c.id == PCI_CAP_ID_VNDR && (c.private_header >> 8) as u8 == kind)?;
    let word = |offset: u8| ConfigPorts.read_word(function, cap.offset + offset);
    Some(Place {
        cap: cap.offset,
        bar: word(4) as u8,
        offset: word(8),
        length: word(12),
    })
}

impl Registers {
    /// Finds and maps them.
    pub(super) fn find(root: &mut Root, function: DeviceFunction) -> Option<Self> {
        let common = place(root, function, COMMON)?;
        let notify = place(root, function, NOTIFY)?;
        let multiplier = ConfigPorts.read_word(function, notify.cap + 16);
        let length = u64::from(notify.length);
        Some(Self {
            common: map_bar(root, function, common.bar, common.offset, COMMON_BYTES)?,
            notify: map_bar(root, function, notify.bar, notify.offset, length)?,
            notify_bytes: length,
            notify_multiplier: u64::from(multiplier),
        })
    }

    fn register(&self, offset: usize) -> *mut u16 {
        // SAFETY: the offsets are within the common structure, which is mapped whole.
        unsafe { self.common.add(offset) }.cast()
    }

    /// Lets `queue` raise MSI-X entry `vector`. False when the device takes none.
    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) -> bool {
        // SAFETY: two-byte registers of the common structure, aligned; the device is being set up.
        unsafe {
            self.register(QUEUE_SELECT).write_volatile(queue);
            self.register(QUEUE_MSIX_VECTOR).write_volatile(vector);
            self.register(QUEUE_MSIX_VECTOR).read_volatile() != NO_VECTOR
        }
    }

    /// Where `queue` is notified; `None` when the device places that outside of its own registers,
    /// or askew.
    pub(super) fn doorbell(&self, queue: u16) -> Option<Doorbell> {
        // SAFETY: as in `set_queue_vector`.
        let off = unsafe {
            self.register(QUEUE_SELECT).write_volatile(queue);
            self.register(QUEUE_NOTIFY_OFF).read_volatile()
        };
        let offset = u64::from(off) * self.notify_multiplier;
        if offset + 2 > self.notify_bytes {
            return None;
        }
        // SAFETY: checked just above.
        let at: *mut u16 = unsafe { self.notify.add(offset as usize) }.cast();
        at.is_aligned().then_some(Doorbell { at, queue })
    }
}

// SAFETY: registers mapped for good; only who has the device's transport uses them.
unsafe impl Send for Registers {}
// SAFETY: as above.
unsafe impl Sync for Registers {}

/// One queue's doorbell.
pub(super) struct Doorbell {
    at: *mut u16,
    queue: u16,
}

// SAFETY: a store to the register is one device access, from any CPU at any time.
unsafe impl Send for Doorbell {}
// SAFETY: as above.
unsafe impl Sync for Doorbell {}

impl Doorbell {
    /// Tells the device to look at its queue.
    pub(super) fn ring(&self) {
        // SAFETY: the queue's notification register, mapped for good. The volatile store stays
        // after the queue's index: x86 does not reorder stores.
        unsafe { self.at.write_volatile(self.queue) };
    }
}
