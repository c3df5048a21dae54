//! Pages of a file on the data disk with a version in every word, and which versions may be found
//! where.
//!
//! A page belongs to one actor, the only one that writes it; anybody reads it. Two numbers per page
//! bound what a word may show: the version that was last written whole, and the one that was last
//! begun. A third one bounds what the disk may show, looked at past the cache: the version that was
//! in the page when a sync of it began that succeeded. With `--promises` each such sync is printed,
//! after it has returned, as `promised FIRST VERSION VERSION ...` (0: nothing is promised of that
//! page): whoever ends the machine at any moment can check what it left on the disk.
//!
//! No locks; looking at the disk sleeps.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::{Range, RangeInclusive};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use algo::pattern::{self, Stamp, WORDS};
use arch::PAGE_SIZE;
use mm::MmError;
use mm::file;

use super::Env;
use super::page::describe;
use super::team::{Stop, Team};

/// Bytes of a page.
pub const PAGE: usize = PAGE_SIZE as usize;
/// Neighbouring pages with the same owner.
pub const CHUNK: usize = 16;
/// How the lines begin that say what a sync has promised.
pub const PROMISED: &str = "promised ";
/// What the words of these pages have in the upper half of the address space's place. The lower
/// half is the upper part of the version.
const MARK: u16 = 0xf1 << 8;
/// The last version that a word can say, beyond any run.
pub const LAST: u32 = (1 << 24) - 1;

/// What may be found in a page. Written by its owner, the last one by whoever syncs.
#[derive(Default)]
struct Versions {
    /// In the page, in every word.
    whole: AtomicU32,
    /// In some words, at most.
    begun: AtomicU32,
    /// On the disk, at least.
    synced: AtomicU32,
}

/// The pages of a file that begins with the disk, and what the actors of a run know of them.
pub struct Book {
    pages: Vec<Versions>,
    actors: usize,
    errors_ok: bool,
    /// Pages are written in two pieces sometimes: see [`seam`].
    pieces: bool,
    promises: bool,
    /// Requests to the file that the disk spoilt.
    spoilt: AtomicU64,
}

/// What was in the pages of a range when a sync of it began.
pub struct Before {
    first: usize,
    versions: Vec<u32>,
}

impl Book {
    /// `pages` pages that nobody has written, shared out among `actors` actors, which write them in
    /// pieces as well or not.
    ///
    /// # Errors
    /// A sentence for the user: there is no such disk, or no memory.
    pub fn new(env: &Env<'_>, pages: usize, actors: usize, pieces: bool) -> Result<Self, String> {
        let most = file::disk_pages() as usize;
        if pages < actors * CHUNK || pages > most {
            return Err(format!(
                "needs a data disk (--data), with {} pages at least; it has {most}",
                pages.max(actors * CHUNK)
            ));
        }
        let mut versions = Vec::new();
        versions
            .try_reserve_exact(pages)
            .map_err(|_| format!("no memory for the records of {pages} pages"))?;
        versions.resize_with(pages, Versions::default);
        Ok(Self {
            pages: versions,
            actors,
            errors_ok: env.bus_ok,
            pieces,
            promises: env.promises,
            spoilt: AtomicU64::new(0),
        })
    }

    /// How many pages there are.
    pub fn size(&self) -> usize {
        self.pages.len()
    }

    /// The pages that actor `index` writes.
    pub fn owned_by(&self, index: usize) -> Vec<usize> {
        let own = |page: &usize| page / CHUNK % self.actors == index;
        (0..self.size()).filter(own).collect()
    }

    /// Pages from `page` on with the same owner.
    pub fn rest_of_chunk(&self, page: usize) -> usize {
        (CHUNK - page % CHUNK).min(self.size() - page)
    }

    /// Requests that the disk spoilt, as the user expects of it.
    pub fn spoilt(&self) -> u64 {
        self.spoilt.load(Ordering::Relaxed)
    }

    /// Whether the user expects errors of the disk.
    pub fn errors_ok(&self) -> bool {
        self.errors_ok
    }

    /// An error that the user expects of this disk, or a failure.
    ///
    /// # Errors
    /// See above.
    pub fn refused(&self, what: &str, page: usize, e: MmError) -> Result<(), Stop> {
        match e {
            MmError::Io if self.errors_ok => {
                self.spoilt.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            MmError::Killed => Err(Stop::Killed),
            e => Err(Stop::wrong(format!("{what} page {page:#x}: {e:?}"))),
        }
    }

    /// The owner begins to write a page: what into each word.
    ///
    /// # Errors
    /// As [`next`].
    pub fn begin(&self, page: usize) -> Result<Stamp, Stop> {
        let v = &self.pages[page];
        let version = next(v.begun.load(Ordering::Relaxed))?;
        v.begun.store(version, Ordering::Release);
        Ok(stamp(page, version))
    }

    /// Every word of these pages has been written.
    pub fn done(&self, pages: Range<usize>) {
        for v in &self.pages[pages] {
            v.whole
                .store(v.begun.load(Ordering::Relaxed), Ordering::Release);
        }
    }

    /// The version that is in the page, in every word, or a newer one; 0: it was not written yet.
    pub fn least(&self, page: usize) -> u32 {
        // Acquire pairs with the Release after the write: what it wrote is there to be read.
        self.pages[page].whole.load(Ordering::Acquire)
    }

    /// A sync of these pages is about to begin. `None` when there is no memory to remember it.
    pub fn before_sync(&self, pages: Range<usize>) -> Option<Before> {
        let mut versions = Vec::new();
        versions.try_reserve_exact(pages.len()).ok()?;
        versions.extend(pages.clone().map(|page| self.least(page)));
        Some(Before {
            first: pages.start,
            versions,
        })
    }

    /// The sync has succeeded: what was there before is on the disk from now on.
    pub fn after_sync(&self, before: &Before) {
        for (v, there) in self.pages[before.first..].iter().zip(&before.versions) {
            v.synced.fetch_max(*there, Ordering::AcqRel);
        }
        if self.promises && before.versions.iter().any(|v| *v > 0) {
            crate::startup::say(&before.promise());
        }
    }

    /// A page as the disk has it.
    ///
    /// # Errors
    /// When it is not what was promised, or cannot be read.
    pub fn look_at_disk(&self, team: &Team, page: usize, buffer: &mut [u8]) -> Result<(), Stop> {
        let low = self.pages[page].synced.load(Ordering::Acquire);
        let Some(bytes) = buffer.first_chunk_mut::<PAGE>() else {
            return Ok(());
        };
        match file::read_raw(page as u32, bytes) {
            Ok(()) => self.verify(team, bytes, page, low, "on the disk"),
            Err(e) => self.refused("looking at the disk's", page, e),
        }
    }

    /// Every word is of this page and of a version from `low` to the one that was last begun. A
    /// page that was not written yet (`low` = 0) is anything.
    ///
    /// # Errors
    /// At the first wrong word.
    pub fn verify(
        &self,
        team: &Team,
        bytes: &[u8],
        page: usize,
        low: u32,
        place: &str,
    ) -> Result<(), Stop> {
        if low == 0 {
            return Ok(());
        }
        let high = self.pages[page].begun.load(Ordering::Acquire);
        // Where pieces end within a word, that may be of two versions: only there is a word let
        // pass that is of neither.
        let seam = (self.pieces && low != high).then(|| seam(page));
        match wrong_word(bytes, page, low..=high, seam) {
            None => {
                team.verified.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Some(what) => Err(Stop::wrong(format!("page {page:#x} {place}, {what}"))),
        }
    }
}

impl Before {
    /// The line that says what is promised.
    fn promise(&self) -> String {
        let mut line = format!("{PROMISED}{:#x}", self.first);
        for version in &self.versions {
            // Writing to a String cannot fail.
            let _ = write!(line, " {version}");
        }
        line
    }
}

/// The version after `version`.
///
/// # Errors
/// [`LAST`] has none: the run ends there, and nothing is wrong.
pub fn next(version: u32) -> Result<u32, Stop> {
    if version < LAST {
        Ok(version + 1)
    } else {
        Err(Stop::Over)
    }
}

/// What each word of a page is to say.
pub fn stamp(page: usize, version: u32) -> Stamp {
    Stamp {
        mm: MARK | (version >> 16) as u16,
        page: page as u32,
        version: version as u16,
    }
}

/// The version that word `i` of a page says; `None`: it is not one of this page.
pub fn said(word: u64, page: usize, i: usize) -> Option<u32> {
    let found = pattern::decode(word, i);
    let version = u32::from(found.mm & 0xff) << 16 | u32::from(found.version);
    (found == stamp(page, version)).then_some(version)
}

/// The word within which the pieces meet that a page is written in.
pub fn seam(page: usize) -> usize {
    1 + page % 500
}

/// Every word of a page with this stamp.
pub fn fill(bytes: &mut [u8], stamp: Stamp) {
    for (i, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = pattern::encode(stamp, i).to_le_bytes();
    }
}

/// The version of word `i` of a page.
///
/// # Errors
/// The word, when it is not one of this page.
pub fn version(bytes: &[u8], page: usize, i: usize) -> Result<u32, u64> {
    let word = word(bytes, i);
    said(word, page, i).ok_or(word)
}

/// Word `i` of a page.
pub fn word(bytes: &[u8], i: usize) -> u64 {
    let bytes = bytes[8 * i..].first_chunk();
    bytes.map_or(0, |w| u64::from_le_bytes(*w))
}

/// What is wrong with the first word of a page that is not one of `versions`; word `skip` may be
/// anything.
pub fn wrong_word(
    bytes: &[u8],
    page: usize,
    versions: RangeInclusive<u32>,
    skip: Option<usize>,
) -> Option<String> {
    let (low, high) = (versions.start(), versions.end());
    (0..WORDS).filter(|i| Some(*i) != skip).find_map(|i| {
        let found = match version(bytes, page, i) {
            Ok(found) if versions.contains(&found) => return None,
            Ok(found) => format!("version {found}"),
            Err(word) => format!("{word:#018x} ({})", describe(word, i)),
        };
        Some(format!(
            "word {i}: expected version {low} to {high}, found {found}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_its_version_and_no_other_pages() {
        for version in [0, 1, 0xffff, 0x1_0000, 0x12_3456, LAST] {
            let word = pattern::encode(stamp(7, version), 3);
            assert_eq!(said(word, 7, 3), Some(version));
            assert_eq!(said(word, 8, 3), None);
            assert_eq!(said(word, 7, 4), None);
        }
        // Of an address space.
        let stamp = Stamp {
            mm: 7,
            page: 7,
            version: 1,
        };
        assert_eq!(said(pattern::encode(stamp, 3), 7, 3), None);
        assert_eq!(said(0, 0, 0), None);
    }

    #[test]
    fn versions_do_not_begin_again() {
        assert!(matches!(next(LAST - 1), Ok(LAST)));
        assert!(matches!(next(LAST), Err(Stop::Over)));
    }
}
