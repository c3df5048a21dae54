//! i_mmap: from a page of a file to every area that may map it.
//!
//! Each file has an interval tree, by page index, of the areas that map it, shared and private
//! ones. An area is in it from [`link`] to [`unlink`]; `file` and `open_file` in its record are set
//! exactly then.
//!
//! Locks: the file's reader-writer semaphore (`Rank::IMmap`) guards the tree, and with `mmap_lock`
//! the bounds of the areas in it; reverse walks take it shared. An area that has an anon_vma as
//! well takes that lock inside. Sleeps; allocates nothing.

use super::{Vma, vma};
#[cfg(feature = "lab")]
use crate::frame::Folio;
use crate::frame::NIL;
use crate::pagecache::file;
use crate::pagecache::opened::OpenFile;
use algo::interval::{IntervalNodes, IntervalTree};
use algo::tree::TreeLinks;
use core::sync::atomic::Ordering::Relaxed;
use sync::{ReadGuard, WriteGuard};

/// How the interval tree sees the areas.
struct Areas;

impl TreeLinks for Areas {
    links!(i, vma(i).imap; left set_left left: u32, right set_right right: u32);
    links!(i, vma(i).imap; parent set_parent parent: u32, rank set_rank rank: u8);
}

impl IntervalNodes for Areas {
    #[inline]
    fn start(&self, i: u32) -> u32 {
        vma(i).pgoff()
    }
    #[inline]
    fn last(&self, i: u32) -> u32 {
        vma(i).pgoff() + (vma(i).pages() as u32 - 1)
    }
    links!(i, vma(i).imap; max_last set_max_last max_last: u32);
}

/// Runs `f` on the tree of file `id`. The caller holds its lock exclusively.
fn with_tree<R>(id: u32, f: impl FnOnce(&mut IntervalTree) -> R) -> R {
    let root = &file(id).areas;
    let mut tree = IntervalTree::from_id(root.load(Relaxed));
    let r = f(&mut tree);
    root.store(tree.id(), Relaxed);
    r
}

fn write(id: u32) -> WriteGuard<'static, ()> {
    file(id).areas_lock.write()
}

/// A file's lock, held shared: the areas that map it cannot come or go.
pub struct IMapGuard {
    id: u32,
    _lock: ReadGuard<'static, ()>,
}

impl IMapGuard {
    /// Calls `f` with each area that maps some of the pages `first` to `last`, until it returns
    /// false.
    pub(crate) fn for_each_vma(
        &self,
        first: u32,
        last: u32,
        mut f: impl FnMut(&'static Vma) -> bool,
    ) {
        let tree = IntervalTree::from_id(file(self.id).areas.load(Relaxed));
        for area in tree.overlapping(&Areas, first, last) {
            if !f(vma(area)) {
                return;
            }
        }
    }
}

/// The areas of file `id`, for a reverse walk. Sleeps.
pub(crate) fn read(id: u32) -> IMapGuard {
    IMapGuard {
        id,
        _lock: file(id).areas_lock.read(),
    }
}

/// As [`read`]; `None` where it would have to sleep.
pub(crate) fn try_read(id: u32) -> Option<IMapGuard> {
    let lock = file(id).areas_lock.try_read()?;
    Some(IMapGuard { id, _lock: lock })
}

/// For the explorer: as [`IMapGuard::for_each_vma`] for the areas that may map a folio of the page
/// cache, while nobody runs.
#[cfg(feature = "lab")]
pub(crate) fn peek_folio(folio: Folio, mut f: impl FnMut(&'static Vma)) {
    if let Some(id) = folio.mapping().checked_sub(1) {
        let tree = IntervalTree::from_id(file(id).areas.load(Relaxed));
        for area in tree.overlapping(&Areas, folio.index(), folio.index()) {
            f(vma(area));
        }
    }
}

/// The area, which maps no file yet, maps the one that was opened, from page `pgoff` of its record
/// on.
pub(crate) fn link(vma_id: u32, opened: OpenFile) {
    let id = opened.file_id();
    let area = vma(vma_id);
    area.set_open_file(opened.into_id());
    let _lock = write(id);
    area.set_file(id);
    with_tree(id, |t| t.insert(&Areas, vma_id));
}

/// `dst`, which maps no file yet, maps the one that `src` maps, if any.
pub(crate) fn clone(dst: u32, src: u32) {
    if let Some(opened) = vma(src).opened() {
        link(dst, opened);
    }
}

/// Takes an area out of its file's tree, if it maps one. Afterwards no reverse walk from the file
/// finds it.
pub(crate) fn unlink(vma_id: u32) {
    let area = vma(vma_id);
    let id = area.file();
    if id == NIL {
        return;
    }
    {
        let _lock = write(id);
        with_tree(id, |t| t.remove(&Areas, vma_id));
        area.set_file(NIL);
    }
    let opened = area.open_file();
    area.set_open_file(NIL);
    drop(OpenFile::from_id(opened));
}

/// Runs `change`, which alters `start`, `end` or `pgoff` of the given areas of one file, with those
/// areas out of its tree, and puts them back: reverse walks see before or after.
pub(super) fn adjust(areas: &[u32], change: impl FnOnce()) {
    let id = areas.first().map_or(NIL, |&area| vma(area).file());
    if id == NIL {
        change();
        return;
    }
    let _lock = write(id);
    for &area in areas {
        with_tree(id, |t| t.remove(&Areas, area));
    }
    change();
    for &area in areas {
        with_tree(id, |t| t.insert(&Areas, area));
    }
}

/// As [`adjust`] of one area whose first page index stays: it keeps its place in the tree.
pub(super) fn resize(vma_id: u32, change: impl FnOnce()) {
    let id = vma(vma_id).file();
    if id == NIL {
        change();
        return;
    }
    let _lock = write(id);
    change();
    with_tree(id, |t| t.update(&Areas, vma_id));
}
