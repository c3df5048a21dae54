//! FAT on the data disk: what the crate `hadris-fat` makes of directories and allocation tables,
//! and the memory manager's page cache of the content of files.
//!
//! * `geometry`: where the clusters lie, and which volumes are refused. Clusters are whole pages of
//!   the disk.
//! * `disk`: the disk as a stream, over the page cache of the whole disk: all metadata goes that
//!   way.
//! * `table`, `slots`: the allocation table and the directories as they lie there; `path`: names,
//!   as the crate finds them.
//! * `volume`: mounting and directories; `mend`: what a mount looks for; `walk`: what is below a
//!   directory.
//! * `file`: a file's content, in a page cache of its own (`mm::file::open_extents`): it can be
//!   mapped, and its pages go to its clusters directly. `chain`: its clusters.
//! * `commit`: what is written before what.
//!
//! *Two caches over one disk*: a page is either in a file's cache or, as a page of the whole disk,
//! a table's or a directory's. When a cluster changes sides, the side that it leaves forgets it: a
//! file's pages are cut off before anybody else can get its clusters, and when a file gets a
//! cluster, the disk's cache drops the pages of it. A new directory's cluster is written from end
//! to end; what a file's cluster held does not show.
//!
//! *What is durable when*: when [`File::sync`] or [`Volume::sync`] has returned without error. What
//! was synced stays, whenever the power fails: until the next sync the directories lead to the same
//! clusters, and nobody else gets one of them.
//!
//! Locks: `Rank::Volume`, one per mounted volume, which sleeps, held over all reads and writes of
//! metadata; not for reading a file, nor by faults on mappings of it. Everything sleeps.
#![forbid(unsafe_code)]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod chain;
mod commit;
mod disk;
mod error;
mod file;
mod format;
mod geometry;
mod mend;
mod path;
mod slots;
mod state;
mod table;
mod volume;
mod walk;

pub use error::FsError;
pub use file::File;
pub use format::format;
pub use mend::{Finding, Findings};
pub use volume::{Entry, Info, Lost, Volume, abandon, mount, mounted, unmount};
pub use walk::{Visited, Walk};
