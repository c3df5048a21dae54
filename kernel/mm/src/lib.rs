//! L3: the memory manager. Knows no instruction set: it sees the machine through `arch` only.
//!
//! Modules point one way, from the top of this list downwards (`tests/layers.rs` checks it):
//! explore, init, view, ops, reclaim, fault, file, adopt, handle, exit, zap, migrate, rmap, swap,
//! pt, mm, thp, vma, pagecache, heap, folio, buddy, workingset, lru, arena, bio, zero, content,
//! frame, stats, error, rounds, knobs. See ARCHITECTURE.md for a page on each.
//!
//! What a forged number, or a reference to a record, could break is private to the crate:
//!
//! ```compile_fail,E0624
//! fn forged(p: arch::Pfn) { drop(mm::buddy::Page::take_back(p, 0)); }
//! ```
//! ```compile_fail,E0624
//! fn forged(p: arch::Pfn) { mm::folio::Folio::of(p).put(); }
//! ```
//! ```compile_fail,E0624
//! fn forged(p: arch::Pfn) { let _lock = mm::folio::Folio::of(p).lock(); }
//! ```
//! ```compile_fail,E0624
//! fn forged(p: arch::Pfn) { drop(mm::folio::Ref::new(mm::folio::Folio::of(p))); }
//! ```
//! ```compile_fail,E0624
//! fn forged(p: arch::Pfn) { mm::inspect::frame(p).put_testzero(); }
//! ```
//! ```compile_fail,E0624
//! fn forged(p: arch::Pfn) { mm::inspect::frame(p).set_next(7); }
//! ```
//! ```compile_fail,E0603
//! fn forged(irq: &sync::irq::IrqGuard) { mm::pt::tlb::switch_mm(irq, Some(7)); }
//! ```
//! ```compile_fail,E0603
//! fn forged() -> &'static mm::Mm { mm::mm::by_id(7) }
//! ```
//! ```compile_fail,E0616
//! fn stolen(a: &mm::Mm, b: &mm::Mm) { std::mem::swap(&mut *a.mmap_lock.write(), &mut *b.mmap_lock.write()); }
//! ```
//! ```compile_fail,E0603
//! fn forged(mm: &mm::Mm, va: arch::VirtAddr) { mm::pt::PmdRef::lookup(mm, va); }
//! ```
//! ```compile_fail,E0603
//! fn forged(old: mm::pt::Unhooked) -> arch::pte::Entry { old.noted() }
//! ```
//! ```compile_fail,E0603
//! fn torn_out(pte: &mut mm::pt::PteLocked) { pte.unhook(arch::pte::Entry::NONE); }
//! ```
//! ```compile_fail,E0603
//! fn forged(slot: u32) { mm::swap::free_entry(slot); }
//! ```
#![deny(unsafe_code)]
#![feature(rust_cold_cc)]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod adopt;
pub mod arena;
pub(crate) mod bio;
pub mod buddy;
pub mod content;
pub mod error;
mod exit;
#[cfg(feature = "lab")]
pub mod explore;
pub mod fault;
pub mod file;
pub mod folio;
pub(crate) mod frame;
pub mod handle;
pub mod heap;
mod init;
pub mod inspect;
pub mod knobs;
pub(crate) mod lru;
pub mod migrate;
pub mod mm;
pub mod ops;
pub(crate) mod pagecache;
pub(crate) mod pt;
pub mod reclaim;
pub(crate) mod rmap;
mod rounds;
mod scarce;
pub mod stats;
pub mod swap;
pub mod thp;
pub mod view;
pub mod vma;
pub(crate) mod workingset;
mod zap;
pub mod zero;

pub use adopt::Adopted;
pub use content::HasContent;
pub use error::MmError;
pub use handle::MmRef;
pub use init::{InitError, MIN_PAGES, check, cpus_known, init};
pub use mm::Mm;
pub use ops::args::{Advice, MapFlags, Prot, RemapFlags, Sync};
