//! A small FAT32 volume, and its count of free clusters. (`fs::format` makes none on a disk of the
//! tests' size.)

use alloc::format;
use alloc::vec;

use arch::PAGE_SIZE;

use super::Outcome;
use super::fat::{FAT12, on_disk, write};
use super::fat_cuts::snapshot;
use super::fat_damage::patch;
use super::file::{PAGE, bytes};
use crate::selftest::TestCtx;
use crate::{check, check_eq};

/// A FAT32 volume, which has fewer clusters than `fs::format` makes one of; told by its size.
pub(super) const FAT32: u64 = 2 << 20;
const CLUSTERS: u32 = (FAT32 / PAGE_SIZE) as u32 - 4;
/// Where it has the number of its free clusters, and its first table.
const COUNT_AT: usize = PAGE + 488;
const TABLE_AT: usize = 2 * PAGE;

/// Makes it: a page each for the first sector, the count, and two tables; then the root directory's
/// cluster.
pub(super) fn make_fat32() -> Outcome {
    let mut pages = vec![0; 5 * PAGE];
    let mut put = |at: usize, bytes: &[u8]| pages[at..at + bytes.len()].copy_from_slice(bytes);
    // Sectors of a page, one in a cluster, two in front of the two tables.
    put(11, &[0, 0x10, 1, 2, 0, 2]);
    put(21, &[0xf8]);
    put(32, &(CLUSTERS + 4).to_le_bytes());
    put(36, &1_u32.to_le_bytes());
    put(44, &2_u32.to_le_bytes());
    put(48, &1_u16.to_le_bytes());
    put(510, &[0x55, 0xaa]);
    put(PAGE, b"RRaA");
    put(PAGE + 484, b"rrAa");
    put(COUNT_AT, &(CLUSTERS - 1).to_le_bytes());
    put(PAGE + 492, &3_u32.to_le_bytes());
    put(PAGE + 510, &[0x55, 0xaa]);
    for table in [TABLE_AT, TABLE_AT + PAGE] {
        for (i, entry) in [0x0fff_fff8_u32, 0x0fff_ffff, 0x0fff_ffff]
            .iter()
            .enumerate()
        {
            put(table + 4 * i, &entry.to_le_bytes());
        }
    }
    patch(0, &pages)
}

fn long(disk: &[u64], at: usize) -> u32 {
    (disk[at / 8] >> (at % 8 * 8)) as u32
}

fn count(disk: &[u64]) -> u32 {
    long(disk, COUNT_AT)
}

/// FAT32's count of free clusters is right, or says that nobody knows it.
pub(super) fn count_is_right(disk: &[u64]) -> Outcome {
    let free = (2..CLUSTERS + 2).filter(|n| long(disk, TABLE_AT + 4 * *n as usize) == 0);
    let (said, free) = (count(disk), free.count() as u32);
    check!(
        said == u32::MAX || said == free,
        "{free} clusters are free, and the count is {said}"
    );
    Ok(())
}

/// Unmounting leaves no cluster that is nobody's, and FAT32's count of free ones right; mounting
/// alone changes nothing.
pub(super) fn free_clusters_are_counted(_: &mut TestCtx<'_>) -> Outcome {
    on_disk(FAT12, || {
        make_fat32()?;
        for round in 0..3 {
            let before = snapshot();
            fs::mount()?;
            fs::unmount()?;
            let same = snapshot() == before;
            check!(same, "round {round}: mounting wrote to the disk");
            let volume = fs::mount()?;
            let file = volume.create(&format!("/f{round}"))?;
            write(&file, 0, &bytes(0, 5 * PAGE, 1))?;
            volume.sync()?;
            // The last of them keeps one, and the first has gone.
            file.truncate(PAGE_SIZE)?;
            if round == 2 {
                volume.remove("/f0")?;
            }
            drop((file, volume));
            fs::unmount()?;
            let disk = snapshot();
            count_is_right(&disk)?;
            let used = CLUSTERS - count(&disk);
            // The root directory's, and one of each file.
            check_eq!(used, 1 + [1, 2, 2][round]);
        }
        Ok(())
    })
}
