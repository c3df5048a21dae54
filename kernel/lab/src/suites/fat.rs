//! A FAT volume on the data disk: files and directories are what a model says, also after the next
//! mount.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use arch::{PAGE_SIZE, user};
use fastrand::Rng;
use fs::{File, FsError, Volume};
use mm::MapFlags;
use mm::file;
use mm::stats::{Use, use_pages};

#[cfg(all(feature = "lab", not(target_os = "none")))]
use super::fat_cuts::{
    a_root_directory_grows, broken_fat_order_is_noticed, every_cut_leaves_what_was_synced,
    half_an_entry_is_behind_the_end, no_directory_has_half_an_entry, removal_comes_before_freeing,
};
use super::fat_damage::{
    a_damaged_chain_is_refused, damage_is_an_error_and_no_more, what_is_no_volume_is_refused,
};
#[cfg(feature = "lab")]
use super::fat_failing::{a_failed_append_shows_nothing_old, a_failed_write_is_told_once};
use super::fat_model::Model;
#[cfg(not(target_os = "none"))]
use super::fat_power::{
    a_disk_that_takes_no_writes_is_read_only, others_may_be_at_work_when_the_power_is_cut,
    what_is_synced_survives_a_power_cut,
};
#[cfg(all(feature = "lab", not(target_os = "none")))]
use super::fat32::free_clusters_are_counted;
use super::file::{PAGE, bytes, empty_cache, same};
use super::{BASE, Outcome, in_parallel, several, without_leak};
use crate::cancel::Cancel;
use crate::out::Buffer;
use crate::selftest::{Failure, Suite, TestCtx};
use crate::shell::Status;
use crate::space::{Prot, Space, at};
use crate::{check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "fat",
    tests: tests![
        files_are_as_the_model_has_them,
        a_file_can_be_mapped,
        a_full_volume_says_so,
        who_has_a_file_open_keeps_it,
        clusters_change_sides,
        what_is_no_volume_is_refused,
        a_damaged_chain_is_refused,
        damage_is_an_error_and_no_more,
        writers_at_once,
        long_commands_hear_ctrl_c,
        #[cfg(feature = "lab")]
        a_failed_write_is_told_once,
        #[cfg(feature = "lab")]
        a_failed_append_shows_nothing_old,
        #[cfg(not(target_os = "none"))]
        a_disk_that_takes_no_writes_is_read_only,
        #[cfg(not(target_os = "none"))]
        what_is_synced_survives_a_power_cut,
        #[cfg(not(target_os = "none"))]
        others_may_be_at_work_when_the_power_is_cut,
        #[cfg(all(feature = "lab", not(target_os = "none")))]
        every_cut_leaves_what_was_synced,
        #[cfg(all(feature = "lab", not(target_os = "none")))]
        removal_comes_before_freeing,
        #[cfg(all(feature = "lab", not(target_os = "none")))]
        a_root_directory_grows,
        #[cfg(all(feature = "lab", not(target_os = "none")))]
        free_clusters_are_counted,
        #[cfg(all(feature = "lab", not(target_os = "none")))]
        half_an_entry_is_behind_the_end,
        #[cfg(all(feature = "lab", not(target_os = "none")))]
        no_directory_has_half_an_entry,
        #[cfg(all(feature = "lab", not(target_os = "none")))]
        broken_fat_order_is_noticed,
    ],
};

/// FAT12 and FAT16, by the number of clusters.
pub(super) const FAT12: u64 = 8 << 20;
pub(super) const FAT16: u64 = 24 << 20;

/// Runs `f` on a disk that begins with an empty volume of `size` bytes; after it nothing is left in
/// a cache.
pub(super) fn on_disk(size: u64, f: impl FnOnce() -> Outcome) -> Outcome {
    if u64::from(file::disk_pages()) * PAGE_SIZE < size {
        let need = format!("needs a data disk of {} MiB", size >> 20);
        return Err(Failure::Skip(need));
    }
    empty_cache()?;
    fs::format(size, || false)?;
    let result = f();
    empty_cache()?;
    result?;
    check_eq!(file::unwritten().all(), 0);
    check_eq!(use_pages(Use::File), 0);
    file::check().map_err(Failure::new)
}

/// Runs `f` with the volume of the disk.
pub(super) fn mounted(f: impl FnOnce(&Volume) -> Outcome) -> Outcome {
    let result = f(&fs::mount()?);
    let unmounted = fs::unmount();
    if unmounted.is_err() {
        // The next test finds no volume.
        let _ = fs::unmount();
    }
    result?;
    Ok(unmounted?)
}

pub(super) fn write(file: &File, pos: usize, data: &[u8]) -> Outcome {
    check_eq!(file.write(pos as u64, data)?, data.len());
    Ok(())
}

pub(super) fn expect(file: &File, data: &[u8]) -> Outcome {
    check_eq!(file.size(), data.len() as u64);
    // A byte more than there is.
    let mut found = vec![0; data.len() + 1];
    check_eq!(file.read(0, &mut found)?, data.len());
    same(&found[..data.len()], 0, data)
}

pub(super) fn make(volume: &Volume, path: &str, data: &[u8]) -> Outcome {
    write(&volume.create(path)?, 0, data)
}

fn files_are_as_the_model_has_them(ctx: &mut TestCtx<'_>) -> Outcome {
    let mut rng = Rng::with_seed(ctx.seed);
    for size in [FAT12, FAT16] {
        on_disk(size, || {
            let mut model = Model::default();
            for _ in 0..4 {
                mounted(|volume| {
                    model.verify(volume)?;
                    (0..100).try_for_each(|_| model.step(volume, &mut rng))?;
                    model.verify(volume)
                })?;
            }
            mounted(|volume| model.verify(volume))
        })?;
    }
    Ok(())
}

fn a_file_can_be_mapped(_: &mut TestCtx<'_>) -> Outcome {
    const PAGES: usize = 20;
    let word = |i: usize| 0x1234_5678_0000 + i as u64;
    on_disk(FAT12, || {
        mounted(|volume| {
            // Two files that grow in turn, so that each is in many pieces.
            let (file, other) = (volume.create("/file")?, volume.create("/other")?);
            for i in 0..PAGES {
                write(&file, i * PAGE, &bytes(i * PAGE, PAGE, 1))?;
                write(&other, i * PAGE, &bytes(i * PAGE, PAGE, 2))?;
            }
            without_leak(|| {
                let space = Space::new()?;
                let flags = MapFlags::SHARED;
                space.map_file(BASE, PAGES, Prot::RW, flags, file.opener(), 0)?;
                let _adopted = space.enter();
                (0..PAGES).try_for_each(|i| user::store(at(BASE, i), word(i)))?;
                Ok(())
            })?;
            Ok(file.sync()?)
        })?;
        mounted(|volume| {
            let mut wanted = bytes(0, PAGES * PAGE, 1);
            for i in 0..PAGES {
                wanted[i * PAGE..i * PAGE + 8].copy_from_slice(&word(i).to_le_bytes());
            }
            expect(&volume.open("/file")?, &wanted)?;
            expect(&volume.open("/other")?, &bytes(0, PAGES * PAGE, 2))
        })
    })
}

fn a_full_volume_says_so(_: &mut TestCtx<'_>) -> Outcome {
    const SIZE: usize = 100_000;
    on_disk(1 << 20, || {
        let mut made = Vec::new();
        mounted(|volume| {
            let full = loop {
                let name = format!("/file {}", made.len());
                let data = bytes(0, SIZE, made.len() as u8);
                match volume.create(&name)?.write(0, &data) {
                    Ok(n) => check_eq!(n, SIZE),
                    Err(e) => break (e, name),
                }
                made.push((name, data));
            };
            check_eq!(full.0, FsError::Full);
            check_eq!(volume.open(&full.1)?.size(), 0);
            // The same for one that has something, which it keeps.
            let (name, data) = made.first().ok_or(Failure::new("nothing fits"))?;
            let file = volume.open(name)?;
            let more = bytes(0, 2 * SIZE, 0);
            check_eq!(file.write(SIZE as u64, &more), Err(FsError::Full));
            check_eq!(file.truncate(2 << 20), Err(FsError::Full));
            expect(&file, data)?;
            drop(file);
            // There is room again for as much as is removed.
            volume.remove(name)?;
            make(volume, name, data)
        })?;
        mounted(|volume| {
            let mut all = made.iter();
            all.try_for_each(|(name, data)| expect(&volume.open(name)?, data))
        })
    })
}

fn who_has_a_file_open_keeps_it(_: &mut TestCtx<'_>) -> Outcome {
    on_disk(FAT12, || {
        mounted(|volume| {
            let file = volume.create("/Name with Case")?;
            let again = volume.open("/NAME WITH CASE")?;
            write(&file, 0, &bytes(0, 5000, 1))?;
            expect(&again, &bytes(0, 5000, 1))?;
            check_eq!(volume.remove("/name with case"), Err(FsError::Open));
            check_eq!(fs::unmount(), Err(FsError::Open));
            check_eq!(fs::mount().err(), Some(FsError::Busy));
            check_eq!(fs::format(FAT12, || false), Err(FsError::Busy));
            check_eq!(file::open(1, 1).err(), Some(mm::MmError::Exists));
            drop((file, again));
            Ok(volume.remove("/name with case")?)
        })?;
        check_eq!(fs::unmount(), Err(FsError::NotMounted));
        Ok(())
    })
}

/// From a directory that is still to be written to a file, and the other way round.
fn clusters_change_sides(_: &mut TestCtx<'_>) -> Outcome {
    let data = bytes(0, 3 * PAGE, 7);
    on_disk(FAT12, || {
        mounted(|volume| {
            volume.make_directory("/one")?;
            volume.make_directory("/one/two")?;
            volume.remove("/one/two")?;
            volume.remove("/one")?;
            make(volume, "/file", &data)?;
            make(volume, "/other", &data)?;
            volume.remove("/other")?;
            volume.make_directory("/dir")?;
            make(volume, "/dir/file", &data)
        })?;
        mounted(|volume| {
            expect(&volume.open("/file")?, &data)?;
            expect(&volume.open("/dir/file")?, &data)?;
            check_eq!(volume.list("/dir")?.len(), 1);
            Ok(())
        })
    })
}

/// What a thread does to a file of its own.
enum Edit<'a> {
    Write(usize, &'a [u8]),
    Cut(usize),
}

/// Calls `edit` with all that thread `i` does; what the file holds then.
fn own_content(
    seed: u64,
    i: usize,
    mut edit: impl FnMut(u8, &Edit<'_>) -> Outcome,
) -> Result<Vec<u8>, Failure> {
    let (mut rng, mut wanted) = (Rng::with_seed(seed ^ i as u64), Vec::new());
    for round in 0..30 {
        let pos = rng.usize(..wanted.len() + 1);
        let data = bytes(pos, rng.usize(1..50_000), round);
        wanted.resize(wanted.len().max(pos + data.len()), 0);
        wanted[pos..pos + data.len()].copy_from_slice(&data);
        edit(round, &Edit::Write(pos, &data))?;
        if round % 5 == 4 {
            wanted.truncate(wanted.len() / 3);
            edit(round, &Edit::Cut(wanted.len()))?;
        }
    }
    Ok(wanted)
}

/// Threads in one volume, each with files of its own and all with one; what they wrote is there
/// after the next mount.
fn writers_at_once(ctx: &mut TestCtx<'_>) -> Outcome {
    const SHARED: usize = 64 * PAGE;
    // Where in the common file a thread writes in a round.
    const STEP: usize = 2 * PAGE;
    let (threads, seed) = (several(), ctx.seed);
    let own_name = |i: usize| format!("/own {i}");
    let part_of = |i: usize, round: u8| {
        let part = i * SHARED + usize::from(round) * STEP + 7;
        (part, bytes(part, 5000, i as u8))
    };
    on_disk(FAT16, || {
        mounted(|volume| {
            make(volume, "/all", &vec![0; SHARED * threads])?;
            let volume = volume.clone();
            in_parallel(threads, move |i, _| {
                let name = own_name(i);
                let (own, all) = (volume.create(&name)?, volume.open("/all")?);
                let wanted = own_content(seed, i, |round, edit| match *edit {
                    Edit::Write(pos, data) => {
                        write(&own, pos, data)?;
                        let (part, data) = part_of(i, round);
                        write(&all, part, &data)
                    }
                    Edit::Cut(size) => {
                        own.truncate(size as u64)?;
                        Ok(own.sync()?)
                    }
                })?;
                expect(&own, &wanted)?;
                drop(own);
                volume.remove(&name)?;
                make(&volume, &name, &wanted)
            })
        })?;
        mounted(|volume| {
            check_eq!(volume.list("")?.len(), threads + 1);
            let mut common = vec![0; SHARED * threads];
            for i in 0..threads {
                let wanted = own_content(seed, i, |_, _| Ok(()))?;
                expect(&volume.open(&own_name(i))?, &wanted)?;
                for (part, data) in (0..30).map(|round| part_of(i, round)) {
                    common[part..part + data.len()].copy_from_slice(&data);
                }
            }
            expect(&volume.open("/all")?, &common)
        })
    })
}

/// It is down when the command begins, which is the earliest that it can be heard.
fn long_commands_hear_ctrl_c(_: &mut TestCtx<'_>) -> Outcome {
    let data = bytes(0, 5000, 1);
    let interrupted = |command: &str| {
        let (out, cancel) = (Buffer::new(), Cancel::new());
        cancel.request();
        let status = crate::shell().run(command, &out, &cancel).status;
        let name = command.split(' ').next().unwrap_or_default();
        check_eq!(out.take(), format!("{name}: interrupted\n"));
        check_eq!(status, Status::Failed);
        Ok(())
    };
    on_disk(FAT12, || {
        mounted(|volume| {
            make(volume, "/file", &data)?;
            for command in ["truncate /file 6M", "cp /file /other", "cksum", "cat /file"] {
                interrupted(command)?;
                expect(&volume.open("/file")?, &data)?;
            }
            Ok(())
        })?;
        interrupted("mkfs")?;
        fs::format(FAT12, || false)?;
        Ok(())
    })
}
