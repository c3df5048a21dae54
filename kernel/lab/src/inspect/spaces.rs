//! `maps`, `smaps`, `pagemap`, `tlb`: address spaces.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use arch::addr;
use arch::pte::Entry;
use arch::{PAGE_SIZE, VirtAddr};
use mm::MmRef;
use mm::inspect::{NIL, block_of, cpu_state, frame};
use mm::stats::{Event, Use, total};
use mm::view::Areas;
use mm::vma::{Vma, vm};

use crate::args::{Args, UsageError, number};
use crate::out::Out;
use crate::shell::{Ctx, Status};

/// Entries read under one hold of a table's lock.
const CHUNK: usize = 32;

/// The address spaces that the first word names: one, or all.
pub(super) fn chosen(args: &mut Args) -> Result<Vec<MmRef>, UsageError> {
    let all = || (0..mm::mm::id_limit()).filter_map(MmRef::by_id_live);
    let Some(word) = args.word() else {
        return Ok(all().collect());
    };
    let id = number(&word)?;
    let found: Vec<MmRef> = all().filter(|m| u64::from(m.id()) == id).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let ids: Vec<_> = all().map(|m| format!("{}", m.id())).collect();
    let ids = if ids.is_empty() {
        "there is none now".into()
    } else {
        format!("accepted: {}", ids.join(", "))
    };
    Err(UsageError(format!("no address space {id}; {ids}")))
}

pub(super) fn none_in_use(spaces: &[MmRef], out: &dyn Out) {
    if spaces.is_empty() {
        writeln!(out, "no address space is in use");
    }
}

fn each(ctx: &Ctx<'_>, mut f: impl FnMut(&MmRef)) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let spaces = chosen(&mut args)?;
    args.done()?;
    none_in_use(&spaces, ctx.out);
    for space in &spaces {
        writeln!(
            ctx.out,
            "mm {}: {} kB mapped, {} kB resident ({} kB of files), {} kB in swap, {} page-table pages, {} areas",
            space.id(),
            space.total_vm.get() * PAGE_SIZE / 1024,
            space.rss() * PAGE_SIZE / 1024,
            space.file_pages.get() * PAGE_SIZE / 1024,
            space.swap_entries.get() * PAGE_SIZE / 1024,
            space.tables.get(),
            space.areas().count()
        );
        f(space);
    }
    Ok(Status::Ok)
}

fn print_area(area: &Vma, out: &dyn Out) {
    let bit = |mask, c| if area.has(mask) { c } else { '-' };
    let name = match area.file() {
        NIL if area.has(vm::GROWSDOWN) => "[stack]".into(),
        NIL => String::new(),
        id => format!("[file {id}]"),
    };
    writeln!(
        out,
        "{:012x}-{:012x} {}{}{}{} {:08x} {name}",
        area.start(),
        area.end(),
        bit(vm::READ, 'r'),
        bit(vm::WRITE, 'w'),
        bit(vm::EXEC, 'x'),
        if area.has(vm::SHARED) { 's' } else { 'p' },
        area.pgoff()
    );
}

pub(super) fn maps(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    each(ctx, |space| {
        let areas = space.areas();
        areas.iter().for_each(|(_, area)| print_area(area, ctx.out));
    })
}

/// Calls `f` with every entry of the area that is not empty, until it returns false. The caller
/// holds the areas; no spin lock is held while `f` runs.
fn entries(
    areas: &Areas<'_>,
    area: &Vma,
    from: VirtAddr,
    f: &mut dyn FnMut(VirtAddr, Entry) -> bool,
) -> bool {
    let mut va = VirtAddr(from.0.max(area.start()));
    while va.0 < area.end() {
        let mut chunk = [Entry::NONE; CHUNK];
        let left = (area.end() - va.0) / PAGE_SIZE;
        // A chunk does not cross into the next table.
        let count = (addr::entries(0) - va.table_index(0))
            .min(CHUNK)
            .min(left as usize);
        areas.copy_entries(va, &mut chunk[..count]);
        for (i, entry) in chunk[..count].iter().enumerate() {
            if !entry.is_none() && !f(VirtAddr(va.0 + i as u64 * PAGE_SIZE), *entry) {
                return false;
            }
        }
        va.0 += count as u64 * PAGE_SIZE;
    }
    true
}

/// Page counts of an area.
#[derive(Default)]
struct Sums {
    rss: u64,
    file: u64,
    shared: u64,
    dirty: u64,
    referenced: u64,
    zero: u64,
    swap: u64,
    huge: u64,
}

impl Sums {
    fn count(&mut self, entry: Entry) {
        if entry.is_swap() {
            self.swap += 1;
        } else if entry.is_special() {
            self.zero += 1;
        } else if entry.is_migration() {
            self.rss += 1;
        } else if entry.is_present() {
            self.rss += 1;
            self.file += u64::from(frame(entry.pfn()).usage() == Use::File);
            let (head, order) = block_of(entry.pfn());
            self.huge += u64::from(order != 0);
            self.shared += u64::from(frame(head).mapcount() > 1);
            self.dirty += u64::from(entry.is_dirty());
            self.referenced += u64::from(entry.is_accessed());
        }
    }
}

pub(super) fn smaps(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    each(ctx, |space| {
        let areas = space.areas();
        for (_, area) in areas.iter() {
            let mut sums = Sums::default();
            entries(&areas, area, VirtAddr(0), &mut |_, entry| {
                sums.count(entry);
                true
            });
            print_area(area, ctx.out);
            for (name, pages) in [
                ("Size:", area.pages()),
                ("Rss:", sums.rss),
                ("Anonymous:", sums.rss - sums.file),
                ("File:", sums.file),
                ("Shared:", sums.shared),
                ("Private:", sums.rss - sums.shared),
                ("Dirty:", sums.dirty),
                ("Referenced:", sums.referenced),
                ("AnonHugePages:", sums.huge),
                ("ZeroPage:", sums.zero),
                ("Swap:", sums.swap),
            ] {
                writeln!(ctx.out, "{name:<14} {:>10} kB", pages * PAGE_SIZE / 1024);
            }
        }
    })
}

pub(super) fn pagemap(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let spaces = chosen(&mut args)?;
    let start = args.word().map_or(Ok(0), |w| number(&w))?;
    let limit = args.word().map_or(Ok(64), |w| number(&w))?;
    args.done()?;
    if start >= arch::USER_TOP {
        return Err(UsageError(format!(
            "address {start:#x} is not in the user half"
        )));
    }
    none_in_use(&spaces, ctx.out);
    for space in &spaces {
        writeln!(ctx.out, "mm {}:", space.id());
        let mut left = limit;
        let areas = space.areas();
        for (_, area) in areas.iter() {
            let more = entries(&areas, area, VirtAddr(start).page(), &mut |va, entry| {
                if left > 0 {
                    print_entry(va, entry, ctx.out);
                }
                left = left.saturating_sub(1);
                left > 0
            });
            if !more {
                writeln!(ctx.out, "… (give START and PAGES for more)");
                break;
            }
        }
    }
    Ok(Status::Ok)
}

fn print_entry(va: VirtAddr, entry: Entry, out: &dyn Out) {
    if entry.is_swap() {
        writeln!(out, "{:012x} swap slot {:#x}", va.0, entry.swap_slot());
        return;
    }
    if entry.is_migration() {
        writeln!(out, "{:012x} moving from pfn {:#x}", va.0, entry.pfn().0);
        return;
    }
    let bit = |set, c| if set { c } else { '-' };
    writeln!(
        out,
        "{:012x} pfn {:#x} {}{}{}{}{}",
        va.0,
        entry.pfn().0,
        bit(entry.is_present(), 'p'),
        bit(entry.is_write(), 'w'),
        bit(entry.is_accessed(), 'a'),
        bit(entry.is_dirty(), 'd'),
        remark(entry)
    );
}

fn remark(entry: Entry) -> &'static str {
    if entry.is_special() {
        " zero page"
    } else if block_of(entry.pfn()).1 != 0 {
        " huge"
    } else {
        ""
    }
}

pub(super) fn tlb(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    ctx.args().done()?;
    for cpu in arch::online().iter() {
        let now = cpu_state(cpu);
        match now.loaded {
            Some(mm) => {
                let state = if now.lazy { "lazy on" } else { "running" };
                writeln!(
                    ctx.out,
                    "CPU {cpu}: {state} mm {mm}, generation {}",
                    now.generation
                );
            }
            None => writeln!(ctx.out, "CPU {cpu}: kernel root"),
        }
    }
    for space in (0..mm::mm::id_limit()).filter_map(MmRef::by_id_live) {
        writeln!(
            ctx.out,
            "mm {}: generation {}, CPUs {:#x}",
            space.id(),
            space.generation(),
            space.cpus().bits()
        );
    }
    for event in [
        Event::TlbFlush,
        Event::TlbFlushPages,
        Event::TlbRemoteFlush,
        Event::TlbRemoteFlushReceived,
        Event::TlbIpi,
        Event::TlbFlushOne,
        Event::TlbFlushAll,
        Event::TlbLazySkip,
        Event::TlbGenSkip,
        Event::TlbAvoided,
    ] {
        writeln!(ctx.out, "{} {}", Event::ALL[event as usize].1, total(event));
    }
    Ok(Status::Ok)
}
