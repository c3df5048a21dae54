//! Making a volume.

use alloc::sync::Arc;

use arch::PAGE_SIZE;
use hadris_fat::sync::format::{
    FatFormatOptions, FatTypeSelection, FatVolumeFormatter, SectorSize,
};
use mm::file;

use crate::FsError;
use crate::disk::{self, Device, Disk, Taken};

/// Fewer clusters than this are FAT12, and fewer than the other FAT16: what a volume is follows from their number.
const FAT16_FROM: u64 = 4085;
const FAT32_FROM: u64 = 65525;

/// Makes a volume of the first `bytes` of the data disk, with clusters of a page. What was on it is lost. Sleeps.
///
/// # Errors
/// NoDisk; Busy; BadSize for less than 1 MiB, or more than the disk has; Io, NoMemory.
pub fn format(bytes: u64) -> Result<(), FsError> {
    let _taken = Taken::new()?;
    let device = Arc::new(Device::new(disk::open()?));
    if bytes < 1 << 20 || bytes > device.opener.size() {
        return Err(FsError::BadSize);
    }
    let kind = match bytes / PAGE_SIZE {
        ..FAT16_FROM => FatTypeSelection::Fat12,
        FAT16_FROM..FAT32_FROM => FatTypeSelection::Fat16,
        _ => FatTypeSelection::Fat32,
    };
    let options = FatFormatOptions::new(bytes)
        .fat_type(kind)
        .sector_size(SectorSize::S4096)
        .sectors_per_cluster(1)
        .volume_id(0);
    FatVolumeFormatter::format(Disk::new(device.clone()), options)?;
    device.opener.sync()?;
    drop(device);
    file::drop_caches();
    Ok(())
}
