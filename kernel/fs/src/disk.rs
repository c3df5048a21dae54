//! The disk as the FAT crate wants it: a stream with a position, over the page cache of the whole disk.
//!
//! The page last read is kept aside, because the crate reads its tables entry by entry. Writes go through to the page
//! cache. Nothing is durable before [`mm::file::Opener::sync`]; the crate's `flush` therefore does nothing.
//! Sleeps. Of one volume, only the holder of its lock uses it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use arch::PAGE_SIZE;
use hadris_fat::sync::{Error, ErrorKind, IoResult, Read, Seek, SeekFrom, Write};
use mm::MmError;
use mm::file::{self, Opener};

use crate::FsError;

const PAGE: usize = PAGE_SIZE as usize;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The data disk is a file system's, one at a time, while this lives.
pub(crate) struct Taken(());

impl Taken {
    /// # Errors
    /// Busy.
    pub(crate) fn new() -> Result<Self, FsError> {
        // Acquire pairs with the Release below: what the one before opened is closed.
        if TAKEN.swap(true, Ordering::Acquire) {
            return Err(FsError::Busy);
        }
        Ok(Self(()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// The whole disk as a file. Sleeps.
///
/// # Errors
/// NoDisk; Busy when somebody uses a part of it as a file; NoMemory.
pub(crate) fn open() -> Result<Opener, FsError> {
    let pages = file::disk_pages();
    if pages == 0 {
        return Err(FsError::NoDisk);
    }
    // Files of before, whose pages nobody uses any more.
    file::drop_caches();
    Ok(file::open(0, pages)?)
}

/// What all streams over a volume's disk share.
pub(crate) struct Device {
    pub(crate) opener: Opener,
    /// The byte where the clusters begin.
    data: u64,
    /// What the crate writes to clusters does not count; see [`Device::reserving`].
    reserving: AtomicBool,
}

impl Device {
    pub(crate) fn new(opener: Opener, data: u64) -> Self {
        Self {
            opener,
            data,
            reserving: AtomicBool::new(false),
        }
    }

    /// Runs `f`, which grows a file: clusters are chained, and what is written into them does not count, as the file's
    /// content has a page cache of its own.
    pub(crate) fn reserving<R>(&self, f: impl FnOnce() -> R) -> R {
        // Relaxed: the volume's lock orders it.
        self.reserving.store(true, Ordering::Relaxed);
        let result = f();
        self.reserving.store(false, Ordering::Relaxed);
        result
    }

    fn drops(&self, at: u64) -> bool {
        at >= self.data && self.reserving.load(Ordering::Relaxed)
    }
}

/// A stream over the disk.
pub(crate) struct Disk {
    device: Arc<Device>,
    at: u64,
    /// Which page is kept aside.
    kept: Option<u64>,
    page: Box<[u8; PAGE]>,
}

impl Disk {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        Self {
            device,
            at: 0,
            kept: None,
            page: Box::new([0; PAGE]),
        }
    }

    /// The page at the position, where in it that is, and how much of `len` bytes lies in it.
    fn part(&self, len: usize) -> (u64, usize, usize) {
        let from = (self.at % PAGE_SIZE) as usize;
        (self.at / PAGE_SIZE, from, len.min(PAGE - from))
    }
}

fn failed(e: MmError) -> Error {
    Error::from_kind(match e {
        MmError::NoMemory => ErrorKind::OutOfMemory,
        _ => ErrorKind::Other,
    })
}

impl Read for Disk {
    type Error = ErrorKind;

    fn read(&mut self, buf: &mut [u8]) -> IoResult<usize, ErrorKind> {
        let (page, from, n) = self.part(buf.len());
        if self.kept != Some(page) {
            self.kept = None;
            let start = page * PAGE_SIZE;
            let read = self.device.opener.read(start, &mut self.page[..]);
            if read.map_err(failed)? < PAGE {
                return Ok(0);
            }
            self.kept = Some(page);
        }
        buf[..n].copy_from_slice(&self.page[from..from + n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for Disk {
    type Error = ErrorKind;

    fn write(&mut self, buf: &[u8]) -> IoResult<usize, ErrorKind> {
        if self.device.drops(self.at) {
            self.at += buf.len() as u64;
            return Ok(buf.len());
        }
        let (page, from, n) = self.part(buf.len());
        let wrote = self.device.opener.write(self.at, &buf[..n]);
        let n = wrote.map_err(failed)?;
        if self.kept == Some(page) {
            self.page[from..from + n].copy_from_slice(&buf[..n]);
        }
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> IoResult<(), ErrorKind> {
        Ok(())
    }
}

impl Seek for Disk {
    type Error = ErrorKind;

    fn seek(&mut self, to: SeekFrom) -> IoResult<u64, ErrorKind> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.device.opener.size().checked_add_signed(by),
        };
        self.at = at.ok_or(Error::from_kind(ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
