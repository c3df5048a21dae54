//! When the disk fails: who is told, and that nothing is lost. Tests of suite `file`.

use alloc::vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arch::PAGE_SIZE;
use arch::block::Op;
use mm::MmError;
use mm::file;
use mm::stats::{Event, total};

use super::super::{Outcome, in_parallel};
use super::{
    PAGE, PAGES, bytes, empty_cache, expect, expect_on_disk, opened, same, with_errors, with_file,
    with_limit, write,
};
use crate::selftest::TestCtx;
use crate::{check, check_eq};

pub(super) fn a_failed_write_is_told_once(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let other = opened(PAGES)?;
        let data = bytes(0, 8 * PAGE, 9);
        with_errors(Op::Write, 0..PAGES, 1, || {
            write(file, 0, &data)?;
            check_eq!(file.sync(), Err(MmError::Io));
            Ok(())
        })?;
        check_eq!(file.sync(), Ok(()));
        expect_on_disk(0, &data)?;
        check_eq!(other.sync(), Err(MmError::Io));
        check_eq!(other.sync(), Ok(()));
        // Told before it was opened: none of its business.
        let late = opened(PAGES)?;
        check_eq!(late.sync(), Ok(()));
        // An error that nobody was told waits for the next who asks.
        with_errors(Op::Flush, 0..PAGES, 1, || {
            check_eq!(file.sync(), Err(MmError::Io));
            check_eq!(file.sync(), Ok(()));
            Ok(())
        })?;
        check_eq!(late.sync(), Err(MmError::Io));
        check_eq!(other.sync(), Err(MmError::Io));
        check_eq!(late.sync(), Ok(()));
        Ok(())
    })
}

pub(super) fn nothing_is_lost_until_the_disk_recovers(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let data = bytes(0, 40 * PAGE, 10);
        let failed = total(Event::FileWriteError);
        with_errors(Op::Write, 0..PAGES, u64::MAX, || {
            write(file, 0, &data)?;
            for _ in 0..3 {
                check_eq!(file.sync(), Err(MmError::Io));
                file::drop_caches();
                check!(
                    file::unwritten().all() >= 40,
                    "{} pages wait to be written",
                    file::unwritten().all()
                );
                expect(file, 0, &data)?;
            }
            Ok(())
        })?;
        check!(
            total(Event::FileWriteError) >= failed + 120,
            "the errors were not counted"
        );
        // The flusher may have failed since.
        if file.sync().is_err() {
            file.sync()?;
        }
        expect_on_disk(0, &data)?;
        // One page that the disk does not take spoils none of its neighbours, the second time at
        // the latest.
        let again = bytes(0, 40 * PAGE, 11);
        with_errors(Op::Write, 7..8, u64::MAX, || {
            write(file, 0, &again)?;
            check_eq!(file.sync(), Err(MmError::Io));
            check_eq!(file.sync(), Err(MmError::Io));
            expect_on_disk(0, &again[..7 * PAGE])?;
            expect_on_disk(8, &again[8 * PAGE..])?;
            expect_on_disk(7, &data[7 * PAGE..8 * PAGE])
        })?;
        if file.sync().is_err() {
            file.sync()?;
        }
        expect_on_disk(0, &again)
    })
}

pub(super) fn a_failed_read_is_the_readers(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let data = bytes(0, 16 * PAGE, 12);
        write(file, 0, &data)?;
        file.sync()?;
        empty_cache()?;
        with_errors(Op::Read, 5..6, u64::MAX, || {
            let mut found = vec![0; 16 * PAGE];
            check_eq!(file.read(0, &mut found), Ok(5 * PAGE));
            same(&found[..5 * PAGE], 0, &data[..5 * PAGE])?;
            check_eq!(file.read(5 * PAGE_SIZE, &mut found), Err(MmError::Io));
            expect(file, 6 * PAGE, &data[6 * PAGE..])?;
            // A part of it cannot be written, all of it can.
            check_eq!(file.write(5 * PAGE_SIZE + 1, &[1]), Err(MmError::Io));
            check_eq!(file.sync(), Ok(()));
            Ok(())
        })?;
        expect(file, 0, &data)
    })
}

pub(super) fn a_failed_flush_is_told(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        with_errors(Op::Flush, 0..PAGES, 1, || {
            write(file, 0, &bytes(0, PAGE, 13))?;
            check_eq!(file.sync(), Err(MmError::Io));
            check_eq!(file.sync(), Ok(()));
            Ok(())
        })
    })
}

/// Pages that cannot be written go back and forth between dirty and being written, and are counted
/// at every moment.
pub(super) fn what_cannot_be_written_is_always_counted(_: &mut TestCtx<'_>) -> Outcome {
    const SYNCS: usize = 100;
    with_file(PAGES, |file| {
        with_errors(Op::Write, 0..PAGES, u64::MAX, || {
            write(file, 0, &bytes(0, PAGES as usize * PAGE, 16))?;
            let done = AtomicBool::new(false);
            in_parallel(2, move |me, meeting| {
                let file = opened(PAGES)?;
                meeting.wait(0)?;
                if me == 0 {
                    for _ in 0..SYNCS {
                        // Told of errors or not: the flusher may have been faster.
                        let _ = file.sync();
                    }
                    done.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                while !done.load(Ordering::Relaxed) && !meeting.is_broken() {
                    let waiting = file::unwritten();
                    check_eq!((waiting.all(), waiting), (u64::from(PAGES), waiting));
                }
                Ok(())
            })
        })?;
        // The disk is whole again.
        file.sync().or_else(|_| file.sync())?;
        check_eq!(file::unwritten().all(), 0);
        Ok(())
    })
}

pub(super) fn writers_are_told_when_nothing_can_be_written(_: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        with_limit(32, || {
            with_errors(Op::Write, 0..PAGES, u64::MAX, || {
                let data = bytes(0, PAGES as usize * PAGE, 14);
                let wrote = file.write(0, &data)?;
                check!(
                    (31 * PAGE..PAGES as usize * PAGE).contains(&wrote),
                    "{wrote} bytes were written"
                );
                check_eq!(file.write(wrote as u64, &data[..1]), Err(MmError::Io));
                expect(file, 0, &data[..wrote])
            })?;
            // The disk is whole again.
            write(file, 0, &bytes(0, 64 * PAGE, 15))
        })
    })
}
