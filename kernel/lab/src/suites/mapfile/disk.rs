//! Mapped files and the disk: what a sync writes, what it tells, what waits for it. Tests of suite
//! `mapfile`.

use alloc::boxed::Box;

#[cfg(not(target_os = "none"))]
use arch::PAGE_SIZE;
#[cfg(feature = "lab")]
use arch::VirtAddr;
#[cfg(any(feature = "lab", not(target_os = "none")))]
use arch::block::Op;
#[cfg(feature = "lab")]
use arch::upcall::FaultError;
use arch::user;
#[cfg(feature = "lab")]
use mm::MmError;
use mm::stats::{Event, total};

#[cfg(feature = "lab")]
use super::super::file::with_errors;
use super::super::file::{FIRST, PAGE, PAGES, expect_on_disk, opened, with_file, with_limit};
use super::super::{BASE, Outcome, in_parallel, several};
#[cfg(feature = "lab")]
use super::PRIVATE;
use super::{SHARED, fill, page_of, value, with_mapping, word};
use crate::selftest::{Failure, TestCtx};
use crate::space::{Advice, Prot, Space, at};
use crate::{check, check_eq};

pub(super) fn a_synced_page_is_clean_until_it_is_stored_to(_: &mut TestCtx<'_>) -> Outcome {
    with_mapping(4, SHARED, |_, space| {
        for round in 2..6 {
            let paused = mm::file::pause_flusher();
            for flush in [false, true] {
                let made = total(Event::FileMkwrite);
                user::store(at(BASE, 1), value(1, round))?;
                user::store(word(BASE, 1), value(1, round))?;
                // The first store of a round finds the entry read-only, no other does.
                check_eq!(total(Event::FileMkwrite) - made, u64::from(!flush));
                check_eq!(mm::file::unwritten().dirty, 1);
            }
            space.sync(BASE, 4)?;
            check_eq!(mm::file::unwritten().dirty, 0);
            drop(paused);
            let mut page = page_of(1, 1);
            page[..8].copy_from_slice(&value(1, round).to_le_bytes());
            page[PAGE - 8..].copy_from_slice(&value(1, round).to_le_bytes());
            expect_on_disk(1, &page)?;
        }
        Ok(())
    })
}

pub(super) fn stores_wait_at_the_limit(_: &mut TestCtx<'_>) -> Outcome {
    with_mapping(PAGES as usize, SHARED, |_, _| {
        with_limit(32, || {
            for i in 0..PAGES as usize {
                user::store(at(BASE, i), value(i, 2))?;
                let waiting = mm::file::unwritten().all();
                check!(waiting <= 33, "{waiting} pages wait to be written");
            }
            for i in 0..PAGES as usize {
                check_eq!(user::load(at(BASE, i))?, value(i, 2));
            }
            Ok(())
        })
    })
}

/// Threads in address spaces of their own add to the words of a few pages, while one makes them
/// durable again and again: each time there is on the disk at least what had been added before.
pub(super) fn stores_from_many_spaces_are_not_lost(_: &mut TestCtx<'_>) -> Outcome {
    const WORDS: usize = 6;
    const ADDS: usize = 1500;
    with_file(PAGES, |file| {
        fill(file, WORDS, 0)?;
        let n = several();
        in_parallel(n, move |me, meeting| {
            let file = opened(PAGES)?;
            let space = Space::new()?;
            space.map_file(BASE, WORDS, Prot::RW, SHARED, &file, 0)?;
            let _adopted = space.enter();
            meeting.wait(0)?;
            for turn in 0..ADDS {
                user::fetch_add(at(BASE, turn % WORDS), 1)?;
                if me == 0 && turn.is_multiple_of(100) {
                    let before = user::load(BASE)?;
                    space.sync(BASE, WORDS)?;
                    let there = word_on_disk(0)?;
                    check!(
                        there >= before,
                        "{there:#x} on the disk, {before:#x} stored"
                    );
                } else if turn.is_multiple_of(64) {
                    // The entries go, and come back by faults.
                    space.advise(BASE, WORDS, Advice::DontNeed)?;
                }
            }
            Ok(())
        })?;
        file.sync()?;
        for i in 0..WORDS {
            let mut found = [0; 8];
            file.read((i * PAGE) as u64, &mut found)?;
            let expected = value(i, 0) + (n * ADDS / WORDS) as u64;
            check_eq!(
                (u64::from_le_bytes(found), word_on_disk(i)?),
                (expected, expected)
            );
        }
        Ok(())
    })
}

/// The first word of a page of the file, from the disk itself.
fn word_on_disk(page: usize) -> Result<u64, Failure> {
    let mut found = Box::new([0; PAGE]);
    mm::file::read_raw(FIRST + page as u32, &mut found)?;
    let mut word = [0; 8];
    word.copy_from_slice(&found[..8]);
    Ok(u64::from_le_bytes(word))
}

#[cfg(feature = "lab")]
pub(super) fn a_page_that_cannot_be_read_is_a_bus_error(_: &mut TestCtx<'_>) -> Outcome {
    for flags in [SHARED, PRIVATE] {
        with_mapping(16, flags, |_, _| {
            with_errors(Op::Read, 5..6, u64::MAX, || {
                check_eq!(user::load(at(BASE, 5)), Err(FaultError::Bus));
                check_eq!(user::store(at(BASE, 5), 1), Err(FaultError::Bus));
                for i in (0..16).filter(|&i| i != 5) {
                    check_eq!(user::load(at(BASE, i))?, value(i, 1));
                }
                Ok(())
            })?;
            check_eq!(user::load(at(BASE, 5))?, value(5, 1));
            user::store(at(BASE, 5), 1)?;
            Ok(())
        })?;
    }
    Ok(())
}

#[cfg(feature = "lab")]
pub(super) fn msync_tells_what_could_not_be_written(_: &mut TestCtx<'_>) -> Outcome {
    with_mapping(8, SHARED, |file, space| {
        with_errors(Op::Write, 3..4, u64::MAX, || {
            for i in 0..8 {
                user::store(at(BASE, i), value(i, 2))?;
            }
            check_eq!(space.sync(BASE, 8), Err(MmError::Io));
            // It is in memory still, and goes on being written to.
            check_eq!(user::load(at(BASE, 3))?, value(3, 2));
            user::store(at(BASE, 3), value(3, 3))?;
            check_eq!(word_on_disk(3)?, value(3, 1));
            Ok(())
        })?;
        if space.sync(BASE, 8).is_err() {
            // The flusher tried as well.
            space.sync(BASE, 8)?;
        }
        for i in 0..8 {
            check_eq!(word_on_disk(i)?, value(i, if i == 3 { 3 } else { 2 }));
        }
        // The mapping's open file is the opener's, which was told with it.
        check_eq!(file.sync(), Ok(()));
        Ok(())
    })
}

/// Above the limit a store that makes a page dirty waits; one to a page that is dirty because it
/// could not be written does not.
#[cfg(feature = "lab")]
pub(super) fn a_page_that_cannot_be_written_makes_its_stores_wait_once(
    _: &mut TestCtx<'_>,
) -> Outcome {
    const LIMIT: usize = 4;
    with_mapping(LIMIT + 1, SHARED, |file, space| {
        file.sync()?;
        with_errors(Op::Write, 0..PAGES, u64::MAX, || {
            with_limit(LIMIT as u64, || {
                for page in 0..=LIMIT {
                    user::store(at(BASE, page), value(page, 2))?;
                }
                let waited = total(Event::FileThrottled);
                check!(waited > 0, "nobody waited at the limit");
                for word in 1..20 {
                    // Which makes every page read-only once more.
                    check_eq!(space.sync(BASE, LIMIT + 1), Err(MmError::Io));
                    user::store(VirtAddr(at(BASE, LIMIT).0 + 8 * word), word)?;
                }
                check_eq!(total(Event::FileThrottled), waited);
                Ok(())
            })
        })?;
        let _ = (file.sync(), space.sync(BASE, LIMIT + 1));
        check_eq!(file.sync(), Ok(()));
        Ok(())
    })
}

/// A store to a page on its way to the disk waits: the disk gets one version.
#[cfg(not(target_os = "none"))]
pub(super) fn a_store_waits_for_the_pages_write(_: &mut TestCtx<'_>) -> Outcome {
    use arch::simctl::{DiskFault, FaultKind, data_disk};
    const SLOW_NS: u64 = 50_000_000;
    with_mapping(2, SHARED, |_, space| {
        data_disk().inject(DiskFault {
            op: Op::Write,
            sectors: 0..u64::MAX,
            kind: FaultKind::Delay(SLOW_NS),
            once: false,
        });
        let result = store_during_writes(space);
        data_disk().clear_faults();
        result
    })
}

#[cfg(not(target_os = "none"))]
fn store_during_writes(space: &Space) -> Outcome {
    for round in 2..5 {
        user::store(BASE, value(0, round))?;
        let written = total(Event::FileWritten);
        space.mm().msync(BASE, PAGE_SIZE, mm::Sync::Start)?;
        user::store(BASE, value(0, round) + 1)?;
        check!(
            total(Event::FileWritten) > written,
            "the page was being written"
        );
        check_eq!(word_on_disk(0)?, value(0, round));
    }
    Ok(())
}
