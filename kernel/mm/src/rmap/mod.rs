//! The reverse map: from a folio to the page-table entries that map it.
//!
//! The way is folio → anon_vma or file → every area that may map it → the one entry in each. The
//! anon_vma's or file's lock is held shared over a walk: it keeps the areas and the page tables
//! under them (tables go only after the areas are out of their reverse maps). The entry itself
//! changes under its PTL. Reclaim gives up where it cannot get that lock at once: it has other
//! folios to look at.
//!
//! Counts: each entry holds one reference and one mapcount, both changed under its PTL (but for
//! file entries that were written: see `pt::gather`).

pub(crate) mod batch;
pub(crate) mod huge;
pub(crate) mod migrate;
pub(crate) mod mkclean;
pub(crate) mod scan;
pub(crate) mod sole;
pub(crate) mod unmap;
pub(crate) mod walk;
