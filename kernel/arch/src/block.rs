//! The block-device interface: what swap and files need of a disk, and no more.
//!
//! A [`Bio`] is one request for consecutive sectors over up to [`MAX_SEGMENTS`] frames that need
//! not be consecutive. The caller owns the memory of the bio for as long as it is in flight: bios
//! live in static pools of the memory manager, so that submitting never allocates.

use crate::addr::Pfn;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Most frames in one request.
pub const MAX_SEGMENTS: usize = 32;
/// Bytes in a sector.
pub const SECTOR: u64 = 512;

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Disk to memory.
    Read,
    /// Memory to disk.
    Write,
    /// Make every completed write durable; carries no frames.
    Flush,
}

/// Why a request failed. The device tells no more than this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoError;

/// The queue of the device is full: complete something, then submit again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

const IDLE: u8 = 0;
const IN_FLIGHT: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;

/// One request. Filled by its owner while idle, read by the driver while in flight.
pub struct Bio {
    op: AtomicU8,
    state: AtomicU8,
    nr: AtomicU32,
    sector: AtomicU64,
    frames: [AtomicU32; MAX_SEGMENTS],
    /// For the owner's use (who to wake, which folios).
    pub cookie: AtomicU64,
}

impl Bio {
    /// An idle request.
    pub const fn new() -> Self {
        Self {
            op: AtomicU8::new(0),
            state: AtomicU8::new(IDLE),
            nr: AtomicU32::new(0),
            sector: AtomicU64::new(0),
            frames: [const { AtomicU32::new(0) }; MAX_SEGMENTS],
            cookie: AtomicU64::new(0),
        }
    }

    /// Prepares an idle or finished request: `frames` (at most [`MAX_SEGMENTS`]) from `sector` on.
    ///
    /// # Panics
    /// If the request is in flight or there are too many frames: the owner's bookkeeping is broken.
    pub fn prepare(&self, op: Op, sector: u64, frames: &[Pfn]) {
        assert!(
            self.state.load(Ordering::Acquire) != IN_FLIGHT,
            "bio prepared in flight"
        );
        assert!(
            frames.len() <= MAX_SEGMENTS,
            "bio of {} frames",
            frames.len()
        );
        for (cell, pfn) in self.frames.iter().zip(frames) {
            cell.store(pfn.0, Ordering::Relaxed);
        }
        self.nr.store(frames.len() as u32, Ordering::Relaxed);
        self.sector.store(sector, Ordering::Relaxed);
        self.op.store(op as u8, Ordering::Relaxed);
        self.state.store(IDLE, Ordering::Release);
    }

    /// What it does.
    pub fn op(&self) -> Op {
        match self.op.load(Ordering::Relaxed) {
            0 => Op::Read,
            1 => Op::Write,
            _ => Op::Flush,
        }
    }
    /// First sector.
    pub fn sector(&self) -> u64 {
        self.sector.load(Ordering::Relaxed)
    }
    /// Number of frames.
    pub fn len(&self) -> usize {
        self.nr.load(Ordering::Relaxed) as usize
    }
    /// Carries no frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The `i`th frame.
    pub fn frame(&self, i: usize) -> Pfn {
        Pfn(self.frames[i].load(Ordering::Relaxed))
    }

    /// For drivers: the request is now the device's.
    pub fn start(&self) {
        self.state.store(IN_FLIGHT, Ordering::Release);
    }
    /// For drivers: the device is done. The Release pairs with the Acquire in [`Bio::result`], so
    /// that a reader of the result sees the data. Call [`crate::upcall::upcalls`]`.bio_done` after
    /// it.
    ///
    /// # Safety
    /// The caller's device was given the request, and uses none of its frames any more: the owner
    /// may free them now.
    pub unsafe fn complete(&self, result: Result<(), IoError>) {
        let state = if result.is_ok() { DONE } else { FAILED };
        self.state.store(state, Ordering::Release);
    }
    /// `None` while in flight (or not yet submitted).
    pub fn result(&self) -> Option<Result<(), IoError>> {
        match self.state.load(Ordering::Acquire) {
            DONE => Some(Ok(())),
            FAILED => Some(Err(IoError)),
            _ => None,
        }
    }
}

impl Default for Bio {
    fn default() -> Self {
        Self::new()
    }
}

/// A disk. `submit` and completion never allocate and never sleep.
pub trait BlockDevice: Sync {
    /// A short name such as `vda`.
    fn name(&self) -> &str;
    /// Size in sectors of [`SECTOR`] bytes.
    fn sectors(&self) -> u64;
    /// Every write to it fails.
    fn is_read_only(&self) -> bool {
        false
    }
    /// Hands `bio` to the device. The completion may come on any CPU, in interrupt context, before
    /// this returns; it calls `bio.complete(..)` and then the `bio_done` upcall.
    ///
    /// # Safety
    /// The request is not in flight. Until it completes its frames are blocks of the memory
    /// manager's allocator or folios, which nobody frees; where it reads, they are its to fill.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full; the bio is still the caller's.
    unsafe fn submit(&self, bio: &'static Bio) -> Result<(), Busy>;
    /// Finished requests since boot, for `swap` and `bench`.
    fn completed(&self) -> u64;
    /// Starts a device again that was given up, because it did not answer any more; whether it had
    /// been. Sleeps.
    ///
    /// # Errors
    /// [`IoError`]: it does not start.
    fn restart(&self) -> Result<bool, IoError> {
        Ok(false)
    }
}
