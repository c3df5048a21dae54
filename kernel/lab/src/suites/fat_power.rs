//! A FAT volume on a disk that takes no writes, or whose power is cut: what was synced is there.

use alloc::format;

use arch::simctl;
use fastrand::Rng;
use fs::FsError;
use mm::file;

use super::Outcome;
use super::fat::{FAT12, FAT16, expect, make, mounted, on_disk, write};
use super::fat_damage::use_all;
use super::fat_model::Model;
use super::file::{PAGE, bytes};
use crate::selftest::TestCtx;
use crate::{check, check_eq};

pub(super) fn a_disk_that_takes_no_writes_is_read_only(_: &mut TestCtx<'_>) -> Outcome {
    let data = bytes(0, 3 * PAGE + 5, 1);
    on_disk(FAT12, || {
        mounted(|volume| make(volume, "/file", &data))?;
        simctl::data_disk().set_read_only(true);
        let read = mounted(|volume| {
            let refused = volume.info()?.read_only.map(FsError::ReadOnly);
            check!(refused.is_some(), "it can be written");
            let file = volume.open("/file")?;
            let all = [
                file.write(0, &data).err(),
                file.write(file.size(), &data).err(),
                file.truncate(1).err(),
                volume.create("/new").err(),
                volume.make_directory("/new").err(),
            ];
            check_eq!(all, [refused; 5]);
            file.sync()?;
            expect(&file, &data)?;
            drop(file);
            check_eq!(volume.remove("/file").err(), refused);
            Ok(volume.sync()?)
        });
        simctl::data_disk().set_read_only(false);
        read
    })
}

pub(super) fn what_is_synced_survives_a_power_cut(ctx: &mut TestCtx<'_>) -> Outcome {
    on_disk(FAT12, || {
        for turn in 0..4_u8 {
            let name = format!("/dir {turn}/file");
            let data = bytes(0, 20 * PAGE + 100, turn);
            let volume = fs::mount()?;
            volume.make_directory(&format!("/dir {turn}"))?;
            let file = volume.create(&name)?;
            write(&file, 0, &data)?;
            file.sync()?;
            drop(file);
            fs::abandon()?;
            simctl::power_cut(ctx.seed ^ u64::from(turn));
            mounted(|volume| expect(&volume.open(&name)?, &data))?;
        }
        Ok(())
    })
}

/// What was synced stays, whatever was half done then. (The rest can be anything that FAT can be.)
pub(super) fn others_may_be_at_work_when_the_power_is_cut(ctx: &mut TestCtx<'_>) -> Outcome {
    let mut rng = Rng::with_seed(ctx.seed);
    for round in 0..6_u8 {
        on_disk([FAT12, FAT16][usize::from(round % 2)], || {
            let synced = |i: usize| (format!("/kept {i}"), bytes(0, 7000 * i, round));
            let volume = fs::mount()?;
            for (name, data) in (0..8).map(synced) {
                make(&volume, &name, &data)?;
            }
            let mut model = Model::default();
            (0..30).try_for_each(|_| model.step(&volume, &mut rng))?;
            volume.sync()?;
            // Most is written back soon, and nothing of it is flushed.
            file::set_limits(Some(4));
            let worked = (0..30).try_for_each(|_| model.change(&volume, &mut rng));
            file::set_limits(None);
            drop(volume);
            fs::abandon()?;
            worked?;
            simctl::power_cut(rng.u64(..));
            let volume = fs::mount()?;
            let mut all = (0..8).map(synced);
            let kept = all.try_for_each(|(name, data)| expect(&volume.open(&name)?, &data));
            let _ = use_all(&volume, "", &mut 0);
            drop(volume);
            let _ = fs::abandon()?;
            kept
        })?;
    }
    Ok(())
}
