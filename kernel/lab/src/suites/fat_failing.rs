//! A FAT volume on a disk whose writes fail: what failed is told once, and nothing old is shown.

use arch::PAGE_SIZE;
use arch::block::Op;
use fs::{FsError, Volume};

use super::Outcome;
use super::fat::{FAT12, expect, make, mounted, on_disk, write};
use super::file::{PAGE, bytes, with_errors, with_limit};
use crate::selftest::TestCtx;
use crate::{check, check_eq};

pub(super) fn a_failed_write_is_told_once(_: &mut TestCtx<'_>) -> Outcome {
    let data = bytes(0, 30 * PAGE, 3);
    on_disk(FAT12, || {
        mounted(|volume| {
            let file = volume.create("/file")?;
            let all = 0..(FAT12 / PAGE_SIZE) as u32;
            with_errors(Op::Write, all, 1, || {
                write(&file, 0, &data)?;
                check_eq!(file.sync(), Err(FsError::Io));
                Ok(())
            })?;
            file.sync()?;
            // The volume is one more that has the disk open.
            told_once(volume)?;
            expect(&file, &data)
        })?;
        mounted(|volume| expect(&volume.open("/file")?, &data))
    })
}

/// A sync of the volume fails, and the next one does not.
fn told_once(volume: &Volume) -> Outcome {
    check_eq!(volume.sync(), Err(FsError::Io));
    Ok(volume.sync()?)
}

/// The disk takes nothing for a while: a file is as long as what was written to it says, and holds
/// that.
pub(super) fn a_failed_append_shows_nothing_old(_: &mut TestCtx<'_>) -> Outcome {
    const LEN: usize = 5000;
    // Behind the end, at once or over a gap, or by its size alone.
    for (gap, cut) in [(0, false), (6 * PAGE, false), (0, true)] {
        let mut wanted = bytes(0, LEN, 1);
        on_disk(FAT12, || {
            mounted(|volume| {
                // What the disk has there.
                make(volume, "/old", &bytes(0, 100 * PAGE, 9))?;
                volume.sync()?;
                volume.remove("/old")?;
                make(volume, "/file", &wanted)
            })?;
            mounted(|volume| {
                let file = volume.open("/file")?;
                let all = 0..(FAT12 / PAGE_SIZE) as u32;
                with_errors(Op::Write, all, u64::MAX, || {
                    with_limit(4, || {
                        let more = bytes(LEN + gap, 40 * PAGE, 2);
                        let end = (LEN + gap + more.len()) as u64;
                        let n = if cut {
                            file.truncate(end).map(|()| more.len())
                        } else {
                            file.write((LEN + gap) as u64, &more)
                        };
                        check!(n != Ok(more.len()), "nothing failed");
                        if let Ok(n) = n {
                            wanted.resize(LEN + gap, 0);
                            wanted.extend_from_slice(&more[..n]);
                        }
                        Ok(())
                    })
                })?;
                told_once(volume)?;
                expect(&file, &wanted)
            })?;
            mounted(|volume| expect(&volume.open("/file")?, &wanted))
        })?;
    }
    Ok(())
}
