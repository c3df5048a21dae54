//! Cutting areas in two, joining them, moving the boundary between them.
//!
//! Everything here needs `mmap_lock` held exclusively (the `&mut VmaSet` proves it) and takes the
//! locks of the area's reverse maps. Sleeps. Only [`create`] and [`cut`] allocate, so an operation
//! that makes its cuts first cannot fail later; [`heal`] undoes a cut.
//!
//! At every moment each mapped page lies in at least one area of its reverse map's tree: reverse
//! walks may find a page in two areas for a moment, never in none. (Anonymous pages that [`trim`]
//! leaves outside are about to be unmapped: a walk that misses them finds that the folio is still
//! mapped, and gives up. Pages of files are unmapped before.)

use super::set::{MAX_AREAS, VmaSet};
use super::{anon, imap, links, pool, vma};
use crate::error::MmError;
use crate::frame::NIL;
use crate::knobs::{self, Knob};
use crate::pagecache::opened::OpenFile;
use arch::PAGE_SHIFT;

/// A record for a new area of `mm`, whose areas are `set`: in no set, without an anon_vma.
///
/// # Errors
/// [`MmError::NoMemory`]; [`MmError::TooMany`] where the set has [`MAX_AREAS`].
pub(crate) fn create(
    set: &VmaSet,
    mm: u32,
    start: u64,
    end: u64,
    pgoff: u32,
    flags: u32,
) -> Result<u32, MmError> {
    if set.count() >= MAX_AREAS {
        return Err(MmError::TooMany);
    }
    let id = pool().alloc()?;
    let v = vma(id);
    v.set_start(start);
    v.set_end(end);
    v.set_pgoff(pgoff);
    v.set_flags(flags);
    v.set_mm(mm);
    v.set_anon(NIL);
    v.set_chain(NIL);
    Ok(id)
}

/// Gives back an area that is in no set (any more).
pub(crate) fn discard(id: u32) {
    links::unlink(id);
    pool().free(id);
}

fn pages(bytes: u64) -> u32 {
    (bytes >> PAGE_SHIFT) as u32
}

/// Makes `at` a boundary between areas, if it lies inside one.
///
/// # Errors
/// As [`create`]; nothing is changed then.
pub(crate) fn cut(set: &mut VmaSet, at: u64) -> Result<(), MmError> {
    let Some(id) = set
        .find_exact(arch::VirtAddr(at))
        .filter(|&id| vma(id).start() < at)
    else {
        return Ok(());
    };
    let old = vma(id);
    let (pgoff, end) = (old.pgoff() + pages(at - old.start()), old.end());
    let upper = create(set, old.mm(), at, end, pgoff, old.flags())?;
    if !knobs::on(Knob::CutOverlap) {
        links::set_end(id, at);
    }
    if let Err(e) = links::clone(upper, id) {
        if !knobs::on(Knob::CutOverlap) {
            links::set_end(id, end);
        }
        pool().free(upper);
        return Err(e);
    }
    links::set_end(id, at);
    set.moved(id);
    set.insert(upper);
    Ok(())
}

/// Makes every one of `points` a boundary.
///
/// # Errors
/// As [`create`]; the areas are as they were then.
pub(crate) fn cut_all(set: &mut VmaSet, points: &[u64]) -> Result<(), MmError> {
    for &at in points {
        if let Err(e) = cut(set, at) {
            for &at in points {
                heal(set, at);
            }
            return Err(e);
        }
    }
    Ok(())
}

/// Joins the two areas that touch at `at`, if they are alike: same flags, same anon_vma and open
/// file, and page indexes that go on.
pub(crate) fn heal(set: &mut VmaSet, at: u64) {
    let (Some(below), Some(above)) = set.neighbours(at) else {
        return;
    };
    let (b, a) = (vma(below), vma(above));
    if a.start() == at && a.flags() == b.flags() && continues(below, above) {
        let end = a.end();
        set.remove(above);
        let overlaps = knobs::on(Knob::CutOverlap);
        if !overlaps {
            discard(above);
        }
        links::set_end(below, end);
        set.moved(below);
        if overlaps {
            discard(above);
        }
    }
}

/// The two areas touch, share their anon_vma and open file, and the page indexes go on: but for
/// their flags they could be one.
pub(crate) fn continues(below: u32, above: u32) -> bool {
    let (b, a) = (vma(below), vma(above));
    b.end() == a.start()
        && b.anon() == a.anon()
        && b.open_file() == a.open_file()
        && alike(below, b.flags(), a.pgoff())
}

/// An area with `flags` whose first page has index `pgoff` continues the area `below`.
fn alike(below: u32, flags: u32, pgoff: u32) -> bool {
    let b = vma(below);
    b.flags() == flags && u64::from(b.pgoff()) + b.pages() == u64::from(pgoff)
}

/// Moves the boundary between two areas that touch and whose page indexes go on. Neither becomes
/// empty.
pub(crate) fn shift(set: &mut VmaSet, below: u32, above: u32, at: u64) {
    let (b, a) = (vma(below), vma(above));
    let pgoff = b.pgoff() + pages(at - b.start());
    links::adjust(&[below, above], || {
        b.set_end(at);
        a.set_start(at);
        a.set_pgoff(pgoff);
    });
    set.moved(below);
    set.moved(above);
}

/// Makes an area shorter: it keeps `start..end`.
pub(crate) fn trim(set: &mut VmaSet, id: u32, start: u64, end: u64) {
    let v = vma(id);
    if start == v.start() {
        links::set_end(id, end);
    } else {
        let pgoff = v.pgoff() + pages(start - v.start());
        links::adjust(&[id], || {
            v.set_start(start);
            v.set_end(end);
            v.set_pgoff(pgoff);
        });
    }
    set.moved(id);
}

/// Lets the area `id` end at `end`; up to there nothing is mapped.
pub(crate) fn grow(set: &mut VmaSet, id: u32, end: u64) {
    links::set_end(id, end);
    set.moved(id);
    heal(set, end);
}

/// Lets a neighbour take in the free range `start..end` of an anonymous mapping that was never
/// touched. True when one did. As in Linux, an area that may share folios with a parent's does not
/// grow this way.
pub(crate) fn absorb(set: &mut VmaSet, start: u64, end: u64, pgoff: u32, flags: u32) -> bool {
    let (below, above) = set.neighbours(start);
    if let Some(id) = below
        && vma(id).end() == start
        && vma(id).file() == NIL
        && alike(id, flags, pgoff)
        && anon::is_singular(id)
    {
        grow(set, id, end);
        return true;
    }
    if let Some(id) = above
        && vma(id).start() == end
        && vma(id).file() == NIL
        && vma(id).flags() == flags
        && Some(vma(id).pgoff()) == pgoff.checked_add(pages(end - start))
        && anon::is_singular(id)
    {
        links::adjust(&[id], || {
            vma(id).set_start(start);
            vma(id).set_pgoff(pgoff);
        });
        set.moved(id);
        return true;
    }
    false
}

/// Gives the new anonymous area `id`, which is not in the set yet, its anon_vma: that of a
/// neighbour from which it differs in protection only, so that the two can be joined later, or a
/// fresh one.
///
/// # Errors
/// [`MmError::NoMemory`].
pub(crate) fn attach(set: &VmaSet, id: u32) -> Result<(), MmError> {
    let v = vma(id);
    let (below, above) = set.neighbours(v.start());
    // `lower` ends where `upper` starts, and one mprotect could make them alike.
    let kin = |lower: u32, upper: u32| {
        let (a, b) = (vma(lower), vma(upper));
        a.end() == b.start()
            && (a.file(), b.file()) == (NIL, NIL)
            && (a.flags() ^ b.flags()) & !super::vm::PROT == 0
            && u64::from(a.pgoff()) + a.pages() == u64::from(b.pgoff())
    };
    let near = above
        .filter(|&n| kin(id, n) && anon::is_singular(n))
        .or(below.filter(|&n| kin(n, id) && anon::is_singular(n)));
    match near {
        Some(n) => anon::clone(id, n),
        None => anon::prepare(id),
    }
}

/// Gives the area `id`, which is to show a file, an anon_vma for its private copies, if it makes
/// any. [`attach_file`] follows.
///
/// # Errors
/// [`MmError::NoMemory`].
pub(crate) fn prepare_file(id: u32) -> Result<(), MmError> {
    if vma(id).has(super::vm::SHARED) {
        Ok(())
    } else {
        anon::prepare(id)
    }
}

/// Gives the new area `id`, which is not in the set yet, its file. Its range is free: whoever cuts
/// the file off zaps what he finds there.
pub(crate) fn attach_file(id: u32, opened: OpenFile) {
    imap::link(id, opened);
}

/// Areas that were taken out of a set, to be given back once their pages are unmapped.
pub(crate) struct Taken {
    head: u32,
}

impl Taken {
    /// None.
    pub(crate) fn new() -> Self {
        Self { head: NIL }
    }

    /// Takes `id` out of the set and keeps it.
    pub(crate) fn take(&mut self, set: &mut VmaSet, id: u32) {
        set.remove(id);
        vma(id).set_next_taken(self.head);
        self.head = id;
    }

    /// Takes the areas out of their anon_vmas and gives them back. Nothing of theirs is mapped any
    /// more.
    pub(crate) fn discard(self) {
        let mut at = self.head;
        while at != NIL {
            let next = vma(at).next_taken();
            discard(at);
            at = next;
        }
    }
}
