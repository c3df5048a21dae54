//! Where the pages of a file lie on the data disk, and how long the file can be.
//!
//! A layout is a list of extents in the order of the file's pages, without holes: page `i` of the
//! file is the `i`th page of them all. The file of a whole extent is exactly that; a file system's
//! file ([`Kind::Listed`]) can get more extents and lose them; a file in memory has none.
//!
//! Locks: `Rank::FileLayout`, a leaf, held for a look or an exchange of the list. Lists are
//! allocated before it is taken and freed after: changing a layout sleeps, looking does not.

use crate::error::MmError;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use sync::{Rank, SpinLock};

/// Some consecutive pages of the data disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first page.
    pub first: u32,
    /// How many.
    pub pages: u32,
}

impl Extent {
    /// The page behind the last.
    fn end(self) -> u64 {
        u64::from(self.first) + u64::from(self.pages)
    }

    /// Some page is in both.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        u64::from(self.first) < other.end() && u64::from(other.first) < self.end()
    }

    /// Not empty, and within a disk of `disk` pages.
    pub(crate) fn is_within(self, disk: u32) -> bool {
        self.pages > 0 && self.end() <= u64::from(disk)
    }
}

/// What kind of file a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// None: the record is free.
    Nothing,
    /// One extent of the disk, as long as that for ever.
    Fixed,
    /// Extents that a file system gave it.
    Listed,
    /// Memory, and swap where that is short.
    Memory,
}

/// Most pages of a file: the index behind the last one is an index as well.
pub(crate) const MAX_PAGES: u32 = u32::MAX;

/// The layout of one file.
pub(crate) struct Layout {
    kind: AtomicU8,
    /// Pages of all extents.
    pages: AtomicU32,
    list: SpinLock<Vec<Extent>>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            kind: AtomicU8::new(Kind::Nothing as u8),
            pages: AtomicU32::new(0),
            list: SpinLock::new(Rank::FileLayout, Vec::new()),
        }
    }
}

impl Layout {
    /// The kind of file. Changes under `Rank::Files` only.
    pub(crate) fn kind(&self) -> Kind {
        match self.kind.load(Ordering::Relaxed) {
            1 => Kind::Fixed,
            2 => Kind::Listed,
            3 => Kind::Memory,
            _ => Kind::Nothing,
        }
    }

    /// A record is taken for a file, or given back.
    pub(super) fn become_kind(&self, kind: Kind, list: Vec<Extent>) {
        self.kind.store(kind as u8, Ordering::Relaxed);
        drop(self.exchange(list));
    }

    /// Puts a list in place; the one before it.
    fn exchange(&self, list: Vec<Extent>) -> Vec<Extent> {
        let mut now = self.list.lock();
        // Nothing of a list is longer than a disk, so the sum fits.
        let pages = list.iter().map(|e| e.pages).sum();
        self.pages.store(pages, Ordering::Relaxed);
        core::mem::replace(&mut *now, list)
    }

    /// Pages that the file can have.
    pub(crate) fn limit(&self) -> u32 {
        match self.kind() {
            Kind::Memory => MAX_PAGES,
            _ => self.pages.load(Ordering::Relaxed),
        }
    }

    /// Its only extent, if it is a fixed one.
    pub(super) fn fixed(&self) -> Option<Extent> {
        (self.kind() == Kind::Fixed)
            .then(|| self.list.lock().first().copied())
            .flatten()
    }

    /// The page of the disk where page `index` of the file lies, and how many of the file's pages
    /// follow each other from there. `None` behind the last extent.
    pub(crate) fn place(&self, index: u32) -> Option<(u32, u32)> {
        let mut behind = index;
        for e in self.list.lock().iter() {
            match behind.checked_sub(e.pages) {
                None => return Some((e.first + behind, e.pages - behind)),
                Some(rest) => behind = rest,
            }
        }
        None
    }

    /// Adds pages behind the last. The caller keeps others from changing the layout. Many additions
    /// cost no more, all in all, than the list is long.
    pub(crate) fn add(&self, extent: Extent) -> Result<(), MmError> {
        if self.add_in_place(extent) {
            return Ok(());
        }
        let mut list = self.copy(1)?;
        list.push(extent);
        drop(self.exchange(list));
        Ok(())
    }

    /// Adds pages if the list needs no more room for that.
    fn add_in_place(&self, extent: Extent) -> bool {
        let mut list = self.list.lock();
        let has_room = list.len() < list.capacity();
        match list.last_mut() {
            Some(last) if last.end() == u64::from(extent.first) => last.pages += extent.pages,
            _ if has_room => list.push(extent),
            _ => return false,
        }
        self.pages.fetch_add(extent.pages, Ordering::Relaxed);
        true
    }

    /// Gives up all pages but the first `pages`. The caller keeps others from changing the layout.
    pub(crate) fn cut(&self, pages: u32) -> Result<(), MmError> {
        let mut list = self.copy(0)?;
        let mut left = pages;
        list.retain_mut(|e| {
            e.pages = e.pages.min(left);
            left -= e.pages;
            e.pages > 0
        });
        drop(self.exchange(list));
        Ok(())
    }

    /// The list, with room for `more`, and then for half as many again.
    fn copy(&self, more: usize) -> Result<Vec<Extent>, MmError> {
        let mut list = Vec::new();
        loop {
            let needed = self.list.lock().len() + more;
            if list.capacity() < needed {
                reserve(&mut list, needed + more * needed / 2)?;
                continue;
            }
            list.extend_from_slice(&self.list.lock());
            return Ok(list);
        }
    }
}

fn reserve(list: &mut Vec<Extent>, n: usize) -> Result<(), MmError> {
    list.try_reserve_exact(n).map_err(|_| MmError::NoMemory)
}

/// `extents` as a list with neighbours joined.
///
/// # Errors
/// [`MmError::NoMemory`].
pub(crate) fn joined(extents: &[Extent]) -> Result<Vec<Extent>, MmError> {
    let mut list: Vec<Extent> = Vec::new();
    reserve(&mut list, extents.len())?;
    for &e in extents {
        match list.last_mut() {
            Some(last) if last.end() == u64::from(e.first) => last.pages += e.pages,
            _ => list.push(e),
        }
    }
    Ok(list)
}

/// Bytes of `pages` pages.
pub(crate) fn bytes(pages: u32) -> u64 {
    u64::from(pages) * PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(first: u32, pages: u32) -> Extent {
        Extent { first, pages }
    }

    #[test]
    fn pages_lie_one_behind_the_other() {
        let layout = Layout::default();
        let list = joined(&[extent(10, 3), extent(13, 1), extent(5, 2)]).unwrap();
        assert_eq!(list, [extent(10, 4), extent(5, 2)]);
        layout.become_kind(Kind::Listed, list);
        assert_eq!(layout.limit(), 6);
        let expected = [(10, 4), (11, 3), (12, 2), (13, 1), (5, 2), (6, 1)];
        for (i, place) in expected.into_iter().enumerate() {
            assert_eq!(layout.place(i as u32), Some(place));
        }
        assert_eq!(layout.place(6), None);
    }

    #[test]
    fn a_layout_grows_and_is_cut() {
        let layout = Layout::default();
        layout.become_kind(Kind::Listed, Vec::new());
        assert_eq!((layout.limit(), layout.place(0)), (0, None));
        layout.add(extent(7, 2)).unwrap();
        layout.add(extent(9, 2)).unwrap();
        layout.add(extent(20, 5)).unwrap();
        assert_eq!((layout.limit(), layout.place(3)), (9, Some((10, 1))));
        assert_eq!(layout.place(8), Some((24, 1)));
        layout.cut(5).unwrap();
        assert_eq!((layout.limit(), layout.place(4)), (5, Some((20, 1))));
        layout.cut(0).unwrap();
        assert_eq!((layout.limit(), layout.place(0)), (0, None));
    }

    #[test]
    fn many_additions_move_the_list_seldom() {
        let layout = Layout::default();
        layout.become_kind(Kind::Listed, Vec::new());
        let mut moved = 0;
        for i in 0..10_000 {
            let before = layout.list.lock().as_ptr();
            layout.add(extent(2 * i, 1)).unwrap();
            moved += u32::from(layout.list.lock().as_ptr() != before);
        }
        assert_eq!(
            (layout.limit(), layout.place(9_999)),
            (10_000, Some((19_998, 1)))
        );
        assert!(moved < 30, "{moved}");
    }

    #[test]
    fn extents_know_where_they_end() {
        assert!(extent(3, 2).overlaps(extent(4, 1)) && !extent(3, 2).overlaps(extent(5, 1)));
        assert!(extent(u32::MAX, 2).overlaps(extent(u32::MAX, 1)));
        assert!(extent(8, 2).is_within(10) && !extent(8, 3).is_within(10));
        assert!(!extent(0, 0).is_within(10));
    }
}
