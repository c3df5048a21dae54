//! The reverse map: from a folio to the page-table entries that map it.
//!
//! The way is folio → anon_vma → every area that may map it → the one entry in each. The anon_vma's lock is
//! held shared over a walk: it keeps the areas and the page tables under them (tables go only after the
//! areas are out of their anon_vma). The entry itself changes under its PTL. A walk that cannot get the
//! anon_vma lock at once gives up: reclaim has other folios to look at.
//!
//! Counts: each entry holds one reference and one mapcount, both changed under its PTL.

pub(crate) mod batch;
pub(crate) mod scan;
pub(crate) mod unmap;
pub(crate) mod walk;
