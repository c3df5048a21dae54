//! virtio disks: found on PCI at boot, named `vda`, `vdb`, ... in bus order.
//!
//! Completions arrive by one MSI-X interrupt per disk, at the boot CPU, or are polled by
//! [`check_all`] where there is none. Locks: see `blk`. Nothing here sleeps.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use arch::MAX_DISKS;
use spin::Once;
use virtio_drivers::transport::pci::bus::DeviceFunction;
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
use virtio_drivers::transport::{DeviceType, Transport};

use crate::pci::{self, Root};
use crate::println;
use blk::{Disk, Driver};
use common::Device;
use hal::{Allocate, KernelHal};

mod blk;
mod common;
mod hal;
mod queue;

/// Names of the disks that are looked for.
const NAMES: [&str; MAX_DISKS] = ["vda", "vdb", "vdc", "vdd", "vde", "vdf", "vdg", "vdh"];
/// Queue sizes, best first. A request takes two descriptors and one for each run of consecutive
/// frames, so the large one holds 15 requests of 32 scattered frames each. Set-up needs three times
/// 16 bytes for each descriptor on the stack.
const LARGE: usize = 512;
const SMALL: usize = 256;

/// How often disks are looked after, with interrupts and without.
const CHECK_NS: u64 = 1_000_000_000;
const POLL_NS: u64 = 1_000_000;

/// Some disk has no interrupt.
static POLLED: AtomicBool = AtomicBool::new(false);
static DISKS: [Once<&'static dyn Driver>; MAX_DISKS] = [const { Once::new() }; NAMES.len()];

/// Finds and starts every disk, and says what it found. Needs the heap; `allocate` gives physically
/// contiguous pages. Called once, from the boot thread.
pub(crate) fn init(allocate: Allocate) {
    hal::set_allocator(allocate);
    let (mut root, functions) = pci::scan();
    let mut next = 0;
    for (function, info) in functions {
        if virtio_device_type(&info) != Some(DeviceType::Block) || next == MAX_DISKS {
            continue;
        }
        match start(next, &mut root, function, allocate) {
            Ok(()) => next += 1,
            Err(why) => println!("virtio disk at {function}: not usable: {why}"),
        }
    }
}

/// Looks after every disk: completions whose interrupt got lost or that have none, and devices that
/// stopped answering. A kernel thread calls it, and again after so many nanoseconds as it returns.
pub(crate) fn check_all() -> u64 {
    disks().for_each(Driver::check);
    match POLLED.load(Ordering::Relaxed) {
        true => POLL_NS,
        false => CHECK_NS,
    }
}

fn disks() -> impl Iterator<Item = &'static dyn Driver> {
    DISKS.iter().filter_map(Once::get).copied()
}

fn interrupt(n: usize) {
    if let Some(disk) = DISKS[n].get() {
        disk.poll();
    }
}

fn start(
    n: usize,
    root: &mut Root,
    function: DeviceFunction,
    allocate: Allocate,
) -> Result<(), &'static str> {
    pci::enable(root, function);
    let transport = PciTransport::new::<KernelHal, _>(root, function)
        .map_err(|_| "its virtio structures are incomplete")?;
    let mut transport = Device::new(transport);
    // The firmware may have used the disk, with a smaller queue.
    if !common::reset(&mut *transport) {
        return Err("it does not end its reset");
    }
    let vector = arch::irq::allocate(interrupt, n);
    let by_interrupt = vector.is_some_and(|vector| {
        let (address, data) = vector.msi(0);
        pci::enable_msix(root, function, address, data)
    });
    if !by_interrupt {
        POLLED.store(true, Ordering::Relaxed);
    }
    let driver: Box<dyn Driver> = match transport.max_queue_size(queue::QUEUE) as usize {
        LARGE.. => Box::new(Disk::<LARGE>::new(
            NAMES[n],
            root,
            function,
            transport,
            by_interrupt,
            allocate,
        )?),
        SMALL.. => Box::new(Disk::<SMALL>::new(
            NAMES[n],
            root,
            function,
            transport,
            by_interrupt,
            allocate,
        )?),
        _ => return Err("its queue has fewer than 256 entries"),
    };
    let driver: &'static dyn Driver = *DISKS[n].call_once(|| Box::leak(driver));
    arch::register_disk(driver, driver.serial());
    let (entries, read_only) = driver.describe();
    println!(
        "{}: {} MiB, {entries} queue entries, {}{}{}",
        driver.name(),
        driver.sectors() >> 11,
        if by_interrupt { "MSI-X" } else { "polled" },
        if read_only { ", read-only" } else { "" },
        if driver.serial() == arch::DATA_SERIAL {
            ", for files"
        } else {
            ""
        },
    );
    Ok(())
}
