//! What actors do with a file on the data disk by its own operations, and what the [`Book`] is told
//! of it. Sleeps.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use arch::PAGE_SIZE;
use mm::MmError;
use mm::file::{self, Opener};

use super::team::{Stop, Team};
use super::versions::{Book, PAGE, fill, seam};

/// Most pages of one read or write.
pub const MOST: usize = 32;

/// One actor, with an opener of its own and room for what it reads and writes.
pub struct Worker {
    /// What is known of the pages.
    pub book: Arc<Book>,
    /// The file, from the begin of the disk.
    pub file: Opener,
    /// Room for [`MOST`] pages.
    pub buffer: Vec<u8>,
}

impl Worker {
    /// One that has the file of `book` open.
    ///
    /// # Errors
    /// NoMemory; those of [`file::open`].
    pub fn new(book: &Arc<Book>) -> Result<Self, MmError> {
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(MOST * PAGE)
            .map_err(|_| MmError::NoMemory)?;
        buffer.resize(MOST * PAGE, 0);
        Ok(Self {
            book: book.clone(),
            file: file::open(0, book.size() as u32)?,
            buffer,
        })
    }

    /// Reads up to [`MOST`] pages, as far as the file reaches.
    ///
    /// # Errors
    /// When it fails, or what is read is wrong.
    pub fn read(&mut self, team: &Team, page: usize, n: usize) -> Result<(), Stop> {
        let n = n.min(self.book.size().saturating_sub(page));
        if n == 0 {
            return Ok(());
        }
        let mut least = [0; MOST];
        for (low, page) in least.iter_mut().zip(page..page + n) {
            *low = self.book.least(page);
        }
        let got = match self
            .file
            .read(page as u64 * PAGE_SIZE, &mut self.buffer[..n * PAGE])
        {
            Ok(got) => got / PAGE,
            Err(e) => return self.book.refused("reading", page, e),
        };
        if got < n && !self.book.errors_ok() {
            return Err(Stop::wrong(format!("read {got} pages of {n} at {page:#x}")));
        }
        for (i, low) in least[..got].iter().enumerate() {
            let bytes = &self.buffer[i * PAGE..(i + 1) * PAGE];
            self.book
                .verify(team, bytes, page + i, *low, "in the file")?;
        }
        Ok(())
    }

    /// Writes the next version of `n` of the actor's own pages, up to [`MOST`]; with `pieces` in
    /// two that meet within a word.
    ///
    /// # Errors
    /// When it fails.
    pub fn write(&mut self, team: &Team, page: usize, n: usize, pieces: bool) -> Result<(), Stop> {
        for i in 0..n {
            let stamp = self.book.begin(page + i)?;
            fill(&mut self.buffer[i * PAGE..(i + 1) * PAGE], stamp);
        }
        let (pos, len) = (page as u64 * PAGE_SIZE, n * PAGE);
        let first = if pieces { 8 * seam(page) + 4 } else { len };
        let mut done = 0;
        for part in [0..first, first..len] {
            if part.is_empty() || part.start != done {
                continue;
            }
            match self
                .file
                .write(pos + part.start as u64, &self.buffer[part.clone()])
            {
                Ok(wrote) => done += wrote,
                Err(e) => self.book.refused("writing", page, e)?,
            }
        }
        if done < len && !self.book.errors_ok() {
            return Err(Stop::wrong(format!(
                "{done} of {len} bytes were written at page {page:#x}"
            )));
        }
        self.book.done(page..page + done / PAGE);
        team.written
            .fetch_add((done / PAGE) as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes these pages durable with sync.
    ///
    /// # Errors
    /// When it fails.
    pub fn sync(&self, pages: Range<usize>) -> Result<(), Stop> {
        let (pos, len) = (
            pages.start as u64 * PAGE_SIZE,
            pages.len() as u64 * PAGE_SIZE,
        );
        self.sync_by(pages, || self.file.sync_range(pos, len))
    }

    /// As [`Worker::sync`], with `make_durable`.
    ///
    /// # Errors
    /// When it fails.
    pub fn sync_by(
        &self,
        pages: Range<usize>,
        make_durable: impl FnOnce() -> Result<(), MmError>,
    ) -> Result<(), Stop> {
        let Some(before) = self.book.before_sync(pages.clone()) else {
            return Ok(());
        };
        match make_durable() {
            Ok(()) => {
                self.book.after_sync(&before);
                Ok(())
            }
            Err(e) => self.book.refused("syncing", pages.start, e),
        }
    }

    /// Compares a page as the disk has it.
    ///
    /// # Errors
    /// When it is not what was promised, or cannot be read.
    pub fn look_at_disk(&mut self, team: &Team, page: usize) -> Result<(), Stop> {
        self.book.look_at_disk(team, page, &mut self.buffer)
    }
}
