//! The words that the model speaks in: values, what pages show, operations under way. Pure.

use alloc::vec::Vec;

use crate::race::held::Moment;

/// What a word may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// This was stored.
    Is(u64),
    /// What its page is by itself.
    Base,
}

/// What a page of an address space shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::race) enum Shown {
    /// Memory of its own, zero at first.
    Memory,
    /// Nothing: an access fails.
    Nothing,
    /// This page of a file.
    Shared(usize, u32),
    /// The same, until it is stored to: then a copy.
    Private(usize, u32),
}

impl Shown {
    /// What the page `n` pages further on shows, in the same area.
    pub(super) fn advanced(self, n: u64) -> Self {
        let n = n as u32;
        match self {
            Self::Shared(file, page) => Self::Shared(file, page + n),
            Self::Private(file, page) => Self::Private(file, page + n),
            Self::Memory | Self::Nothing => self,
        }
    }
}

/// What becomes of pages that are given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::race) enum Fresh {
    /// They show what they showed, anew.
    Same,
    /// Nothing is mapped there.
    Nothing,
    /// Memory of their own.
    Memory,
    /// A file, shared, from this page of it on: (place, page).
    Shared(usize, u32),
    /// The same for private copies.
    Private(usize, u32),
}

impl Fresh {
    pub(super) fn shown(self) -> Option<Shown> {
        match self {
            Self::Same => None,
            Self::Nothing => Some(Shown::Nothing),
            Self::Memory => Some(Shown::Memory),
            Self::Shared(file, page) => Some(Shown::Shared(file, page)),
            Self::Private(file, page) => Some(Shown::Private(file, page)),
        }
    }
}

/// Pages of an address space, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::race) struct Pages {
    pub(in crate::race) mm: u32,
    pub(in crate::race) first: u64,
    pub(in crate::race) n: u64,
}

impl Pages {
    pub(super) fn has(&self, mm: u32, page: u64) -> bool {
        self.mm == mm && (self.first..self.first + self.n).contains(&page)
    }
    /// Where those of the pages are that are in `from`, if that is moved to `to`.
    pub(super) fn moved(&self, from: Self, to: Self) -> Option<Self> {
        let first = self.first.max(from.first);
        let end = (self.first + self.n).min(from.first + from.n.min(to.n));
        (self.mm == from.mm && first < end).then(|| Self {
            first: to.first + (first - from.first),
            n: end - first,
            ..to
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Fresh(Fresh),
    /// MADV_FREE.
    Free,
    /// To these pages.
    Move(Pages),
    Fork,
    /// The private copies of this file go from this page of it on, wherever they are.
    Cut(usize, u32),
}

/// Something that takes time, under way.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) id: u32,
    pub(super) kind: Kind,
    pub(super) pages: Pages,
    pub(super) since: Moment,
    /// Another move in the address space was under way meanwhile: which came first is not known.
    pub(super) met: bool,
    /// Of a fork: what was moved meanwhile. Of a cut: where the copies were when it began.
    pub(super) moved: Vec<Pages>,
}

impl Op {
    pub(super) fn has(&self, mm: u32, page: u64) -> bool {
        match self.kind {
            Kind::Fork | Kind::Cut(..) => false,
            Kind::Move(to) => self.pages.has(mm, page) || to.has(mm, page),
            Kind::Fresh(_) | Kind::Free => self.pages.has(mm, page),
        }
    }
}

impl Op {
    /// Where what is in `page` is being moved to.
    pub(super) fn moves_to(&self, mm: u32, page: u64) -> Option<u64> {
        let Kind::Move(to) = self.kind else {
            return None;
        };
        let one = Pages {
            mm,
            first: page,
            n: 1,
        };
        one.moved(self.pages, to).map(|there| there.first)
    }
}

/// What comes to a page from elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) page: u64,
    /// So many pages behind it, which has none there.
    pub(super) beyond: u64,
}

impl Source {
    /// Of page `k` of the new place, of what was at `from`.
    pub(super) fn of(from: Pages, k: u64) -> Self {
        let last = from.n.saturating_sub(1);
        let page = from.first + k.min(last);
        let beyond = k - k.min(last);
        Self { page, beyond }
    }
}
