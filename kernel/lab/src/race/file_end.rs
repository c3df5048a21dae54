//! What files must be at the end of a run: each word as it may be, in memory, in swap or on the
//! disk, and on the disk too where memory counts as clean. Of a page that nobody gave up this goes
//! for each word, of others for some.
//!
//! Nobody runs: nothing is locked. Never sleeps.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use arch::{PAGE_SIZE, Pfn};
use mm::explore::{self, Content};
use mm::file::Opener;
use mm::inspect::{flag, frame};

use super::disk::{DATA, SWAP};
use super::file_words::{FileWord, Files, MOST_PAGES};
use crate::shown::Maybe;

const WORDS: usize = PAGE_SIZE as usize / 8;

/// A file has nothing in memory beyond its end, and each word is as it may be.
///
/// # Errors
/// The first that is not.
pub(super) fn files_hold(files: &Files) -> Result<(), String> {
    for (file, opener) in files.openers() {
        let end = opener.size().div_ceil(PAGE_SIZE) as u32;
        if let Some(n) = (end..MOST_PAGES).find(|n| explore::file_page(opener, *n).is_some()) {
            return Err(format!(
                "file {file} has {end} pages, page {n} is in memory"
            ));
        }
        (0..end).try_for_each(|n| one_page(files, file, opener, n))?;
    }
    Ok(())
}

/// Where a page is.
enum Place {
    Memory(Pfn),
    Swap(usize),
    Disk,
    /// Nowhere: it was never written.
    Hole,
}

impl Place {
    fn of(files: &Files, file: usize, opener: &Opener, n: u32) -> Self {
        match explore::file_page(opener, n) {
            // Of one that could not be read the content is where it was.
            Some(Content::Frame(pfn)) if frame(pfn).has(flag::UPTODATE) => Self::Memory(pfn),
            Some(Content::Slot(slot)) => Self::Swap(slot as usize),
            _ if files.is_in_memory(file) => Self::Hole,
            _ => Self::Disk,
        }
    }

    fn word(&self, word: FileWord) -> Option<u64> {
        match self {
            Self::Memory(pfn) => Some(in_frame(*pfn, word)),
            Self::Swap(slot) => SWAP.word(*slot, word.index()),
            Self::Disk => on_disk(word),
            Self::Hole => Some(0),
        }
    }
}

fn in_frame(pfn: Pfn, word: FileWord) -> u64 {
    explore::words(pfn)[word.index()].load(Relaxed)
}

fn on_disk(word: FileWord) -> Option<u64> {
    DATA.word(word.disk_page(), word.index())
}

/// Each word that `files` knows something of.
fn one_page(files: &Files, file: usize, opener: &Opener, n: u32) -> Result<(), String> {
    let place = Place::of(files, file, opener, n);
    let end = opener.size();
    let numbers: Vec<usize> = match files.was_changed(file, n) {
        // Beside what was stored, the ends of the page and of what was given up.
        true => files.edges_in(file, n).collect(),
        false => (0..WORDS).collect(),
    };
    for i in numbers.into_iter().chain(files.known_in(file, n)) {
        let word = FileWord {
            file,
            at: u64::from(n) * PAGE_SIZE + 8 * i as u64,
        };
        if word.at + 8 > end {
            continue;
        }
        let held = place.word(word);
        if held.is_none_or(|v| files.wrong(word, v).is_some()) {
            return Err(format!(
                "file {file}, byte {:#x}: {} holds {:#x}, stored was {}",
                word.at,
                match place {
                    Place::Memory(_) => "its page",
                    Place::Swap(_) => "swap",
                    Place::Disk => "the disk",
                    Place::Hole => "a hole",
                },
                Maybe(held),
                files.expected(word)
            ));
        }
        if let Place::Memory(pfn) = place {
            is_copied(pfn, word)?;
        }
    }
    Ok(())
}

/// Where the page counts as clean, the disk has the word too.
fn is_copied(pfn: Pfn, word: FileWord) -> Result<(), String> {
    if frame(pfn).flags() & (flag::DIRTY | flag::WRITEBACK) != 0 {
        return Ok(());
    }
    let copy = match frame(pfn).private() {
        slot if frame(pfn).has(flag::SWAPCACHE) => SWAP.word(slot as usize - 1, word.index()),
        // A file in memory has no disk; a page that was never written is zeroes.
        _ if frame(pfn).has(flag::SWAPBACKED) => Some(0),
        _ => on_disk(word),
    };
    let held = in_frame(pfn, word);
    if copy == Some(held) {
        return Ok(());
    }
    Err(format!(
        "file {}, byte {:#x}: its page holds {held:#x} and is clean, the disk holds {:#x}",
        word.file,
        word.at,
        Maybe(copy)
    ))
}
