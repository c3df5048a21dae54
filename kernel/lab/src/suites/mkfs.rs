//! Making FAT volumes: of every size that a disk may have, and on disks that do not take them.

use alloc::format;
#[cfg(feature = "lab")]
use alloc::vec;

use arch::PAGE_SIZE;
#[cfg(feature = "lab")]
use arch::block::{Op, SECTOR};
#[cfg(feature = "lab")]
use fs::FsError;
use mm::file;
use mm::stats::{Use, use_pages};

use super::Outcome;
#[cfg(feature = "lab")]
use super::file::PAGE;
use super::file::empty_cache;
#[cfg(feature = "lab")]
use crate::faulty::{DATA, Rule};
use crate::selftest::{Failure, Suite, TestCtx};
use crate::{check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "mkfs",
    tests: tests![
        every_size_makes_a_volume,
        #[cfg(feature = "lab")]
        what_failed_leaves_nothing_in_the_cache,
    ],
};

/// Around these numbers of pages the type changes, and next to the larger one there are sizes that
/// no type fits.
const SIZES: [u64; 12] = [
    256, 4084, 4085, 4089, 4093, 4094, 65_524, 65_525, 65_595, 65_640, 65_686, 65_687,
];

/// Runs `f` on a data disk with an empty cache; after it nothing is left in it.
fn on_disk(pages: u64, f: impl FnOnce() -> Outcome) -> Outcome {
    if u64::from(file::disk_pages()) < pages {
        let need = format!("needs a data disk of {} MiB", (pages * PAGE_SIZE) >> 20);
        return Err(Failure::Skip(need));
    }
    empty_cache()?;
    let result = f();
    empty_cache()?;
    result?;
    check_eq!(file::unwritten().all(), 0);
    check_eq!(use_pages(Use::File), 0);
    file::check().map_err(Failure::new)
}

fn every_size_makes_a_volume(ctx: &mut TestCtx<'_>) -> Outcome {
    on_disk(SIZES[0], || {
        let disk = u64::from(file::disk_pages());
        for pages in SIZES.into_iter().filter(|&pages| pages <= disk) {
            let made = fs::format(pages * PAGE_SIZE, || false);
            made.map_err(|e| Failure::new(format!("{pages} pages: {e}")))?;
            let volume = fs::mount()?;
            let file = volume.create("/file")?;
            check_eq!(file.write(0, b"content")?, 7);
            let kind = volume.info()?.kind;
            ctx.note(format_args!("{pages} pages: {kind}"));
            drop((file, volume));
            fs::unmount()?;
            check_eq!(fs::mount()?.open("/file")?.size(), 7);
            fs::unmount()?;
        }
        Ok(())
    })
}

/// A disk that takes no write, or not the volume's first page, which makes it one.
#[cfg(feature = "lab")]
fn what_failed_leaves_nothing_in_the_cache(_: &mut TestCtx<'_>) -> Outcome {
    const PAGES: u64 = 2048;
    on_disk(PAGES, || {
        for failing in [PAGES, 1] {
            empty_cache()?;
            let whole = file::open(0, PAGES as u32)?;
            check_eq!(whole.write(0, &vec![0; 16 * PAGE])?, 16 * PAGE);
            whole.sync()?;
            drop(whole);
            empty_cache()?;
            let rule = Rule {
                op: Op::Write,
                first: 0,
                end: failing * (PAGE_SIZE / SECTOR),
                times: u64::MAX,
            };
            crate::check!(DATA.add(rule), "rules are left over");
            let made = fs::format(PAGES * PAGE_SIZE, || false);
            let cached = use_pages(Use::File);
            let mounted = fs::mount().map(drop);
            DATA.clear();
            check_eq!(made, Err(FsError::Io));
            check_eq!(cached, 0);
            let refused = matches!(mounted, Err(FsError::NotFat(_)));
            crate::check!(refused, "the disk has a volume: {mounted:?}");
        }
        Ok(())
    })
}
