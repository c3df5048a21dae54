//! The address space: one page-table tree, one set of VMAs, one TLB generation.
//!
//! An [`Mm`] lives in a type-stable pool; [`MmRef`] is a counted handle, and the last one to go tears the
//! address space down (`ops::exit`). Locks: `mmap_lock` (sleeps) guards the VMA set; `pgt_lock` guards
//! the upper page-table levels (PGD and PUD entries); everything else here is an atomic.

use crate::arena::{Arena, Slot};
use crate::frame::NIL;
use crate::stats::Gauge;
use crate::vma::set::VmaSet;
use arch::Pfn;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sync::{AtomicCpuMask, Rank, RwSem, SpinLock};

/// Why an operation on an address space failed; what a system call would return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmError {
    /// ENOMEM: no frame, no object, or no room in the address space.
    NoMemory,
    /// EINVAL: an argument is malformed (alignment, empty range, unknown combination).
    Invalid,
    /// EEXIST: MAP_FIXED_NOREPLACE, and something is mapped there.
    Exists,
    /// ENOMEM of mprotect, madvise and mremap: part of the range is not mapped.
    NotMapped,
    /// EFAULT: mremap of a range that spans more than one area.
    Fault,
    /// EIO: the disk failed.
    Io,
    /// ESRCH: the OOM killer ended this address space.
    Killed,
}

impl From<crate::arena::PoolEmpty> for MmError {
    fn from(_: crate::arena::PoolEmpty) -> Self {
        Self::NoMemory
    }
}

/// An address space.
pub struct Mm {
    /// Handles; 0 when the object is free.
    pub(crate) users: AtomicU32,
    root: AtomicU32,
    /// Guards the VMA set. Faults take it shared, mmap and its kin exclusively.
    pub mmap_lock: RwSem<VmaSet>,
    /// Guards PGD and PUD entries of this address space (none to table; freeing has `mmap_lock`).
    pub(crate) pgt_lock: SpinLock<()>,
    /// CPUs that may hold translations of this address space.
    pub(crate) cpumask: AtomicCpuMask,
    /// Bumped by every flush request after the entries were changed.
    pub(crate) tlb_gen: AtomicU64,
    /// The generation of the last entry that reclaim took out without flushing (see `rmap::batch`).
    pub(crate) batched_gen: AtomicU64,
    /// The same for the last entry that it left empty, which a fault may fill before the flush.
    pub(crate) emptied_gen: AtomicU64,
    /// Every CPU is known to have caught up with this generation; kept only as far as `batched_gen` needs.
    pub(crate) flushed_gen: AtomicU64,
    /// Gathers under way; more than one only while `mmap_lock` is held shared.
    pub(crate) gathers: AtomicU32,
    /// The OOM killer's verdict: every fault and operation fails from now on.
    killed: AtomicBool,
    /// Resident anonymous pages.
    pub anon_pages: Gauge,
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
            cpumask: AtomicCpuMask::new(),
            tlb_gen: AtomicU64::new(0),
            batched_gen: AtomicU64::new(0),
            emptied_gen: AtomicU64::new(0),
            flushed_gen: AtomicU64::new(0),
            gathers: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            anon_pages: Gauge::new(),
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

/// The address space with this id, live or not (ids are never unmapped memory).
#[inline]
pub fn by_id(id: u32) -> &'static Mm {
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

impl Mm {
    /// The PGD's frame.
    #[inline]
    pub fn root(&self) -> Pfn {
        Pfn(self.root.load(Ordering::Relaxed))
    }
    /// Ended by the OOM killer.
    #[inline]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }
    /// Makes every later fault and operation fail.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
    }
    /// CPUs that may hold translations.
    pub fn cpus(&self) -> sync::CpuMask {
        self.cpumask.load(Ordering::SeqCst)
    }
    /// The current TLB generation.
    pub fn generation(&self) -> u64 {
        self.tlb_gen.load(Ordering::Relaxed)
    }
    /// Resident pages (anonymous ones; there are no others yet).
    pub fn rss(&self) -> u64 {
        self.anon_pages.get()
    }
}

/// A counted handle on an address space.
pub struct MmRef(u32);

impl MmRef {
    /// A new, empty address space.
    ///
    /// # Errors
    /// [`MmError::NoMemory`] when there is no object or no frame for the PGD.
    pub fn new() -> Result<Self, MmError> {
        let id = MMS.alloc()?;
        let mm = MMS.get(id);
        let root = match crate::pt::alloc_root() {
            Ok(root) => root,
            Err(_) => {
                MMS.free(id);
                return Err(MmError::NoMemory);
            }
        };
        mm.root.store(root.0, Ordering::Relaxed);
        mm.killed.store(false, Ordering::Relaxed);
        for gauge in [&mm.anon_pages, &mm.swap_entries, &mm.tables, &mm.total_vm] {
            gauge.reset();
        }
        mm.tables.add(1);
        // Release pairs with the Acquire of `by_id_live`: who finds users > 0 sees the fields above.
        mm.users.store(1, Ordering::Release);
        Ok(Self(id))
    }

    /// A handle on the address space with this id, if it is live.
    pub fn by_id_live(id: u32) -> Option<Self> {
        if id >= id_limit() {
            return None;
        }
        MMS.get(id)
            .users
            .try_update(Ordering::Acquire, Ordering::Relaxed, |n| {
                if n == 0 { None } else { Some(n + 1) }
            })
            .ok()
            .map(|_| Self(id))
    }

    /// Gives the handle up, unless it is the last one: then it comes back.
    ///
    /// # Errors
    /// The handle, when dropping it would tear the address space down.
    pub(crate) fn put_unless_last(self) -> Result<(), Self> {
        // Release: what was done through this handle comes before the teardown.
        let before = self
            .users
            .try_update(Ordering::Release, Ordering::Relaxed, |n| {
                (n > 1).then(|| n - 1)
            });
        match before {
            Ok(_) => {
                core::mem::forget(self);
                Ok(())
            }
            Err(_) => Err(self),
        }
    }

    /// The handle that somebody forgot and left the id of.
    pub(crate) fn adopt_handle(id: u32) -> Self {
        Self(id)
    }

    /// The id: small, and reused after the address space is gone.
    #[inline]
    pub fn id(&self) -> u32 {
        self.0
    }
}

impl Clone for MmRef {
    fn clone(&self) -> Self {
        self.users.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl core::ops::Deref for MmRef {
    type Target = Mm;
    #[inline]
    fn deref(&self) -> &Mm {
        MMS.get(self.0)
    }
}

impl Drop for MmRef {
    fn drop(&mut self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            crate::ops::exit::teardown(self.0, MMS.get(self.0));
            MMS.free(self.0);
        }
    }
}
