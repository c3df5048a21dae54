//! Object caches: type-stable pools of one kind of object, named by small ids.
//!
//! Memory comes from the kernel heap, a chunk at a time, as long as there is memory, and is never
//! given back: an id always names an object of its type, so a stale id can be looked at and found
//! out instead of being a dangling pointer (what `SLAB_TYPESAFE_BY_RCU` gives Linux's anon_vmas).
//! Objects consist of atomics and locks.
//!
//! Locks: `Rank::Arena` around the free list. Chunks are allocated outside it and may sleep (the
//! heap may reclaim). Allocation may use the heap and is therefore for mm operations only, never
//! for fault, zap, reclaim or shootdown paths; freeing never allocates.

use crate::error::MmError;
use crate::frame::NIL;
use crate::scarce;
use alloc::boxed::Box;
use alloc::vec::Vec;
#[cfg(feature = "lab")]
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;
use sync::{Rank, SpinLock};

/// Objects in a chunk.
const CHUNK: usize = 64;
/// Chunks of a directory: 65,536 objects. The first directory is part of the pool, the others come
/// with their first chunk.
const CHUNKS: usize = 1024;
/// Directories of one pool: 67 million objects, of whatever kind more than the largest machine has
/// memory for.
const DIRECTORIES: usize = 1024;

/// Why there is no object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoObject {
    /// Memory is out: the heap has no room for another chunk, after all that reclaim could do.
    NoMemory,
    /// The pool has as many objects as it can name.
    Limit,
}

impl From<NoObject> for MmError {
    fn from(no: NoObject) -> Self {
        match no {
            NoObject::NoMemory => Self::NoMemory,
            NoObject::Limit => Self::TooMany,
        }
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
    /// No chunk is added (see `hold`).
    #[cfg(feature = "lab")]
    held: bool,
}

impl Free {
    /// Without the lab nobody holds a pool.
    #[inline(always)]
    fn is_held(&self) -> bool {
        #[cfg(feature = "lab")]
        return self.held;
        #[cfg(not(feature = "lab"))]
        false
    }
}

type Chunk<T> = Once<Box<[T; CHUNK]>>;
type Directory<T> = [Chunk<T>; CHUNKS];
type Directories<T> = [Once<Box<Directory<T>>>; DIRECTORIES];

/// A pool of `T`.
pub struct Arena<T: Slot> {
    /// The first ones, found in one step.
    chunks: Directory<T>,
    /// Directories of the others, the first of which stays empty.
    more: Once<Box<Directories<T>>>,
    free: SpinLock<Free>,
}

impl<T: Slot> Arena<T> {
    /// An empty pool.
    pub const fn new() -> Self {
        Self {
            chunks: [const { Once::new() }; CHUNKS],
            more: Once::new(),
            free: SpinLock::new(
                Rank::Arena,
                Free {
                    head: NIL,
                    chunks: 0,
                    live: 0,
                    #[cfg(feature = "lab")]
                    held: false,
                },
            ),
        }
    }

    /// Takes a free object. Its fields hold what the last owner left: the caller sets all of them.
    ///
    /// # Errors
    /// [`NoObject`].
    pub fn alloc(&self) -> Result<u32, NoObject> {
        if scarce::is_refused() {
            return Err(NoObject::NoMemory);
        }
        loop {
            let mut free = self.free.lock();
            if let Some(id) = self.pop(&mut free) {
                return Ok(id);
            }
            if free.is_held() {
                return Err(NoObject::NoMemory);
            }
            let chunks = free.chunks;
            drop(free);
            // Outside the lock: the heap may have to reclaim.
            let place = self.make_place(chunks)?;
            let chunk = new_chunk((chunks * CHUNK) as u32)?;
            self.add_chunk(chunks, place, chunk);
        }
    }

    /// As [`Arena::alloc`], if there is one without more memory. Never sleeps.
    pub(crate) fn alloc_ready(&self) -> Option<u32> {
        if scarce::is_refused() {
            return None;
        }
        self.pop(&mut self.free.lock())
    }

    #[inline]
    fn pop(&self, free: &mut Free) -> Option<u32> {
        let id = free.head;
        if id == NIL {
            return None;
        }
        free.head = self.get(id).link().load(Ordering::Relaxed);
        free.live += 1;
        Some(id)
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
        if let Some(place) = self.chunks.get(id as usize / CHUNK)
            && let Some(chunk) = place.get()
        {
            return &chunk[id as usize % CHUNK];
        }
        self.get_far(id)
    }

    /// An object beyond the first directory. (Apart, and by a convention that spoils no registers
    /// of the caller's: [`Arena::get`] is in every step of every tree.)
    #[cold]
    #[inline(never)]
    extern "rust-cold" fn get_far(&self, id: u32) -> &T {
        match self.far_chunk(id) {
            Some(chunk) => &chunk[id as usize % CHUNK],
            None => panic!("no object {id}"),
        }
    }

    fn far_chunk(&self, id: u32) -> Option<&[T; CHUNK]> {
        let n = id as usize / CHUNK;
        let directory = self.more.get()?.get(n / CHUNKS)?.get()?;
        directory[n % CHUNKS].get().map(|chunk| &**chunk)
    }

    /// The place of chunk `n`; its directory is made if it is the first one there. May sleep for
    /// memory.
    fn make_place(&self, n: usize) -> Result<&Chunk<T>, NoObject> {
        if let Some(near) = self.chunks.get(n) {
            return Ok(near);
        }
        if n >= CHUNKS * DIRECTORIES {
            return Err(NoObject::Limit);
        }
        let directories = filled(&self.more)?;
        let directory = filled(&directories[n / CHUNKS])?;
        Ok(&directory[n % CHUNKS])
    }

    /// Live objects.
    pub fn live(&self) -> usize {
        self.free.lock().live
    }

    /// Ids ever handed out lie below this.
    pub fn capacity(&self) -> u32 {
        (self.free.lock().chunks * CHUNK) as u32
    }

    /// Adds a chunk that was made when there were `chunks`, in its place; drops it when another
    /// thread was faster.
    fn add_chunk(&self, chunks: usize, place: &Chunk<T>, chunk: Box<[T; CHUNK]>) {
        let mut free = self.free.lock();
        if free.chunks != chunks || free.head != NIL {
            return;
        }
        place.call_once(|| chunk);
        free.chunks += 1;
        free.head = (chunks * CHUNK) as u32;
    }
}

/// What is there, made now if nothing is. Two threads may both make one, and one of them drops its
/// own: the place is not held meanwhile, as others would spin for it while this thread waits for
/// memory.
fn filled<P, const N: usize>(place: &Once<Box<[Once<P>; N]>>) -> Result<&[Once<P>; N], NoObject> {
    if let Some(there) = place.get() {
        return Ok(there);
    }
    let fresh = empty()?;
    Ok(place.call_once(|| fresh))
}

/// An array of places for what comes later.
fn empty<P, const N: usize>() -> Result<Box<[Once<P>; N]>, NoObject> {
    boxed((0..N).map(|_| Once::new()))
}

fn boxed<P, const N: usize>(all: impl Iterator<Item = P>) -> Result<Box<[P; N]>, NoObject> {
    let mut list = Vec::new();
    list.try_reserve_exact(N).map_err(|_| NoObject::NoMemory)?;
    list.extend(all.take(N));
    list.into_boxed_slice()
        .try_into()
        .map_err(|_| NoObject::NoMemory)
}

/// A chunk of free objects, linked in order, for ids from `base` on.
fn new_chunk<T: Slot>(base: u32) -> Result<Box<[T; CHUNK]>, NoObject> {
    boxed((1..=CHUNK as u32).map(|next| {
        let object = T::default();
        let last = next == CHUNK as u32;
        let next = if last { NIL } else { base + next };
        object.link().store(next, Ordering::Relaxed);
        object
    }))
}

impl<T: Slot> Default for Arena<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Free objects that a held pool has.
#[cfg(feature = "lab")]
const HELD: usize = 64;

/// What a held pool goes back to.
#[cfg(feature = "lab")]
pub(crate) struct Held {
    /// What is free, in the order in which it is handed out.
    ids: [u32; HELD],
    /// What is free beyond that, set aside.
    rest: AtomicU32,
    live: AtomicUsize,
}

#[cfg(feature = "lab")]
impl Held {
    /// The object was free when the pool began to be held.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }
}

/// For the explorer: a pool that hands out the same objects in the same order, run after run.
#[cfg(feature = "lab")]
impl<T: Slot> Arena<T> {
    /// Leaves some free objects in the pool and sets the others aside; it does not grow until
    /// [`Arena::let_go`].
    ///
    /// # Errors
    /// [`NoObject`] when there are not so many, and no memory for more.
    pub(crate) fn hold(&self) -> Result<Held, NoObject> {
        let mut ids = [NIL; HELD];
        for n in 0..HELD {
            match self.alloc() {
                Ok(id) => ids[n] = id,
                Err(e) => {
                    ids[..n].iter().for_each(|&id| self.free(id));
                    return Err(e);
                }
            }
        }
        let mut free = self.free.lock();
        free.held = true;
        let held = Held {
            ids,
            rest: AtomicU32::new(free.head),
            live: AtomicUsize::new(free.live - HELD),
        };
        self.relink(&mut free, &held, NIL);
        Ok(held)
    }

    /// Back to what the pool was after [`Arena::hold`]. False when something is wrong: `lost` has
    /// been called with each object that was free then and is not now, if that is what.
    pub(crate) fn rewind(&self, held: &Held, mut lost: impl FnMut(u32)) -> bool {
        let mut free = self.free.lock();
        let mut found = [NIL; HELD];
        let mut n = 0;
        for id in self.listed(&free) {
            if n < HELD {
                found[n] = id;
            }
            n += 1;
        }
        let sum = |ids: &[u32]| ids.iter().fold(0u64, |s, &id| s + u64::from(id).pow(2));
        let good = n == HELD
            && sum(&found) == sum(&held.ids)
            && free.live == held.live.load(Ordering::Relaxed);
        if !good {
            for id in held.ids {
                if !self.listed(&free).any(|i| i == id) {
                    lost(id);
                }
            }
            self.keep_strangers(&free, held);
        }
        self.relink(&mut free, held, NIL);
        good
    }

    /// The pool is one like others again. To be called after [`Arena::rewind`].
    pub(crate) fn let_go(&self, held: &Held) {
        let mut free = self.free.lock();
        free.held = false;
        self.relink(&mut free, held, held.rest.load(Ordering::Relaxed));
    }

    /// The objects in the list; an end where a double free has made a circle of it.
    fn listed<'a>(&'a self, free: &Free) -> impl Iterator<Item = u32> + use<'a, T> {
        let next = |id: u32| (id != NIL).then_some(id);
        core::iter::successors(next(free.head), move |&id| {
            next(self.get(id).link().load(Ordering::Relaxed))
        })
        .take(free.chunks * CHUNK)
    }

    /// Sets objects aside that were in use when the pool began to be held, and are free now.
    fn keep_strangers(&self, free: &Free, held: &Held) {
        let mut at = free.head;
        for _ in 0..free.chunks * CHUNK {
            if at == NIL {
                return;
            }
            let link = self.get(at).link();
            let next = link.load(Ordering::Relaxed);
            if !held.ids.contains(&at) {
                link.store(held.rest.swap(at, Ordering::Relaxed), Ordering::Relaxed);
                held.live.fetch_sub(1, Ordering::Relaxed);
            }
            at = next;
        }
    }

    fn relink(&self, free: &mut Free, held: &Held, rest: u32) {
        let mut next = rest;
        for &id in held.ids.iter().rev() {
            self.get(id).link().store(next, Ordering::Relaxed);
            next = id;
        }
        free.head = next;
        free.live = held.live.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Object {
        link: AtomicU32,
        mark: AtomicU32,
    }

    impl Slot for Object {
        fn link(&self) -> &AtomicU32 {
            &self.link
        }
    }

    #[test]
    fn a_pool_grows_with_memory() {
        const MANY: u32 = 2 * (CHUNK * CHUNKS) as u32 + 3 * CHUNK as u32;
        static POOL: Arena<Object> = Arena::new();
        for id in 0..MANY {
            assert_eq!(POOL.alloc(), Ok(id));
            POOL.get(id).mark.store(id, Ordering::Relaxed);
        }
        let marked = |&id: &u32| POOL.get(id).mark.load(Ordering::Relaxed) == id;
        assert_eq!((0..MANY).find(|id| !marked(id)), None);
        assert_eq!((POOL.live(), POOL.capacity()), (MANY as usize, MANY));
        POOL.free(MANY - 1);
        POOL.free(7);
        assert_eq!((POOL.alloc(), POOL.alloc()), (Ok(7), Ok(MANY - 1)));
    }

    #[test]
    #[should_panic(expected = "no object 200000")]
    fn an_id_that_was_never_handed_out_is_found_out() {
        static POOL: Arena<Object> = Arena::new();
        assert_eq!(POOL.alloc(), Ok(0));
        POOL.get(200_000);
    }
}
