//! From a locked folio to the areas that may map it, and to each entry that does (Linux:
//! `rmap_walk`, `page_vma_mapped_walk`).
//!
//! Takes the lock of the folio's reverse map, the anon_vma's or the file's, shared, and PTLs
//! inside, which it hands out with the entries. Sleeps in [`Areas::of_file`] only.
//!
//! Without [`Sync::Always`] the entry is first looked at without the lock, and a miss is believed.
//! That look may fall between "cleared" and "set again" of another CPU's change: whoever must not
//! miss an entry for that reason asks for the lock always.

use crate::folio::FolioGuard;
use crate::mm::{Mm, by_id};
use crate::pt::{Changed, Invalidation, Pmd, PmdRef, PteLocked};
use crate::vma::Vma;
use crate::vma::anon::{self, AnonGuard};
use crate::vma::imap::{self, IMapGuard};
use arch::addr::PAGE_SIZE;
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};

/// Whether a look without the lock may answer "not mapped".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// It may.
    Hint,
    /// Only the locked entry answers (Linux: `PVMW_SYNC`).
    Always,
}

/// The reverse map's lock is not to be had at once.
#[derive(Debug)]
pub(crate) struct Busy;

/// The areas that may map a locked folio. While this lives none comes or goes.
pub(crate) enum Areas {
    /// Of an anonymous one.
    Anon(AnonGuard),
    /// Of a file's.
    File(IMapGuard),
}

impl Areas {
    /// Those of `folio`; `None` when nobody maps it. Never sleeps.
    ///
    /// # Errors
    /// [`Busy`].
    pub(crate) fn try_of(folio: &FolioGuard) -> Result<Option<Self>, Busy> {
        if !folio.is_file() {
            let family = anon::try_lock_folio(folio.folio()).map_err(|_| Busy)?;
            return Ok(family.map(Self::Anon));
        }
        match folio.mapping().checked_sub(1) {
            Some(file) => Ok(Some(Self::File(imap::try_read(file).ok_or(Busy)?))),
            None => Ok(None),
        }
    }

    /// Those of an anonymous one; `None` when nobody maps it. Sleeps.
    pub(crate) fn of_anon(folio: &FolioGuard) -> Option<Self> {
        anon::lock_folio(folio.folio()).map(Self::Anon)
    }

    /// As [`Areas::of_anon`], where migration entries are looked for. Sleeps.
    pub(crate) fn of_moving(folio: &FolioGuard) -> Option<Self> {
        anon::lock_moving(folio.folio()).map(Self::Anon)
    }

    /// Those that map `file`. Sleeps.
    pub(crate) fn of_file(file: u32) -> Self {
        Self::File(imap::read(file))
    }

    /// Calls `f` with each entry that maps `folio`, locked, until it returns false. It takes none
    /// out and weakens none.
    #[inline(always)]
    pub(crate) fn for_each_entry(
        &self,
        folio: &FolioGuard,
        sync: Sync,
        mut f: impl FnMut(&mut PteLocked) -> bool,
    ) {
        let is_it = |entry| maps(entry, folio.pfn());
        self.for_each_place(folio.index(), |area, va| {
            find(by_id(area.mm()), va, is_it, sync).is_none_or(|mut pte| f(&mut pte))
        });
    }

    /// Calls `f` with each entry that maps `folio`, locked, and its address, until it returns
    /// false. It may take the entry out or weaken it, within the invalidation that it is given.
    #[inline(always)]
    pub(crate) fn invalidate_each(
        &self,
        folio: &FolioGuard,
        sync: Sync,
        mut f: impl FnMut(&Invalidation<'_>, VirtAddr, &mut PteLocked) -> bool,
    ) {
        let is_it = |entry| maps(entry, folio.pfn());
        self.for_each_place(folio.index(), |area, va| {
            let (id, mm) = (area.mm(), by_id(area.mm()));
            let within = Invalidation::begin(id, mm, va, PAGE_SIZE);
            find(mm, va, is_it, sync).is_none_or(|mut pte| f(&within, va, &mut pte))
        });
    }

    /// Calls `f` with each migration entry that names the frame of `from`, locked, and its area,
    /// where page `index` may be mapped.
    pub(crate) fn for_each_migration(
        &self,
        from: &FolioGuard,
        index: u32,
        mut f: impl FnMut(&Vma, &mut PteLocked),
    ) {
        let is_it = |entry: Entry| entry.is_migration() && entry.pfn() == from.pfn();
        self.for_each_place(index, |area, va| {
            if let Some(mut pte) = find(by_id(area.mm()), va, is_it, Sync::Always) {
                f(area, &mut pte);
            }
            true
        });
    }

    /// Calls `f` with each area that may map page `index`, and the address, until it returns false.
    #[inline(always)]
    fn for_each_place(&self, index: u32, mut f: impl FnMut(&'static Vma, VirtAddr) -> bool) {
        let each = |area: &'static Vma| area.address_of(index).is_none_or(|va| f(area, va));
        match self {
            Self::Anon(family) => family.for_each_vma(index, each),
            Self::File(areas) => areas.for_each_vma(index, index, each),
        }
    }
}

/// One step of the walk.
enum Step {
    /// The entry is another one.
    Other,
    /// The cursor's entry is the one that is looked for, and its table is locked.
    Found(PteLocked),
    /// The PMD changed between the look and the lock: look again.
    Again,
}

/// The entry maps `pfn`, whether the MMU may use it or not.
#[inline]
pub(crate) fn maps(entry: Entry, pfn: Pfn) -> bool {
    entry.is_mapped() && !entry.is_special() && entry.pfn() == pfn
}

/// One attempt.
#[inline(always)]
fn step(mm: &Mm, va: VirtAddr, is_it: impl Fn(Entry) -> bool, sync: Sync) -> Step {
    let table = match PmdRef::read_at(mm, va) {
        Pmd::Table(table) => table,
        // The folio has one page: a huge page is another one's.
        Pmd::None | Pmd::Huge(_) | Pmd::Invalid(_) => return Step::Other,
        moving @ Pmd::Migration(_) => moving.unmet(),
    };
    if sync == Sync::Hint && !is_it(table.peek(va)) {
        return Step::Other;
    }
    match table.lock(va) {
        Ok(pte) if is_it(pte.get()) => Step::Found(pte),
        Ok(_) => Step::Other,
        Err(Changed) => Step::Again,
    }
}

/// The locked entry of `va` in `mm`, if it is the one that is looked for.
#[inline(always)]
fn find(
    mm: &Mm,
    va: VirtAddr,
    is_it: impl Fn(Entry) -> bool + Copy,
    sync: Sync,
) -> Option<PteLocked> {
    loop {
        match step(mm, va, is_it, sync) {
            Step::Other => return None,
            Step::Found(pte) => return Some(pte),
            Step::Again => {}
        }
    }
}
