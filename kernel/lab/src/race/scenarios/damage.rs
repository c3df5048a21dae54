//! Damage done on purpose at the end of a run, one kind for each oracle that no missing fix makes speak, and undone
//! before the next. A does it, B looks on.

#[cfg(debug_assertions)]
use sync::Rank;

use super::play::Play;

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

/// A lock that an actor ends with, taken as a bit lock outside of `sync` is. Only checked builds know of it.
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
