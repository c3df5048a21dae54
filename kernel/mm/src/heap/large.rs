//! Large blocks: each has pages of its own, in the upper half of the heap's window, which go back
//! to the page allocator when it is freed.
//!
//! A block begins on a span of 2 MiB, so that its page tables are its own and go back with its
//! pages. Before one frame is taken, so many must be to be had: a request that cannot succeed takes
//! nothing from anybody, and nobody is killed for it. One that fails all the same gives back what
//! it has taken.
//!
//! Freeing unmaps, and waits for every CPU (rule 1). A block that is freed where nobody may wait
//! stays mapped until the next one that is made or freed where one may: it is *dead*.
//!
//! Locks: making and unmapping hold `Rank::HeapGrow`, of which `Growing` is the proof; freeing only
//! tries it, so it may be done under any lock. The table of blocks is guarded by `Rank::Heap`,
//! inside which nothing is done but looking at the table.

#![expect(unsafe_code, reason = "memory that Rust keeps objects in")]

use super::Growing;
use crate::buddy::{self, Gfp, Page};
use crate::stats::Use;
use arch::addr::{PAGE_SIZE, PMD_SIZE};
use arch::{Pfn, VirtAddr};
use core::alloc::Layout;
use core::ptr::NonNull;
use sync::{Rank, SpinLock};

/// Blocks from this size on have pages of their own, in bytes.
pub(super) const FROM: usize = 128 << 10;
/// Most blocks at a time. A request for one more fails.
const MOST: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unused,
    /// It is being mapped or unmapped, by the holder of `Rank::HeapGrow`.
    Busy,
    Live,
    /// It was freed, and is still mapped.
    Dead,
}

#[derive(Clone, Copy)]
struct Block {
    state: State,
    /// Where it begins, in spans of 2 MiB from the base.
    first: u64,
    pages: u64,
}

impl Block {
    fn spans(&self) -> u64 {
        (self.pages * PAGE_SIZE).div_ceil(PMD_SIZE)
    }
}

struct Blocks {
    base: u64,
    /// Spans of 2 MiB in the window.
    spans: u64,
    all: [Block; MOST],
}

static BLOCKS: SpinLock<Blocks> = SpinLock::new(
    Rank::Heap,
    Blocks {
        base: 0,
        spans: 0,
        all: [Block {
            state: State::Unused,
            first: 0,
            pages: 0,
        }; MOST],
    },
);

impl Blocks {
    fn used(&self) -> impl Iterator<Item = &Block> {
        self.all.iter().filter(|b| b.state != State::Unused)
    }

    fn address(&self, block: &Block) -> VirtAddr {
        VirtAddr(self.base + block.first * PMD_SIZE)
    }

    /// A place for `pages` pages, marked busy: the lowest one. None when there is no room.
    fn place(&mut self, pages: u64) -> Option<usize> {
        let at = self.all.iter().position(|b| b.state == State::Unused)?;
        let mut block = Block {
            state: State::Busy,
            first: 0,
            pages,
        };
        // The window's begin, or the end of another.
        let free = |first: u64| {
            let end = first + block.spans();
            let apart = |b: &Block| b.first >= end || b.first + b.spans() <= first;
            end <= self.spans && self.used().all(apart)
        };
        let ends = self.used().map(|b| b.first + b.spans());
        block.first = core::iter::once(0).chain(ends).filter(|&f| free(f)).min()?;
        self.all[at] = block;
        Some(at)
    }

    fn find(&self, state: State) -> Option<usize> {
        self.all.iter().position(|b| b.state == state)
    }
}

/// Opens the window: `len` bytes from `base` on. Boot CPU alone.
pub(super) fn init(base: u64, len: u64) {
    let mut blocks = BLOCKS.lock();
    blocks.base = base;
    blocks.spans = len / PMD_SIZE;
}

/// Bytes in blocks.
pub(super) fn usage() -> u64 {
    let blocks = BLOCKS.lock();
    blocks.used().map(|b| b.pages * PAGE_SIZE).sum()
}

/// A block for `layout`. May reclaim. None when there is not enough memory, or no room for one
/// more.
pub(super) fn alloc(layout: Layout, growing: &Growing) -> Option<NonNull<u8>> {
    if layout.align() as u64 > PMD_SIZE {
        return None;
    }
    let pages = (layout.size() as u64).div_ceil(PAGE_SIZE);
    bury(growing);
    if pages + tables(pages) > super::frames_to_be_had() {
        return None;
    }
    let (at, va) = {
        let mut blocks = BLOCKS.lock();
        let at = blocks.place(pages)?;
        (at, blocks.address(&blocks.all[at]))
    };
    let mapped = (0..pages).try_for_each(|i| map(VirtAddr(va.0 + i * PAGE_SIZE)));
    // Dead: nobody has its address.
    BLOCKS.lock().all[at].state = match mapped {
        Ok(()) => State::Live,
        Err(_) => State::Dead,
    };
    if mapped.is_err() {
        bury(growing);
        return None;
    }
    NonNull::new(va.0 as *mut u8)
}

/// Most page-table pages that mapping `pages` pages takes.
fn tables(pages: u64) -> u64 {
    (pages * PAGE_SIZE).div_ceil(PMD_SIZE) + 2
}

fn map(va: VirtAddr) -> Result<(), buddy::Oom> {
    let frame = || buddy::alloc(0, Use::Heap, Gfp::RECLAIM);
    let page = frame()?;
    let mut table = || frame().ok().map(Page::into_pfn);
    // SAFETY: the frames are the window's until `unmap_kernel_spans` hands them back; the grower,
    // alone, comes to each address once.
    let mapped = unsafe { arch::map_kernel_page(va, page.pfn(), &mut table) };
    mapped.map_err(|_| buddy::Oom)?;
    let _: Pfn = page.into_pfn();
    Ok(())
}

/// Frees the block at `ptr`; false when it is none of these. `growing` is there when the caller may
/// wait for other CPUs and nobody else grows the heap.
pub(super) fn free(ptr: NonNull<u8>, growing: impl Fn() -> Option<Growing>) -> bool {
    {
        let mut blocks = BLOCKS.lock();
        let at = (ptr.as_ptr() as u64).wrapping_sub(blocks.base);
        if at >= blocks.spans * PMD_SIZE {
            return false;
        }
        let block = blocks
            .all
            .iter_mut()
            .find(|b| b.state == State::Live && b.first * PMD_SIZE == at);
        block.expect("a large block is freed once").state = State::Dead;
    }
    // Again while another thread has found the lock taken meanwhile.
    while BLOCKS.lock().find(State::Dead).is_some() {
        let Some(growing) = growing() else { break };
        bury(&growing);
    }
    true
}

/// Gives back the pages of every dead block.
fn bury(_: &Growing) {
    loop {
        let (at, va, spans) = {
            let mut blocks = BLOCKS.lock();
            let Some(at) = blocks.find(State::Dead) else {
                return;
            };
            blocks.all[at].state = State::Busy;
            let block = &blocks.all[at];
            (at, blocks.address(block), block.spans())
        };
        // SAFETY: the block was freed (GlobalAlloc's contract: nobody uses it any more), or never
        // handed out; its spans are its own, and are given to another block only below.
        unsafe { arch::unmap_kernel_spans(va, spans, &mut |pfn| drop(Page::take_back(pfn, 0))) };
        BLOCKS.lock().all[at].state = State::Unused;
    }
}
