//! Huge pages: mapped by one PMD, and split where less than all of one is meant (rules 4 and 11).

use alloc::format;
use alloc::string::String;

use arch::PAGE_SIZE;
use arch::addr::{HPAGE_PMD_ORDER, PMD_SIZE};
use arch::upcall::FaultError;
use mm::knobs::Knob;
use mm::{Advice, MmError, Prot};

use super::play::{
    HOME, LOCK_STOPS, Play, dont_need, fork, move_to, must, one_space, page, remember_frame,
    remembered, unmap, write_through,
};
use crate::race::stage::Stage;

/// Pages in a huge one.
const PAGES: u64 = 1 << HPAGE_PMD_ORDER;
/// The last of them.
const LAST: u64 = PAGES - 1;

/// An area that is to have a huge page.
fn advised(stage: &Stage) -> Result<(), MmError> {
    one_space(stage, PAGES)?;
    stage.space(0).madvise(HOME, PMD_SIZE, Advice::HugePage)
}

/// The same, with the page in it: its first and its last word are 1.
fn huge_page(stage: &Stage) -> Result<(), MmError> {
    advised(stage)?;
    stage.fill(0, HOME, 1)?;
    stage.fill(0, page(LAST), 1)
}

/// B has the huge page in its TLB, written.
fn b_wrote(stage: &'static Stage, me: usize) {
    if me == 1 {
        must(stage, "store", stage.store(HOME, 2));
        must(stage, "store", stage.store(page(LAST), 2));
    }
}

/// So many huge pages are mapped at the end.
fn mapped(stage: &Stage, wanted: u64) -> Result<(), String> {
    let found = stage.space(0).anon_huge.get();
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{found} huge pages are mapped, not {wanted}"))
    }
}

/// The access went well, or failed with `error`.
fn may_fail(stage: &Stage, done: Result<(), FaultError>, error: FaultError) {
    if done != Err(error) {
        must(stage, "store", done);
    }
}

/// A takes the right to write `len` bytes from the first page on away. What is there stays from
/// then on.
fn protect(stage: &Stage, len: u64) {
    let out = stage.space(0).mprotect(HOME, len, Prot::READ);
    must(stage, "mprotect", out);
    let before = stage.load(HOME);
    // Loads alone would be one step.
    remember_frame(stage, HOME);
    let after = stage.load(HOME);
    if let (Ok(before), Ok(after)) = (before, after)
        && before != after
    {
        let text = format!("read-only memory held {before:#x}, and holds {after:#x}");
        stage.violated("protection", text);
    }
}

/// Rule 4.
pub(super) static HUGE_FAULT_VS_FAULT: Play = Play {
    name: "huge-fault-vs-fault",
    about: "A and B touch two pages of an empty area that may have a huge page",
    fixes: &[Knob::PmdRecheck],
    huge_pages: 1,
    setup: advised,
    run: |stage, me| {
        let va = page(me as u64 * LAST);
        must(stage, "store", stage.store(va, 3));
        must(stage, "load", stage.load(va).map(drop));
    },
    ..Play::NEW
};

/// Rule 1.
pub(super) static HUGE_ZAP_VS_FAULT: Play = Play {
    name: "huge-zap-vs-fault",
    about: "A gives up a huge page that B, which has it in its TLB, writes and reads",
    fixes: &[Knob::TlbFlush],
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return dont_need(stage, 0, HOME, PAGES);
        }
        must(stage, "store", stage.store(page(LAST), 3));
        must(stage, "load", stage.load(page(LAST)).map(drop));
    },
    ..Play::NEW
};

/// Rule 11.
pub(super) static SPLIT_PMD_VS_FAULT: Play = Play {
    name: "split-pmd-vs-fault",
    about: "A gives up the first page of a huge one, which is split for it, while B writes and reads the last",
    fixes: &[Knob::HugeFlush],
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return dont_need(stage, 0, HOME, 1);
        }
        must(stage, "store", stage.store(page(LAST), 3));
        // A page that its TLB does not have yet.
        must(stage, "load", stage.load(page(1)).map(drop));
    },
    check: |stage| mapped(stage, 0),
    ..Play::NEW
};

/// Rules 3 and 11.
pub(super) static SPLIT_PMD_VS_MPROTECT: Play = Play {
    name: "split-pmd-vs-mprotect",
    about: "A takes the right to write the first page of a huge one away while B writes it, and the last",
    fixes: &[Knob::WpFlush],
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return protect(stage, PAGE_SIZE);
        }
        must(stage, "store", stage.store(page(LAST), 3));
        for value in [3, 4] {
            may_fail(stage, stage.store(HOME, value), FaultError::Protection);
        }
    },
    check: |stage| mapped(stage, 0),
    ..Play::NEW
};

/// Rule 3, of a whole huge page: it stays one.
pub(super) static HUGE_MPROTECT_VS_WRITE: Play = Play {
    name: "huge-mprotect-vs-write",
    about: "A takes the right to write a huge page away and gives it back while B writes it",
    fixes: &[Knob::WpFlush],
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            protect(stage, PMD_SIZE);
            let out = stage.space(0).mprotect(HOME, PMD_SIZE, Prot::RW);
            return must(stage, "mprotect", out);
        }
        may_fail(stage, stage.store(HOME, 3), FaultError::Protection);
    },
    check: |stage| mapped(stage, 1),
    ..Play::NEW
};

/// Rules 3 and 11: parent and child share the pages of what was a huge one.
pub(super) static FORK_VS_SPLIT: Play = Play {
    name: "fork-vs-split",
    about: "A forks, which splits a huge page, while B writes the last page of it",
    fixes: &[Knob::WpFlush],
    stops: LOCK_STOPS,
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return fork(stage);
        }
        for value in [3, 4] {
            must(stage, "store", stage.store(page(LAST), value));
        }
    },
    check: |stage| mapped(stage, 0),
    ..Play::NEW
};

/// Rules 1 and 11.
pub(super) static MREMAP_VS_SPLIT: Play = Play {
    name: "mremap-vs-split",
    about: "A moves what a huge page maps while B writes the last page of it, here or there",
    fixes: &[Knob::TlbFlush],
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return move_to(stage, 0, HOME, PAGES, page(2 * PAGES));
        }
        for value in [3, 4] {
            may_fail(stage, stage.store(page(LAST), value), FaultError::Unmapped);
        }
    },
    check: |stage| mapped(stage, 0),
    ..Play::NEW
};

/// Rule 1, of part of a huge page.
pub(super) static UNMAP_PART_VS_FAULT: Play = Play {
    name: "unmap-part-vs-fault",
    about: "A unmaps the last page of a huge one while B writes it, and the first",
    fixes: &[Knob::TlbFlush],
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return unmap(stage, 0, page(LAST));
        }
        must(stage, "store", stage.store(HOME, 3));
        may_fail(stage, stage.store(page(LAST), 3), FaultError::Unmapped);
    },
    check: |stage| mapped(stage, 0),
    ..Play::NEW
};

/// Rule 11: reclaim takes no reference and no lock of a space.
pub(super) static SPLIT_VS_RECLAIM: Play = Play {
    name: "split-vs-reclaim",
    about: "A, as reclaim, splits a huge page that B writes and gives up",
    fixes: &[Knob::HugeFlush],
    spaces: &[None, Some(0)],
    stops: LOCK_STOPS,
    huge_pages: 1,
    setup: |stage| {
        huge_page(stage)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            // It may be gone by then.
            mm::reclaim::split_huge(remembered(stage));
            return;
        }
        must(stage, "store", stage.store(page(LAST), 3));
        must(stage, "load", stage.load(page(1)).map(drop));
        dont_need(stage, 0, HOME, PAGES);
    },
    ..Play::NEW
};

/// Rule 11: a table takes the place of a huge page whose flush is still owed.
pub(super) static HUGE_ZAP_VS_LOAD: Play = Play {
    name: "huge-zap-vs-load",
    about: "A gives up a huge page that B has in its TLB, and B loads another page of it",
    fixes: &[Knob::GatheredPending],
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return dont_need(stage, 0, HOME, PAGES);
        }
        must(stage, "load", stage.load(page(1)).map(drop));
    },
    ..Play::NEW
};

/// Nothing but its family's lock keeps what reclaim goes by.
pub(super) static EXIT_VS_SPLIT: Play = Play {
    name: "exit-vs-split",
    about: "A, as reclaim, splits the only huge page of a space that ends",
    fixes: &[],
    spaces: &[None, None],
    huge_pages: 1,
    setup: |stage| {
        huge_page(stage)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    run: |stage, me| match me {
        0 => mm::reclaim::split_huge(remembered(stage)),
        _ => drop(stage.take(0)),
    },
    ..Play::NEW
};

/// Rule 11: what moves is a huge page, or a table.
pub(super) static MREMAP_VS_RECLAIMED: Play = Play {
    name: "mremap-vs-reclaimed",
    about: "A, as reclaim, splits the only huge page of a space, and B moves what it maps",
    fixes: &[],
    spaces: &[None, Some(0)],
    huge_pages: 1,
    setup: |stage| {
        huge_page(stage)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    run: |stage, me| match me {
        0 => mm::reclaim::split_huge(remembered(stage)),
        _ => move_to(stage, 0, HOME, PAGES, page(2 * PAGES)),
    },
    check: |stage| mapped(stage, 0),
    ..Play::NEW
};

/// Rule 5: a lockless walker finds a huge page, a table, or the page of one.
pub(super) static SPLIT_VS_WALKER: Play = Play {
    name: "split-vs-walker",
    about: "A splits a huge page and gives the last page of it up while B writes the first through a reference from the lockless walk",
    fixes: &[],
    huge_pages: 1,
    setup: huge_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return dont_need(stage, 0, page(LAST), 1);
        }
        write_through(stage);
    },
    check: |stage| mapped(stage, 0),
    ..Play::NEW
};
