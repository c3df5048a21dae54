//! What must hold when everyone has ended, whatever the scenario. (What must hold at every step is
//! seen where it happens: by the shadow of the TLBs and by the stage's loads.)
//!
//! Nobody runs: nothing is locked. Never sleeps.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use algo::explore::Violation;
use arch::pte::Entry;
use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::explore::{self, Content};
use mm::inspect::{block_of, flag, frame};
use mm::stats::Use;
use mm::{Mm, MmRef};

use super::file_words::Files;
use super::model::Model;
use super::stage::STAGE;
use super::{disk, file_end};

/// The world at the end of a run.
pub(super) struct End<'a> {
    /// The tasks of the actors.
    pub(super) tasks: &'a [sync::TaskId],
    /// First frame and number of the frames that actors get.
    pub(super) frames: (Pfn, usize),
}

/// An oracle: the sentence it has to say.
type Oracle = fn(&End<'_>) -> Result<(), String>;

/// All of them, in the order in which they are asked.
const ORACLES: [(&str, Oracle); 9] = [
    ("locks", locks),
    ("gather", gathers),
    ("migration", arrived),
    ("mapcount", mapcounts),
    ("accounting", gauges),
    ("lru", listed),
    ("content", contents),
    ("clean", writable),
    ("file", |_| {
        STAGE.known(|_, files| file_end::files_hold(files))
    }),
];

/// What the first oracle to object says.
pub(super) fn at_end(end: &End<'_>) -> Option<Violation> {
    ORACLES.iter().find_map(|(oracle, ask)| {
        let detail = ask(end).err()?;
        Some(Violation { oracle, detail })
    })
}

/// No actor holds a lock (known in checked builds only).
fn locks(end: &End<'_>) -> Result<(), String> {
    for (i, task) in end.tasks.iter().enumerate() {
        let mut first = None;
        sync::held_by(*task, &mut |rank| {
            first.get_or_insert(rank);
        });
        if let Some(rank) = first {
            let who = (b'A' + i as u8) as char;
            return Err(format!("{who} has ended and holds {}", rank.name()));
        }
    }
    Ok(())
}

/// Nothing waits for a flush, nobody for an acknowledgement.
fn gathers(_: &End<'_>) -> Result<(), String> {
    let mut found = None;
    STAGE.each_space(|mm| found = found.take().or_else(|| explore::pending(mm)));
    found.map_or(Ok(()), Err)
}

/// The folios that page tables map, with the number of entries of each. (A huge page counts as so
/// many entries as it has pages.)
fn mapped() -> Vec<(Pfn, u32)> {
    let mut all: Vec<(Pfn, u32)> = Vec::new();
    STAGE.each_space(|mm| {
        explore::each_entry(mm, &mut |_, entry: Entry| {
            if !entry.is_mapped() || entry.is_special() {
                return;
            }
            let (head, _) = block_of(entry.pfn());
            match all.iter_mut().find(|m| m.0 == head) {
                Some(m) => m.1 += 1,
                None => all.push((head, 1)),
            }
        });
    });
    all
}

/// A folio's mapcount is the number of entries that map it, and its own reverse walk finds each of
/// them.
fn mapcounts(end: &End<'_>) -> Result<(), String> {
    let mapped = mapped();
    for &(pfn, entries) in &mapped {
        let f = frame(pfn);
        if !matches!(f.usage(), Use::Anon | Use::File) {
            return Err(format!("{pfn:?} is mapped and free, or no folio"));
        }
        if f.usage() == Use::File && f.mapping() == 0 {
            return Err(format!("{pfn:?} is mapped, and no page of a file any more"));
        }
        let count = f.mapcount();
        if count * f.pages() != entries {
            return Err(format!("{pfn:?}: mapcount {count}, entries {entries}"));
        }
        if f.refcount() * f.pages() < entries {
            let n = f.refcount();
            return Err(format!("{pfn:?}: refcount {n}, entries {entries}"));
        }
        let found = explore::mapped_by_rmap(pfn);
        if found * f.pages() as usize != entries as usize {
            return Err(format!(
                "{pfn:?}: its reverse walk finds {found} of {entries} entries"
            ));
        }
    }
    for i in 0..end.frames.1 as u32 {
        let pfn = Pfn(end.frames.0.0 + i);
        let f = frame(pfn);
        let counted = matches!(f.usage(), Use::Anon | Use::File) && f.mapcount() != 0;
        if counted && !mapped.iter().any(|m| m.0 == pfn) {
            let n = f.mapcount();
            return Err(format!("{pfn:?}: mapcount {n}, no entry"));
        }
    }
    Ok(())
}

/// No page is on its way to another frame: a fault that waits for it would wait for ever.
fn arrived(_: &End<'_>) -> Result<(), String> {
    let mut left = Ok(());
    STAGE.each_space(|mm| {
        explore::each_entry(mm, &mut |va, entry: Entry| {
            if entry.is_migration() {
                let (mm, pfn) = (mm.id(), entry.pfn());
                left = Err(format!("mm {mm}: {:#x} waits for {pfn:?} to move", va.0));
            }
        });
    });
    left
}

/// A page of a file that may be written without a fault counts as dirty.
fn writable(_: &End<'_>) -> Result<(), String> {
    let mut wrong = Ok(());
    STAGE.each_space(|mm| {
        explore::each_entry(mm, &mut |va, entry: Entry| {
            let may_write = entry.is_mapped() && entry.is_write() && !entry.is_special();
            if !may_write || wrong.is_err() {
                return;
            }
            let f = frame(entry.pfn());
            if f.usage() == Use::File && !f.has(flag::DIRTY) {
                let (mm, pfn) = (mm.id(), entry.pfn());
                wrong = Err(format!("mm {mm} may write {pfn:?}, clean, at {:#x}", va.0));
            }
        });
    });
    wrong
}

/// An address space has counted what it has: each of its gauges.
fn gauges(_: &End<'_>) -> Result<(), String> {
    let mut wrong = Ok(());
    STAGE.each_space(|mm| {
        let (mut anon, mut file, mut slots) = (0, 0, 0);
        explore::each_entry(mm, &mut |_, entry: Entry| {
            if entry.is_swap() {
                slots += 1;
            } else if entry.is_migration() {
                anon += 1;
            } else if entry.is_mapped() && !entry.is_special() {
                match frame(entry.pfn()).usage() {
                    Use::File => file += 1,
                    _ => anon += 1,
                }
            }
        });
        let areas = explore::mapped_pages(mm);
        for (what, found, gauge) in [
            ("anonymous pages", Ok(anon), &mm.anon_pages),
            ("pages of files", Ok(file), &mm.file_pages),
            ("swap entries", Ok(slots), &mm.swap_entries),
            ("page tables", Ok(explore::tables(mm)), &mm.tables),
            ("pages in areas", areas, &mm.total_vm),
        ] {
            let (id, counted) = (mm.id(), gauge.get());
            let unlike = match found {
                Ok(n) if n == counted => continue,
                Ok(n) => format!("mm {id}: {n} {what}; counted are {counted}"),
                Err(e) => format!("mm {id}: {e}"),
            };
            wrong = core::mem::replace(&mut wrong, Ok(())).and(Err(unlike));
        }
    });
    wrong
}

/// A folio that somebody refers to is where reclaim finds it: nobody has it in hand any more.
fn listed(end: &End<'_>) -> Result<(), String> {
    for i in 0..end.frames.1 as u32 {
        let pfn = Pfn(end.frames.0.0 + i);
        let f = frame(pfn);
        let is_folio = matches!(f.usage(), Use::Anon | Use::File) && f.refcount() != 0;
        if is_folio && !explore::is_listed(pfn) {
            let (n, flags) = (f.refcount(), f.flags() & flag::STATE);
            return Err(format!(
                "{pfn:?} (refcount {n}, flags {flags:#x}) is on no list of reclaim's"
            ));
        }
    }
    Ok(())
}

/// Every word of every page holds what it may, in memory or on the disk. (Pages of files are the
/// business of [`file_end`].)
fn contents(_: &End<'_>) -> Result<(), String> {
    let mut wrong = Ok(());
    STAGE.each_space(|mm| {
        let found = STAGE.known(|model, files| one_space(model, files, mm));
        wrong = core::mem::replace(&mut wrong, Ok(())).and(found);
    });
    wrong
}

fn one_space(model: &Model, files: &Files, mm: &MmRef) -> Result<(), String> {
    let id = mm.id();
    let mut pages = Vec::new();
    let mut wrong = None;
    explore::each_entry(mm, &mut |va, entry: Entry| {
        let page = va.0 / PAGE_SIZE;
        let of_file = entry.is_mapped() && frame(entry.pfn()).usage() == Use::File;
        pages.push(page);
        if wrong.is_some() || of_file && !entry.is_special() {
            return;
        }
        let place = explore::content(entry);
        wrong = model.wrong_in_page(files, (id, page), |i| match place {
            Some(Content::Frame(pfn)) => mm::explore::words(pfn)[i].load(Relaxed),
            Some(Content::Slot(slot)) => disk::SWAP.word(slot as usize, i).unwrap_or(0),
            None => 0,
        });
    });
    if let Some((va, found)) = wrong {
        let expected = model.expected(files, id, va);
        return Err(format!(
            "mm {id}: {va:#x} holds {found:#x}, stored was {expected}"
        ));
    }
    // What is taken from one that was killed is gone.
    if mm.is_killed() {
        return Ok(());
    }
    match model.missing(id, |page| pages.contains(&page)) {
        Some(va) => {
            let expected = model.expected(files, id, va);
            Err(format!(
                "mm {id}: {va:#x} holds nothing, stored was {expected}"
            ))
        }
        None => Ok(()),
    }
}

/// The entry of `va`, as it is.
pub(super) fn entry_at(mm: &Mm, va: VirtAddr) -> Option<Entry> {
    explore::entry(mm, va)
}

/// The word at `va`, wherever it is: in memory, in the swap cache or on the scenario's disk.
pub(super) fn word_at(mm: &Mm, va: VirtAddr) -> Option<u64> {
    let index = (va.0 as usize & 0xfff) / 8;
    match explore::content(entry_at(mm, va)?)? {
        Content::Frame(pfn) => Some(mm::explore::words(pfn)[index].load(Relaxed)),
        Content::Slot(slot) => disk::SWAP.word(slot as usize, index),
    }
}
