//! The benches' bodies: set-up, the measured loop, tear-down. Sizes are those of Linux's rows.

use alloc::format;
use alloc::string::String;

use arch::upcall::FaultError;
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::buddy::{self, Gfp, HUGE_ORDER};
use mm::file::Opener;
use mm::stats::{Event, Use, total};
use mm::{MapFlags, MmError};

use super::{Meter, Sample};
use crate::space::{Advice, Prot, Space, at};

/// 16 MiB.
const PAGES: usize = 4096;
/// 2 MiB.
const HUGE: usize = 512;
/// Pages of a file: 4 MiB.
const FILE: usize = 1024;
/// Rounds of what is not per page.
const CALLS: usize = 2000;
/// 2 MiB aligned.
const BASE: VirtAddr = VirtAddr(0x4000_0000);

type Result = core::result::Result<Sample, String>;

pub(super) fn op<T>(
    what: &str,
    r: core::result::Result<T, MmError>,
) -> core::result::Result<T, String> {
    r.map_err(|e| format!("{what}: {e:?}"))
}

pub(super) fn access<T>(r: core::result::Result<T, FaultError>) -> core::result::Result<T, String> {
    r.map_err(|e| format!("a user access failed: {e:?}"))
}

/// A space with `pages` mapped at [`BASE`].
fn mapped(pages: usize) -> core::result::Result<Space, String> {
    let space = op("new", Space::new())?;
    op("mmap", space.map(BASE, pages, Prot::RW))?;
    Ok(space)
}

/// Writes one word of each page.
fn touch(pages: usize) -> core::result::Result<(), String> {
    (0..pages).try_for_each(|i| access(user::store(at(BASE, i), i as u64 + 1)))
}

/// Reads one word of each page.
fn look(pages: usize) -> core::result::Result<(), String> {
    (0..pages).try_for_each(|i| access(user::load(at(BASE, i))).map(drop))
}

pub(super) fn first_touch() -> Result {
    let space = mapped(PAGES)?;
    let _adopted = space.enter();
    let meter = Meter::start();
    touch(PAGES)?;
    Ok(meter.stop(PAGES))
}

pub(super) fn zero_read() -> Result {
    let space = mapped(PAGES)?;
    let _adopted = space.enter();
    let meter = Meter::start();
    look(PAGES)?;
    Ok(meter.stop(PAGES))
}

pub(super) fn cow_copy() -> Result {
    let space = mapped(PAGES)?;
    let _adopted = space.enter();
    touch(PAGES)?;
    let child = op("fork", space.fork())?;
    let meter = Meter::start();
    touch(PAGES)?;
    let sample = meter.stop(PAGES);
    drop(child);
    Ok(sample)
}

pub(super) fn cow_reuse() -> Result {
    let space = mapped(PAGES)?;
    let _adopted = space.enter();
    touch(PAGES)?;
    drop(op("fork", space.fork())?);
    let meter = Meter::start();
    touch(PAGES)?;
    Ok(meter.stop(PAGES))
}

pub(super) fn mmap_munmap() -> Result {
    let space = op("new", Space::new())?;
    let _adopted = space.enter();
    let meter = Meter::start();
    for _ in 0..CALLS {
        let va = op("mmap", space.map_anywhere(1))?;
        op("munmap", space.unmap(va, 1))?;
    }
    Ok(meter.stop(CALLS))
}

pub(super) fn munmap_page() -> Result {
    let space = mapped(PAGES)?;
    let _adopted = space.enter();
    touch(PAGES)?;
    let meter = Meter::start();
    op("munmap", space.unmap(BASE, PAGES))?;
    Ok(meter.stop(PAGES))
}

pub(super) fn mprotect_page() -> Result {
    let space = mapped(1)?;
    let _adopted = space.enter();
    touch(1)?;
    let meter = Meter::start();
    for _ in 0..CALLS {
        op("mprotect", space.protect(BASE, 1, Prot::READ))?;
        op("mprotect", space.protect(BASE, 1, Prot::RW))?;
    }
    Ok(meter.stop(2 * CALLS))
}

/// A fork of a touched space of `pages` pages, and the exit of the child that never ran.
fn fork_and_exit(pages: usize) -> core::result::Result<(Sample, Sample), String> {
    let space = mapped(pages.max(1))?;
    let _adopted = space.enter();
    touch(pages)?;
    let meter = Meter::start();
    let child = op("fork", space.fork())?;
    let fork = meter.stop(PAGES);
    let meter = Meter::start();
    drop(child);
    Ok((fork, meter.stop(PAGES)))
}

/// `whole` less what an empty address space costs.
fn less(whole: Sample, empty: Sample) -> Sample {
    Sample {
        cost: whole.cost.saturating_sub(empty.cost),
        ..whole
    }
}

pub(super) fn fork_page() -> Result {
    Ok(less(fork_and_exit(PAGES)?.0, fork_and_exit(0)?.0))
}

pub(super) fn exit_page() -> Result {
    Ok(less(fork_and_exit(PAGES)?.1, fork_and_exit(0)?.1))
}

/// Back and forth between two places that lie differently in their tables, so that entries are
/// moved one by one.
pub(super) fn mremap_page() -> Result {
    const MOVES: usize = 16;
    let space = op("new", Space::new())?;
    let (mut from, mut to) = (at(BASE, 1), at(BASE, 3 * HUGE + 6));
    op("mmap", space.map(from, HUGE, Prot::RW))?;
    let _adopted = space.enter();
    for i in 0..HUGE {
        access(user::store(at(from, i), 1))?;
    }
    let meter = Meter::start();
    for _ in 0..MOVES {
        op("mremap", space.move_to(from, HUGE, to))?;
        core::mem::swap(&mut from, &mut to);
    }
    Ok(meter.stop(MOVES * HUGE))
}

/// A file in memory of [`FILE`] written pages, as Linux was measured with.
fn file_in_memory() -> core::result::Result<Opener, String> {
    let bytes = FILE as u64 * PAGE_SIZE;
    let file = op("shmem", mm::file::shmem(bytes))?;
    let page = [7; PAGE_SIZE as usize];
    for i in 0..FILE as u64 {
        op("write", file.write(i * PAGE_SIZE, &page))?;
    }
    Ok(file)
}

/// A space that shows such a file, which stays open.
fn mapped_file(flags: MapFlags) -> core::result::Result<(Space, Opener), String> {
    let file = file_in_memory()?;
    let space = op("new", Space::new())?;
    op(
        "mmap",
        space.map_file(BASE, FILE, Prot::RW, flags, &file, 0),
    )?;
    Ok((space, file))
}

pub(super) fn file_read_fault() -> Result {
    let (space, _open) = mapped_file(MapFlags::SHARED)?;
    let _adopted = space.enter();
    let meter = Meter::start();
    look(FILE)?;
    Ok(meter.stop(FILE))
}

pub(super) fn file_write_fault() -> Result {
    let (space, _open) = mapped_file(MapFlags::SHARED)?;
    let _adopted = space.enter();
    let meter = Meter::start();
    touch(FILE)?;
    Ok(meter.stop(FILE))
}

pub(super) fn file_munmap() -> Result {
    let (space, _open) = mapped_file(MapFlags::SHARED)?;
    let _adopted = space.enter();
    touch(FILE)?;
    let meter = Meter::start();
    op("munmap", space.unmap(BASE, FILE))?;
    Ok(meter.stop(FILE))
}

pub(super) fn file_cow() -> Result {
    let (space, _open) = mapped_file(MapFlags::NONE)?;
    let _adopted = space.enter();
    let meter = Meter::start();
    touch(FILE)?;
    Ok(meter.stop(FILE))
}

pub(super) fn huge_block() -> Result {
    let meter = Meter::start();
    for _ in 0..CALLS {
        let block = buddy::alloc(HUGE_ORDER, Use::Misc, Gfp::NOWAIT);
        block
            .map_err(|_| String::from("no block is free"))?
            .give_back();
    }
    Ok(meter.stop(CALLS))
}

/// Huge pages measured at a time.
const HUGES: usize = 16;

/// A space that has `HUGES` huge pages, or may have them.
fn with_huge(touched: bool) -> core::result::Result<Space, String> {
    let space = mapped(HUGES * HUGE)?;
    op(
        "madvise",
        space.advise(BASE, HUGES * HUGE, Advice::HugePage),
    )?;
    if touched {
        let _adopted = space.enter();
        touch_each_huge()?;
        if space.mm().anon_huge.get() != HUGES as u64 {
            return Err("no blocks are free".into());
        }
    }
    Ok(space)
}

fn touch_each_huge() -> core::result::Result<(), String> {
    (0..HUGES).try_for_each(|i| access(user::store(at(BASE, i * HUGE), 1)))
}

/// Does `f` to the first page of each huge page.
fn split_each(f: impl Fn(&Space, VirtAddr) -> core::result::Result<(), MmError>) -> Result {
    let space = with_huge(true)?;
    let _adopted = space.enter();
    let meter = Meter::start();
    for i in 0..HUGES {
        op("split", f(&space, at(BASE, i * HUGE)))?;
    }
    Ok(meter.stop(HUGES))
}

pub(super) fn thp_fault() -> Result {
    let space = with_huge(false)?;
    let _adopted = space.enter();
    let meter = Meter::start();
    touch_each_huge()?;
    Ok(meter.stop(HUGES))
}

pub(super) fn thp_munmap() -> Result {
    let space = with_huge(true)?;
    let _adopted = space.enter();
    let meter = Meter::start();
    op("munmap", space.unmap(BASE, HUGES * HUGE))?;
    Ok(meter.stop(HUGES))
}

pub(super) fn thp_split_mprotect() -> Result {
    split_each(|space, va| space.protect(va, 1, Prot::READ))
}

pub(super) fn thp_split_munmap() -> Result {
    split_each(|space, va| space.unmap(va, 1))
}

pub(super) fn thp_split_dontneed() -> Result {
    split_each(|space, va| space.advise(va, 1, Advice::DontNeed))
}

pub(super) fn swapout_page() -> Result {
    let space = mapped(PAGES)?;
    let _adopted = space.enter();
    touch(PAGES)?;
    let meter = Meter::start_cpu_time();
    op("madvise", space.advise(BASE, PAGES, Advice::PageOut))?;
    Ok(meter.stop(PAGES))
}

pub(super) fn swapin_page() -> Result {
    let space = mapped(PAGES)?;
    let _adopted = space.enter();
    touch(PAGES)?;
    op("madvise", space.advise(BASE, PAGES, Advice::PageOut))?;
    // Writes that are under way end, and their frames are freed.
    mm::reclaim::settle();
    let before = total(Event::PswpIn);
    let meter = Meter::start_cpu_time();
    look(PAGES)?;
    let sample = meter.stop(PAGES);
    let read = total(Event::PswpIn) - before;
    if read < PAGES as u64 / 2 {
        return Err(format!("only {read} of {PAGES} pages came from the disk"));
    }
    Ok(sample)
}
