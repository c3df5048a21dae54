//! L3: the memory manager. Knows no instruction set: it sees the machine through `arch` only.
//!
//! Modules point one way: frame < buddy < pt (entry, lock, walk, gather) < vma < swap < rmap < fault <
//! reclaim; `ops` are the system calls on top. See ARCHITECTURE.md for a page on each.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod adopt;
pub mod arena;
pub mod buddy;
pub mod fault;
pub mod folio;
pub mod frame;
pub mod heap;
mod init;
pub mod knobs;
pub mod lru;
pub mod mm;
pub mod ops;
pub mod pt;
pub mod reclaim;
pub(crate) mod rmap;
pub mod stats;
pub mod swap;
pub mod vma;
pub mod zero;

pub use adopt::Adopted;
pub use init::{InitError, MIN_PAGES, check, cpus_known, init};
pub use mm::{Mm, MmError, MmRef};
pub use ops::args::{Advice, MapFlags, Prot, RemapFlags};
