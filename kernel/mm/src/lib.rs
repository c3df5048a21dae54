//! L3: the memory manager. Knows no instruction set: it sees the machine through `arch` only.
//!
//! Modules point one way, from the top of this list downwards (`tests/layers.rs` checks it):
//! explore, init, view, ops, reclaim, fault, file, adopt, handle, exit, zap, rmap, swap, pt, mm,
//! vma, pagecache, heap, folio, buddy, workingset, lru, arena, bio, zero, frame, stats, error,
//! rounds, knobs. See ARCHITECTURE.md for a page on each.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod adopt;
pub mod arena;
pub(crate) mod bio;
pub mod buddy;
pub mod error;
mod exit;
#[cfg(feature = "lab")]
pub mod explore;
pub mod fault;
pub mod file;
pub mod folio;
pub mod frame;
pub mod handle;
pub mod heap;
mod init;
pub mod knobs;
pub mod lru;
pub mod mm;
pub mod ops;
pub(crate) mod pagecache;
pub mod pt;
pub mod reclaim;
pub(crate) mod rmap;
mod rounds;
pub mod stats;
pub mod swap;
pub mod view;
pub mod vma;
pub(crate) mod workingset;
mod zap;
pub mod zero;

pub use adopt::Adopted;
pub use error::MmError;
pub use handle::MmRef;
pub use init::{InitError, MIN_PAGES, check, cpus_known, init};
pub use mm::Mm;
pub use ops::args::{Advice, MapFlags, Prot, RemapFlags, Sync};
