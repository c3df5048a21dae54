//! For the explorer: runs that begin in the same state, and looks at all that there is while nobody
//! runs.
//!
//! [`open`] gives a [`Pocket`]: from then on whatever an actor allocates is what it allocated in
//! the run before, once [`Pocket::rewind`] has gone back to the state at `open`. `scan` looks at
//! page tables, the reverse map, contents and requests under way without a lock. Nothing here is a
//! point: callers are no actors, or in a quiet section.
//!
//! What decides a run in the memory manager, and goes back: frames (the pocket), ids of address
//! spaces, areas, anon_vmas, chains, files and open files, nodes of the page cache, swap slots, the
//! read-ahead window, reclaim's turns, TLB requests. What only counts (statistics) and what is
//! compared with itself (completions, successes of reclaim) does not. Generations of an address
//! space start afresh with it.

pub use crate::scarce::refuse_after;

mod bare;
mod files;
mod pocket;
mod scan;

pub use bare::{
    gather, invalidation, look_again, mmap_lock, reference, set_entry, set_flags, set_listed,
    set_mapcount, set_pmd, swapoff, swapon, weakening, words,
};
pub use files::{Lent, discard, file_id, file_page, forget_closed, lend};
pub use pocket::{Pocket, leave_frames, leave_root, open, want_frames};
pub use scan::{
    Content, content, each_entry, each_space, entry, is_listed, mapped_by_rmap, mapped_pages,
    pending, tables,
};
