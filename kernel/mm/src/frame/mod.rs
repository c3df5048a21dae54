//! The record of a page frame: 32 bytes, and the words in them.
//!
//! Every field is an atomic, so a `&'static Frame` is always safe to hold; what a field *means*
//! depends on the frame's [`Use`](crate::stats::Use), and who may write it on the lock named at its
//! accessor. No lock is taken here, nothing sleeps.
//!
//! For the explorer a record is three objects: each count, and all the rest but the links
//! (`class::FLAGS`). A change of a count is a point; everything else only touches, because some
//! lock guards it nearly everywhere: where not, [`Frame::flags_point`] comes before. The links
//! belong to their list's lock.
//!
//! `block` has heads and tails, `flags` the state bits, `counts` the references and mapcounts,
//! `memmap` the table of all records; `folio` is a record that a caller knows to be user data's.
//!
//! | word | free block | anonymous folio | file folio | page-table page |
//! |---|---|---|---|---|
//! | `flags` | use, order | state bits, use, order, LRU shard | as anonymous | use |
//! | `refcount` | 0 | mappings + holders + swap cache | mappings + holders + page cache | 1 |
//! | `mapcount` | 0 | page-table entries that map it | page-table entries that map it | 0 |
//! | `next`, `prev` | buddy or per-CPU list | LRU list | LRU list | gather list |
//! | `mapping` | 0 | anon_vma id + 1 | file id + 1 | 0 |
//! | `index` | debug: whether it is poisoned | page index in the anon_vma | page index in the file | 0 |
//! | `private` | 0 | swap slot + 1 | entries that will make it dirty | the split page-table lock |

mod block;
mod counts;
mod flags;
mod folio;
mod memmap;

pub use block::block_of;
pub use flags::flag;
pub use folio::Folio;
pub(crate) use memmap::{FrameLinks, install, valid};
pub use memmap::{frame, max_pfn};

use core::sync::atomic::{AtomicU32, Ordering};
use sync::RawSpin;
use sync::point::{self, AccessKind, class};

/// End of a list, no frame.
pub const NIL: u32 = u32::MAX;

/// What the kernel knows of one page frame.
#[repr(C)]
pub struct Frame {
    flags: AtomicU32,
    refcount: AtomicU32,
    mapcount: AtomicU32,
    next: AtomicU32,
    prev: AtomicU32,
    mapping: AtomicU32,
    index: AtomicU32,
    private: AtomicU32,
}

const _: () = assert!(size_of::<Frame>() == 32);

macro_rules! word {
    ($get:ident, $set:ident, $touch:ident, $doc:literal) => {
        #[doc = $doc]
        #[inline]
        pub fn $get(&self) -> u32 {
            self.$touch(AccessKind::Read);
            self.$get.load(Ordering::Relaxed)
        }
        #[doc = concat!("Sets: ", $doc)]
        #[inline]
        pub(crate) fn $set(&self, v: u32) {
            self.$touch(AccessKind::Write);
            self.$get.store(v, Ordering::Relaxed);
        }
    };
}

impl Frame {
    word!(
        next,
        set_next,
        no_touch,
        "The next frame in the list that owns this one."
    );
    word!(
        prev,
        set_prev,
        no_touch,
        "The previous frame in the list that owns this one."
    );
    word!(
        mapping,
        set_mapping,
        touch,
        "anon_vma id + 1 or file id + 1, 0 for none. Written under the folio lock or before the folio is visible."
    );
    word!(
        index,
        set_index,
        touch,
        "Page index in the anon_vma's address order, or in the file."
    );
    word!(
        private,
        set_private,
        touch,
        "Swap slot + 1. Under the folio lock."
    );

    #[inline(always)]
    fn no_touch(&self, _: AccessKind) {}

    fn object(&self) -> u32 {
        point::object_at(class::FLAGS, self)
    }

    #[inline(always)]
    fn touch(&self, access: AccessKind) {
        point::touch(access, || self.object());
    }

    /// Of a frame that is nobody's: reserved.
    const fn reserved() -> Self {
        Self {
            flags: AtomicU32::new(0),
            refcount: AtomicU32::new(0),
            mapcount: AtomicU32::new(0),
            next: AtomicU32::new(NIL),
            prev: AtomicU32::new(NIL),
            mapping: AtomicU32::new(0),
            index: AtomicU32::new(0),
            private: AtomicU32::new(0),
        }
    }

    /// The split page-table lock of a page-table page.
    #[inline]
    pub(crate) fn ptl(&self) -> &RawSpin {
        RawSpin::from_word(&self.private)
    }
}
