//! `folio`, `rmap`: one page frame.

use alloc::format;

use arch::Pfn;
use mm::inspect::{Frame, block_of, flag, frame, max_pfn};
use mm::stats::Use;
use mm::view::{self, Mapping};

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
    (flag::USED, "used"),
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
    let word = args.want("a frame number")?;
    args.done()?;
    let n = number(&word)?;
    let max = max_pfn() as u64;
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

fn print_state(f: &Frame, out: &dyn Out) {
    write!(out, "{:?}: {}", f.pfn(), use_name(f.usage()));
    for (bit, name) in FLAGS {
        if f.has(*bit) {
            write!(out, " {name}");
        }
    }
    writeln!(out);
    writeln!(out, "refcount {} mapcount {}", f.refcount(), f.mapcount());
    if f.has(flag::BUDDY) {
        writeln!(out, "free block of order {}", f.order());
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
    let (head, order) = block_of(pfn);
    if head != pfn {
        let at = pfn.0 - head.0;
        writeln!(
            ctx.out,
            "{pfn:?}: page {at} of a block of order {order}, which begins with"
        );
    }
    print_state(frame(head), ctx.out);
    Ok(Status::Ok)
}

pub(super) fn rmap(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let pfn = pfn_argument(ctx)?;
    let Some(folio) = view::lock_folio(pfn) else {
        let usage = frame(block_of(pfn).0).usage();
        let what = match usage {
            Use::Anon | Use::File => "busy: on no list now",
            _ => "no folio",
        };
        writeln!(ctx.out, "{pfn:?} is {what}: {}", use_name(usage));
        return Ok(Status::Ok);
    };
    print_state(&folio.folio(), ctx.out);
    if !folio.each_mapping(&mut |place| print_mapping(place, pfn, ctx.out)) {
        let nowhere = match folio.folio().usage() {
            Use::File => "in no file any more",
            _ => "mapped nowhere",
        };
        writeln!(ctx.out, "{nowhere}");
    }
    Ok(Status::Ok)
}

fn print_mapping(place: &Mapping, pfn: Pfn, out: &dyn Out) {
    write!(
        out,
        "mm {} area {:x}-{:x} address {:x}: ",
        place.mm,
        place.area.start(),
        place.area.end(),
        place.va.0
    );
    match place.entry {
        Some(e) if e.is_present() && e.pfn() == pfn => writeln!(out, "mapped, {e:?}"),
        Some(e) if e.is_present() => writeln!(out, "maps {:?} instead", e.pfn()),
        Some(e) if e.is_swap() => writeln!(out, "swap slot {:#x}", e.swap_slot()),
        Some(e) if e.is_migration() => writeln!(out, "moving from {:?}", e.pfn()),
        _ => writeln!(out, "not mapped"),
    }
}
