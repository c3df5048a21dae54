//! The kernel heap: `linked_list_allocator` in a window of kernel addresses that grows by mapping
//! frames, and beside it [`large`] blocks, whose pages go back when they are freed.
//!
//! It serves what is allocated rarely: object-cache chunks, drivers, the console. Fault, zap,
//! reclaim and shootdown paths never come here. Locks: `Rank::Heap`; frames are allocated and
//! mapped outside it, so that growing may reclaim where the caller may sleep. Growing maps none →
//! present: no flush is needed. Small blocks keep what they have mapped: it is less than
//! [`large::FROM`] for each time that they find no room.
//!
//! The host's binaries use the host's allocator and never call [`init`].

#![expect(unsafe_code, reason = "memory that Rust keeps objects in")]

mod large;

use crate::buddy::{self, Gfp};
use crate::lru;
use crate::stats::{Use, use_pages};
use arch::addr::{PAGE_SIZE, page_align_up};
use arch::{Pfn, VirtAddr};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU32, Ordering};
use linked_list_allocator::Heap;
use sync::{Mutex, MutexGuard, Rank, SpinLock};

/// The heap grows by at least this much.
const STEP: u64 = 16 * PAGE_SIZE;

struct State {
    heap: Heap,
    base: u64,
    mapped: u64,
    limit: u64,
}

static STATE: SpinLock<State> = SpinLock::new(
    Rank::Heap,
    State {
        heap: Heap::empty(),
        base: 0,
        mapped: 0,
        limit: 0,
    },
);
/// One grower at a time, so that the window stays contiguous: who may not sleep only tries, and
/// fails while another one grows.
static GROW: Mutex<()> = Mutex::new(Rank::HeapGrow, ());
/// The thread that has it, plus 1, or 0.
static GROWER: AtomicU32 = AtomicU32::new(0);

/// The right to map and unmap in the window, and the knowledge by whom: others wait for it who hold
/// the lock of an address space.
struct Growing(#[expect(dead_code, reason = "held until this is dropped")] MutexGuard<'static, ()>);

impl Growing {
    /// Sleeps.
    fn wait() -> Self {
        Self::begin(GROW.lock())
    }
    /// If nobody has it.
    fn at_once() -> Option<Self> {
        GROW.try_lock().map(Self::begin)
    }
    fn begin(right: MutexGuard<'static, ()>) -> Self {
        GROWER.store(me(), Ordering::Relaxed);
        Self(right)
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        GROWER.store(0, Ordering::Relaxed);
    }
}

fn me() -> u32 {
    u32::from(sync::task::current().0) + 1
}

/// The running thread grows the heap, and others are waiting for that.
pub(crate) fn keeps_others_waiting() -> bool {
    GROWER.load(Ordering::Relaxed) == me() && GROW.is_waited_for()
}

/// The kernel's global allocator.
pub struct KernelHeap;

/// (bytes mapped, bytes in use).
pub fn usage() -> (u64, u64) {
    let large = large::usage();
    let state = STATE.lock();
    (state.mapped + large, state.heap.used() as u64 + large)
}

/// Frames that reclaim could have freed at best if `reclaimable` of those in use can go, above the
/// watermark.
fn at_best(reclaimable: u64) -> u64 {
    let free = use_pages(Use::Free) + use_pages(Use::Pcp);
    (free + reclaimable).saturating_sub(u64::from(buddy::watermarks().0))
}

/// More frames than a request which may reclaim can have, whatever is swapped out for it. A hint.
fn frames_to_be_had() -> u64 {
    let [anon, files] = lru::counts();
    at_best(anon.active + anon.inactive + files.active + files.inactive)
}

/// Bytes that large blocks can have while nothing can be swapped out. A hint, to be asked before
/// anything is taken.
pub(crate) fn room_without_swap() -> u64 {
    let [_, files] = lru::counts();
    at_best(files.active + files.inactive) * PAGE_SIZE
}

/// Opens the window; the first bytes are mapped at once. Boot CPU alone.
///
/// # Errors
/// [`buddy::Oom`] when there are no frames for it.
pub(crate) fn init() -> Result<(), buddy::Oom> {
    let (base, len) = arch::heap_window();
    {
        let mut state = STATE.lock();
        state.base = base.0;
        state.limit = len / 2;
    }
    large::init(base.0 + len / 2, len / 2);
    grow(STEP, Gfp::NOWAIT)
}

/// Maps at least `bytes` more.
fn grow(bytes: u64, gfp: Gfp) -> Result<(), buddy::Oom> {
    let bytes = page_align_up(bytes).max(STEP);
    let (start, room) = {
        let state = STATE.lock();
        (state.base + state.mapped, state.limit - state.mapped)
    };
    if room < bytes {
        return Err(buddy::Oom);
    }
    let mut done = 0;
    while done < bytes {
        let Ok(page) = buddy::alloc(0, Use::Heap, gfp) else {
            break;
        };
        let mut table = || {
            buddy::alloc(0, Use::Heap, gfp)
                .ok()
                .map(buddy::Page::into_pfn)
        };
        let va = VirtAddr(start + done);
        // SAFETY: the frames are the window's for good; the grower, alone, comes to each address
        // once.
        if unsafe { arch::map_kernel_page(va, page.pfn(), &mut table) }.is_err() {
            break;
        }
        let _: Pfn = page.into_pfn();
        done += PAGE_SIZE;
    }
    extend(start, done);
    if done == bytes {
        Ok(())
    } else {
        Err(buddy::Oom)
    }
}

/// Hands `done` freshly mapped bytes at `start` to the allocator.
fn extend(start: u64, done: u64) {
    if done == 0 {
        return;
    }
    let mut state = STATE.lock();
    if state.mapped == 0 {
        // SAFETY: `start .. start + done` is the beginning of the heap's own window, just mapped to
        // frames that belong to it for ever.
        unsafe { state.heap.init(start as *mut u8, done as usize) };
    } else {
        // SAFETY: the bytes follow the heap's end directly, and are mapped as above.
        unsafe { state.heap.extend(done as usize) };
    }
    state.mapped += done;
}

/// Reclaim may be waited for here: no spin lock is held and interrupts are on.
fn may_sleep() -> bool {
    sync::threads_ready() && sync::preempt::count() == 0 && sync::irq::enabled()
}

fn first_fit(layout: Layout) -> Option<NonNull<u8>> {
    STATE.lock().heap.allocate_first_fit(layout).ok()
}

// SAFETY: every block comes from `linked_list_allocator`, which hands out disjoint, aligned blocks
// of the mapped window, and goes back to it with the same layout; the spin lock serialises it.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= large::FROM && may_sleep() {
            return large::alloc(layout, &Growing::wait()).map_or(null_mut(), NonNull::as_ptr);
        }
        if let Some(p) = first_fit(layout) {
            return p.as_ptr();
        }
        let (grower, gfp) = if may_sleep() {
            (Some(Growing::wait()), Gfp::RECLAIM)
        } else {
            (Growing::at_once(), Gfp::NOWAIT)
        };
        if grower.is_none() {
            return null_mut();
        }
        // Room for the block at any alignment, and for the allocator's own record.
        let want = layout.size() as u64 + layout.align() as u64 + 64;
        let mut room = true;
        // Another grower may have made room meanwhile, and others may take what this one adds.
        loop {
            match first_fit(layout) {
                Some(p) => return p.as_ptr(),
                None if !room => return null_mut(),
                None => room = grow(want, gfp).is_ok(),
            }
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let Some(ptr) = NonNull::new(ptr) else { return };
        let growing = || may_sleep().then(Growing::at_once).flatten();
        if layout.size() >= large::FROM && large::free(ptr, growing) {
            return;
        }
        // SAFETY: the caller passes a block of this heap with its layout (GlobalAlloc's contract).
        unsafe { STATE.lock().heap.deallocate(ptr, layout) };
    }
}
