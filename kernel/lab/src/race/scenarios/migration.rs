//! A page goes to another frame under the hands of everything that uses it.

use alloc::format;
use alloc::string::String;

use arch::PAGE_SIZE;
use arch::upcall::{Access, FaultError};
use mm::knobs::Knob;
use mm::migrate::Stays;
use mm::{Advice, MmError, Prot};

use super::play::{
    BESIDE, FEW_STOPS, HOME, Play, b_wrote, dont_need, family, fork, free, move_to, must,
    one_filled_page, one_space, page, page_in_both, page_on_disk, remember_frame, remembered,
    shared_page, write_through,
};
use crate::race::stage::Stage;

/// A page that is there, and whose frame is known.
fn known_page(stage: &Stage) -> Result<(), MmError> {
    one_filled_page(stage)?;
    remember_frame(stage, HOME);
    Ok(())
}

/// The same, shared by parent and child.
fn known_shared_page(stage: &Stage) -> Result<(), MmError> {
    shared_page(stage)?;
    remember_frame(stage, HOME);
    Ok(())
}

/// The page has to be in another frame afterwards: no actor takes a reference on it.
fn must_migrate(stage: &Stage) {
    must(stage, "migrate", mm::migrate::one(remembered(stage)));
}

/// The page moves, unless another actor has it in hand.
fn migrate(stage: &Stage) {
    match mm::migrate::one(remembered(stage)) {
        Ok(()) | Err(Stays::Busy) => {}
        other => must(stage, "migrate", other),
    }
}

/// Rules 1 and 17: no store is lost, and a fault that has to wait does not keep the page from
/// moving.
pub(super) static MIGRATE_VS_FAULT: Play = Play {
    name: "migrate-vs-fault",
    about: "A moves a page to another frame while B, which has it in its TLB, writes and reads it",
    fixes: &[Knob::MigrateFlush, Knob::MigrateCopy, Knob::MigrateWait],
    spaces: &[None, Some(0)],
    setup: known_page,
    enter: b_wrote,
    run: |stage, me| {
        if me == 0 {
            return must_migrate(stage);
        }
        must(stage, "store", stage.store(HOME, 2));
        must(stage, "load", stage.load(HOME));
    },
    ..Play::NEW
};

/// An entry that goes while its page is on the way.
pub(super) static MIGRATE_VS_ZAP: Play = Play {
    name: "migrate-vs-zap",
    about: "A moves a page, which B, with the page in its TLB, drops and stores to anew",
    fixes: &[Knob::MigrateFlush],
    run: |stage, me| {
        if me == 0 {
            return migrate(stage);
        }
        dont_need(stage, 0, HOME, 1);
        must(stage, "store", stage.store(HOME, 2));
        must(stage, "load", stage.load(HOME));
    },
    ..MIGRATE_VS_FAULT
};

/// Rules 16 and 17: what a fork finds of a page that moves is shared from then on, and the walk
/// that brings the entries back comes to the child's after the parent's.
pub(super) static MIGRATE_VS_FORK: Play = Play {
    name: "migrate-vs-fork",
    about: "A moves a page while B forks and then writes it; the child has it as it was",
    fixes: &[Knob::MigrateShared, Knob::WpFlush, Knob::ChildAfter],
    run: |stage, me| {
        if me == 0 {
            return migrate(stage);
        }
        fork(stage);
        must(stage, "store", stage.store(HOME, 2));
    },
    ..MIGRATE_VS_FAULT
};

/// A copy of a page that is on the way, or was when its copier looked.
pub(super) static MIGRATE_VS_COW: Play = Play {
    name: "migrate-vs-cow",
    about: "A moves a page that parent and child share; B writes it in the parent, C reads it in the child",
    fixes: &[Knob::MigrateFlush],
    spaces: &[None, Some(0), Some(1)],
    stops: FEW_STOPS,
    setup: known_shared_page,
    enter: |stage, me| {
        if me != 0 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => migrate(stage),
        1 => must(stage, "store", stage.store(HOME, 2)),
        _ => must(stage, "load", stage.load(HOME)),
    },
    ..MIGRATE_VS_FAULT
};

/// Rule 5: what a walker writes is in the page before the page is copied, and goes with it. (Two
/// lines guard that: the flush waits for the walker's CPU, and its reference keeps the page where
/// it is.)
pub(super) static MIGRATE_VS_WALKER: Play = Play {
    name: "migrate-vs-walker",
    about: "A moves a page, stores to it and swaps it out, while B writes it through a reference from the lockless walk",
    fixes: &[],
    spaces: &[Some(0), Some(0)],
    // Clean, with its copy on the disk: only the walker knows that it wrote.
    setup: |stage| {
        page_in_both(stage)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    enter: |_, _| (),
    run: |stage, me| {
        if me == 0 {
            migrate(stage);
            let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
            must(stage, "madvise", out);
            return must(stage, "store", stage.store(BESIDE, 7));
        }
        write_through(stage);
    },
    ..MIGRATE_VS_FAULT
};

/// Rule 17: a page with a reference on it stays where it is.
pub(super) static MIGRATE_VS_HELD: Play = Play {
    name: "migrate-vs-held",
    about: "A moves a page on which B has taken a reference by the lockless walk; B looks where it is",
    fixes: &[Knob::MigrateFreeze],
    run: |stage, me| {
        if me == 0 {
            return migrate(stage);
        }
        let irq = sync::irq::disable();
        let held = mm::adopt::follow_fast(&irq, HOME);
        drop(irq);
        if let Some(held) = held {
            stage.tick(1);
            // On its way it is nowhere.
            match stage.glance(0, HOME) {
                Some(now) if now != held.pfn() => {
                    let text = format!("{:?} is held, and {now:?} is mapped", held.pfn());
                    stage.violated("scenario", text);
                }
                _ => {}
            }
        }
    },
    spaces: &[Some(0), Some(0)],
    enter: |_, _| (),
    ..MIGRATE_VS_FAULT
};

/// A page that a disk is writing to stays where it is.
pub(super) static MIGRATE_VS_READAHEAD: Play = Play {
    name: "migrate-vs-readahead",
    about: "A moves the second of two pages on the disk, which B reads ahead, and loads",
    fixes: &[],
    setup: |stage| {
        one_space(stage, 2)?;
        stage.fill(0, HOME, 1)?;
        stage.fill(0, page(1), 2)?;
        let out = stage.space(0).madvise(HOME, 2 * PAGE_SIZE, Advice::PageOut);
        let slot = stage.slot_of(0, page(1));
        stage.set(0, u64::from(slot.ok_or(MmError::NotMapped)?));
        out
    },
    enter: |_, _| (),
    run: |stage, me| {
        if me == 1 {
            let space = stage.space(0);
            let asked = space.madvise(HOME, 2 * PAGE_SIZE, Advice::WillNeed);
            must(stage, "madvise", asked);
            return must(stage, "load", stage.load(page(1)));
        }
        match mm::migrate::one_in_slot(stage.get(0) as u32) {
            Ok(()) | Err(Stays::Busy) => {}
            other => must(stage, "migrate", other),
        }
    },
    ..MIGRATE_VS_FAULT
};

/// A reclaimer and a mover have the page one after the other.
pub(super) static MIGRATE_VS_RECLAIM: Play = Play {
    name: "migrate-vs-reclaim",
    about: "A moves a page that B, which has written it, swaps out and reads again",
    fixes: &[Knob::MigrateFlush],
    run: |stage, me| {
        if me == 0 {
            return migrate(stage);
        }
        let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
        must(stage, "madvise", out);
        must(stage, "load", stage.load(HOME));
        must(stage, "store", stage.store(HOME, 2));
    },
    ..MIGRATE_VS_FAULT
};

/// The swap cache follows: an entry that names the slot leads to the new frame.
pub(super) static MIGRATE_VS_SWAPIN: Play = Play {
    name: "migrate-vs-swapin",
    about: "A moves a page in the swap cache, which B writes in the parent; C faults it into the child from there",
    fixes: &[Knob::MigrateFlush],
    spaces: &[None, Some(0), Some(1)],
    stops: FEW_STOPS,
    setup: |stage| {
        page_on_disk(stage)?;
        family(stage, 0, 1)?;
        let faulted = stage.space(0).fault(HOME, Access::Read);
        faulted.map_err(|_| MmError::NotMapped)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => migrate(stage),
        1 => {
            must(stage, "load", stage.load(HOME));
            must(stage, "store", stage.store(HOME, 2));
        }
        _ => must(stage, "load", stage.load(HOME)),
    },
    ..MIGRATE_VS_FAULT
};

/// The entry is elsewhere when the page arrives.
pub(super) static MIGRATE_VS_MREMAP: Play = Play {
    name: "migrate-vs-mremap",
    about: "A moves a page to another frame while B, which has written it, moves it to another address and writes it there",
    fixes: &[Knob::MigrateFlush],
    run: |stage, me| {
        if me == 0 {
            return must_migrate(stage);
        }
        let there = page(8);
        move_to(stage, 0, HOME, 1, there);
        must(stage, "load", stage.load(there));
        must(stage, "store", stage.store(there, 2));
    },
    ..MIGRATE_VS_FAULT
};

/// The entry comes back with the rights that its area has by then.
pub(super) static MIGRATE_VS_MPROTECT: Play = Play {
    name: "migrate-vs-mprotect",
    about: "A moves a page that B makes read-only, and tries to write",
    fixes: &[],
    run: |stage, me| {
        if me == 0 {
            return must_migrate(stage);
        }
        let protected = stage.space(0).mprotect(HOME, PAGE_SIZE, Prot::READ);
        must(stage, "mprotect", protected);
        match stage.store(HOME, 2) {
            Err(FaultError::Protection) => {}
            other => stage.violated("scenario", format!("a store to it: {other:?}")),
        }
    },
    ..MIGRATE_VS_FAULT
};

/// MADV_FREE allows reclaim to drop the page until the next store, wherever the page is by then.
pub(super) static MIGRATE_VS_FREE: Play = Play {
    name: "migrate-vs-free",
    about: "A moves a page that B gives up, writes and reclaims",
    fixes: &[Knob::MigrateFlush],
    run: |stage, me| {
        if me == 0 {
            return migrate(stage);
        }
        free(stage, 0, HOME);
        must(stage, "store", stage.store(HOME, 2));
        let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
        must(stage, "madvise", out);
        must(stage, "load", stage.load(HOME));
    },
    ..MIGRATE_VS_FAULT
};

/// One of two has the page in hand.
pub(super) static MIGRATE_VS_MIGRATE: Play = Play {
    name: "migrate-vs-migrate",
    about: "A and B move the pages of an address space, which C writes",
    fixes: &[Knob::MigrateFlush],
    spaces: &[None, None, Some(0)],
    stops: FEW_STOPS,
    enter: |stage, me| {
        if me == 2 {
            must(stage, "store", stage.store(HOME, 1));
        }
    },
    run: |stage, me| {
        if me == 2 {
            return must(stage, "store", stage.store(HOME, 2));
        }
        match stage.space(0).move_pages(HOME, PAGE_SIZE) {
            Ok(done) if done.no_memory + done.files == 0 => {}
            other => stage.violated("scenario", format!("move_pages: {other:?}")),
        }
    },
    ..MIGRATE_VS_FAULT
};

/// An address space that ends while its page is on the way.
pub(super) static MIGRATE_VS_EXIT: Play = Play {
    name: "migrate-vs-exit",
    about: "A moves a page of a child's, and its parent's, while B ends the child; C writes in the parent",
    fixes: &[Knob::MigrateFlush],
    spaces: &[None, None, Some(0)],
    stops: FEW_STOPS,
    setup: known_shared_page,
    enter: |stage, me| {
        if me == 2 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => migrate(stage),
        1 => drop(stage.take(1)),
        _ => must(stage, "store", stage.store(HOME, 2)),
    },
    ..MIGRATE_VS_FAULT
};

/// Where there is no frame the page stays.
pub(super) static MIGRATE_REFUSED: Play = Play {
    name: "migrate-refused",
    about: "A moves a page, for which there is no frame, while B writes it",
    fixes: &[],
    run: |stage, me| {
        if me == 1 {
            return must(stage, "store", stage.store(HOME, 2));
        }
        mm::explore::refuse_after(0);
        match mm::migrate::one(remembered(stage)) {
            Err(Stays::NoMemory) => {}
            other => stage.violated("scenario", format!("without a frame: {other:?}")),
        }
    },
    check: |stage| match stage.frame_of(0, HOME) {
        Some(now) if now == remembered(stage) => Ok(()),
        Some(now) => Err(format!("the page is in {now:?}")),
        None => Err(String::from("the page is nowhere")),
    },
    ..MIGRATE_VS_FAULT
};
