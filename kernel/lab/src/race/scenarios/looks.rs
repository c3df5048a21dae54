//! Looks from outside, as the console makes them, at what others change meanwhile; and the
//! allocator's own lists.

use alloc::format;
use arch::pte::Entry;
use mm::buddy::{self, Gfp, HUGE_ORDER, pcp};
use mm::knobs::Knob;
use mm::stats::Use;
use mm::view;

use super::play::{FEW_STOPS, HOME, Play, fork, must, one_space, unmap};
use crate::race::stage::Stage;

/// An area's entries are those of one moment, and a folio's mappings are where it is.
pub(super) static LOOK_VS_MUNMAP: Play = Play {
    name: "look-vs-munmap",
    about: "A looks at areas, entries and a page's mappings, while B, in the child of the space, unmaps the page and C copies it",
    fixes: &[Knob::TlbFlush],
    spaces: &[None, Some(1), Some(0)],
    stops: FEW_STOPS,
    setup: |stage| {
        one_space(stage, 2)?;
        stage.fill(0, HOME, 1)?;
        fork(stage);
        let pfn = stage.frame_of(0, HOME);
        stage.set(0, pfn.map_or(0, |p| u64::from(p.0)));
        Ok(())
    },
    enter: |stage, me| {
        if me != 0 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => look(stage),
        1 => unmap(stage, 1, HOME),
        _ => must(stage, "store", stage.store(HOME, 2)),
    },
    ..Play::NEW
};

fn look(stage: &Stage) {
    let space = stage.space(1);
    {
        let areas = space.areas();
        let mut entries = [Entry::NONE; 2];
        areas.copy_entries(HOME, &mut entries);
        let alone = areas.with_entry(HOME, |e| e);
        if areas.find(HOME).is_none_or(|a| a.start() > HOME.0) && entries[0] != Entry::NONE {
            let text = format!("{:?} where no area is", entries[0]);
            stage.violated("scenario", text);
        }
        // Others may set its accessed bit meanwhile.
        if alone.is_some_and(|e| e.is_none() != entries[0].is_none()) {
            stage.violated("scenario", format!("{alone:?}, and {:?}", entries[0]));
        }
    }
    let pfn = arch::Pfn(stage.get(0) as u32);
    let Some(folio) = view::lock_folio(pfn) else {
        return;
    };
    let mut maps = 0;
    folio.each_mapping(&mut |m| {
        maps += u32::from(m.entry.is_some_and(|e| e.is_mapped() && e.pfn() == pfn));
    });
    if maps > 2 {
        stage.violated("scenario", format!("{maps} entries map {pfn:?}"));
    }
}

/// Frames that a CPU's list does not keep.
const MANY: usize = 200;

/// The lists of free frames of a CPU are its own but for who empties them.
pub(super) static LISTS_VS_DRAIN: Play = Play {
    name: "lists-vs-drain",
    about: "A and B take frames, and A a huge block, from the lists of their CPUs and give them back, while C empties the lists",
    fixes: &[],
    spaces: &[None, None, None],
    setup: |_| Ok(()),
    enter: |_, _| (),
    run: |stage, me| {
        if me == 2 {
            for _ in 0..2 {
                stage.tick(0);
                pcp::drain();
            }
            return;
        }
        let mut kept = alloc::vec::Vec::new();
        for i in 0..3u8 {
            stage.tick(1);
            let order = if (me, i) == (0, 1) { HUGE_ORDER } else { 0 };
            // A machine of little memory may have no such block.
            kept.extend(buddy::alloc(order, Use::Misc, Gfp::NOWAIT));
        }
        let mine: u32 = kept.iter().map(|p| p.pfn().0).sum();
        stage.tick(1);
        let now: u32 = kept.iter().map(|p| p.pfn().0).sum();
        let used = kept.iter().all(|p| p.frame().usage() == Use::Misc);
        if mine != now || !used {
            stage.violated("scenario", "a frame that was handed out is free".into());
        }
        if me == 0 {
            // More than a list holds.
            let more = (0..MANY).map_while(|_| buddy::alloc(0, Use::Misc, Gfp::NOWAIT).ok());
            kept.extend(more);
            stage.tick(1);
        }
        // Nobody wrote to them.
        kept.into_iter().for_each(buddy::Page::give_back);
    },
    ..Play::NEW
};
