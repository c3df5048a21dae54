//! What is no FAT volume, or a damaged one, is refused, and damage is an error and no more.

use alloc::format;
use alloc::vec;

use arch::PAGE_SIZE;
use fastrand::Rng;
use fs::{FsError, Volume};
use mm::file;

use super::Outcome;
use super::fat::{FAT12, FAT16, make, mounted, on_disk};
use super::file::{PAGE, bytes, empty_cache};
use crate::selftest::TestCtx;
use crate::{check, check_eq};

/// Changes bytes of the disk itself.
pub(super) fn patch(pos: u64, data: &[u8]) -> Outcome {
    let disk = file::open(0, file::disk_pages())?;
    check_eq!(disk.write(pos, data)?, data.len());
    disk.sync()?;
    drop(disk);
    empty_cache()?;
    Ok(())
}

pub(super) fn what_is_no_volume_is_refused(_: &mut TestCtx<'_>) -> Outcome {
    type Right = fn(FsError) -> bool;
    let not_fat: Right = |e| matches!(e, FsError::NotFat(_));
    let small: Right = |e| e == FsError::SmallClusters { bytes: 512 };
    let truncated: Right = |e| matches!(e, FsError::Truncated { .. });
    let cases: [(u64, &[u8], Right); 6] = [
        (0, &[0; 512], not_fat),
        // The signature, sectors in a cluster, tables.
        (510, &[0, 0], not_fat),
        (13, &[3], not_fat),
        (16, &[0], not_fat),
        // Bytes in a sector, sectors.
        (11, &[0, 2], small),
        (19, &[0xff, 0xff], truncated),
    ];
    for (i, (pos, change, right)) in cases.into_iter().enumerate() {
        on_disk(FAT12, || {
            patch(pos, change)?;
            let e = fs::mount().err();
            check!(e.is_some_and(right), "case {i}: {e:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The second entry of a file of three clusters leads to where it must not. (Where it only ends,
/// that is mended.)
pub(super) fn a_damaged_chain_is_refused(_: &mut TestCtx<'_>) -> Outcome {
    let bent = [
        (2_u16, "a loop"),
        (0xfff0, "no cluster"),
        (1, "no number of a cluster"),
    ];
    for (next, what) in bent {
        on_disk(FAT16, || {
            // As the volume is made: the table begins at page 1, and the file's clusters are the
            // first, 2 to 4.
            mounted(|volume| make(volume, "/file", &bytes(0, 3 * PAGE, 1)))?;
            patch(PAGE_SIZE + 2 * 3, &next.to_le_bytes())?;
            mounted(|volume| {
                let e = volume.open("/file").err();
                check!(matches!(e, Some(FsError::Corrupt(_))), "{what}: {e:?}");
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// Random bytes of the tables, the root directory and the first clusters are changed: whatever
/// comes of it, operations end.
pub(super) fn damage_is_an_error_and_no_more(ctx: &mut TestCtx<'_>) -> Outcome {
    let mut rng = Rng::with_seed(ctx.seed);
    for round in 0..20 {
        let size = [FAT12, FAT16][round % 2];
        on_disk(size, || {
            mounted(|volume| {
                volume.make_directory("/dir")?;
                volume.make_directory("/dir/within")?;
                for name in ["/A", "/dir/a long name", "/dir/within/b"] {
                    make(volume, name, &bytes(0, 5 * PAGE, 1))?;
                }
                Ok(())
            })?;
            for _ in 0..rng.u8(1..30) {
                let page = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12][rng.usize(..12)];
                let near = [64, PAGE_SIZE][rng.usize(..2)];
                let value = [0, 1, 2, 3, 0xff, rng.u8(..)][rng.usize(..6)];
                patch(page * PAGE_SIZE + rng.u64(..near), &[value])?;
            }
            // A volume that says that it is one; its unmounting may fail as well.
            let Ok(volume) = fs::mount() else {
                return Ok(());
            };
            let mut done = 0;
            let _ = use_all(&volume, "", &mut done);
            drop(volume);
            while fs::unmount().is_err() && done < 200 {
                done += 1;
            }
            check_eq!(fs::unmount(), Err(FsError::NotMounted));
            Ok(())
        })?;
    }
    Ok(())
}

/// Does everything that can be done with what is below `dir`, up to a limit; errors end a file or a
/// directory.
pub(super) fn use_all(volume: &Volume, dir: &str, done: &mut u32) -> Result<(), FsError> {
    for entry in volume.list(dir)? {
        *done += 1;
        if *done > 100 {
            return Ok(());
        }
        let path = format!("{dir}/{}", entry.name);
        if entry.is_directory {
            let _ = use_all(volume, &path, done);
            let _ = volume
                .create(&format!("{path}/new file"))
                .map(|f| f.write(0, &[1; 9000]));
        } else if let Ok(file) = volume.open(&path) {
            let mut found = vec![0; 3 * PAGE];
            let _ = file.read(0, &mut found);
            let _ = file.read(file.size().saturating_sub(9), &mut found);
            let _ = file.write(PAGE_SIZE, &[1; 2 * PAGE]);
            let _ = file.truncate(file.size() / 2);
            let _ = file.truncate(file.size() + 3 * PAGE_SIZE);
        }
        let _ = volume.remove(&path);
    }
    volume.make_directory(&format!("{dir}/new directory"))
}
