//! The disk as the FAT crate wants it: a stream with a position, over the page cache of the whole
//! disk.
//!
//! The page last read is kept aside, because tables are read entry by entry; it is read again once
//! another stream has written. Writes go through to the page cache. Nothing is durable before
//! [`mm::file::Opener::sync`]; the crate's `flush` therefore does nothing. Sleeps. Of one volume,
//! only the holder of its lock uses it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::PAGE_SIZE;
use hadris_fat::Error as FatError;
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

/// Why the disk takes no writes, if so.
pub(crate) fn read_only() -> Option<&'static str> {
    file::disk_is_read_only().then_some("the disk is")
}

/// What all streams over a volume's disk share.
pub(crate) struct Device {
    pub(crate) opener: Opener,
    /// Goes up with each change that a stream's own page may not know of. The volume's lock orders
    /// it.
    changes: AtomicU64,
}

impl Device {
    pub(crate) fn new(opener: Opener) -> Self {
        Self {
            opener,
            changes: AtomicU64::new(0),
        }
    }

    /// Goes up with each change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Forgets what the cache has of `len` bytes from `pos` on, written or not.
    ///
    /// # Errors
    /// None that the disk's own file can have.
    pub(crate) fn forget(&self, pos: u64, len: u64) -> Result<(), FsError> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(self.opener.invalidate(pos, len)?)
    }
}

/// A stream over the disk.
pub(crate) struct Disk {
    device: Arc<Device>,
    at: u64,
    /// Which page is kept aside, and the count of changes that it is from.
    kept: Option<(u64, u64)>,
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

impl Disk {
    /// All of `into` is what the disk has from byte `at` on.
    ///
    /// # Errors
    /// Corrupt beyond the disk; Io, NoMemory.
    pub(crate) fn get(&mut self, at: u64, into: &mut [u8]) -> Result<(), FsError> {
        self.at = at;
        self.read_exact(into).map_err(|e| FatError::from(e).into())
    }

    /// The disk has `what` from byte `at` on.
    ///
    /// # Errors
    /// As [`Disk::get`].
    pub(crate) fn put(&mut self, at: u64, what: &[u8]) -> Result<(), FsError> {
        self.at = at;
        self.write_all(what).map_err(|e| FatError::from(e).into())
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
        let changes = self.device.changes();
        if self.kept != Some((page, changes)) {
            self.kept = None;
            let start = page * PAGE_SIZE;
            let read = self.device.opener.read(start, &mut self.page[..]);
            if read.map_err(failed)? < PAGE {
                return Ok(0);
            }
            self.kept = Some((page, changes));
        }
        buf[..n].copy_from_slice(&self.page[from..from + n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for Disk {
    type Error = ErrorKind;

    fn write(&mut self, buf: &[u8]) -> IoResult<usize, ErrorKind> {
        let (page, from, n) = self.part(buf.len());
        let wrote = self.device.opener.write(self.at, &buf[..n]);
        let before = self.device.changes.fetch_add(1, Ordering::Relaxed);
        let n = wrote.map_err(failed)?;
        if self.kept == Some((page, before)) {
            self.page[from..from + n].copy_from_slice(&buf[..n]);
            self.kept = Some((page, before + 1));
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
