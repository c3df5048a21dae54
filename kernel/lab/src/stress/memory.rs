//! How much memory a stress run may use: what is free now, a balloon that takes the rest, and the
//! figures that a run reports. May sleep.

use alloc::vec::Vec;

use arch::{PAGE_SHIFT, PAGE_SIZE};
use mm::buddy::{self, Gfp, MAX_ORDER, Page};
use mm::stats::{self, Event, Use};

use super::Env;
use super::versions::Book;

/// MiB as pages.
pub const fn mib(n: u64) -> u64 {
    n << (20 - PAGE_SHIFT)
}

/// Pages as MiB, rounded down.
pub const fn to_mib(pages: u64) -> u64 {
    pages >> (20 - PAGE_SHIFT)
}

/// Free frames now.
pub fn free_pages() -> u64 {
    stats::use_pages(Use::Free) + stats::use_pages(Use::Pcp)
}

/// Free swap slots now.
pub fn free_slots() -> u64 {
    let swap = mm::swap::stats();
    swap.total - swap.used
}

/// Frames held back, so that a run meets want of memory on a large machine as well. Dropping frees
/// them.
pub struct Balloon {
    blocks: Vec<Page>,
    /// Frames in them.
    pub pages: u64,
}

impl Balloon {
    /// Takes frames until about `left` can be had before reclaim begins.
    pub fn leave(left: u64) -> Self {
        let left = left + u64::from(buddy::watermarks().2);
        buddy::pcp::drain();
        // However small the pieces are that memory is free in. The last ones may be halved down to
        // one frame.
        let pieces: u32 = buddy::free_blocks().iter().sum();
        let mut balloon = Self {
            blocks: Vec::with_capacity(pieces as usize + 64),
            pages: 0,
        };
        let mut order = MAX_ORDER;
        while free_pages() > left && balloon.blocks.len() < balloon.blocks.capacity() {
            let fits = free_pages() - left >= 1 << order;
            match fits.then(|| buddy::alloc(order, Use::Misc, Gfp::NOWAIT)) {
                Some(Ok(block)) => {
                    balloon.blocks.push(block);
                    balloon.pages += 1 << order;
                }
                _ if order > 0 => order -= 1,
                _ => break,
            }
        }
        balloon
    }
}

impl Drop for Balloon {
    fn drop(&mut self) {
        // Nobody wrote to them.
        self.blocks.drain(..).for_each(Page::give_back);
    }
}

/// What the swap disk did between two moments.
pub struct Traffic {
    out: u64,
    back: u64,
    bios: u64,
    started: u64,
}

impl Traffic {
    /// Starts counting.
    pub fn start() -> Self {
        Self {
            out: stats::total(Event::PswpOut),
            back: stats::total(Event::PswpIn),
            bios: stats::total(Event::Bio),
            started: arch::now_ns(),
        }
    }

    /// Pages out, pages in, requests, bytes per second since [`Self::start`].
    pub fn report(&self) -> (u64, u64, u64, u64) {
        let out = stats::total(Event::PswpOut) - self.out;
        let back = stats::total(Event::PswpIn) - self.back;
        let ms = ((arch::now_ns() - self.started) / 1_000_000).max(1);
        let rate = (out + back) * PAGE_SIZE * 1000 / ms;
        (out, back, stats::total(Event::Bio) - self.bios, rate)
    }
}

/// What moved between files and the disk since some moment.
pub struct FileTraffic([u64; 2]);

impl FileTraffic {
    /// Starts counting.
    pub fn start() -> Self {
        Self([Event::FileRead, Event::FileWritten].map(stats::total))
    }

    /// Prints what has moved since [`Self::start`].
    pub fn report(&self, env: &Env<'_>, book: &Book) {
        let now = Self::start();
        writeln!(
            env.out,
            "stress {}: {} pages read from the disk, {} written, {} requests spoilt",
            env.name,
            now.0[0] - self.0[0],
            now.0[1] - self.0[1],
            book.spoilt()
        );
    }
}
