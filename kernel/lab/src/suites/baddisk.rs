//! Dirty pages that are mapped, on a data disk that does not take them: every opener is told, once
//! for what has failed; nothing dirty is dropped; and all of it is on the disk when the disk is
//! whole again.
//!
//! The errors are injected by the lab, or they are the machine's own: the last test wants a machine
//! whose data disk fails writes of pages that it uses and recovers, such as `--data-errors
//! write@88+8,write@120+8:enospc,flushes@6` or `--data-errors write@88:once,write@120:enospc:once`.

use arch::user;
use mm::MapFlags;
use mm::MmError;
use mm::file::{self, Opener};

#[cfg(feature = "lab")]
use super::file::with_errors;
use super::file::{PAGE, PAGES, expect, expect_on_disk, opened, with_file};
use super::mapfile::{page_of, value, word, write_words};
use super::{BASE, Outcome};
use crate::selftest::{Failure, Suite, TestCtx};
#[cfg(feature = "lab")]
use crate::space::Advice;
use crate::space::{Prot, Space};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "baddisk",
    tests: tests![
        #[cfg(feature = "lab")]
        an_error_is_told_once_to_each,
        #[cfg(feature = "lab")]
        an_msync_tells_what_failed_in_its_first_area,
        #[cfg(feature = "lab")]
        errors_for_ever_lose_nothing,
        #[cfg(feature = "lab")]
        unmapped_pages_are_not_lost_either,
        the_machines_own_errors,
    ],
};

/// Pages that are stored to.
const DIRTY: usize = 64;
/// How often a disk is asked before it is given up.
const TRIES: usize = 40;

/// Who uses the file: two openers, and a mapping of a third one.
struct Users {
    one: Opener,
    other: Opener,
    space: Space,
}

impl Users {
    fn new() -> Result<Self, Failure> {
        let (one, other, mapped) = (opened(PAGES)?, opened(PAGES)?, opened(PAGES)?);
        let space = Space::new()?;
        space.map_file(BASE, DIRTY, Prot::RW, MapFlags::SHARED, &mapped, 0)?;
        Ok(Self { one, other, space })
    }

    /// Stores to every page through the mapping.
    fn store(&self, round: u64) -> Outcome {
        let _adopted = self.space.enter();
        for page in 0..DIRTY {
            user::store(word(BASE, page), value(page, round))?;
        }
        Ok(())
    }

    /// What was stored is there, for a reader and through the mapping, whatever of the cache could
    /// be dropped.
    fn expect(&self, round: u64) -> Outcome {
        file::drop_caches();
        let _adopted = self.space.enter();
        for page in 0..DIRTY {
            check_eq!(user::load(word(BASE, page))?, value(page, round));
            expect(
                &self.one,
                (page + 1) * PAGE - 8,
                &value(page, round).to_le_bytes(),
            )?;
        }
        Ok(())
    }

    fn msync(&self) -> Result<(), MmError> {
        self.space.sync(BASE, DIRTY)
    }
}

/// The last word of every page is of this round on the disk, the rest of round 1.
fn expect_stored_on_disk(round: u64) -> Outcome {
    for page in 0..DIRTY {
        let mut bytes = page_of(page, 1);
        bytes[PAGE - 8..].copy_from_slice(&value(page, round).to_le_bytes());
        expect_on_disk(page as u32, &bytes)?;
    }
    Ok(())
}

/// Each user hears of the error that `users.one` was told of, once.
fn each_is_told_once(users: &Users) -> Outcome {
    check_eq!(users.one.sync(), Ok(()));
    check_eq!(users.other.sync(), Err(MmError::Io));
    check_eq!(users.other.sync(), Ok(()));
    check_eq!(users.msync(), Err(MmError::Io));
    check_eq!(users.msync(), Ok(()));
    check_eq!(users.one.sync(), Ok(()));
    Ok(())
}

/// After errors that everybody was told of while they went on: nobody is told more than what has
/// failed since, and then no more.
fn nobody_is_told_twice(users: &Users) -> Outcome {
    // Errors may have been made since they last asked.
    let _ = (users.other.sync(), users.msync());
    check_eq!(users.other.sync(), Ok(()));
    check_eq!(users.msync(), Ok(()));
    check_eq!(users.one.sync(), Ok(()));
    Ok(())
}

#[cfg(feature = "lab")]
fn an_error_is_told_once_to_each(_: &mut TestCtx<'_>) -> Outcome {
    use arch::block::Op;
    with_file(PAGES, |file| {
        write_words(file, DIRTY, 1)?;
        file.sync()?;
        let users = Users::new()?;
        users.store(2)?;
        with_errors(Op::Write, 8..9, 1, || {
            check_eq!(users.one.sync(), Err(MmError::Io));
            users.expect(2)
        })?;
        each_is_told_once(&users)?;
        expect_stored_on_disk(2)
    })
}

/// Behind the file's area lies one of which nothing can fail.
#[cfg(feature = "lab")]
fn an_msync_tells_what_failed_in_its_first_area(_: &mut TestCtx<'_>) -> Outcome {
    use arch::VirtAddr;
    use arch::block::Op;
    with_file(PAGES, |file| {
        write_words(file, DIRTY, 1)?;
        file.sync()?;
        let users = Users::new()?;
        let behind = VirtAddr(BASE.0 + (DIRTY * PAGE) as u64);
        users.space.map(behind, 1, Prot::RW)?;
        users.store(2)?;
        let both = || users.space.sync(BASE, DIRTY + 1);
        with_errors(Op::Write, 8..9, 1, || {
            check_eq!(both(), Err(MmError::Io));
            Ok(())
        })?;
        check_eq!(both(), Ok(()));
        expect_stored_on_disk(2)
    })
}

#[cfg(feature = "lab")]
fn errors_for_ever_lose_nothing(_: &mut TestCtx<'_>) -> Outcome {
    use arch::block::Op;
    with_file(PAGES, |file| {
        write_words(file, DIRTY, 1)?;
        file.sync()?;
        let users = Users::new()?;
        users.store(2)?;
        with_errors(Op::Write, 8..12, u64::MAX, || {
            for round in 3..6 {
                check_eq!(users.one.sync(), Err(MmError::Io));
                check_eq!(users.other.sync(), Err(MmError::Io));
                check_eq!(users.msync(), Err(MmError::Io));
                check!(
                    file::unwritten().all() >= 4,
                    "{} pages wait to be written",
                    file::unwritten().all()
                );
                users.expect(round - 1)?;
                // They go on being stored to.
                users.store(round)?;
            }
            Ok(())
        })?;
        users.expect(5)?;
        let _ = users.one.sync();
        nobody_is_told_twice(&users)?;
        expect_stored_on_disk(5)
    })
}

/// The same when their last entry goes, by whichever way, while the disk fails.
#[cfg(feature = "lab")]
fn unmapped_pages_are_not_lost_either(_: &mut TestCtx<'_>) -> Outcome {
    use arch::block::Op;
    for way in 0..3 {
        with_file(PAGES, |file| {
            write_words(file, DIRTY, 1)?;
            file.sync()?;
            let users = Users::new()?;
            users.store(2)?;
            with_errors(Op::Write, 8..12, u64::MAX, || {
                if way == 2 {
                    check_eq!(users.one.sync(), Err(MmError::Io));
                }
                match way {
                    0 => users.space.advise(BASE, DIRTY, Advice::DontNeed)?,
                    _ => users.space.unmap(BASE, DIRTY)?,
                }
                check_eq!(users.one.sync(), Err(MmError::Io));
                file::drop_caches();
                check!(
                    file::unwritten().all() >= 4,
                    "{} pages wait to be written",
                    file::unwritten().all()
                );
                Ok(())
            })?;
            for page in 0..DIRTY {
                expect(file, (page + 1) * PAGE - 8, &value(page, 2).to_le_bytes())?;
            }
            if file.sync().is_err() {
                file.sync()?;
            }
            expect_stored_on_disk(2)
        })?;
    }
    Ok(())
}

fn the_machines_own_errors(ctx: &mut TestCtx<'_>) -> Outcome {
    with_file(PAGES, |file| {
        let users = Users::new()?;
        write_words(file, DIRTY, 1)?;
        users.store(2)?;
        if users.one.sync().is_ok() {
            return Err(Failure::Skip(
                "needs a data disk that fails: --data-errors write@88+8,flushes@6".into(),
            ));
        }
        users.expect(2)?;
        if users.one.sync().is_ok() {
            each_is_told_once(&users)?;
        } else {
            check_eq!(users.other.sync(), Err(MmError::Io));
            check_eq!(users.msync(), Err(MmError::Io));
            let mut tries = 3;
            while users.one.sync().is_err() {
                tries += 1;
                check!(tries < TRIES, "the disk does not recover");
                users.expect(2)?;
            }
            ctx.note(format_args!("whole again after {tries} syncs"));
            nobody_is_told_twice(&users)?;
        }
        expect_stored_on_disk(2)?;
        // It works from now on.
        users.store(3)?;
        check_eq!(users.msync(), Ok(()));
        expect_stored_on_disk(3)
    })
}
