//! What must hold when everyone has ended, whatever the scenario. (What must hold at every step is seen where it
//! happens: by the shadow of the TLBs and by the stage's loads.)
//!
//! Nobody runs: nothing is locked. Never sleeps.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use algo::explore::Violation;
use arch::pte::Entry;
use arch::{Pfn, VirtAddr};
use mm::explore::{self, Content};
use mm::frame::{flag, frame};
use mm::stats::Use;
use mm::{Mm, MmRef};

use super::disk;
use super::model::Stored;
use super::stage::STAGE;

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
const ORACLES: [(&str, Oracle); 7] = [
    ("locks", locks),
    ("gather", gathers),
    ("mapcount", mapcounts),
    ("accounting", gauges),
    ("content", contents),
    ("clean", writable),
    ("file", |_| STAGE.files_hold()),
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

/// The folios that page tables map, with the number of entries of each.
fn mapped() -> Vec<(Pfn, u32)> {
    let mut all: Vec<(Pfn, u32)> = Vec::new();
    STAGE.each_space(|mm| {
        explore::each_entry(mm, &mut |_, entry: Entry| {
            if !entry.is_mapped() || entry.is_special() {
                return;
            }
            match all.iter_mut().find(|m| m.0 == entry.pfn()) {
                Some(m) => m.1 += 1,
                None => all.push((entry.pfn(), 1)),
            }
        });
    });
    all
}

/// A folio's mapcount is the number of entries that map it, and its own reverse walk finds each of them.
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
        if count != entries {
            return Err(format!("{pfn:?}: mapcount {count}, entries {entries}"));
        }
        if f.refcount() < entries {
            let n = f.refcount();
            return Err(format!("{pfn:?}: refcount {n}, entries {entries}"));
        }
        let found = explore::mapped_by_rmap(pfn);
        if found != entries as usize {
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

/// An address space has counted what it has.
fn gauges(_: &End<'_>) -> Result<(), String> {
    let mut wrong = Ok(());
    STAGE.each_space(|mm| {
        let (mut anon, mut file, mut slots) = (0, 0, 0);
        explore::each_entry(mm, &mut |_, entry: Entry| {
            if entry.is_swap() {
                slots += 1;
            } else if entry.is_mapped() && !entry.is_special() {
                match frame(entry.pfn()).usage() {
                    Use::File => file += 1,
                    _ => anon += 1,
                }
            }
        });
        let found = (anon, file, slots);
        let counted = (
            mm.anon_pages.get(),
            mm.file_pages.get(),
            mm.swap_entries.get(),
        );
        if wrong.is_ok() && found != counted {
            wrong = Err(format!(
                "mm {}: {anon} anonymous pages, {file} pages of files, {slots} swap entries; \
                 counted are {}, {}, {}",
                mm.id(),
                counted.0,
                counted.1,
                counted.2
            ));
        }
    });
    wrong
}

/// Every word that nobody gave up holds what was last stored, in memory or on the disk.
fn contents(_: &End<'_>) -> Result<(), String> {
    let mut wrong = Ok(());
    STAGE.each_space(|mm| {
        STAGE.each_stored(|s| {
            if s.mm == mm.id() && wrong.is_ok() {
                wrong = one_content(mm, s);
            }
        });
    });
    wrong
}

fn one_content(mm: &MmRef, s: &Stored) -> Result<(), String> {
    let now = word_at(mm, VirtAddr(s.va));
    if s.allows(now.unwrap_or(0)) {
        return Ok(());
    }
    let now = now.map_or_else(|| String::from("nothing"), |n| format!("{n:#x}"));
    Err(format!(
        "mm {}: {:#x} holds {now}, stored was {:#x}",
        mm.id(),
        s.va,
        s.value
    ))
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
