//! The files that the model is tried on.

use mm::MmError;
use mm::file::{self, Extent, Opener};

use super::super::super::file::FIRST;
use super::FILE;

/// Where the file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Extent,
    /// In [`EXTENTS`].
    Listed,
    Memory,
}

/// Not in order, and not all of the disk's pages from [`FIRST`] on.
const EXTENTS: [Extent; 3] = [
    Extent {
        first: FIRST + 40,
        pages: 20,
    },
    Extent {
        first: FIRST + 1,
        pages: 7,
    },
    Extent {
        first: FIRST + 12,
        pages: 21,
    },
];

impl Place {
    pub(super) fn open(self) -> Result<Opener, MmError> {
        match self {
            Self::Extent => file::open(FIRST, FILE),
            Self::Listed => file::open_extents(0, &EXTENTS),
            Self::Memory => file::shmem(0),
        }
    }

    /// The page of the disk that page `index` is.
    pub(super) fn on_disk(self, index: u32) -> Option<u32> {
        let pages = |e: &Extent| e.first..e.first + e.pages;
        match self {
            Self::Extent => Some(FIRST + index),
            Self::Listed => EXTENTS.iter().flat_map(pages).nth(index as usize),
            Self::Memory => None,
        }
    }
}
