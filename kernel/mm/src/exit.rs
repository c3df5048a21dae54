//! The end of an address space: everything it maps goes, then its tables, then its root. And what
//! comes before that for one that was killed: its pages go while threads still have it ([`reap`]).
//!
//! [`teardown`] runs when the last handle goes, so no thread has it adopted and no fault is under
//! way; CPUs may still be lazy on its root, and the last flush makes them leave. Sleeps
//! (`mmap_lock`, locks of reverse maps).

use crate::buddy;
use crate::knobs::{self, Knob};
use crate::mm::Mm;
use crate::pt::gather::Gather;
use crate::pt::{free_table, tlb};
use crate::vma::{edit, vma};
use crate::zap;
use arch::USER_TOP;
use core::sync::atomic::Ordering;

/// Takes every page of a killed address space away at once, as MADV_DONTNEED would, under its
/// `mmap_lock` held shared. That is only tried: false when it is not to be had, because a holder
/// may be waiting for memory himself, or is [`teardown`], which gives back all of it. An object
/// that has meanwhile ended, or begun another life, is left alone: under the lock it cannot.
pub(crate) fn reap(id: u32, mm: &Mm) -> bool {
    let Some(set) = mm.mmap_lock.try_read() else {
        return false;
    };
    if mm.users.load(Ordering::Acquire) > 0 && mm.is_killed() {
        let mut gather = Gather::new(id, mm);
        for (_, vma) in set.iter() {
            zap::all(&mut gather, vma.start(), vma.end());
        }
        drop(gather);
        mm.note_reaped();
    }
    buddy::pcp::drain();
    true
}

pub(crate) fn teardown(id: u32, mm: &Mm) {
    let mut set = mm.mmap_lock.write();
    let mut gather = Gather::new(id, mm);
    for (_, area) in set.iter() {
        zap::all(&mut gather, area.start(), area.end());
    }
    // From the lowest area up: a table goes with the last area that it covers some of.
    while let Some(vma_id) = set.pop() {
        let (start, end) = (vma(vma_id).start(), vma(vma_id).end());
        let next = set.first().map_or(USER_TOP, |above| vma(above).start());
        if !knobs::on(Knob::UnlinkFirst) {
            zap::tables(&mut gather, start, end, 0, next);
            gather.flush();
        }
        edit::discard(vma_id);
        zap::tables(&mut gather, start, end, 0, next);
    }
    // Under the explorer a rule may be broken: its oracles find what was lost.
    let judged = sync::point::exploring();
    debug_assert!(judged || mm.tables.get() == 1, "a table without an area");
    debug_assert!(
        judged
            || mm.anon_pages.raw() == 0 && mm.file_pages.raw() == 0 && mm.swap_entries.raw() == 0,
        "pages {}, of files {}, and swap entries {} counted in an empty address space",
        mm.anon_pages.raw(),
        mm.file_pages.raw(),
        mm.swap_entries.raw()
    );
    drop(gather);
    // Even an mm without tables below its root may be some CPU's lazy root.
    if !mm.cpus().is_empty() {
        tlb::flush_range(id, mm, 0, USER_TOP, true);
    }
    debug_assert!(
        mm.cpus().is_empty(),
        "a CPU is still on the root of a dead address space"
    );
    free_table(mm.root());
    mm.note_reaped();
    drop(set);
}
