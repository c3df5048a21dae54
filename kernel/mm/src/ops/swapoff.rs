//! swapoff: brings every page of the swap area back and takes the area away, while everything else
//! runs.
//!
//! Holds the swapon mutex; takes `mmap_lock` shared, one address space at a time, and goes through
//! the fault path for each entry; then what files in memory have there. The area hands out no slot
//! from the start, so the pages in use only get fewer; forks may copy entries to address spaces
//! already seen, hence the rounds. Frames come without reclaim: it is swapoff that fails when
//! memory is short, not somebody else. Sleeps.

use crate::buddy::Gfp;
use crate::error::MmError;
use crate::fault::{Fault, Step, Stop};
use crate::file::memory;
use crate::handle::MmRef;
use crate::mm::{Mm, id_limit};
use crate::pt::range::Tables;
use crate::rounds::Rounds;
use crate::swap::{self, SwapOpError, area, cache};
use arch::VirtAddr;
use arch::addr::PAGE_SIZE;
use sync::MutexGuard;

/// Stops swapping.
///
/// # Errors
/// [`SwapOpError::NotInUse`]; [`SwapOpError::NoMemory`] when the pages do not fit into memory;
/// [`SwapOpError::Io`] when a page cannot be read; [`SwapOpError::Lost`] where a rule of order is
/// switched off. The area stays in use then, with fewer pages.
pub fn swapoff() -> Result<(), SwapOpError> {
    end(&swap::SWAPON.lock())
}

/// For the explorer, which has stopped the flusher: as [`swapoff`], where nobody else is about to.
///
/// # Errors
/// As [`swapoff`]; [`SwapOpError::InUse`] where somebody is.
#[cfg(feature = "lab")]
pub(crate) fn swapoff_at_once() -> Result<(), SwapOpError> {
    end(&swap::SWAPON.try_lock().ok_or(SwapOpError::InUse)?)
}

fn end(_one: &MutexGuard<'_, ()>) -> Result<(), SwapOpError> {
    if area::device().is_none() {
        return Err(SwapOpError::NotInUse);
    }
    area::close();
    loop {
        let result = empty();
        if result.is_err() {
            area::reopen();
            return result;
        }
        if swap::close() {
            return Ok(());
        }
        if !area::is_closed() {
            return Err(SwapOpError::NoMemory);
        }
    }
}

fn empty() -> Result<(), SwapOpError> {
    let (mut rounds, mut least) = (Rounds::new(), u64::MAX);
    while area::next_in_use(0).is_some() {
        let others = area::Others::so_far();
        let used = swap::stats().used;
        if used < least {
            (rounds, least) = (Rounds::new(), used);
        } else if !rounds.go_on() {
            return Err(SwapOpError::Lost);
        }
        if !area::is_closed() {
            return Err(SwapOpError::NoMemory);
        }
        for id in 0..id_limit() {
            let Some(mm) = MmRef::by_id_live(id) else {
                continue;
            };
            if mm.swap_entries.get() > 0 {
                bring_back(id, &mm)?;
            }
        }
        memory::bring_all_back(Gfp::NOWAIT, area::is_closed).map_err(|e| match e {
            MmError::Io => SwapOpError::Io,
            _ => SwapOpError::NoMemory,
        })?;
        if !cache::sweep() && area::next_in_use(0).is_some() {
            others.wait();
        }
    }
    Ok(())
}

/// Maps every page of `mm` that is on disk.
fn bring_back(mm_id: u32, mm: &Mm) -> Result<(), SwapOpError> {
    let set = mm.mmap_lock.read();
    for (_, vma) in set.iter() {
        for span in Tables::beside_huge(mm, vma.start(), vma.end()) {
            let pages = (span.start..span.end).step_by(PAGE_SIZE as usize);
            for va in pages.map(VirtAddr) {
                one_page(&Fault {
                    mm_id,
                    mm,
                    vma,
                    va,
                    write: false,
                    table: span.table,
                })?;
            }
        }
    }
    Ok(())
}

fn one_page(fault: &Fault<'_>) -> Result<(), SwapOpError> {
    if !area::is_closed() {
        // Somebody needed memory so badly that reclaim may swap again.
        return Err(SwapOpError::NoMemory);
    }
    loop {
        let entry = fault.table.peek(fault.va);
        if !entry.is_swap() {
            return Ok(());
        }
        match fault.swap_in_with(entry, Gfp::NOWAIT) {
            Ok(Step::Done | Step::Dirtied) => return Ok(()),
            Ok(Step::Retry) => sync::threads().yield_now(),
            Err(Stop::Oom) => return Err(SwapOpError::NoMemory),
            Err(_) => return Err(SwapOpError::Io),
        }
    }
}
