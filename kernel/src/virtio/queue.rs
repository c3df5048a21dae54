//! The request queue of one disk: bios into descriptor chains and back.
//!
//! A request is a chain of a 16-byte header, one descriptor per run of consecutive frames, and a status byte
//! that the device writes. Headers and status bytes lie in [`SLOTS`] slots of one DMA page, so that
//! submitting and completing never allocate. Source: virtio 1.1, 2.6 (split virtqueues), 5.2.6 (block).
//!
//! Locks: the caller holds the disk's queue lock (`DiskQueue`, interrupts off). Never sleeps.
//! Ordering: the crate's `add` publishes the chain before its index (Release), `can_pop` acquires the
//! device's; whoever gets a bio's result sees the data through `Bio::complete`.

use alloc::boxed::Box;
use core::sync::atomic::{Ordering, fence};

use arch::block::{Bio, Busy, IoError, MAX_SEGMENTS, Op};
use arch::{PAGE_SIZE, Pfn};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;

use super::common;
use super::hal::{Allocate, KernelHal};

/// Requests in flight at most.
pub(super) const SLOTS: usize = 32;
/// Distance of the slots' parts of the DMA page.
const SLOT_BYTES: usize = 64;
/// Where in a slot the status byte lies, after the header.
const STATUS: usize = 16;
const HEADER: usize = 16;
/// Where in a slot the answer of [`Queue::serial`] lies.
const ANSWER: usize = 32;
/// So long a device may take for it. Nanoseconds.
const ANSWER_NS: u64 = 5_000_000_000;
/// The only queue of a block device that is used.
pub(super) const QUEUE: u16 = 0;

/// Request types.
const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
/// Bytes of a serial number, zeroes at the end where it is shorter.
pub(super) const SERIAL: usize = 20;
/// The status byte of a request that went well; also what no device writes.
const STATUS_OK: u8 = 0;
const STATUS_NONE: u8 = 0xff;

/// A bio with its outcome, to be reported without the lock.
pub(super) type Done = (&'static Bio, Result<(), IoError>);

/// A request that the device has.
struct InFlight {
    bio: &'static Bio,
    /// The head of its chain, by which the device names it.
    token: u16,
    /// When it was submitted, in nanoseconds since boot.
    since: u64,
}

/// A queue of `N` descriptors.
pub(super) struct Queue<const N: usize> {
    ring: Box<VirtQueue<KernelHal, N>>,
    transport: PciTransport,
    slots: [Option<InFlight>; SLOTS],
    /// The DMA page of headers and status bytes.
    page: Pfn,
    /// The device was reset for not answering; every request fails.
    dead: bool,
}

/// The buffers of one request, as the crate wants them: slices that only carry addresses and lengths.
struct Buffers<'a> {
    inputs: [&'a [u8]; MAX_SEGMENTS + 1],
    nr_inputs: usize,
    outputs: [&'a mut [u8]; MAX_SEGMENTS + 1],
    nr_outputs: usize,
}

impl<const N: usize> Queue<N> {
    /// The ring of descriptors. A function of its own: the crate returns its 16 bytes per descriptor by
    /// value, several times over on the stack, and the caller's frame shall not hold them longer.
    #[inline(never)]
    pub(super) fn ring(transport: &mut PciTransport) -> Option<Box<VirtQueue<KernelHal, N>>> {
        let ring = VirtQueue::new(transport, QUEUE, false, false);
        ring.ok().map(Box::new)
    }

    /// A queue on `ring`, its device running.
    pub(super) fn new(
        ring: Box<VirtQueue<KernelHal, N>>,
        transport: PciTransport,
        allocate: Allocate,
    ) -> Option<Self> {
        Some(Self {
            ring,
            transport,
            slots: [const { None }; SLOTS],
            page: allocate(1)?,
            dead: false,
        })
    }

    /// Asks the device for its serial number (all zeroes: it has none) and waits for the answer. For set-up,
    /// before the first bio; `notify` rings the device's doorbell.
    ///
    /// # Errors
    /// There was no answer in time: the device is not usable.
    pub(super) fn serial(&mut self, notify: impl Fn()) -> Result<[u8; SERIAL], &'static str> {
        self.write_slot(0, TYPE_GET_ID, 0);
        let at = self.slot_ptr(0);
        // SAFETY: parts of slot 0, which no request has; only their addresses are used.
        let (header, answer, status) = unsafe {
            (
                core::slice::from_raw_parts(at, HEADER),
                core::slice::from_raw_parts_mut(at.add(ANSWER), SERIAL),
                core::slice::from_raw_parts_mut(at.add(STATUS), 1),
            )
        };
        let (inputs, outputs) = (&[header], &mut [answer, status]);
        // SAFETY: the slot stays free of requests until the token is popped; without an answer the disk is
        // not used at all, and its page is never freed.
        let token = unsafe { self.ring.add(inputs, outputs) };
        let token = token.map_err(|_| "its queue has no room")?;
        notify();
        let since = arch::now_ns();
        while !self.ring.can_pop() {
            if arch::now_ns() - since > ANSWER_NS {
                return Err("it does not answer");
            }
            core::hint::spin_loop();
        }
        // SAFETY: the same buffers as for `add`.
        let popped = unsafe { self.ring.pop_used(token, inputs, outputs) };
        if popped.is_err() || self.status(0) != STATUS_OK {
            return Ok([0; SERIAL]);
        }
        // SAFETY: the device has finished with the slot.
        Ok(unsafe { at.add(ANSWER).cast::<[u8; SERIAL]>().read_volatile() })
    }

    /// Nothing can be submitted any more.
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Hands `bio` to the device at time `now`. `Ok(true)`: the device wants to be notified.
    ///
    /// # Errors
    /// [`Busy`] without a free slot or enough free descriptors; `bio` is untouched.
    pub(super) fn submit(&mut self, bio: &'static Bio, now: u64) -> Result<bool, Busy> {
        let slot = self.slots.iter().position(Option::is_none).ok_or(Busy)?;
        let (kind, sector) = match bio.op() {
            Op::Read => (TYPE_IN, bio.sector()),
            Op::Write => (TYPE_OUT, bio.sector()),
            Op::Flush => (TYPE_FLUSH, 0),
        };
        self.write_slot(slot, kind, sector);
        let mut buffers = self.buffers(slot, bio);
        if buffers.nr_inputs + buffers.nr_outputs > self.ring.available_desc() {
            return Err(Busy);
        }
        bio.start();
        let (inputs, outputs) = buffers.split();
        // SAFETY: the slot is this request's until its token is popped, and the frames belong to the bio,
        // which is the device's while in flight.
        let added = unsafe { self.ring.add(inputs, outputs) };
        let token = added.expect("the queue has room");
        self.slots[slot] = Some(InFlight {
            bio,
            token,
            since: now,
        });
        // The new index must be visible before the device's "no notification needed" is read, or both
        // sides could miss each other.
        fence(Ordering::SeqCst);
        Ok(self.ring.should_notify())
    }

    /// Takes the next request back that the device has finished.
    pub(super) fn reap(&mut self) -> Option<Done> {
        if self.dead {
            return None;
        }
        let token = self.ring.peek_used()?;
        let is_it = |s: &Option<InFlight>| s.as_ref().is_some_and(|s| s.token == token);
        let slot = self.slots.iter().position(is_it);
        let slot = slot.expect("a disk completed a request that it does not have");
        let bio = self.slots[slot].take().map(|s| s.bio)?;
        let mut buffers = self.buffers(slot, bio);
        let (inputs, outputs) = buffers.split();
        // SAFETY: the buffers are rebuilt from the same slot and the same bio as for `add`.
        let popped = unsafe { self.ring.pop_used(token, inputs, outputs) };
        let ok = popped.is_ok() && self.status(slot) == STATUS_OK;
        Some((bio, if ok { Ok(()) } else { Err(IoError) }))
    }

    /// When the oldest request in flight was submitted.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.slots.iter().flatten().map(|s| s.since).min()
    }

    /// Gives the device up. One that still owes reads is reset first, so that it writes to no frame any more
    /// (QEMU finishes its own I/O before the reset is done). Late writes only reach slots of the disk that
    /// are known as bad by then, or are of file pages that stay dirty in memory, so they need none.
    /// False: the device does not end its reset.
    pub(super) fn kill(&mut self) -> bool {
        self.dead = true;
        let mut in_flight = self.slots.iter().flatten();
        let reads = in_flight.any(|s| s.bio.op() == Op::Read);
        !reads || common::reset(&mut self.transport)
    }

    /// Takes one request back from a dead device.
    pub(super) fn abandon(&mut self) -> Option<Done> {
        let slot = self.slots.iter_mut().find(|s| s.is_some())?;
        slot.take().map(|s| (s.bio, Err(IoError)))
    }

    fn slot_ptr(&self, slot: usize) -> *mut u8 {
        // SAFETY: SLOTS * SLOT_BYTES is within the page.
        unsafe { arch::frame_ptr(self.page).add(slot * SLOT_BYTES) }
    }

    fn write_slot(&self, slot: usize, kind: u32, sector: u64) {
        let at = self.slot_ptr(slot);
        // SAFETY: the slot is free, so neither the device nor anybody else looks at it; it is 64-byte
        // aligned and holds header and status.
        unsafe {
            at.cast::<[u32; 2]>().write([kind.to_le(), 0]);
            at.add(8).cast::<u64>().write(sector.to_le());
            at.add(STATUS).write(STATUS_NONE);
        }
    }

    fn status(&self, slot: usize) -> u8 {
        // SAFETY: the device has finished with the slot.
        unsafe { self.slot_ptr(slot).add(STATUS).read_volatile() }
    }

    fn buffers<'a>(&self, slot: usize, bio: &Bio) -> Buffers<'a> {
        let at = self.slot_ptr(slot);
        // SAFETY: header and status byte of the slot; nobody reads or writes through these slices, they
        // tell the crate where the parts are.
        let (header, status) = unsafe {
            (
                core::slice::from_raw_parts(at, HEADER),
                core::slice::from_raw_parts_mut(at.add(STATUS), 1),
            )
        };
        let mut buffers = Buffers {
            inputs: [&[]; MAX_SEGMENTS + 1],
            nr_inputs: 0,
            outputs: core::array::from_fn(|_| Default::default()),
            nr_outputs: 0,
        };
        buffers.push_input(header);
        for_each_run(bio, |first, pages| {
            let start = arch::frame_ptr(first);
            let bytes = pages * PAGE_SIZE as usize;
            // SAFETY: frames in the direct map that belong to the bio; as above, only their addresses
            // are used.
            unsafe {
                match bio.op() {
                    Op::Read => buffers.push_output(core::slice::from_raw_parts_mut(start, bytes)),
                    _ => buffers.push_input(core::slice::from_raw_parts(start, bytes)),
                }
            }
        });
        buffers.push_output(status);
        buffers
    }
}

impl<'a> Buffers<'a> {
    fn push_input(&mut self, buffer: &'a [u8]) {
        self.inputs[self.nr_inputs] = buffer;
        self.nr_inputs += 1;
    }
    fn push_output(&mut self, buffer: &'a mut [u8]) {
        self.outputs[self.nr_outputs] = buffer;
        self.nr_outputs += 1;
    }
    fn split(&'a mut self) -> (&'a [&'a [u8]], &'a mut [&'a mut [u8]]) {
        let outputs = &mut self.outputs[..self.nr_outputs];
        (&self.inputs[..self.nr_inputs], outputs)
    }
}

/// Calls `f(first frame, pages)` for every run of consecutive frames.
fn for_each_run(bio: &Bio, mut f: impl FnMut(Pfn, usize)) {
    let mut i = 0;
    while i < bio.len() {
        let first = bio.frame(i);
        let next = |n: usize| i + n < bio.len() && bio.frame(i + n) == first.add(n as u32);
        let pages = (1..).find(|&n| !next(n)).unwrap_or(1);
        f(first, pages);
        i += pages;
    }
}
