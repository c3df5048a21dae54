//! Damage done on purpose at the end of a run, one kind for each oracle that no missing fix makes
//! speak, and undone before the next. A does it, B looks on.

#[cfg(debug_assertions)]
use sync::Rank;

use core::sync::atomic::Ordering::Relaxed;

use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::MapFlags;
use sync::point::{self, AccessKind, class, object};

use super::play::{HOME, Play, dont_need, must, one_filled_page, whatever};
use crate::race::stage::Stage;

/// A handle that nobody gives back.
pub(super) static LEAK: Play = Play {
    name: "planted-leak",
    about: "A forgets a handle on its address space",
    run: |stage, me| {
        if me == 0 {
            core::mem::forget(mm::MmRef::clone(&stage.space(0)));
        }
    },
    ..Play::NEW
};

/// A lock that an actor ends with, taken as a bit lock outside of `sync` is. Only checked builds
/// know of it.
#[cfg(debug_assertions)]
pub(super) static LOCK: Play = Play {
    name: "planted-lock",
    about: "A ends with a lock held",
    run: |_, me| {
        if me == 0 {
            sync::lock_acquired(Rank::FolioLock, true);
        }
    },
    leave: |_, me| {
        if me == 0 {
            sync::lock_released(Rank::FolioLock);
        }
    },
    ..Play::NEW
};

/// A page that is counted and not there.
pub(super) static MISCOUNT: Play = Play {
    name: "planted-miscount",
    about: "A counts a page too many",
    run: |stage, me| {
        if me == 0 {
            stage.space(0).anon_pages.add(1);
        }
    },
    leave: |stage, me| {
        if me == 0 {
            stage.space(0).anon_pages.add(-1);
        }
    },
    ..Play::NEW
};

/// Pages of areas, counted and not there.
pub(super) static TOTAL_VM: Play = Play {
    name: "planted-total-vm",
    about: "A counts a page of an area too many",
    run: |stage, me| {
        if me == 0 {
            stage.space(0).total_vm.add(1);
        }
    },
    leave: |stage, me| {
        if me == 0 {
            stage.space(0).total_vm.add(-1);
        }
    },
    ..Play::NEW
};

/// A page table that is counted and not there.
pub(super) static TABLES: Play = Play {
    name: "planted-tables",
    about: "A counts a page table too many",
    run: |stage, me| {
        if me == 0 {
            stage.space(0).tables.add(1);
        }
    },
    leave: |stage, me| {
        if me == 0 {
            stage.space(0).tables.add(-1);
        }
    },
    ..Play::NEW
};

/// A folio that reclaim does not find any more.
pub(super) static UNLISTED: Play = Play {
    name: "planted-unlisted",
    about: "A takes a page off its list of reclaim's",
    setup: one_filled_page,
    run: |stage, me| {
        if me == 0 {
            set_listed(stage, false);
        }
    },
    leave: |stage, me| {
        if me == 0 {
            set_listed(stage, true);
        }
    },
    ..Play::NEW
};

fn set_listed(stage: &Stage, listed: bool) {
    let pfn: Option<Pfn> = stage.glance(0, HOME);
    if let Some(pfn) = pfn {
        mm::explore::set_listed(pfn, listed);
    }
}

/// Past everything: the word of the page that is mapped at `va` becomes `value`.
fn scribble(stage: &Stage, va: VirtAddr, value: u64) {
    if let Some(pfn) = stage.glance(0, va) {
        // Others see it: the search has to know.
        point::touch(AccessKind::Write, || {
            object(class::CONTENT, u64::from(pfn.0))
        });
        mm::explore::words(pfn)[(va.0 % PAGE_SIZE) as usize / 8].store(value, Relaxed);
    }
}

/// A word that nobody stores to.
pub(super) static BESIDE: Play = Play {
    name: "planted-beside",
    about: "A damages a word at the end of a page that B stores to and reads",
    setup: one_filled_page,
    run: |stage, me| {
        if me == 0 {
            return scribble(stage, VirtAddr(HOME.0 + PAGE_SIZE - 8), 0xdead);
        }
        must(stage, "store", stage.store(HOME, 2));
        whatever(stage.load(HOME));
    },
    ..Play::NEW
};

/// What was given up comes back.
pub(super) static BACK: Play = Play {
    name: "planted-back",
    about: "A gives a page up, stores beside what was there, and has it back",
    setup: one_filled_page,
    run: |stage, me| {
        if me == 0 {
            dont_need(stage, 0, HOME, 1);
            must(stage, "store", stage.store(VirtAddr(HOME.0 + 8), 2));
            scribble(stage, HOME, 1);
        }
    },
    ..Play::NEW
};

/// The same of a file.
pub(super) static FILE_BACK: Play = Play {
    name: "planted-file-back",
    about: "A makes a hole in a file, stores beside what was there, and has it back",
    setup: |stage| {
        stage.open_file(0, 1)?;
        stage.on_disk(0, 0, 1);
        let space = mm::MmRef::new()?;
        stage.map_file(&space, HOME, 1, 0, 0, MapFlags::SHARED)?;
        stage.put(0, space);
        Ok(())
    },
    run: |stage, me| {
        if me == 0 {
            must(stage, "punch", stage.punch_file(0, 0, PAGE_SIZE));
            must(stage, "store", stage.store(VirtAddr(HOME.0 + 8), 2));
            scribble(stage, HOME, 1);
        }
    },
    ..Play::NEW
};
