//! Faults where no PTE table is: the first touch of a huge page, and faults on one.
//!
//! A store to an empty PMD of an anonymous area that may have huge pages gets one, if a block is
//! free: reclaim is not asked for it. Loads get the shared zero page. Under the lock of the PMD
//! table the PMD is looked at again (rule 4).

use super::{Stop, TableRef};
use crate::buddy::{self, Gfp, HUGE_ORDER, Page};
use crate::folio::Folio;
use crate::frame::{NIL, flag};
use crate::knobs::{self, Knob};
use crate::lru;
use crate::mm::Mm;
use crate::pt::{self, Pmd, PmdLocked, PmdRef, tlb};
use crate::stats::{Event, Use, count};
use crate::thp;
use crate::vma::{Vma, vm};
use arch::addr::PMD_SIZE;
use arch::pte::{self, Entry};
use arch::{Pfn, VirtAddr};

/// What became of an attempt.
pub(super) enum Next {
    /// The fault goes on in this table.
    Table(TableRef),
    /// A huge page allows the access now.
    Done,
    /// Something changed meanwhile.
    Retry,
}

/// A fault whose PMD named no table. The area allows the access.
pub(super) struct AtPmd<'a> {
    pub(super) mm_id: u32,
    pub(super) mm: &'a Mm,
    pub(super) vma: &'static Vma,
    pub(super) va: VirtAddr,
    pub(super) write: bool,
    pub(super) pmd: PmdRef,
}

impl AtPmd<'_> {
    /// One attempt, after the PMD said `seen`.
    #[cold]
    #[inline(never)]
    pub(super) fn resolve(&self, seen: Pmd) -> Result<Next, Stop> {
        match seen {
            Pmd::Table(table) => return Ok(Next::Table(table)),
            Pmd::Huge(entry) => return Ok(self.present(entry)),
            Pmd::Invalid(_) => {
                // Its split holds the lock until there is a table.
                drop(self.pmd.lock());
                return Ok(Next::Retry);
            }
            Pmd::Migration(_) => seen.unmet(),
            Pmd::None => {}
        }
        if self.write && self.fits() {
            if let Some((page, table)) = allocate() {
                return Ok(self.first_touch(page, table));
            }
            count(Event::ThpFaultFallback);
        }
        match self.pmd.table_or_alloc(self.mm_id, self.mm)? {
            Pmd::Table(table) => Ok(Next::Table(table)),
            _ => Ok(Next::Retry),
        }
    }

    /// The huge page's first address.
    fn start(&self) -> VirtAddr {
        VirtAddr(self.va.0 & !(PMD_SIZE - 1))
    }

    /// The area may have a huge page here.
    fn fits(&self) -> bool {
        let (area, VirtAddr(start)) = (self.vma, self.start());
        area.file() == NIL
            && !area.has(vm::GROWSDOWN)
            && thp::allows(area.flags())
            && area.start() <= start
            && start + PMD_SIZE <= area.end()
    }

    fn first_touch(&self, page: Page, table: Pfn) -> Next {
        let mut pmd = self.pmd.lock();
        // The killer's mark comes before its zap: a program that is about to end must not see
        // zeroes in the place of what was taken away.
        let is_empty = matches!(pmd.read(), Pmd::None) || !knobs::on(Knob::PmdRecheck);
        if !is_empty || self.mm.is_killed() {
            drop(pmd);
            pt::free_table(table);
            return Next::Retry;
        }
        tlb::flush_emptied_pending(self.mm_id, self.mm);
        self.map_fresh(&mut pmd, page, table);
        count(Event::ThpFaultAlloc);
        Next::Done
    }

    /// Maps a block that nobody else knows: it becomes an exclusive anonymous folio, on the
    /// inactive list before the lock is dropped.
    fn map_fresh(&self, pmd: &mut PmdLocked, page: Page, table: Pfn) {
        const STATE: u32 = flag::SWAPBACKED | flag::UPTODATE | flag::EXCLUSIVE | flag::DIRTY;
        let folio = Folio::made_of(page);
        folio.init_flags(STATE, lru::local_shard(), Use::Anon);
        folio.init_order(HUGE_ORDER);
        folio.set_mapping(self.vma.anon() + 1);
        folio.set_index(self.vma.index_of(self.start()));
        folio.init_mapcount(1);
        let bits = self.vma.entry_bits() | pte::ACCESSED | pte::WRITE | pte::DIRTY | pte::HUGE;
        pmd.map(self.mm, Entry::from_bits(folio.pfn(), bits), table);
        self.mm.anon_pages.add(i64::from(folio.pages()));
        lru::add(folio, false);
    }

    /// A huge page is there, and is its area's alone: the access needs the write bit, or another
    /// CPU was faster.
    fn present(&self, seen: Entry) -> Next {
        let mut pmd = self.pmd.lock();
        match pmd.read() {
            Pmd::Huge(entry) if pt::same(entry, seen) => {}
            _ => return Next::Retry,
        }
        let wrote = if self.write {
            pte::WRITE | pte::DIRTY
        } else {
            0
        };
        pmd.strengthen(pte::ACCESSED | wrote);
        count(Event::SpuriousFault);
        arch::invlpg(self.va);
        Next::Done
    }
}

/// A zeroed block, and the table that its split will need.
fn allocate() -> Option<(Page, Pfn)> {
    let page = buddy::alloc(HUGE_ORDER, Use::Anon, Gfp::NOWAIT).ok()?;
    let table = pt::alloc_table().ok()?;
    page.zero_block();
    Some((page, table))
}
