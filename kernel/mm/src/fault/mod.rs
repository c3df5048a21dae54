//! Page faults: from an address and an access to an entry that allows it.
//!
//! Runs in the faulting thread with interrupts on; sleeps (for memory, for the disk). Takes
//! `mmap_lock` shared; that keeps areas and tables in place, so entries may be looked at without a
//! lock, and each change re-checks under the PTL what was seen before. Frames and tables are
//! allocated with no PTL held. Only a page that enters the page cache may need something from the
//! heap. Faults on different CPUs run in parallel; the PTL decides.

mod anon;
mod cow;
mod file;
mod huge;
mod migration;
pub mod stack;
pub mod swap;

use self::huge::{AtPmd, Next};
use crate::adopt;
use crate::buddy::{self, Oom};
use crate::file::mapped::balance;
use crate::frame::NIL;
use crate::handle::MmRef;
use crate::knobs::{self, Knob};
use crate::mm::{Mm, by_id};
use crate::pt::{Pmd, PmdRef, PteLocked, TableRef, same};
use crate::rounds::Rounds;
use crate::stats::{Event, count};
use crate::vma::{Vma, vm};
use arch::VirtAddr;
use arch::pte::{self, Entry};
use arch::upcall::{Access, FaultError};

/// What became of one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The entry allows the access now.
    Done,
    /// Something changed meanwhile: look again from the start.
    Retry,
    /// As `Done`, and a page of a file became dirty: there may be too much of that.
    Dirtied,
}

/// One attempt at a fault: the area is found and allows the access.
pub(crate) struct Fault<'a> {
    pub(crate) mm_id: u32,
    pub(crate) mm: &'a Mm,
    pub(crate) vma: &'static Vma,
    /// The page's first byte.
    pub(crate) va: VirtAddr,
    pub(crate) write: bool,
    /// The PTE table of the page, kept by `mmap_lock`.
    pub(crate) table: TableRef,
}

/// Resolves a fault of the running thread in the address space it has adopted.
///
/// # Errors
/// What the access fails with.
pub fn current(va: VirtAddr, access: Access) -> Result<(), FaultError> {
    let id = adopt::current().ok_or(FaultError::Unmapped)?;
    handle(id, by_id(id), va, access)
}

impl MmRef {
    /// Resolves a fault at `va`. Knows no caller: a later user mode comes this way too.
    ///
    /// # Errors
    /// What the access fails with.
    pub fn fault(&self, va: VirtAddr, access: Access) -> Result<(), FaultError> {
        handle(self.id(), self, va, access)
    }
}

/// Resolves a fault at `va` in `mm`, whose id is `mm_id`. Somebody holds a handle on it.
///
/// # Errors
/// What the access fails with.
fn handle(mm_id: u32, mm: &Mm, va: VirtAddr, access: Access) -> Result<(), FaultError> {
    count(Event::PgFault);
    let mut rounds = Rounds::new();
    loop {
        if mm.is_killed() {
            return Err(FaultError::Killed);
        }
        match attempt(mm_id, mm, va, access) {
            Ok(Step::Done) => return Ok(()),
            Ok(Step::Dirtied) => return dirtied(),
            Ok(Step::Retry) if rounds.go_on() => {}
            // What the entry names is not to be had.
            Ok(Step::Retry) => return Err(FaultError::Bus),
            Err(Stop::Signal(e)) => return Err(e),
            Err(Stop::Grow) => stack::expand(mm, va).map_err(|_| FaultError::Unmapped)?,
            Err(Stop::Oom) => out_of_memory(mm),
        }
    }
}

/// An allocation was refused, which is no verdict on who has asked: another one who waits for the
/// same memory may have been the victim. Asks reclaim and the OOM killer again; then the fault
/// looks again, and finds out if it was this space that they chose (Linux:
/// `pagefault_out_of_memory`).
#[cold]
#[inline(never)]
fn out_of_memory(mm: &Mm) {
    if !mm.is_killed() {
        buddy::relieve();
    }
}

/// The end of a fault that made a page of a file dirty. (Apart, so that others do not pay for what
/// it needs.)
#[inline(never)]
fn dirtied() -> Result<(), FaultError> {
    balance();
    Ok(())
}

/// Why an attempt could not finish.
pub(crate) enum Stop {
    /// The access is not allowed or cannot be served.
    Signal(FaultError),
    /// Just below a stack: grow it, then look again.
    Grow,
    /// No frame, and nothing more to reclaim.
    Oom,
}

impl From<Oom> for Stop {
    fn from(_: Oom) -> Self {
        Self::Oom
    }
}

fn attempt(mm_id: u32, mm: &Mm, va: VirtAddr, access: Access) -> Result<Step, Stop> {
    let set = mm.mmap_lock.read();
    let vma = set.find(va).ok_or(Stop::Signal(FaultError::Unmapped))?;
    if !vma.contains(va) {
        return Err(if vma.has(vm::GROWSDOWN) {
            Stop::Grow
        } else {
            Stop::Signal(FaultError::Unmapped)
        });
    }
    let needs = match access {
        Access::Read => vm::READ,
        Access::Write => vm::WRITE,
        Access::Exec => vm::EXEC,
    };
    // As on x86: what may be written or executed may be read.
    let allowed = vma.has(needs) || (access == Access::Read && vma.flags() & vm::PROT != 0);
    if !allowed {
        return Err(Stop::Signal(FaultError::Protection));
    }
    let pmd = PmdRef::lookup_or_alloc(mm, va)?;
    let table = match pmd.read() {
        Pmd::Table(table) => table,
        other => {
            let write = access == Access::Write;
            let at = AtPmd {
                mm_id,
                mm,
                vma,
                va,
                write,
                pmd,
            };
            match at.resolve(other)? {
                Next::Table(table) => table,
                Next::Done => return Ok(Step::Done),
                Next::Retry => return Ok(Step::Retry),
            }
        }
    };
    let fault = Fault {
        mm_id,
        mm,
        vma,
        va: va.page(),
        write: access == Access::Write,
        table,
    };
    fault.resolve()
}

impl Fault<'_> {
    fn resolve(&self) -> Result<Step, Stop> {
        // Without the lock: a hint what to prepare. Each branch looks again under the PTL.
        let entry = self.table.peek(self.va);
        if entry.is_none() {
            if self.vma.file() != NIL {
                self.file_page()
            } else if self.write {
                self.first_write()
            } else {
                self.first_read()
            }
        } else if entry.is_present() {
            self.present(entry)
        } else if entry.is_swap() {
            self.swap_in(entry)
        } else if entry.is_migration() {
            Ok(self.wait_for_migration(entry))
        } else {
            Err(Stop::Signal(FaultError::Protection))
        }
    }

    /// The PTL of the fault's entry; `None` when the PMD names another table now: look again from
    /// there.
    #[inline]
    pub(crate) fn lock(&self) -> Option<PteLocked> {
        self.table.lock(self.va).ok()
    }

    /// The PTL, if the entry still is what it was but for the MMU's own bits.
    #[inline]
    pub(crate) fn lock_same(&self, seen: Entry) -> Option<PteLocked> {
        let pte = self.lock()?;
        (same(pte.get(), seen) || !knobs::on(Knob::PteRecheck)).then_some(pte)
    }

    /// A translation exists: the access needs the write bit, or another CPU was faster.
    fn present(&self, entry: Entry) -> Result<Step, Stop> {
        if self.write && !entry.is_write() {
            return self.write_protected(entry);
        }
        let Some(mut pte) = self.lock_same(entry) else {
            return Ok(Step::Retry);
        };
        count(Event::SpuriousFault);
        pte.strengthen(pte::ACCESSED | if self.write { pte::DIRTY } else { 0 });
        // Hardware may keep the weaker translation that faulted; it is this CPU's alone to forget.
        arch::invlpg(self.va);
        Ok(Step::Done)
    }

    /// Bits of a new entry for this access: writable and dirty only when it is a write.
    pub(crate) fn bits(&self) -> u64 {
        let write = if self.write {
            pte::WRITE | pte::DIRTY
        } else {
            0
        };
        self.vma.entry_bits() | pte::ACCESSED | write
    }
}
