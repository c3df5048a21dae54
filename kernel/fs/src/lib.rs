//! FAT on the data disk: what the crate `hadris-fat` makes of directories and allocation tables, and the memory
//! manager's page cache of the content of files.
//!
//! * `geometry`: where the clusters lie, and which volumes are refused. Clusters are whole pages of the disk.
//! * `disk`: the disk as a stream for the crate, over the page cache of the whole disk: all metadata goes that way.
//! * `volume`: mounting, directories, which clusters are whose.
//! * `file`: a file's content, in a page cache of its own (`mm::file::open_extents`): it can be mapped, and its pages go to its
//!   clusters directly. The crate chains clusters for it and is never asked for content.
//!
//! *Two caches over one disk*: a page is either in a file's cache or, as a page of the whole disk, a table's or a
//! directory's. When a cluster changes sides, the side that it leaves forgets it: a file's pages are cut off before
//! anybody else can get its clusters, and when a file gets a cluster, the disk's cache drops the pages of it. A new directory's cluster
//! is written from end to end; what a file's cluster held does not show.
//!
//! *What is durable when*: when [`File::sync`] or [`Volume::sync`] has returned without error. Content goes before the metadata that
//! leads to it; what an interruption leaves between two syncs is what FAT can leave: lost clusters, or a file longer than
//! what was written.
//!
//! Locks: `Rank::Volume`, one per mounted volume, which sleeps, held over all reads and writes of metadata; not for reading
//! a file, nor by faults on mappings of it. Everything sleeps.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod disk;
mod error;
mod file;
mod format;
mod geometry;
mod path;
mod volume;

pub use error::FsError;
pub use file::File;
pub use format::format;
pub use volume::{Entry, Info, Volume, abandon, mount, mounted, unmount};
