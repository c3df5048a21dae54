//! Files on the data disk: what is written is read, by whomever; what is synced is on the disk; and
//! who is told when the disk fails.

#[cfg(feature = "lab")]
mod errors;

use alloc::vec;
use alloc::vec::Vec;

use arch::PAGE_SIZE;
#[cfg(any(feature = "lab", not(target_os = "none")))]
use arch::block::Op;
#[cfg(feature = "lab")]
use arch::block::SECTOR;
use mm::MmError;
use mm::file::{self, Opener};
use mm::stats::{Event, Use, total, use_pages};

use super::{Outcome, in_parallel};
#[cfg(feature = "lab")]
use crate::faulty::{DATA, Rule};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::stress::memory::{Balloon, mib};
use crate::{check, check_eq, tests};
#[cfg(feature = "lab")]
use errors::{
    a_failed_flush_is_told, a_failed_read_is_the_readers, a_failed_write_is_told_once,
    nothing_is_lost_until_the_disk_recovers, what_cannot_be_written_is_always_counted,
    writers_are_told_when_nothing_can_be_written,
};

pub(super) static SUITE: Suite = Suite {
    name: "file",
    tests: tests![
        what_is_written_is_read,
        a_part_leaves_the_rest,
        nothing_is_beyond_the_end,
        only_one_file_for_a_page,
        reading_on_reads_ahead,
        neighbours_share_requests,
        openers_see_each_other,
        more_than_memory,
        writers_wait_at_the_limit,
        writers_that_wait_together_all_go_on,
        #[cfg(feature = "lab")]
        a_failed_write_is_told_once,
        #[cfg(feature = "lab")]
        nothing_is_lost_until_the_disk_recovers,
        #[cfg(feature = "lab")]
        a_failed_read_is_the_readers,
        #[cfg(feature = "lab")]
        punching_goes_on_after_an_error,
        #[cfg(feature = "lab")]
        a_failed_flush_is_told,
        #[cfg(feature = "lab")]
        what_cannot_be_written_is_always_counted,
        #[cfg(feature = "lab")]
        writers_are_told_when_nothing_can_be_written,
        #[cfg(not(target_os = "none"))]
        what_is_synced_survives_a_power_cut,
        #[cfg(not(target_os = "none"))]
        a_sync_waits_for_slow_writes,
    ],
};

pub(super) const PAGE: usize = PAGE_SIZE as usize;
/// Pages of the tests' file, which begins at page [`FIRST`] of the disk.
pub(super) const PAGES: u32 = 256;
pub(super) const FIRST: u32 = 3;

pub(super) fn opened(pages: u32) -> Result<Opener, Failure> {
    if file::disk_pages() < FIRST + pages {
        return Err(Failure::Skip("needs a data disk".into()));
    }
    Ok(file::open(FIRST, pages)?)
}

/// Drops all that is clean; how many pages. A pass of the flusher has pages in hand: it is waited
/// for by the check.
pub(super) fn empty_cache() -> Result<u64, Failure> {
    file::check().map_err(Failure::new)?;
    Ok(file::drop_caches())
}

/// Runs `f` with an empty cache and `pages` pages of disk from [`FIRST`] on; after it nothing is
/// left in a cache, and nothing is dirty.
pub(super) fn with_disk(pages: u32, f: impl FnOnce() -> Outcome) -> Outcome {
    empty_cache()?;
    if file::disk_pages() < FIRST + pages {
        return Err(Failure::Skip("needs a data disk".into()));
    }
    f()?;
    empty_cache()?;
    check_eq!(file::unwritten().all(), 0);
    check_eq!(use_pages(Use::File), 0);
    file::check().map_err(Failure::new)
}

/// As [`with_disk`], with these pages as a file.
pub(super) fn with_file(pages: u32, f: impl FnOnce(&Opener) -> Outcome) -> Outcome {
    with_disk(pages, || {
        let opener = opened(pages)?;
        let result = f(&opener);
        // Errors that were made on purpose are told here at the latest.
        let synced = opener.sync().or_else(|_| opener.sync());
        result?;
        Ok(synced?)
    })
}

/// Bytes that tell where they are, and in which round.
pub(super) fn bytes(pos: usize, len: usize, round: u8) -> Vec<u8> {
    let byte = |i: usize| (i % 251) as u8 ^ ((i >> 12) as u8).wrapping_mul(7) ^ round;
    (pos..pos + len).map(byte).collect()
}

pub(super) fn write(file: &Opener, pos: usize, data: &[u8]) -> Outcome {
    check_eq!(file.write(pos as u64, data)?, data.len());
    Ok(())
}

pub(super) fn expect(file: &Opener, pos: usize, data: &[u8]) -> Outcome {
    let mut found = vec![0; data.len()];
    check_eq!(file.read(pos as u64, &mut found)?, data.len());
    same(&found, pos, data)
}

pub(super) fn same(found: &[u8], pos: usize, data: &[u8]) -> Outcome {
    match found.iter().zip(data).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(i) => Err(Failure::new(alloc::format!(
            "byte {:#x}: found {:#x}, expected {:#x}",
            pos + i,
            found[i],
            data[i]
        ))),
    }
}

/// Whole pages of the file, from the disk itself.
pub(super) fn expect_on_disk(page: u32, data: &[u8]) -> Outcome {
    let mut found = alloc::boxed::Box::new([0; PAGE]);
    for (i, part) in data.chunks(PAGE).enumerate() {
        file::read_raw(FIRST + page + i as u32, &mut found)?;
        same(&found[..], (page as usize + i) * PAGE, part)?;
    }
    Ok(())
}

fn what_is_written_is_read(ctx: &mut TestCtx<'_>) -> Outcome {
    let round = ctx.seed as u8;
    with_file(PAGES, |file| {
        let all = bytes(0, 40 * PAGE, round);
        // In pieces of all sizes, none at a page's begin.
        let mut at = 0;
        for (i, size) in (1..).map(|i| (i, 37 * i % 9001 + 1)) {
            let end = all.len().min(at + size);
            write(file, at, &all[at..end])?;
            expect(file, at, &all[at..end])?;
            at = end;
            if at == all.len() {
                ctx.note(format_args!("{i} pieces"));
                break;
            }
        }
        expect(file, 0, &all)?;
        file.sync()?;
        expect_on_disk(0, &all)?;
        check!(empty_cache()? >= 40, "clean pages stayed");
        check_eq!(use_pages(Use::File), 0);
        expect(file, 1, &all[1..])
    })
}

fn a_part_leaves_the_rest(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let old = bytes(0, 4 * PAGE, 1);
        write(file, 0, &old)?;
        file.sync()?;
        empty_cache()?;
        let new = bytes(PAGE - 10, 20, 2);
        write(file, PAGE - 10, &new)?;
        let mut all = old;
        all[PAGE - 10..PAGE + 10].copy_from_slice(&new);
        expect(file, 0, &all)?;
        file.sync()?;
        expect_on_disk(0, &all)
    })
}

fn nothing_is_beyond_the_end(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let end = file.size();
        check_eq!(end, u64::from(PAGES) * PAGE_SIZE);
        let mut buffer = [7; 64];
        check_eq!(file.write(end - 10, &buffer)?, 10);
        check_eq!(file.read(end - 10, &mut buffer)?, 10);
        for pos in [end, end + 1, u64::MAX] {
            check_eq!(file.write(pos, &buffer)?, 0);
            check_eq!(file.read(pos, &mut buffer)?, 0);
        }
        check_eq!(file.sync_range(end, 100), Ok(()));
        Ok(())
    })
}

fn only_one_file_for_a_page(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |_| {
        let error = |first, pages| file::open(first, pages).err();
        check_eq!(error(FIRST, 0), Some(MmError::Invalid));
        check_eq!(error(file::disk_pages(), 1), Some(MmError::Invalid));
        check_eq!(error(u32::MAX, 2), Some(MmError::Invalid));
        check_eq!(error(FIRST + PAGES - 1, 1), Some(MmError::Exists));
        check_eq!(error(0, FIRST + 1), Some(MmError::Exists));
        check_eq!(error(0, FIRST), None);
        check_eq!(error(FIRST, PAGES), None);
        Ok(())
    })
}

fn reading_on_reads_ahead(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let all = bytes(0, PAGES as usize * PAGE, 3);
        write(file, 0, &all)?;
        file.sync()?;
        empty_cache()?;
        let before = total(Event::Bio);
        for (i, page) in all.chunks(PAGE).enumerate() {
            expect(file, i * PAGE, page)?;
        }
        let requests = total(Event::Bio) - before;
        check!(requests <= 24, "{requests} requests for {PAGES} pages");
        empty_cache()?;
        // Here and there: nothing but what is asked for.
        let before = total(Event::FileRead);
        for i in 1..20 {
            let at = (i * 97) % PAGES as usize * PAGE;
            expect(file, at, &all[at..at + PAGE])?;
        }
        check_eq!(total(Event::FileRead) - before, 19);
        Ok(())
    })
}

fn neighbours_share_requests(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        write(file, 0, &bytes(0, 128 * PAGE, 4))?;
        let before = (total(Event::Bio), total(Event::FileWritten));
        file.sync_range(0, 128 * PAGE_SIZE)?;
        let requests = total(Event::Bio) - before.0;
        check!(
            total(Event::FileWritten) - before.1 <= 128,
            "pages were written twice"
        );
        // Four of 32 pages, a flush, and what others send.
        check!(requests <= 16, "{requests} requests for 128 pages");
        check_eq!(file::unwritten().dirty, 0);
        Ok(())
    })
}

fn openers_see_each_other(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let other = opened(PAGES)?;
        let (one, two) = (bytes(0, PAGE, 5), bytes(0, PAGE, 6));
        write(file, 0, &one)?;
        expect(&other, 0, &one)?;
        write(&other, 0, &two)?;
        expect(file, 0, &two)?;
        // Either may make it durable.
        file.sync()?;
        expect_on_disk(0, &two)
    })
}

fn more_than_memory(_: &mut TestCtx<'_>) -> Outcome {
    let pages = file::disk_pages().saturating_sub(FIRST).min(3500);
    if pages < 2000 {
        return Err(Failure::Skip("needs a data disk of 8 MiB".into()));
    }
    let before = total(Event::PgStealKswapd) + total(Event::PgStealDirect);
    with_file(pages, |file| {
        let _balloon = Balloon::leave(mib(4));
        for round in [1, 2] {
            for page in 0..pages as usize {
                write(file, page * PAGE, &bytes(page * PAGE, PAGE, round))?;
            }
            for page in 0..pages as usize {
                expect(file, page * PAGE, &bytes(page * PAGE, PAGE, round))?;
            }
        }
        Ok(())
    })?;
    let stolen = total(Event::PgStealKswapd) + total(Event::PgStealDirect) - before;
    check!(
        stolen >= u64::from(pages) / 2,
        "{stolen} pages were reclaimed"
    );
    Ok(())
}

/// Runs `f` with this hard limit.
pub(super) fn with_limit(pages: u64, f: impl FnOnce() -> Outcome) -> Outcome {
    file::set_limits(Some(pages));
    let result = f();
    file::set_limits(None);
    result
}

fn writers_wait_at_the_limit(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        with_limit(32, || {
            for page in 0..PAGES as usize {
                write(file, page * PAGE, &bytes(page * PAGE, PAGE, 8))?;
                let waiting = file::unwritten().all();
                check!(waiting <= 33, "{waiting} pages wait to be written");
            }
            expect(file, 0, &bytes(0, PAGES as usize * PAGE, 8))
        })
    })
}

/// Who finds the room taken by another when it wakes up waits again: on a disk that works nobody is
/// refused.
fn writers_that_wait_together_all_go_on(_: &mut TestCtx<'_>) -> Outcome {
    const WRITERS: usize = 4;
    with_file(PAGES, |_| {
        with_limit(4, || {
            in_parallel(WRITERS, |i, meeting| {
                let file = opened(PAGES)?;
                meeting.wait(0)?;
                for round in 0..20 {
                    for page in (i..PAGES as usize).step_by(WRITERS) {
                        write(&file, page * PAGE, &bytes(page * PAGE, PAGE, round))?;
                    }
                }
                Ok(())
            })
        })
    })
}

/// The first page, of which a part is to stay, cannot be read.
#[cfg(feature = "lab")]
fn punching_goes_on_after_an_error(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let old = bytes(0, 8 * PAGE, 3);
        write(file, 0, &old)?;
        file.sync()?;
        file::drop_caches();
        with_errors(Op::Read, 1..2, u64::MAX, || {
            let punched = file.punch(PAGE_SIZE + 100, 4 * PAGE_SIZE);
            check_eq!(punched, Err(mm::MmError::Io));
            Ok(())
        })?;
        let mut wanted = old;
        wanted[2 * PAGE..5 * PAGE + 100].fill(0);
        expect(file, 0, &wanted)
    })
}

/// Runs `f` while requests of kind `op` to these pages of the file fail, then makes the disk whole
/// again.
#[cfg(feature = "lab")]
pub(super) fn with_errors(
    op: Op,
    pages: core::ops::Range<u32>,
    times: u64,
    f: impl FnOnce() -> Outcome,
) -> Outcome {
    let sector = |page: u32| u64::from(FIRST + page) * (PAGE_SIZE / SECTOR);
    let rule = Rule {
        op,
        first: sector(pages.start),
        end: sector(pages.end),
        times,
    };
    check!(DATA.add(rule), "rules are left over");
    let result = f();
    DATA.clear();
    result
}

/// Every sector of the pages from `page` on is one of `either`, on the disk.
#[cfg(not(target_os = "none"))]
fn expect_sectors_of(page: u32, either: [&[u8]; 2]) -> Outcome {
    let mut found = alloc::boxed::Box::new([0; PAGE]);
    let pages = either[0].chunks(PAGE).zip(either[1].chunks(PAGE));
    for (i, (a, b)) in (page..).zip(pages) {
        file::read_raw(FIRST + i, &mut found)?;
        let sectors = found.chunks(512).zip(a.chunks(512).zip(b.chunks(512)));
        for (n, (found, (a, b))) in sectors.enumerate() {
            check!(
                found == a || found == b,
                "page {i}, sector {n}: neither old nor new"
            );
        }
    }
    Ok(())
}

/// Needs no reset: what the disk forgets, the cache is made to forget as well.
#[cfg(not(target_os = "none"))]
fn what_is_synced_survives_a_power_cut(ctx: &mut TestCtx<'_>) -> Outcome {
    let seed = ctx.seed;
    with_file(PAGES, |file| {
        for turn in 0..4 {
            let first = bytes(0, 40 * PAGE, 16 + turn);
            let second = bytes(0, 40 * PAGE, 32 + turn);
            write(file, 0, &first)?;
            file.sync()?;
            // Written back for want of room, but not synced.
            with_limit(2, || write(file, 20 * PAGE, &second[20 * PAGE..]))?;
            arch::simctl::power_cut(seed ^ u64::from(turn));
            expect_on_disk(0, &first[..20 * PAGE])?;
            expect_sectors_of(20, [&first[20 * PAGE..], &second[20 * PAGE..]])?;
            // A part of the file is synced: that part is there.
            write(file, 0, &second)?;
            file.sync_range(0, 10 * PAGE_SIZE)?;
            arch::simctl::power_cut(seed ^ u64::from(turn) << 8);
            expect_on_disk(0, &second[..10 * PAGE])?;
        }
        Ok(())
    })
}

/// Whoever began the write: it is the flusher's in the second half.
#[cfg(not(target_os = "none"))]
fn a_sync_waits_for_slow_writes(_: &mut TestCtx<'_>) -> Outcome {
    use arch::simctl::{DiskFault, FaultKind, data_disk};
    const SLOW_NS: u64 = 50_000_000;
    with_file(PAGES, |file| {
        for (round, limit) in [(50, None), (51, Some(8))] {
            let data = bytes(0, 40 * PAGE, round);
            data_disk().inject(DiskFault {
                op: Op::Write,
                sectors: 0..u64::MAX,
                kind: FaultKind::Delay(SLOW_NS),
                once: false,
            });
            file::set_limits(limit);
            let result = write(file, 0, &data).and_then(|()| Ok(file.sync()?));
            file::set_limits(None);
            let there = result.and_then(|()| expect_on_disk(0, &data));
            data_disk().clear_faults();
            there?;
        }
        Ok(())
    })
}
