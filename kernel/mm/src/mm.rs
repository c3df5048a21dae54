//! The address space: one page-table tree, one set of VMAs, one TLB generation.
//!
//! An [`Mm`] lives in a type-stable pool; `handle::MmRef` is a counted handle on it. Locks:
//! `mmap_lock` (sleeps) guards the VMA set; `pgt_lock` guards the upper page-table levels (PGD and
//! PUD entries); everything else here is an atomic.

use crate::arena::{Arena, Slot};
use crate::buddy::KSWAPD;
use crate::frame::{Folio, NIL};
use crate::stats::Gauge;
use crate::vma::set::VmaSet;
use arch::Pfn;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sync::point::{self, AccessKind, PointKind, class};
use sync::tlb::Space;
use sync::{Rank, RwSem, SpinLock};

/// An address space.
pub struct Mm {
    /// Handles; 0 when the object is free.
    pub(crate) users: AtomicU32,
    root: AtomicU32,
    /// Guards the VMA set. Faults take it shared, mmap and its kin exclusively.
    pub(crate) mmap_lock: RwSem<VmaSet>,
    /// Guards PGD and PUD entries of this address space (none to table; freeing has `mmap_lock`).
    pub(crate) pgt_lock: SpinLock<()>,
    /// CPUs that may hold translations of this address space, and its generations.
    pub(crate) tlb: Space,
    /// Gathers under way. More than one while `mmap_lock` is held shared, or a file's pages are
    /// unmapped everywhere.
    pub(crate) gathers: AtomicU32,
    /// The OOM killer's verdict: every fault and operation fails from now on.
    killed: AtomicBool,
    /// Killed, and its pages are still to be taken away.
    unreaped: AtomicBool,
    /// fork is making it: nobody has it yet, and its pages are its parent's.
    unborn: AtomicBool,
    /// The thread that holds `mmap_lock` for a change that may need memory, plus 1, or 0.
    changer: AtomicU32,
    /// Resident anonymous pages.
    pub anon_pages: Gauge,
    /// Huge pages among them, each counted as one.
    pub anon_huge: Gauge,
    /// Resident pages of files.
    pub file_pages: Gauge,
    /// Entries that name a swap slot.
    pub swap_entries: Gauge,
    /// Page-table pages.
    pub tables: Gauge,
    /// Mapped pages by VMA size.
    pub total_vm: Gauge,
    link: AtomicU32,
}

impl Default for Mm {
    fn default() -> Self {
        Self {
            users: AtomicU32::new(0),
            root: AtomicU32::new(NIL),
            mmap_lock: RwSem::new(Rank::MmapLock, VmaSet::new()),
            pgt_lock: SpinLock::new(Rank::PgtUpper, ()),
            tlb: Space::default(),
            gathers: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            unreaped: AtomicBool::new(false),
            unborn: AtomicBool::new(false),
            changer: AtomicU32::new(0),
            anon_pages: Gauge::new(),
            anon_huge: Gauge::new(),
            file_pages: Gauge::new(),
            swap_entries: Gauge::new(),
            tables: Gauge::new(),
            total_vm: Gauge::new(),
            link: AtomicU32::new(0),
        }
    }
}

impl Slot for Mm {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

static MMS: Arena<Mm> = Arena::new();

/// Address spaces that were killed and have not been reaped.
static UNREAPED: AtomicU32 = AtomicU32::new(0);

/// There are killed address spaces that still have their pages.
pub(crate) fn any_unreaped() -> bool {
    UNREAPED.load(Ordering::Acquire) != 0
}

/// The address space with this id, live or not (ids are never unmapped memory).
#[inline]
pub(crate) fn by_id(id: u32) -> &'static Mm {
    MMS.get(id)
}

/// Ids of address spaces lie below this.
pub fn id_limit() -> u32 {
    MMS.capacity()
}

/// Live address spaces.
pub fn live() -> usize {
    MMS.live()
}

/// The pool, for handles.
pub(crate) fn pool() -> &'static Arena<Mm> {
    &MMS
}

impl Mm {
    /// Makes a free object a new address space with one handle, whose PGD is `root`.
    pub(crate) fn start(&self, root: Pfn) {
        self.root.store(root.0, Ordering::Relaxed);
        self.killed.store(false, Ordering::Relaxed);
        self.unborn.store(false, Ordering::Relaxed);
        self.changer.store(0, Ordering::Relaxed);
        for gauge in [
            &self.anon_pages,
            &self.anon_huge,
            &self.file_pages,
            &self.swap_entries,
            &self.tables,
            &self.total_vm,
        ] {
            gauge.reset();
        }
        self.tables.add(1);
        #[cfg(feature = "lab")]
        self.tlb.forget_generations();
        // Release pairs with the Acquire of `MmRef::by_id_live`: who finds users > 0 sees the
        // fields above.
        self.users.store(1, Ordering::Release);
    }
    /// For the explorer: makes an address space that was never torn down a free object; its frames
    /// go by themselves. False when `mmap_lock` is held, and the areas stay.
    #[cfg(feature = "lab")]
    pub(crate) fn abandon(&self) -> bool {
        self.users.store(0, Ordering::Relaxed);
        self.gathers.store(0, Ordering::Relaxed);
        self.tlb.forget_cpus();
        let set = self.mmap_lock.try_write();
        set.map(|mut set| *set = VmaSet::new()).is_some()
    }
    /// The PGD's frame.
    #[inline]
    pub fn root(&self) -> Pfn {
        Pfn(self.root.load(Ordering::Relaxed))
    }
    /// Ended by the OOM killer.
    #[inline]
    pub fn is_killed(&self) -> bool {
        point::touch(AccessKind::Read, || self.killed_object());
        self.killed.load(Ordering::Relaxed)
    }
    /// Makes every later fault and operation fail. Its pages go soon, whoever has called this and
    /// why: kswapd takes them (`exit::reap`), if nobody is faster. The caller has a handle.
    pub fn kill(&self) {
        point::at(PointKind::Space, AccessKind::Write, || self.killed_object());
        let before = self.killed.swap(true, Ordering::AcqRel);
        // In an explored world nobody but the actors does anything.
        if before || point::exploring() {
            return;
        }
        self.unreaped.store(true, Ordering::Release);
        UNREAPED.fetch_add(1, Ordering::Release);
        KSWAPD.wake_all();
    }
    /// Killed, and still to be reaped.
    pub(crate) fn is_unreaped(&self) -> bool {
        self.unreaped.load(Ordering::Acquire)
    }
    /// What it had is gone.
    pub(crate) fn note_reaped(&self) {
        if self.unreaped.swap(false, Ordering::AcqRel) {
            UNREAPED.fetch_sub(1, Ordering::Release);
        }
    }
    /// fork begins to make it, or has made it.
    pub(crate) fn set_unborn(&self, unborn: bool) {
        self.unborn.store(unborn, Ordering::Relaxed);
    }
    /// fork is still making it.
    pub(crate) fn is_unborn(&self) -> bool {
        self.unborn.load(Ordering::Relaxed)
    }
    /// Whose change of the areas is under way: the running thread's, or nobody's any more.
    pub(crate) fn set_changing(&self, on: bool) {
        let me = if on {
            u32::from(sync::task::current().0) + 1
        } else {
            0
        };
        self.changer.store(me, Ordering::Relaxed);
    }
    /// The running thread is changing the areas, so that nobody can reap it before that ends.
    pub(crate) fn is_changed_by_me(&self) -> bool {
        self.changer.load(Ordering::Relaxed) == u32::from(sync::task::current().0) + 1
    }
    fn killed_object(&self) -> u32 {
        point::object_at(class::SPACE, &self.killed)
    }
    /// There were handles a moment ago.
    #[inline(always)]
    pub(crate) fn seems_used(&self) -> bool {
        point::touch(AccessKind::Read, || {
            point::object_at(class::COUNT, &self.users)
        });
        self.users.load(Ordering::Relaxed) != 0
    }
    /// A point before the number of handles changes.
    #[inline(always)]
    pub(crate) fn users_point(&self) {
        point::at(PointKind::Count, AccessKind::Write, || {
            point::object_at(class::COUNT, &self.users)
        });
    }
    /// For the explorer: the running actor looks at, or changes, how many gathers are under way.
    #[inline(always)]
    pub(crate) fn touch_gathers(&self, access: AccessKind) {
        point::touch(access, || point::object_at(class::COUNT, &self.gathers));
    }
    /// CPUs that may hold translations.
    pub fn cpus(&self) -> sync::CpuMask {
        self.tlb.cpus()
    }
    /// The current TLB generation.
    pub fn generation(&self) -> u64 {
        self.tlb.generation()
    }
    /// Resident pages.
    pub fn rss(&self) -> u64 {
        self.anon_pages.get() + self.file_pages.get()
    }
    /// Where a resident page is counted that lies in `folio`.
    #[inline]
    pub(crate) fn resident(&self, folio: Folio) -> &Gauge {
        if folio.is_file() {
            &self.file_pages
        } else {
            &self.anon_pages
        }
    }
}
