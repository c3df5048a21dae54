//! Families: forks, forks of forks, and the end of a space, while others use, reclaim or cut off
//! what they share.

use alloc::format;
use alloc::string::String;

use arch::PAGE_SIZE;
use arch::pte::Entry;
use arch::upcall::Access;
use mm::knobs::Knob;
use mm::{Advice, MapFlags, MmError, MmRef};

use super::play::{
    FEW_STOPS, HOME, LOCK_STOPS, Play, WALK_STOPS, dont_need, family, fork, lazy_page, mapped_file,
    must, one_space, page, page_in_both, page_on_disk, reclaim_remembered, remember_frame,
    remembered, unless_kernel, unmap, whatever,
};
use crate::race::stage::Stage;
use crate::shown::Maybe;

/// An actor forks space `parent`, which others store to meanwhile; what the child, at place
/// `child`, holds then is kept in the scenario's own word 1.
fn fork_amid_stores(stage: &Stage, parent: usize, child: usize) {
    match stage.forking(&stage.space(parent)) {
        Some(space) => stage.put(child, space),
        None => return stage.violated("refused", "fork".into()),
    }
    stage.set(1, stage.peek(child, HOME).unwrap_or(0));
}

/// The child at place `child` holds what it held right after [`fork_amid_stores`].
fn holds_still(stage: &Stage, child: usize) -> Result<(), String> {
    let (then, now) = (stage.get(1), stage.peek(child, HOME));
    if now.unwrap_or(0) == then {
        return Ok(());
    }
    let now = Maybe(now);
    Err(format!("the child held {then} after the fork, now {now}"))
}

/// Rule 7: the parent's first store to a page with a copy on the disk makes the child's entry dirty
/// too, if the child has what was stored: it may be the only one that is left.
pub(super) static FORK_VS_FIRST_STORE: Play = Play {
    name: "fork-vs-first-store",
    about: "A forks while B stores for the first time to a page that came back from the disk; A stores, too, and reclaims the child's",
    fixes: &[Knob::ForkDirty],
    setup: |stage| {
        page_in_both(stage)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    run: |stage, me| {
        if me == 1 {
            return must(stage, "store", stage.store(HOME, 2));
        }
        fork_amid_stores(stage, 0, 1);
        // The parent's own copy: the entry from which the child's was copied is forgotten.
        must(stage, "store", stage.store(HOME, 3));
        reclaim_remembered(stage);
    },
    check: |stage| holds_still(stage, 1),
    ..Play::NEW
};

/// As [`FORK_VS_FIRST_STORE`], with a reclaimer of its own that comes at any time.
pub(super) static FORK_VS_STORE_VS_RECLAIM: Play = Play {
    name: "fork-vs-first-store-vs-reclaim",
    about: "A forks while B stores for the first time to a page that came back from the disk, and again; C reclaims it",
    fixes: &[Knob::WpFlush],
    spaces: &[Some(0), Some(0), None],
    stops: LOCK_STOPS,
    run: |stage, me| match me {
        0 => fork_amid_stores(stage, 0, 1),
        1 => {
            must(stage, "store", stage.store(HOME, 2));
            must(stage, "store", stage.store(HOME, 3));
        }
        _ => reclaim_remembered(stage),
    },
    ..FORK_VS_FIRST_STORE
};

/// As [`FORK_VS_FIRST_STORE`], where nothing but the dirty bit says that the page is wanted.
pub(super) static FORK_VS_LAZY_STORE: Play = Play {
    name: "fork-vs-lazy-store",
    about: "A forks while B stores to a page that was given up; A stores, too, and reclaims the child's",
    is_small: true,
    setup: |stage| {
        lazy_page(stage)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    // What was given up may be lost.
    check: |stage| match stage.get(1) {
        1 if stage.peek(1, HOME).is_none_or(|now| now <= 1) => Ok(()),
        _ => holds_still(stage, 1),
    },
    ..FORK_VS_FIRST_STORE
};

/// A page that was given up, and is shared by parent and child.
fn lazy_page_shared(stage: &Stage) -> Result<(), MmError> {
    lazy_page(stage)?;
    family(stage, 0, 1)?;
    remember_frame(stage, HOME);
    Ok(())
}

/// The parent stores to the page; from then on it is wanted.
fn store_in_parent(stage: &Stage) {
    must(stage, "store", stage.store(HOME, 2));
}

/// Rule 14 for a page that was given up.
pub(super) static LAZY_VS_ZAP: Play = Play {
    name: "lazy-shared-vs-zap",
    about: "A drops a page that was given up and that B reads, in the child; C, the parent, stores to it and swaps it out",
    fixes: &[Knob::SoleByRefs],
    is_small: true,
    spaces: &[Some(1), Some(1), Some(0)],
    stops: FEW_STOPS,
    setup: lazy_page_shared,
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => dont_need(stage, 1, HOME, 1),
        1 => must(stage, "load", stage.load(HOME)),
        _ => {
            store_in_parent(stage);
            let out = stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut);
            must(stage, "madvise", out);
        }
    },
    ..Play::NEW
};

/// Rules 1 and 13 for a page that was given up, shared, and is unmapped by reclaim in one space and
/// by its owner in the other.
pub(super) static LAZY_VS_RECLAIM: Play = Play {
    name: "lazy-shared-vs-reclaim",
    about: "A unmaps a page that was given up, in the child, while B reclaims it and C, the parent, which has it in its TLB, stores",
    fixes: &[Knob::ReclaimFlush],
    is_small: false,
    stops: LOCK_STOPS,
    spaces: &[Some(1), None, Some(0)],
    enter: |stage, me| {
        if me == 2 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => unmap(stage, 1, HOME),
        1 => reclaim_remembered(stage),
        _ => {
            must(stage, "load", stage.load(HOME));
            store_in_parent(stage);
        }
    },
    ..LAZY_VS_ZAP
};

/// Rule 14 a generation further down.
pub(super) static GRANDCHILD: Play = Play {
    name: "grandchild-vs-zap",
    about: "A drops a page that B reads, in the child; C, the grandchild, stores to it, with its entry still on the disk",
    fixes: &[Knob::SoleByRefs],
    is_small: true,
    spaces: &[Some(1), Some(1), Some(2)],
    setup: |stage| {
        page_on_disk(stage)?;
        family(stage, 0, 1)?;
        family(stage, 1, 2)?;
        dont_need(stage, 0, HOME, 1);
        Ok(())
    },
    enter: |stage, me| {
        if me == 1 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => dont_need(stage, 1, HOME, 1),
        1 => must(stage, "load", stage.load(HOME)),
        _ => must(stage, "store", stage.store(HOME, 20)),
    },
    ..Play::NEW
};

/// Rules 1 and 3 for a fork of a fork: what the child had copied, or not yet, is the grandchild's
/// as it was.
pub(super) static FORK_OF_FORK: Play = Play {
    name: "fork-of-fork-vs-writes",
    about: "A forks the child, whose page B writes twice, and which C, the parent, writes too",
    fixes: &[Knob::WpFlush],
    spaces: &[Some(1), Some(1), Some(0)],
    stops: FEW_STOPS,
    setup: |stage| {
        one_space(stage, 1)?;
        stage.fill(0, HOME, 1)?;
        family(stage, 0, 1)
    },
    run: |stage, me| match me {
        0 => fork_amid_stores(stage, 1, 2),
        1 => {
            must(stage, "store", stage.store(HOME, 2));
            must(stage, "store", stage.store(HOME, 3));
        }
        _ => must(stage, "store", stage.store(HOME, 4)),
    },
    check: |stage| holds_still(stage, 2),
    ..Play::NEW
};

/// As [`private_file`], of a file in memory, whose second page is there.
fn private_memory_file(stage: &Stage) -> Result<(), MmError> {
    stage.open_shmem(0, 2)?;
    stage.fill_file(0, PAGE_SIZE, 5)?;
    map_private(stage)
}

/// Two pages of a file, mapped private in the space at place 0.
fn private_file(stage: &Stage) -> Result<(), MmError> {
    stage.open_file(0, 2)?;
    map_private(stage)
}

fn map_private(stage: &Stage) -> Result<(), MmError> {
    let space = MmRef::new()?;
    stage.map_file(&space, HOME, 2, 0, 0, MapFlags::NONE)?;
    stage.put(0, space);
    Ok(())
}

/// A cuts the second page of the file off.
fn cut_off(stage: &Stage) {
    must(stage, "truncate", stage.truncate_file(0, PAGE_SIZE));
}

/// Rule 16 for truncation: what a fork copies while a file is cut off goes as well.
pub(super) static TRUNCATE_VS_FORK: Play = Play {
    name: "truncate-vs-fork",
    about: "A cuts a page of a file off while B forks a space with a private copy of it",
    fixes: &[Knob::ForkLinked],
    spaces: &[None, Some(0)],
    stops: FEW_STOPS,
    is_small: true,
    setup: |stage| {
        private_file(stage)?;
        stage.fill(0, page(1), 1)
    },
    run: |stage, me| match me {
        0 => cut_off(stage),
        _ => fork(stage),
    },
    check: |stage| {
        let found = (0..2).find_map(|i| Some((i, stage.frame_of(i, page(1))?)));
        found.map_or(Ok(()), |(i, pfn)| {
            Err(format!("space {i} maps {pfn:?} beyond the end of the file"))
        })
    },
    ..Play::NEW
};

/// As [`TRUNCATE_VS_FORK`], where the copy is made while the page is cut off, and copied again by
/// the fork.
pub(super) static TRUNCATE_VS_FORK_VS_COPY: Play = Play {
    name: "truncate-vs-fork-vs-copy",
    about: "A cuts a page of a file off that C makes a private copy of, while B forks their space",
    fixes: &[Knob::ChildAfter, Knob::TruncateCopies],
    spaces: &[None, Some(0), Some(0)],
    is_small: false,
    stops: LOCK_STOPS,
    setup: private_memory_file,
    run: |stage, me| match me {
        0 => cut_off(stage),
        1 => fork(stage),
        _ => whatever(stage.store(page(1), 2)),
    },
    ..TRUNCATE_VS_FORK
};

/// Rule 5: a reverse walk is in a space's tables until its areas are out of the reverse maps.
pub(super) static EXIT_VS_RECLAIM: Play = Play {
    name: "exit-vs-reclaim",
    about: "A ends the child of a space while B reclaims the page that they share and C, the parent, reads it",
    // Without the first, reclaim meets a freed table: a panic.
    fixes: unless_kernel(
        &[Knob::UnlinkFirst, Knob::ReclaimFlush],
        &[Knob::ReclaimFlush],
    ),
    spaces: &[None, None, Some(0)],
    stops: WALK_STOPS,
    setup: |stage| {
        // With its copy on the disk, so that nobody waits for that.
        page_in_both(stage)?;
        family(stage, 0, 1)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    enter: |stage, me| {
        if me == 2 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => drop(stage.take(1)),
        1 => reclaim_remembered(stage),
        _ => must(stage, "load", stage.load(HOME)),
    },
    ..Play::NEW
};

/// As [`EXIT_VS_RECLAIM`], of a file that is cut off: rule 10 as well.
pub(super) static EXIT_VS_TRUNCATE: Play = Play {
    name: "exit-vs-truncate",
    about: "A ends a space that maps a file, B cuts a page of the file off, C stores to it in another space",
    // As in `EXIT_VS_RECLAIM`.
    fixes: unless_kernel(
        &[Knob::UnlinkFirst, Knob::TruncateSize],
        &[Knob::TruncateSize],
    ),
    setup: |stage| {
        mapped_file(stage, 2)?;
        let other = MmRef::new()?;
        stage.map_file(&other, HOME, 2, 0, 0, MapFlags::SHARED)?;
        let faulted = other.fault(page(1), Access::Write);
        stage.put(1, other);
        faulted.map_err(|_| MmError::NotMapped)
    },
    enter: |_, _| (),
    run: |stage, me| match me {
        0 => drop(stage.take(1)),
        1 => cut_off(stage),
        _ => whatever(stage.store(page(1), 2)),
    },
    ..EXIT_VS_RECLAIM
};

/// Rule 5 for the end of a space that a CPU is still lazy on, and for handles: the last one,
/// whoever has it, ends the space.
pub(super) static EXIT_VS_LAZY: Play = Play {
    name: "exit-vs-lazy",
    about: "A gives up a handle of a space whose tables C's CPU still has, B takes one by number and looks, C takes another space",
    fixes: &[Knob::TableFlush],
    is_small: true,
    spaces: &[None, None, None],
    stops: Play::NEW.stops,
    setup: |stage| {
        one_space(stage, 1)?;
        stage.fill(0, HOME, 1)?;
        stage.set(0, u64::from(stage.space(0).id()));
        stage.put(1, MmRef::new()?);
        Ok(())
    },
    enter: |stage, me| {
        if me == 2 {
            let adopted = stage.space(0).adopt();
            must(stage, "load", stage.load(HOME));
            drop(adopted);
        }
    },
    run: |stage, me| match me {
        0 => drop(stage.take(0)),
        1 => {
            if let Some(mm) = MmRef::by_id_live(stage.get(0) as u32) {
                let mut entries = [Entry::NONE; 1];
                mm.areas().copy_entries(HOME, &mut entries);
                drop(mm);
            }
        }
        _ => drop(stage.space(1).adopt()),
    },
    ..Play::NEW
};

/// Rule 5 for those who look from outside: from a folio to its entries, and from an address to
/// them.
pub(super) static LOOKS_VS_MUNMAP: Play = Play {
    name: "looks-vs-munmap",
    about: "A unmaps a page and its table while B looks who maps the page, and C what is mapped there",
    // As in `EXIT_VS_RECLAIM`.
    fixes: unless_kernel(&[Knob::UnlinkFirst], &[]),
    is_small: true,
    spaces: &[Some(0), None, None],
    setup: |stage| {
        one_space(stage, 1)?;
        stage.fill(0, HOME, 1)?;
        remember_frame(stage, HOME);
        Ok(())
    },
    enter: |_, _| (),
    run: |stage, me| match me {
        0 => unmap(stage, 0, HOME),
        1 => {
            if let Some(folio) = mm::view::lock_folio(remembered(stage)) {
                let mut found = 0;
                folio.each_mapping(&mut |m| {
                    let maps = m.entry.is_some_and(|e| e.is_mapped());
                    found += u32::from(maps);
                });
                if found > 1 {
                    stage.violated("scenario", format!("{found} entries map one page"));
                }
            }
        }
        _ => {
            let mut entries = [Entry::NONE; 1];
            stage.space(0).areas().copy_entries(HOME, &mut entries);
        }
    },
    ..EXIT_VS_RECLAIM
};
