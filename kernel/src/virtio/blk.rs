//! A virtio disk as a [`BlockDevice`].
//!
//! Locks: the queue's (`DiskQueue`, interrupts off), never held while a completion is reported:
//! `bio_done` may submit the next request or wake a thread. Submitting and completing neither sleep
//! nor allocate.
//!
//! A device that makes no progress, or completes what it was not asked, is given up: no request
//! reaches it any more. What it owes fails only after it was reset, as until then it may read and
//! write the frames. It can be started again.

use algo::progress::Patience;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::block::{Bio, BlockDevice, Busy, IoError, Op};
use arch::upcall::upcalls;
use sync::{IrqSpinLock, Rank, irq};
use virtio_drivers::transport::Transport;
use virtio_drivers::transport::pci::bus::DeviceFunction;

use super::common::{self, Device, Registers};
use super::hal::Allocate;
use super::queue::{NOT_ASKED, QUEUE, Queue, Ring, SERIAL, State};
use crate::pci::Root;

/// A device that owes answers and has given none for so long is given up. Nanoseconds.
const TIMEOUT_NS: u64 = 30_000_000_000;
/// Of the time between two looks at a device no more than this counts.
const LOOK_NS: u64 = 2 * super::CHECK_NS;
/// So long who wants a device started again waits for that.
const RESTART_NS: u64 = 10_000_000_000;

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
    /// Completions raise MSI-X entry 0.
    vector: bool,
    registers: Registers,
    doorbell: common::Doorbell,
    queue: IrqSpinLock<Queue<N>>,
    completed: AtomicU64,
    /// For the thread that looks after the disks, which alone takes it.
    patience: IrqSpinLock<Patience>,
    /// Somebody wants it started again.
    wanted: AtomicBool,
    /// It was said that its reset does not end.
    told: AtomicBool,
}

/// What a device says of itself when it starts.
#[derive(PartialEq, Eq)]
struct Identity {
    sectors: u64,
    features: u64,
}

/// What the kernel asks of a disk besides the [`BlockDevice`] interface.
pub(super) trait Driver: BlockDevice {
    /// Reports what has completed. From the interrupt handler, or by polling.
    fn poll(&self);
    /// Gives the device up if it makes no progress or no sense; starts it again if that is wanted.
    /// From one thread, once in a while.
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
        mut transport: Device,
        vector: bool,
        allocate: Allocate,
    ) -> Result<Self, &'static str> {
        let registers = Registers::find(root, function).ok_or("no modern virtio registers")?;
        let (ring, is) = Self::bring_up(&mut transport, &registers, vector)?;
        let doorbell = registers.doorbell(QUEUE);
        let doorbell = doorbell.ok_or("its doorbell lies outside of its registers")?;
        let queue = Queue::new(ring, transport, allocate);
        let mut queue = queue.ok_or("no memory for its requests")?;
        let serial = queue.serial(|| doorbell.ring())?;
        Ok(Self {
            name,
            sectors: is.sectors,
            features: Features::from_bits_truncate(is.features),
            serial,
            vector,
            registers,
            doorbell,
            queue: IrqSpinLock::new(Rank::DiskQueue, queue),
            completed: AtomicU64::new(0),
            patience: IrqSpinLock::new(Rank::DiskQueue, Patience::new(TIMEOUT_NS, LOOK_NS)),
            wanted: AtomicBool::new(false),
            told: AtomicBool::new(false),
        })
    }

    /// Makes a device that was reset take requests.
    fn bring_up(
        transport: &mut Device,
        registers: &Registers,
        vector: bool,
    ) -> Result<(Ring<N>, Identity), &'static str> {
        let features = transport.begin_init(Features::all());
        if !features.contains(Features::VERSION_1) {
            return Err("only the legacy interface");
        }
        if vector && !registers.set_queue_vector(QUEUE, 0) {
            return Err("the device refused an interrupt vector");
        }
        let ring = Queue::<N>::ring(transport).ok_or("no memory for its queue")?;
        let sectors = common::sectors(&**transport).ok_or("its size cannot be read")?;
        transport.finish_init();
        let features = features.bits();
        Ok((ring, Identity { sectors, features }))
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
        if queue.state() != State::Up {
            drop(queue);
            bio.start();
            self.finish(bio, Err(IoError));
            return Ok(());
        }
        let notify = queue.submit(bio)?;
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

    fn restart(&self) -> Result<bool, IoError> {
        if self.queue.lock().state() == State::Up {
            return Ok(false);
        }
        // By the thread that looks after the disks: it has the stack for it.
        self.wanted.store(true, Ordering::Release);
        let end = arch::now_ns() + RESTART_NS;
        while self.wanted.load(Ordering::Acquire) {
            if arch::now_ns() > end {
                return Err(IoError);
            }
            arch::thread::sleep_ns(super::POLL_NS);
        }
        if self.queue.lock().state() == State::Up {
            Ok(true)
        } else {
            Err(IoError)
        }
    }
}

/// What the thread does that looks after the disks.
impl<const N: usize> Disk<N> {
    /// Why the device is to be given up, if it is; it has been then.
    fn judge(&self) -> Option<&'static str> {
        let now = arch::now_ns();
        // What completes without the device (a flush of one without a cache) is no progress of it.
        let (state, owes, answered) = {
            let queue = self.queue.lock();
            (queue.state(), queue.owes(), queue.answered())
        };
        let why = match state {
            State::Down => return None,
            State::Mad => NOT_ASKED,
            State::Up if self.patience.lock().is_over(now, answered, owes) => "it does not answer",
            State::Up => return None,
        };
        self.queue.lock().give_up();
        Some(why)
    }

    /// Fails what a device owes that was given up, once it uses no frame any more.
    fn clear_out(&self) {
        let mut queue = self.queue.lock();
        if !queue.owes() {
            return;
        }
        let Some(mut transport) = queue.take_transport() else {
            return;
        };
        drop(queue);
        // QEMU finishes its own I/O before the reset is done.
        let is_reset = common::reset(&mut *transport);
        self.queue.lock().put_transport(transport);
        if !is_reset {
            if !self.told.swap(true, Ordering::Relaxed) {
                crate::println!(
                    "{}: its reset does not end within {} s: what it owes stays with it",
                    self.name,
                    common::RESET_NS / 1_000_000_000
                );
            }
            return;
        }
        loop {
            // A statement of its own, so that the lock is free before the report.
            let given_up = self.queue.lock().abandon();
            let Some((bio, result)) = given_up else { break };
            self.finish(bio, result);
        }
    }

    /// Starts a device again that was given up.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn start_again(&self) -> Result<(), &'static str> {
        let mut queue = self.queue.lock();
        if queue.owes() {
            return Err("its reset does not end");
        }
        let Some(mut transport) = queue.take_transport() else {
            return Ok(());
        };
        drop(queue);
        match self.renew(&mut transport) {
            Ok(ring) => {
                // A statement of its own: the old ring goes without the lock.
                let old = self.queue.lock().start_again(ring, transport);
                drop(old);
                self.told.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(why) => {
                self.queue.lock().put_transport(transport);
                Err(why)
            }
        }
    }

    fn renew(&self, transport: &mut Device) -> Result<Ring<N>, &'static str> {
        if !common::reset(&mut **transport) {
            return Err("its reset does not end");
        }
        let (ring, is) = Self::bring_up(transport, &self.registers, self.vector)?;
        let was = Identity {
            sectors: self.sectors,
            features: self.features.bits(),
        };
        if is != was {
            // It has been told of the ring: neither goes on.
            let _ = common::reset(&mut **transport);
            return Err("it is another disk than before");
        }
        Ok(ring)
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
        if let Some(why) = self.judge() {
            crate::println!(
                "{}: {why}: the disk is given up, its requests fail; 'swap on' or 'mount' starts it again",
                self.name
            );
        }
        self.clear_out();
        if self.wanted.load(Ordering::Acquire) {
            if let Err(why) = self.start_again() {
                crate::println!("{}: does not start again: {why}", self.name);
            }
            self.wanted.store(false, Ordering::Release);
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
