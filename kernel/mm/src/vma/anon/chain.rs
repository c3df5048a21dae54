//! anon_vma_chain: the link between one area and one anon_vma, and how an anon_vma's interval tree
//! sees it.
//!
//! A chain belongs to the anon_vma's family lock, and to the owner's `mmap_lock`; see [`super`].
//! Never sleeps.

use crate::arena::{Arena, Slot};
use crate::frame::NIL;
use crate::vma::{Vma, vma};
use algo::interval::IntervalNodes;
use algo::tree::TreeLinks;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// One link between an area and an anon_vma: a node of the anon_vma's interval tree.
pub(crate) struct Chain {
    pub(super) vma: AtomicU32,
    pub(super) anon: AtomicU32,
    /// Next chain of the same area.
    pub(super) next: AtomicU32,
    left: AtomicU32,
    right: AtomicU32,
    parent: AtomicU32,
    rank: AtomicU8,
    max_last: AtomicU32,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            vma: AtomicU32::new(NIL),
            anon: AtomicU32::new(NIL),
            next: AtomicU32::new(NIL),
            left: AtomicU32::new(NIL),
            right: AtomicU32::new(NIL),
            parent: AtomicU32::new(NIL),
            rank: AtomicU8::new(0),
            max_last: AtomicU32::new(0),
        }
    }
}

impl Slot for Chain {
    fn link(&self) -> &AtomicU32 {
        &self.next
    }
}

pub(super) static CHAINS: Arena<Chain> = Arena::new();

/// How the interval tree sees the chains: an area covers page indexes `pgoff ..= last`.
pub(super) struct ChainNodes;

impl TreeLinks for ChainNodes {
    links!(i, CHAINS.get(i); left set_left left: u32, right set_right right: u32);
    links!(i, CHAINS.get(i); parent set_parent parent: u32, rank set_rank rank: u8);
}

impl IntervalNodes for ChainNodes {
    links!(i, CHAINS.get(i); max_last set_max_last max_last: u32);
    #[inline]
    fn start(&self, i: u32) -> u32 {
        chain_vma(i).pgoff()
    }
    #[inline]
    fn last(&self, i: u32) -> u32 {
        let v = chain_vma(i);
        v.pgoff() + (v.pages() as u32 - 1)
    }
}

/// The area that `chain` links.
pub(super) fn chain_vma(chain: u32) -> &'static Vma {
    vma(CHAINS.get(chain).vma.load(Ordering::Relaxed))
}
