//! A swap disk that fails: no data is lost on write errors, and an unreadable page is an error for
//! whoever needs it, and for nobody else. The data disk below the page cache: data, flushes,
//! errors.

#![expect(unsafe_code, reason = "frames are given to a device")]

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use arch::Pfn;
use arch::block::{Bio, BlockDevice, IoError, Op, SECTOR};
use arch::upcall::FaultError;
use arch::user;
use mm::HasContent;
use mm::buddy::{self, Gfp, Page};
use mm::stats::{Event, Use, total};

use super::reclaim::{PAGES, need_swap, swapped, verify, word};
use super::{BASE, Outcome, without_leak};
use crate::faulty::{DATA, Rule, SWAP};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::space::at;
use crate::{check, check_eq, startup, tests};

const SECTORS_PER_PAGE: u64 = arch::PAGE_SIZE / SECTOR;

pub(super) static SUITE: Suite = Suite {
    name: "disk",
    tests: tests![
        write_errors_lose_nothing,
        read_errors_are_sigbus,
        data_disk_keeps_what_it_is_given,
        data_disk_fails_where_it_is_told_to,
    ],
};

/// Runs `f` while `times` requests of kind `op` fail, then makes the disk whole again: slots that
/// failed are remembered as bad until swapping starts anew.
pub(super) fn with_errors(op: Op, times: u64, f: impl FnOnce() -> Outcome) -> Outcome {
    need_swap()?;
    let rule = Rule {
        op,
        first: 0,
        end: u64::MAX,
        times,
    };
    check!(SWAP.add(rule), "rules are left over");
    let result = f();
    SWAP.clear();
    mm::reclaim::settle();
    startup::swap_off().map_err(Failure::new)?;
    startup::swap_on().map_err(Failure::new)?;
    result
}

fn write_errors_lose_nothing(_: &mut TestCtx<'_>) -> Outcome {
    let before = total(Event::SwapWriteError);
    with_errors(Op::Write, 10, || {
        without_leak(|| {
            let space = swapped()?;
            check!(
                total(Event::SwapWriteError) >= before + 10,
                "the errors were not noticed"
            );
            let _adopted = space.enter();
            verify(BASE, 0..PAGES)
        })
    })
}

fn read_errors_are_sigbus(_: &mut TestCtx<'_>) -> Outcome {
    need_swap()?;
    let before = total(Event::SwapReadError);
    without_leak(|| {
        let space = swapped()?;
        let out = space.mm().swap_entries.get();
        let mut failed = 0;
        with_errors(Op::Read, u64::MAX, || {
            let _adopted = space.enter();
            for i in 0..PAGES {
                match user::load(at(BASE, i)) {
                    Ok(found) => check_eq!(found, word(i)),
                    Err(FaultError::Bus) => failed += 1,
                    Err(e) => return Err(e.into()),
                }
            }
            // What was not needed from the disk is still there, and the rest comes when the disk is
            // whole.
            SWAP.clear();
            verify(BASE, 0..PAGES)
        })?;
        check_eq!(failed, out);
        check!(
            total(Event::SwapReadError) > before,
            "the errors were not counted"
        );
        Ok(())
    })
}

/// The last pages of the data disk, two frames to move, and what the disk held before, which comes
/// back.
struct DataPages {
    disk: &'static dyn BlockDevice,
    sector: u64,
    frames: [Page; 2],
    before: [Page; 2],
}

/// One request to the data disk, and its result. Sleeps.
fn io(disk: &dyn BlockDevice, op: Op, sector: u64, frames: &[Pfn]) -> Result<(), IoError> {
    // Tests run one at a time.
    static BIO: Bio = Bio::new();
    BIO.prepare(op, sector, frames);
    // SAFETY: the caller has the frames to itself, and the request is waited for.
    while unsafe { disk.submit(&BIO) }.is_err() {
        arch::thread::sleep_ns(100_000);
    }
    loop {
        if let Some(result) = BIO.result() {
            return result;
        }
        arch::thread::sleep_ns(100_000);
    }
}

impl DataPages {
    fn new() -> Result<Self, Failure> {
        let Some(disk) = startup::data_disk() else {
            return Err(Failure::Skip("needs a data disk".into()));
        };
        let page = || buddy::alloc(0, Use::Misc, Gfp::RECLAIM).map_err(|_| mm::MmError::NoMemory);
        let pages = || Ok::<_, Failure>([page()?, page()?]);
        let all = Self {
            disk,
            sector: disk.sectors() - 2 * SECTORS_PER_PAGE,
            frames: pages()?,
            before: pages()?,
        };
        check_eq!(all.io(Op::Read, &all.before), Ok(()));
        Ok(all)
    }

    fn io(&self, op: Op, pages: &[Page]) -> Result<(), IoError> {
        let frames: Vec<Pfn> = pages.iter().map(Page::pfn).collect();
        io(self.disk, op, self.sector, &frames)
    }

    fn fill(&self, first: u64) {
        for (n, page) in self.frames.iter().enumerate() {
            for (i, word) in page.words().iter().enumerate() {
                word.store(first + (n * 1000 + i) as u64, Relaxed);
            }
        }
    }

    /// Reads from the disk and compares.
    fn verify(&self, first: u64) -> Outcome {
        self.fill(0);
        check_eq!(self.io(Op::Read, &self.frames), Ok(()));
        for (n, page) in self.frames.iter().enumerate() {
            for (i, word) in page.words().iter().enumerate() {
                check_eq!(word.load(Relaxed), first + (n * 1000 + i) as u64);
            }
        }
        Ok(())
    }
}

impl Drop for DataPages {
    fn drop(&mut self) {
        DATA.clear();
        let _ = self.io(Op::Write, &self.before);
    }
}

fn data_disk_keeps_what_it_is_given(_: &mut TestCtx<'_>) -> Outcome {
    let pages = DataPages::new()?;
    if let Some(swap) = arch::swap_disk() {
        check!(swap.name() != pages.disk.name(), "the disks are one");
    }
    for first in [1 << 20, 1 << 30] {
        pages.fill(first);
        check_eq!(pages.io(Op::Write, &pages.frames), Ok(()));
        let before = pages.disk.completed();
        check_eq!(io(pages.disk, Op::Flush, 0, &[]), Ok(()));
        check!(pages.disk.completed() > before, "the flush did not count");
        pages.verify(first)?;
    }
    Ok(())
}

fn data_disk_fails_where_it_is_told_to(_: &mut TestCtx<'_>) -> Outcome {
    let pages = DataPages::new()?;
    pages.fill(1 << 20);
    check_eq!(pages.io(Op::Write, &pages.frames), Ok(()));
    for op in [Op::Read, Op::Write, Op::Flush] {
        let rule = Rule {
            op,
            first: pages.sector + SECTORS_PER_PAGE,
            end: pages.sector + SECTORS_PER_PAGE + 1,
            times: 2,
        };
        check!(DATA.add(rule), "rules are left over");
        pages.fill(1 << 30);
        let request = || match op {
            Op::Flush => io(pages.disk, op, 0, &[]),
            _ => pages.io(op, &pages.frames),
        };
        if op != Op::Flush {
            // The page before it is whole.
            let first = [pages.frames[0].pfn()];
            check_eq!(io(pages.disk, Op::Read, pages.sector, &first), Ok(()));
        }
        check_eq!(request(), Err(IoError));
        check_eq!(request(), Err(IoError));
        DATA.clear();
        // Nothing of what failed has reached the disk.
        pages.verify(1 << 20)?;
        check_eq!(pages.io(Op::Write, &pages.frames), Ok(()));
        check_eq!(request(), Ok(()));
    }
    Ok(())
}
