//! `meminfo`, `drop_caches`, `buddyinfo`, `vmstat`, `swap`.

use arch::PAGE_SIZE;
use arch::block::SECTOR;
use mm::buddy;
use mm::stats::{self, Event, Use};

use crate::args::UsageError;
use crate::out::Out;
use crate::shell::{Ctx, Status};
use crate::startup;

const KB_PER_PAGE: u64 = PAGE_SIZE / 1024;

fn line(out: &dyn Out, name: &str, pages: u64) {
    let name = alloc::format!("{name}:");
    writeln!(out, "{name:<16} {:>10} kB", pages * KB_PER_PAGE);
}

pub(super) fn meminfo(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    ctx.args().done()?;
    Ok(Status::from_success(print_meminfo(ctx.out)))
}

/// Pages of memory in huge pages.
fn anon_huge_pages() -> u64 {
    let spaces = (0..mm::mm::id_limit()).filter_map(mm::MmRef::by_id_live);
    let huge: u64 = spaces.map(|space| space.anon_huge.get()).sum();
    huge << buddy::HUGE_ORDER
}

/// Prints the table; whether the uses add up to the frames there are (they do when nothing runs).
fn print_meminfo(out: &dyn Out) -> bool {
    let frames = mm::inspect::max_pfn() as u64 - stats::use_pages(Use::Reserved);
    let free = stats::use_pages(Use::Free) + stats::use_pages(Use::Pcp);
    let swap = mm::swap::stats();
    let [anon, file] = mm::inspect::lru_counts();
    line(out, "MemTotal", frames);
    line(out, "MemFree", free);
    line(out, "Cached", mm::file::cached());
    line(out, "Active", anon.active + file.active);
    line(out, "Inactive", anon.inactive + file.inactive);
    line(out, "Active(anon)", anon.active);
    line(out, "Inactive(anon)", anon.inactive);
    line(out, "Active(file)", file.active);
    line(out, "Inactive(file)", file.inactive);
    let waiting = mm::file::unwritten();
    line(out, "Dirty", waiting.dirty);
    line(out, "Writeback", waiting.writeback);
    line(out, "SwapCached", swap.cached);
    line(out, "SwapTotal", swap.total);
    line(out, "SwapFree", swap.total - swap.used);
    line(out, "AnonHugePages", anon_huge_pages());
    let (held, used) = mm::heap::usage();
    line(out, "HeapUsed", used.div_ceil(PAGE_SIZE));
    line(out, "HeapSize", held / PAGE_SIZE);
    let (min, low, high) = buddy::watermarks();
    writeln!(out, "watermarks: min {min} low {low} high {high} pages");
    let mut sum = 0;
    for (usage, name) in Use::ALL {
        if usage != Use::Reserved {
            line(out, name, stats::use_pages(usage));
            sum += stats::use_pages(usage);
        }
    }
    let verdict = if sum == frames {
        "all accounted for"
    } else {
        "changing meanwhile"
    };
    writeln!(out, "sum of uses: {sum} pages of {frames}: {verdict}");
    sum == frames
}

pub(super) fn drop_caches(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    ctx.args().done()?;
    let dropped = mm::file::drop_caches();
    writeln!(
        ctx.out,
        "{dropped} pages dropped, {} stay",
        mm::file::cached()
    );
    Ok(Status::Ok)
}

pub(super) fn buddyinfo(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    ctx.args().done()?;
    write!(ctx.out, "Node 0, zone   Normal");
    for blocks in buddy::free_blocks() {
        write!(ctx.out, " {blocks:>6}");
    }
    writeln!(ctx.out);
    writeln!(ctx.out, "per-CPU lists: {} pages", buddy::pcp::pages());
    Ok(Status::Ok)
}

pub(super) fn vmstat(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let watch = args.flag("--watch");
    let secs = args.number("--secs", u64::MAX, 1..=u64::MAX)?;
    args.done()?;
    if watch {
        watch_events(ctx, secs);
        return Ok(Status::Ok);
    }
    for (event, name) in Event::ALL {
        writeln!(ctx.out, "{name} {}", stats::total(*event));
    }
    Ok(Status::Ok)
}

/// One line a second with the events that happened in it.
fn watch_events(ctx: &Ctx<'_>, secs: u64) {
    let snapshot =
        || core::array::from_fn::<u64, { Event::ALL.len() }, _>(|i| stats::total(Event::ALL[i].0));
    let mut before = snapshot();
    for _ in 0..secs {
        for _ in 0..10 {
            if ctx.cancel.requested() {
                return;
            }
            arch::thread::sleep_ns(100_000_000);
        }
        let now = snapshot();
        let free = stats::use_pages(Use::Free) + stats::use_pages(Use::Pcp);
        write!(ctx.out, "free {free}");
        for (i, (_, name)) in Event::ALL.iter().enumerate() {
            if now[i] != before[i] {
                write!(ctx.out, " {name} {}", now[i].wrapping_sub(before[i]));
            }
        }
        writeln!(ctx.out);
        before = now;
    }
}

pub(super) fn swap(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let verb = args.word();
    args.done()?;
    let done = match verb.as_deref() {
        None => Ok(()),
        Some("mkswap") => startup::mkswap(),
        Some("on") => startup::swap_on(),
        Some("off") => startup::swap_off(),
        Some(other) => {
            return Err(UsageError(alloc::format!(
                "unknown verb '{other}'; accepted: mkswap, on, off"
            )));
        }
    };
    if let Err(message) = done {
        writeln!(ctx.out, "swap: {message}");
        return Ok(Status::Failed);
    }
    print_swap(ctx.out);
    print_disks(ctx.out);
    Ok(Status::Ok)
}

fn print_disks(out: &dyn Out) {
    for (name, disk) in [("swap", arch::swap_disk()), ("data", arch::data_disk())] {
        if let Some(disk) = disk {
            let kb = disk.sectors() * SECTOR / 1024;
            writeln!(
                out,
                "{name} disk: {}, {kb} kB, {} requests",
                disk.name(),
                disk.completed()
            );
        }
    }
}

fn print_swap(out: &dyn Out) {
    let s = mm::swap::stats();
    if s.total == 0 {
        writeln!(out, "no swap in use");
        return;
    }
    line(out, "SwapTotal", s.total);
    line(out, "SwapFree", s.total - s.used);
    line(out, "SwapCached", s.cached);
    line(out, "SwapBad", s.bad);
    for event in [
        Event::PswpOut,
        Event::PswpIn,
        Event::SwapRa,
        Event::SwapRaHit,
        Event::SwapCacheHit,
        Event::SwapWriteError,
        Event::SwapReadError,
        Event::Bio,
    ] {
        writeln!(
            out,
            "{} {}",
            Event::ALL[event as usize].1,
            stats::total(event)
        );
    }
}
