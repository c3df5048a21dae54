//! The request queue of one disk: bios into descriptor chains and back.
//!
//! A request is a chain of a 16-byte header, one descriptor per run of consecutive frames, and a
//! status byte that the device writes. Headers and status bytes lie in [`SLOTS`] slots of one DMA
//! page, so that submitting and completing never allocate. Source: virtio 1.1, 2.6 (split
//! virtqueues), 5.2.6 (block).
//!
//! Locks: the caller holds the disk's queue lock (`DiskQueue`, interrupts off). Never sleeps.
//! Ordering: the crate's `add` publishes the chain before its index (Release), `can_pop` acquires
//! the device's; whoever gets a bio's result sees the data through `Bio::complete`.

use alloc::boxed::Box;
use core::sync::atomic::{Ordering, fence};

use arch::block::{Bio, Busy, IoError, MAX_SEGMENTS, Op};
use arch::{PAGE_SIZE, Pfn};
use virtio_drivers::queue::VirtQueue;

use super::common::Device;
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

/// What is wrong with a device whose used ring names a chain that was not given to it.
pub(super) const NOT_ASKED: &str = "it completed a request that it does not have";

/// A bio with its outcome, to be reported without the lock.
pub(super) type Done = (&'static Bio, Result<(), IoError>);

/// A request that the device has.
struct InFlight {
    bio: &'static Bio,
    /// The head of its chain, by which the device names it.
    token: u16,
}

/// The ring of `N` descriptors.
pub(super) type Ring<const N: usize> = Box<VirtQueue<KernelHal, N>>;

/// A queue of `N` descriptors.
pub(super) struct Queue<const N: usize> {
    ring: Ring<N>,
    /// `None` while somebody resets the device, or starts it again.
    transport: Option<Device>,
    slots: [Option<InFlight>; SLOTS],
    /// The DMA page of headers and status bytes.
    page: Pfn,
    state: State,
    /// Requests that the device has answered since ever.
    answered: u64,
}

/// Whether the device is of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It takes requests.
    Up,
    /// It completed a request that it does not have. Nothing that it says counts any more, but it
    /// has not been given up yet.
    Mad,
    /// It was given up; every request fails.
    Down,
}

/// The buffers of one request, as the crate wants them: slices that only carry addresses and
/// lengths.
struct Buffers<'a> {
    inputs: [&'a [u8]; MAX_SEGMENTS + 1],
    nr_inputs: usize,
    outputs: [&'a mut [u8]; MAX_SEGMENTS + 1],
    nr_outputs: usize,
}

impl<const N: usize> Queue<N> {
    /// The ring of descriptors. A function of its own: the crate returns its 16 bytes per
    /// descriptor by value, several times over on the stack, and the caller's frame shall not hold
    /// them longer.
    #[inline(never)]
    pub(super) fn ring(transport: &mut Device) -> Option<Ring<N>> {
        let ring = VirtQueue::new(&mut **transport, QUEUE, false, false);
        ring.ok().map(Box::new)
    }

    /// A queue on `ring`, its device running.
    pub(super) fn new(ring: Ring<N>, transport: Device, allocate: Allocate) -> Option<Self> {
        Some(Self {
            ring,
            transport: Some(transport),
            slots: [const { None }; SLOTS],
            page: allocate(1)?,
            state: State::Up,
            answered: 0,
        })
    }

    /// Asks the device for its serial number (all zeroes: it has none) and waits for the answer.
    /// For set-up, before the first bio; `notify` rings the device's doorbell.
    ///
    /// # Errors
    /// There was no answer in time, or to something else: the device is not usable.
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
        // SAFETY: the slot stays free of requests until the token is popped; without an answer the
        // disk is not used at all, and its page is never freed.
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
        popped.map_err(|_| NOT_ASKED)?;
        if self.status(0) != STATUS_OK {
            return Ok([0; SERIAL]);
        }
        // SAFETY: the device has finished with the slot.
        Ok(unsafe { at.add(ANSWER).cast::<[u8; SERIAL]>().read_volatile() })
    }

    /// Whether the device is of use.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Hands `bio` to the device, which is up. `Ok(true)`: the device wants to be notified.
    ///
    /// # Errors
    /// [`Busy`] without a free slot or enough free descriptors; `bio` is untouched.
    pub(super) fn submit(&mut self, bio: &'static Bio) -> Result<bool, Busy> {
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
        // SAFETY: the slot is this request's until its token is popped, and the frames belong to
        // the bio, which is the device's while in flight.
        let added = unsafe { self.ring.add(inputs, outputs) };
        let token = added.expect("the queue has room");
        self.slots[slot] = Some(InFlight { bio, token });
        // The new index must be visible before the device's "no notification needed" is read, or
        // both sides could miss each other.
        fence(Ordering::SeqCst);
        Ok(self.ring.should_notify())
    }

    /// Takes the next request back that the device has finished.
    pub(super) fn reap(&mut self) -> Option<Done> {
        if self.state != State::Up {
            return None;
        }
        let token = self.ring.peek_used()?;
        let is_it = |s: &Option<InFlight>| s.as_ref().is_some_and(|s| s.token == token);
        let Some(slot) = self.slots.iter().position(is_it) else {
            self.state = State::Mad;
            return None;
        };
        let bio = self.slots[slot].take().map(|s| s.bio)?;
        self.answered += 1;
        let mut buffers = self.buffers(slot, bio);
        let (inputs, outputs) = buffers.split();
        // SAFETY: the buffers are rebuilt from the same slot and the same bio as for `add`.
        let popped = unsafe { self.ring.pop_used(token, inputs, outputs) };
        let ok = popped.is_ok() && self.status(slot) == STATUS_OK;
        Some((bio, if ok { Ok(()) } else { Err(IoError) }))
    }

    /// The device owes answers.
    pub(super) fn owes(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }

    /// Requests that the device has answered since ever.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// Nothing is submitted to the device any more. What it owes stays with it until it was reset.
    pub(super) fn give_up(&mut self) {
        self.state = State::Down;
    }

    /// Lends out the transport of a device that was given up, for what takes time.
    pub(super) fn take_transport(&mut self) -> Option<Device> {
        (self.state == State::Down)
            .then(|| self.transport.take())
            .flatten()
    }

    /// Gives it back.
    pub(super) fn put_transport(&mut self, transport: Device) {
        self.transport = Some(transport);
    }

    /// Takes one request back from a device that was given up and has been reset: it uses no frame
    /// any more.
    pub(super) fn abandon(&mut self) -> Option<Done> {
        let slot = self.slots.iter_mut().find(|s| s.is_some())?;
        slot.take().map(|s| (s.bio, Err(IoError)))
    }

    /// The device runs again, on a fresh ring, and owes nothing. Returns the old ring, to be
    /// dropped without the lock.
    pub(super) fn start_again(&mut self, ring: Ring<N>, transport: Device) -> Ring<N> {
        self.transport = Some(transport);
        self.state = State::Up;
        core::mem::replace(&mut self.ring, ring)
    }

    fn slot_ptr(&self, slot: usize) -> *mut u8 {
        // SAFETY: SLOTS * SLOT_BYTES is within the page.
        unsafe { arch::frame_ptr(self.page).add(slot * SLOT_BYTES) }
    }

    fn write_slot(&self, slot: usize, kind: u32, sector: u64) {
        let at = self.slot_ptr(slot);
        // SAFETY: the slot is free, so neither the device nor anybody else looks at it; it is
        // 64-byte aligned and holds header and status.
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
        // SAFETY: header and status byte of the slot; nobody reads or writes through these slices,
        // they tell the crate where the parts are.
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
            // SAFETY: frames in the direct map that belong to the bio; as above, only their
            // addresses are used.
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
