//! The kernel heap on the simulated machine: large blocks have pages of their own and give them
//! back.
//!
//! The host's programs use the host's allocator; here the kernel's is called directly.

use arch::addr::PAGE_SIZE;
use arch::simctl::{self, Config};
use mm::heap::{self, KernelHeap};
use mm::stats::{Event, Use, total, use_pages};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, PoisonError};

const RAM: u64 = 32 << 20;

fn on_machine<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let first = simctl::boot(Config {
        ram: RAM,
        ..Config::default()
    });
    simctl::run(move || {
        if first {
            mm::init().expect("32 MiB are enough");
        }
        let r = f();
        mm::check().expect("accounting");
        r
    })
}

fn layout(bytes: u64) -> Layout {
    Layout::from_size_align(bytes as usize, 8).expect("a layout")
}

fn alloc(bytes: u64) -> *mut u8 {
    // SAFETY: the layout is not empty.
    unsafe { KernelHeap.alloc(layout(bytes)) }
}

fn free(block: *mut u8, bytes: u64) {
    // SAFETY: the block was allocated with this layout and is freed once.
    unsafe { KernelHeap.dealloc(block, layout(bytes)) }
}

fn frames() -> u64 {
    use_pages(Use::Heap)
}

#[test]
fn large_blocks_give_their_pages_back() {
    on_machine(|| {
        let (before, usage) = (frames(), heap::usage());
        let sizes = [3 << 20, 128 << 10, (2 << 20) + 1, 8 << 20];
        let blocks = sizes.map(alloc);
        for (i, (&block, size)) in blocks.iter().zip(sizes).enumerate() {
            assert!(!block.is_null(), "block {i}");
            // SAFETY: the bytes are this test's.
            unsafe { block.write_bytes(i as u8 + 1, size as usize) };
        }
        for (i, (&block, size)) in blocks.iter().zip(sizes).enumerate() {
            // SAFETY: as above; all of them are written.
            let bytes = unsafe { std::slice::from_raw_parts(block, size as usize) };
            assert!(bytes.iter().all(|&b| b == i as u8 + 1), "block {i}");
        }
        let pages: u64 = sizes.iter().map(|s| s.div_ceil(PAGE_SIZE)).sum();
        assert!(frames() >= before + pages);
        assert_eq!(heap::usage().1, usage.1 + pages * PAGE_SIZE);
        for i in [1, 3, 0, 2] {
            free(blocks[i], sizes[i]);
        }
        assert_eq!((frames(), heap::usage()), (before, usage));
        // The window is used again from its begin.
        let again = alloc(sizes[0]);
        assert_eq!(again, blocks[0]);
        free(again, sizes[0]);
    });
}

#[test]
fn a_request_that_cannot_succeed_takes_nothing() {
    on_machine(|| {
        let (before, kills) = (frames(), total(Event::OomKill));
        for bytes in [RAM, RAM * 2, 1 << 40] {
            assert!(alloc(bytes).is_null(), "{bytes} bytes");
        }
        assert_eq!((frames(), total(Event::OomKill)), (before, kills));
        // Nor when it finds out on the way.
        let hold: Vec<_> = (0..)
            .map_while(|_| {
                let block = alloc(1 << 20);
                (!block.is_null()).then_some(block)
            })
            .collect();
        assert!(hold.len() > 10, "{} MiB of 32", hold.len());
        let full = frames();
        assert!(alloc(1 << 20).is_null());
        assert_eq!(frames(), full);
        hold.into_iter().for_each(|block| free(block, 1 << 20));
        assert_eq!(frames(), before);
    });
}

#[test]
fn a_block_freed_where_nobody_may_wait_goes_with_the_next() {
    on_machine(|| {
        let before = frames();
        let (a, b) = (alloc(1 << 20), alloc(1 << 20));
        {
            let _pinned = sync::preempt::disable();
            free(a, 1 << 20);
            assert!(frames() > before + 256);
        }
        free(b, 1 << 20);
        assert_eq!(frames(), before);
    });
}
