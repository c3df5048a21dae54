//! Faults in areas of files (Linux: `do_read_fault`, `do_cow_fault`, `do_shared_fault`,
//! `wp_page_shared`).
//!
//! A page is mapped from the page cache, under its folio lock and the PTL, after a look that it
//! still is the page of the file; that is what truncation relies on. A load maps what is in memory
//! of the pages around it too. In a private area entries of the file's pages are read-only, and a
//! store gets a copy, which is anonymous. In a shared area an entry becomes writable only after its
//! folio was made dirty, under the folio lock: what writeback cleans under that lock it makes
//! read-only first, so a dirty entry has a dirty folio.
//!
//! Locks: `mmap_lock` shared, folio lock, PTL. Sleeps with `mmap_lock` for memory and for the disk;
//! whoever has made a page dirty waits for the flusher when that is let go ([`Step::Dirtied`]). A
//! page that enters the cache may need nodes from the heap.

use super::{Fault, Step, Stop};
use crate::buddy::{self, Gfp, Page};
use crate::content::HasContent;
use crate::error::MmError;
use crate::file::mapped::{self, NoPage};
use crate::folio::{self, Folio, FolioGuard};
use crate::frame::flag;
use crate::pagecache;
use crate::pagecache::layout::Kind;
use crate::pt::{PteLocked, tlb};
use crate::stats::{Event, Use, count, count_n};
use crate::vma::vm;
use arch::VirtAddr;
use arch::addr::{PAGE_SIZE, entries};
use arch::pte::{self, Entry};
use arch::upcall::FaultError;

/// A load maps what is in memory of this many aligned pages, which lie in one table.
const AROUND: u64 = if entries(0) < 16 {
    entries(0) as u64
} else {
    16
};

impl From<MmError> for Stop {
    fn from(e: MmError) -> Self {
        match e {
            MmError::NoMemory => Self::Oom,
            _ => Self::Signal(FaultError::Bus),
        }
    }
}

impl Fault<'_> {
    /// The entry is empty, and the area shows a file. (Apart, as anonymous faults need less of a
    /// frame.)
    #[inline(never)]
    pub(super) fn file_page(&self) -> Result<Step, Stop> {
        let index = self.vma.index_of(self.va);
        if index >= pagecache::file(self.vma.file()).pages() {
            return Err(Stop::Signal(FaultError::Bus));
        }
        let copy = if self.write && !self.vma.has(vm::SHARED) {
            Some(buddy::alloc(0, Use::Anon, Gfp::RECLAIM)?)
        } else {
            None
        };
        let folio = self.find(index)?;
        if !self.write && self.map_around() == Some(Step::Done) {
            return Ok(Step::Done);
        }
        let guard = match mapped::lock(self.vma.file(), index, *folio) {
            Ok(guard) => guard,
            Err(no) => return no_page(no),
        };
        match copy {
            Some(copy) => self.map_copy(copy, &guard),
            None => self.map_locked(&guard),
        }
    }

    /// The folio of page `index`; what is not in memory is read, with the rest of the window.
    fn find(&self, index: u32) -> Result<folio::Ref, Stop> {
        let Some(opened) = self.vma.opened() else {
            unreachable!("an area of a file holds it open");
        };
        let (_, end) = self.window();
        let last = self.vma.index_of(VirtAddr(end - PAGE_SIZE));
        let Some((folio, own)) = mapped::find(opened, index, last)? else {
            return Err(Stop::Signal(FaultError::Bus));
        };
        if own {
            count(Event::PgMajFault);
        }
        count(Event::FileFault);
        Ok(folio)
    }

    /// The addresses around the fault whose pages it may map.
    fn window(&self) -> (u64, u64) {
        let start = self.va.0 & !(AROUND * PAGE_SIZE - 1);
        let end = start + AROUND * PAGE_SIZE;
        (start.max(self.vma.start()), end.min(self.vma.end()))
    }

    /// Maps what can be had without waiting of the window, for loads. `Done` when the fault's own
    /// page was among it.
    fn map_around(&self) -> Option<Step> {
        let (start, end) = self.window();
        let first = self.vma.index_of(VirtAddr(start));
        let last = self.vma.index_of(VirtAddr(end - PAGE_SIZE));
        let found = pagecache::file(self.vma.file())
            .tree
            .collect(first, last, None);
        let mut pte = self.lock_empty()?;
        let mut mapped = 0;
        for (index, folio) in found.into_iter() {
            let va = VirtAddr(start + u64::from(index - first) * PAGE_SIZE);
            pte.seek(va);
            if pte.get().is_none() && self.map_ready(&mut pte, va, index, &folio) {
                let _ = folio.into_folio();
                mapped += 1;
            }
        }
        pte.seek(self.va);
        let done = !pte.get().is_none();
        drop(pte);
        self.mm.file_pages.add(mapped);
        count_n(
            Event::FileAround,
            (mapped as u64).saturating_sub(u64::from(done)),
        );
        done.then_some(Step::Done)
    }

    /// Maps the folio for loads at the cursor, which is empty and at `va`, if nobody has it locked
    /// and its content is there. The entry gets the reference then.
    fn map_ready(&self, pte: &mut PteLocked, va: VirtAddr, index: u32, folio: &folio::Ref) -> bool {
        if !folio.has(flag::UPTODATE) {
            return false;
        }
        let Some(guard) = folio.try_lock() else {
            return false;
        };
        if mapped::check(self.vma.file(), index, &guard).is_err() {
            return false;
        }
        // Of the others nobody knows whether they are used.
        let accessed = if va == self.va { pte::ACCESSED } else { 0 };
        guard.map_inc();
        pte.set(Entry::from_bits(
            guard.pfn(),
            self.vma.entry_bits() | accessed,
        ));
        true
    }

    /// Maps the locked page: for a store, which is to a shared area, writable and dirty.
    fn map_locked(&self, guard: &FolioGuard) -> Result<Step, Stop> {
        let dirtied = self.write && self.make_writable(guard);
        let Some(mut pte) = self.lock_empty() else {
            return Ok(Step::Retry);
        };
        guard.get();
        guard.map_inc();
        // None to present: no CPU can hold a translation, nothing to flush.
        pte.set(Entry::from_bits(guard.pfn(), self.bits()));
        drop(pte);
        self.mm.file_pages.add(1);
        Ok(self.served(dirtied))
    }

    /// Maps a private copy of the locked page.
    fn map_copy(&self, copy: Page, guard: &FolioGuard) -> Result<Step, Stop> {
        copy.copy_from(guard);
        let Some(mut pte) = self.lock_empty() else {
            return Ok(Step::Retry);
        };
        tlb::flush_gathered_pending(self.mm_id, self.mm);
        self.map_fresh(&mut pte, copy);
        drop(pte);
        self.mm.anon_pages.add(1);
        count(Event::CowCopy);
        Ok(Step::Done)
    }

    /// A store to a page of a shared area whose entry is read-only: it was clean, or only loaded
    /// from so far. The caller has a reference on the folio.
    #[inline(never)]
    pub(super) fn shared_protected(&self, seen: Entry, folio: Folio) -> Result<Step, Stop> {
        let guard = folio.lock();
        if let Err(no) = mapped::check(self.vma.file(), self.vma.index_of(self.va), &guard) {
            return no_page(no);
        }
        let dirtied = self.make_writable(&guard);
        let Some(mut pte) = self.lock_same(seen) else {
            return Ok(Step::Retry);
        };
        self.take_over(&mut pte);
        Ok(self.served(dirtied))
    }

    /// Whether the page was clean.
    fn make_writable(&self, guard: &FolioGuard) -> bool {
        count(Event::FileMkwrite);
        mapped::make_writable(self.vma.file(), guard)
    }

    /// How a fault ends that mapped a page of the file itself, and perhaps made it dirty. Dirty
    /// pages in memory wait for no disk.
    fn served(&self, dirtied: bool) -> Step {
        if dirtied && pagecache::file(self.vma.file()).layout.kind() != Kind::Memory {
            Step::Dirtied
        } else {
            Step::Done
        }
    }
}

fn no_page(no: NoPage) -> Result<Step, Stop> {
    match no {
        NoPage::Beyond | NoPage::Unreadable => Err(Stop::Signal(FaultError::Bus)),
        NoPage::Moved => Ok(Step::Retry),
    }
}
