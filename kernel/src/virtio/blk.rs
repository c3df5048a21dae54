//! A virtio disk as a [`BlockDevice`].
//!
//! Locks: the queue's (`DiskQueue`, interrupts off), never held while a completion is reported: `bio_done`
//! may submit the next request or wake a thread. Submitting and completing neither sleep nor allocate.

use core::sync::atomic::{AtomicU64, Ordering};

use arch::block::{Bio, BlockDevice, Busy, IoError, Op};
use arch::upcall::upcalls;
use sync::{IrqSpinLock, Rank, irq};
use virtio_drivers::transport::Transport;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::DeviceFunction;

use super::common::{self, Registers};
use super::hal::Allocate;
use super::queue::{QUEUE, Queue, SERIAL};
use crate::pci::Root;

/// A device that has not answered a request for so long is given up. Nanoseconds.
const TIMEOUT_NS: u64 = 30_000_000_000;

bitflags::bitflags! {
    /// What the driver can make use of.
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        /// The disk cannot be written.
        const RO = 1 << 5;
        /// There is a cache, and a request to flush it.
        const FLUSH = 1 << 9;
        /// Not the legacy interface.
        const VERSION_1 = 1 << 32;
    }
}

/// One disk with a queue of `N` descriptors.
pub(super) struct Disk<const N: usize> {
    name: &'static str,
    sectors: u64,
    features: Features,
    serial: [u8; SERIAL],
    doorbell: common::Doorbell,
    queue: IrqSpinLock<Queue<N>>,
    completed: AtomicU64,
}

/// What the kernel asks of a disk besides the [`BlockDevice`] interface.
pub(super) trait Driver: BlockDevice {
    /// Reports what has completed. From the interrupt handler, or by polling.
    fn poll(&self);
    /// Gives the device up if it owes an answer for too long. From a thread, once in a while.
    fn check(&self);
    /// For boot messages: descriptors of the queue, and whether the disk is read-only.
    fn describe(&self) -> (usize, bool);
    /// Its serial number; empty if it has none.
    fn serial(&self) -> &str;
}

impl<const N: usize> Disk<N> {
    /// Sets the device up. `vector`: completions raise MSI-X entry 0.
    ///
    /// # Errors
    /// What the device or the kernel lacks.
    pub(super) fn new(
        name: &'static str,
        root: &mut Root,
        function: DeviceFunction,
        mut transport: PciTransport,
        vector: bool,
        allocate: Allocate,
    ) -> Result<Self, &'static str> {
        let registers = Registers::find(root, function).ok_or("no modern virtio registers")?;
        let features = transport.begin_init(Features::all());
        if !features.contains(Features::VERSION_1) {
            return Err("only the legacy interface");
        }
        if vector && !registers.set_queue_vector(QUEUE, 0) {
            return Err("the device refused an interrupt vector");
        }
        let ring = Queue::<N>::ring(&mut transport).ok_or("no memory for its queue")?;
        let sectors = common::sectors(&transport).ok_or("its size cannot be read")?;
        let doorbell = registers.doorbell(QUEUE);
        transport.finish_init();
        let queue = Queue::new(ring, transport, allocate);
        let mut queue = queue.ok_or("no memory for its requests")?;
        let serial = queue.serial(|| doorbell.ring())?;
        Ok(Self {
            name,
            sectors,
            features,
            serial,
            doorbell,
            queue: IrqSpinLock::new(Rank::DiskQueue, queue),
            completed: AtomicU64::new(0),
        })
    }

    fn finish(&self, bio: &'static Bio, result: Result<(), IoError>) {
        let _off = irq::disable();
        self.completed.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the device has finished with the request, or was made to.
        unsafe { bio.complete(result) };
        if let Some(up) = upcalls() {
            up.bio_done(bio);
        }
    }
}

impl<const N: usize> BlockDevice for Disk<N> {
    fn name(&self) -> &str {
        self.name
    }

    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn is_read_only(&self) -> bool {
        self.features.contains(Features::RO)
    }

    unsafe fn submit(&self, bio: &'static Bio) -> Result<(), Busy> {
        if bio.op() == Op::Flush && !self.features.contains(Features::FLUSH) {
            // Without a cache every completed write is durable.
            bio.start();
            self.finish(bio, Ok(()));
            return Ok(());
        }
        let mut queue = self.queue.lock();
        if queue.is_dead() {
            drop(queue);
            bio.start();
            self.finish(bio, Err(IoError));
            return Ok(());
        }
        let notify = queue.submit(bio, arch::now_ns())?;
        drop(queue);
        if notify {
            // Without the lock: it leaves the translated code for the device model.
            self.doorbell.ring();
        }
        Ok(())
    }

    fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }
}

impl<const N: usize> Driver for Disk<N> {
    fn poll(&self) {
        loop {
            // A statement of its own, so that the lock is free before the report.
            let done = self.queue.lock().reap();
            let Some((bio, result)) = done else { return };
            self.finish(bio, result);
        }
    }

    fn check(&self) {
        // An interrupt may have been lost; then this is late but right.
        self.poll();
        let mut queue = self.queue.lock();
        let late = |since: u64| arch::now_ns().saturating_sub(since) > TIMEOUT_NS;
        if !queue.is_dead() && queue.oldest().is_some_and(late) {
            let stopped = queue.kill();
            drop(queue);
            crate::println!(
                "{}: no answer for {} s: the disk is given up, its requests fail",
                self.name,
                TIMEOUT_NS / 1_000_000_000
            );
            if !stopped {
                let reset = common::RESET_NS / 1_000_000_000;
                crate::println!("{}: its reset does not end within {reset} s", self.name);
            }
            loop {
                let given_up = self.queue.lock().abandon();
                let Some((bio, result)) = given_up else {
                    return;
                };
                self.finish(bio, result);
            }
        }
    }

    fn describe(&self) -> (usize, bool) {
        (N, self.is_read_only())
    }

    fn serial(&self) -> &str {
        let end = self.serial.iter().position(|&b| b == 0);
        let bytes = &self.serial[..end.unwrap_or(SERIAL)];
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}
