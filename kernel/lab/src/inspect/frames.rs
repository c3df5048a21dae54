//! `folio`, `rmap`: one page frame.

use alloc::format;

use arch::Pfn;
use mm::folio;
use mm::frame::{self, Frame, flag};
use mm::pt::PmdRef;
use mm::stats::Use;
use mm::vma::{Vma, anon, imap};

use crate::args::{UsageError, number};
use crate::out::Out;
use crate::shell::{Ctx, Status};

const FLAGS: &[(u32, &str)] = &[
    (flag::LOCKED, "locked"),
    (flag::WAITERS, "waiters"),
    (flag::DIRTY, "dirty"),
    (flag::UPTODATE, "uptodate"),
    (flag::LRU, "lru"),
    (flag::ACTIVE, "active"),
    (flag::REFERENCED, "referenced"),
    (flag::SWAPBACKED, "swapbacked"),
    (flag::SWAPCACHE, "swapcache"),
    (flag::WRITEBACK, "writeback"),
    (flag::ERROR, "error"),
    (flag::EXCLUSIVE, "exclusive"),
    (flag::READAHEAD, "readahead"),
    (flag::BUDDY, "buddy"),
    (flag::READING, "reading"),
    (flag::SUSPECT, "suspect"),
    (flag::WORKINGSET, "workingset"),
];

fn pfn_argument(ctx: &Ctx<'_>) -> Result<Pfn, UsageError> {
    let mut args = ctx.args();
    let word = args.word().ok_or(UsageError::new("want a frame number"))?;
    args.done()?;
    let n = number(&word)?;
    let max = frame::max_pfn() as u64;
    if n >= max {
        return Err(UsageError(format!(
            "no frame {n:#x}: want a number below {max:#x}"
        )));
    }
    Ok(Pfn(n as u32))
}

fn use_name(usage: Use) -> &'static str {
    Use::ALL[usage as usize].1
}

fn print_state(f: &Frame, pfn: Pfn, out: &dyn Out) {
    write!(out, "{pfn:?}: {}", use_name(f.usage()));
    for (bit, name) in FLAGS {
        if f.has(*bit) {
            write!(out, " {name}");
        }
    }
    writeln!(out);
    writeln!(out, "refcount {} mapcount {}", f.refcount(), f.mapcount());
    if f.has(flag::BUDDY) {
        writeln!(out, "free block of order {}", f.private());
    } else if f.usage() == Use::File {
        match f.mapping().checked_sub(1) {
            Some(file) => writeln!(out, "file {file} page {:#x}", f.index()),
            None => writeln!(out, "no file"),
        }
    } else if f.usage() == Use::Anon {
        match f.mapping().checked_sub(1) {
            Some(anon) => writeln!(out, "anon_vma {anon} index {:#x}", f.index()),
            None => writeln!(out, "no anon_vma"),
        }
        if f.has(flag::SWAPCACHE) {
            writeln!(out, "swap slot {:#x}", f.private().wrapping_sub(1));
        }
    }
}

pub(super) fn folio(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let pfn = pfn_argument(ctx)?;
    print_state(frame::frame(pfn), pfn, ctx.out);
    Ok(Status::Ok)
}

pub(super) fn rmap(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let pfn = pfn_argument(ctx)?;
    let f = frame::frame(pfn);
    // The reference keeps the frame from being freed and reused for something that is no folio.
    if !matches!(f.usage(), Use::Anon | Use::File) || !f.try_get() {
        writeln!(ctx.out, "{pfn:?} is no folio: {}", use_name(f.usage()));
        return Ok(Status::Ok);
    }
    match f.usage() {
        Use::Anon => walk(f, pfn, ctx.out),
        Use::File => walk_file(f, pfn, ctx.out),
        _ => {}
    }
    folio::put(pfn);
    Ok(Status::Ok)
}

fn walk(f: &Frame, pfn: Pfn, out: &dyn Out) {
    let _locked = folio::lock(pfn);
    print_state(f, pfn, out);
    let Some(family) = anon::lock_folio(f) else {
        writeln!(out, "mapped nowhere");
        return;
    };
    family.for_each_vma(f.index(), |area| {
        print_area(area, f.index(), pfn, out);
        true
    });
}

fn walk_file(f: &Frame, pfn: Pfn, out: &dyn Out) {
    let _locked = folio::lock(pfn);
    print_state(f, pfn, out);
    let Some(file) = f.mapping().checked_sub(1) else {
        writeln!(out, "in no file any more");
        return;
    };
    imap::read(file).for_each_vma(f.index(), f.index(), |area| {
        print_area(area, f.index(), pfn, out);
        true
    });
}

fn print_area(area: &Vma, index: u32, pfn: Pfn, out: &dyn Out) {
    let Some(va) = area.address_of(index) else {
        return;
    };
    let space = mm::mm::by_id(area.mm());
    let entry = PmdRef::lookup(space, va).and_then(|pmd| Some(pmd.lock(va)?.get()));
    write!(
        out,
        "mm {} area {:x}-{:x} address {:x}: ",
        area.mm(),
        area.start(),
        area.end(),
        va.0
    );
    match entry {
        Some(e) if e.is_present() && e.pfn() == pfn => writeln!(out, "mapped, {e:?}"),
        Some(e) if e.is_present() => writeln!(out, "maps {:?} instead", e.pfn()),
        Some(e) if e.is_swap() => writeln!(out, "swap slot {:#x}", e.swap_slot()),
        _ => writeln!(out, "not mapped"),
    }
}
