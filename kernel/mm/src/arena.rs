//! Object caches: type-stable pools of one kind of object, named by small ids.
//!
//! Memory comes from the kernel heap, a chunk at a time, and is never given back: an id always names an
//! object of its type, so a stale id can be looked at and found out instead of being a dangling pointer
//! (what `SLAB_TYPESAFE_BY_RCU` gives Linux's anon_vmas). Objects consist of atomics and locks.
//!
//! Locks: `Rank::Arena` around the free list. Chunks are allocated outside it and may sleep (the heap
//! may reclaim). Allocation may use the heap and is therefore for mm operations only, never for fault, zap,
//! reclaim or shootdown paths; freeing never allocates.

use crate::error::MmError;
use crate::frame::NIL;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;
use sync::{Rank, SpinLock};

/// Objects in a chunk.
const CHUNK: usize = 64;
/// Most chunks of one pool: 65,536 objects.
const CHUNKS: usize = 1024;

/// The heap or the pool is exhausted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolEmpty;

impl From<PoolEmpty> for MmError {
    fn from(_: PoolEmpty) -> Self {
        Self::NoMemory
    }
}

/// What lives in a pool.
pub trait Slot: Default + Sync + 'static {
    /// A word that the pool may use while the object is free.
    fn link(&self) -> &AtomicU32;
}

struct Free {
    head: u32,
    chunks: usize,
    live: usize,
}

/// A pool of `T`.
pub struct Arena<T: Slot> {
    chunks: [Once<Box<[T; CHUNK]>>; CHUNKS],
    free: SpinLock<Free>,
}

impl<T: Slot> Arena<T> {
    /// An empty pool.
    pub const fn new() -> Self {
        Self {
            chunks: [const { Once::new() }; CHUNKS],
            free: SpinLock::new(
                Rank::Arena,
                Free {
                    head: NIL,
                    chunks: 0,
                    live: 0,
                },
            ),
        }
    }

    /// Takes a free object. Its fields hold what the last owner left: the caller sets all of them.
    ///
    /// # Errors
    /// [`PoolEmpty`] when the heap has no room for another chunk or the pool is at its limit.
    pub fn alloc(&self) -> Result<u32, PoolEmpty> {
        loop {
            let mut free = self.free.lock();
            if free.head != NIL {
                let id = free.head;
                free.head = self.get(id).link().load(Ordering::Relaxed);
                free.live += 1;
                return Ok(id);
            }
            let chunks = free.chunks;
            drop(free);
            // Outside the lock: the heap may have to reclaim.
            let chunk = new_chunk((chunks * CHUNK) as u32)?;
            self.add_chunk(chunks, chunk)?;
        }
    }

    /// Gives an object back.
    pub fn free(&self, id: u32) {
        let mut free = self.free.lock();
        self.get(id).link().store(free.head, Ordering::Relaxed);
        free.head = id;
        free.live -= 1;
    }

    /// The object of this id, live or not.
    ///
    /// # Panics
    /// If no such id was ever handed out.
    #[inline]
    pub fn get(&self, id: u32) -> &T {
        match self.chunks[id as usize / CHUNK].get() {
            Some(chunk) => &chunk[id as usize % CHUNK],
            None => no_such_object(id),
        }
    }

    /// Live objects.
    pub fn live(&self) -> usize {
        self.free.lock().live
    }

    /// Ids ever handed out lie below this.
    pub fn capacity(&self) -> u32 {
        (self.free.lock().chunks * CHUNK) as u32
    }

    /// Adds a chunk that was made when there were `chunks`; drops it when another thread was faster.
    fn add_chunk(&self, chunks: usize, chunk: Box<[T; CHUNK]>) -> Result<(), PoolEmpty> {
        let mut free = self.free.lock();
        if free.chunks != chunks || free.head != NIL {
            return Ok(());
        }
        let place = self.chunks.get(chunks).ok_or(PoolEmpty)?;
        place.call_once(|| chunk);
        free.chunks += 1;
        free.head = (chunks * CHUNK) as u32;
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn no_such_object(id: u32) -> ! {
    panic!("no object {id} in this pool")
}

/// A chunk of free objects, linked in order, for ids from `base` on.
fn new_chunk<T: Slot>(base: u32) -> Result<Box<[T; CHUNK]>, PoolEmpty> {
    let mut objects = Vec::new();
    objects.try_reserve_exact(CHUNK).map_err(|_| PoolEmpty)?;
    for i in 0..CHUNK as u32 {
        let object = T::default();
        let next = if i + 1 == CHUNK as u32 {
            NIL
        } else {
            base + i + 1
        };
        object.link().store(next, Ordering::Relaxed);
        objects.push(object);
    }
    objects.into_boxed_slice().try_into().map_err(|_| PoolEmpty)
}

impl<T: Slot> Default for Arena<T> {
    fn default() -> Self {
        Self::new()
    }
}
