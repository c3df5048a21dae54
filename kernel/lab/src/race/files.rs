//! The files of a scenario: openings on the stage, what was stored to them in which order, and what a sync promises.
//!
//! A word of a file is one thing however it is written: by a store through any shared mapping, or by a write. Its values
//! are remembered in order, so that what the disk holds can be told to be older or newer than a store. A scenario therefore
//! gives each word a value only once.
//!
//! Locks: spinning leaves of its own that no actor is stopped in. Sleeps where the operation does.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use arch::{PAGE_SIZE, VirtAddr};
use mm::explore::Content;
use mm::file::{Extent, Opener};
use mm::frame::{flag, frame};
use mm::{MapFlags, MmError, MmRef, Prot, explore};
use sync::point::{self, AccessKind, Aside, class, object};

use super::disk::{DATA, DATA_FIRST, SWAP};
use super::stage::Stage;
use crate::shown::{List, Maybe};

/// Places for files on a stage.
const FILES: usize = 2;
/// Most pages of one.
const MOST_PAGES: u32 = 16;

/// A word of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word {
    file: usize,
    /// In bytes from the start.
    at: u64,
}

impl Word {
    fn is_in(self, file: usize, bytes: &Range<u64>) -> bool {
        self.file == file && bytes.contains(&self.at)
    }

    fn page(self) -> u32 {
        (self.at / PAGE_SIZE) as u32
    }

    fn index(self) -> usize {
        (self.at % PAGE_SIZE) as usize / 8
    }

    /// The page of the data disk where it lies.
    fn disk_page(self) -> usize {
        self.file * MOST_PAGES as usize + self.page() as usize
    }

    /// What is remembered of it, in footprints.
    pub(super) fn object(self) -> u32 {
        object(class::OWN, 1 << 33 | (self.file as u64) << 34 | self.at)
    }
}

/// What of files was given up, in footprints.
pub(super) fn given_up() -> u32 {
    object(class::OWN, 1 << 36)
}

/// What became of a word.
struct History {
    word: Word,
    /// Oldest first; what it held at the start, if that is known, is the first.
    values: Vec<u64>,
    /// How many of them have been stored; at most one more is on its way.
    done: usize,
}

impl History {
    fn place(&self, value: u64) -> Option<usize> {
        self.values.iter().rposition(|v| *v == value)
    }

    /// A look now may find `value`: what was stored last, or is on its way.
    fn allows(&self, value: u64) -> bool {
        self.done == 0 || self.place(value).is_some_and(|n| n + 1 >= self.done)
    }
}

/// A shared mapping.
#[derive(Clone, Copy)]
struct Area {
    mm: u32,
    start: u64,
    end: u64,
    file: usize,
    /// In bytes.
    from: u64,
}

/// What the stage knows of files.
pub(super) struct Files {
    openers: Vec<(usize, Arc<Opener>)>,
    areas: Vec<Area>,
    words: Vec<History>,
    /// Bytes of files that were given up: what is stored there may be lost.
    given_up: Vec<(usize, Range<u64>)>,
}

impl Files {
    pub(super) const fn new() -> Self {
        Self {
            openers: Vec::new(),
            areas: Vec::new(),
            words: Vec::new(),
            given_up: Vec::new(),
        }
    }

    /// The word of a file that is mapped at `va`.
    pub(super) fn mapped(&self, mm: u32, va: u64) -> Option<Word> {
        let has = |a: &&Area| a.mm == mm && (a.start..a.end).contains(&va);
        let area = self.areas.iter().rev().find(has)?;
        Some(Word {
            file: area.file,
            at: area.from + (va - area.start),
        })
    }

    /// What is mapped where does not change in a run, but that it may not be mapped.
    fn map(&mut self, area: Area) {
        if self.mapped(area.mm, area.start).is_none() {
            self.areas.push(area);
        }
    }

    /// `child` has the mappings of `parent`.
    pub(super) fn fork(&mut self, parent: u32, child: u32) {
        let of_parent = |a: &&Area| a.mm == parent;
        let copies: Vec<_> = self.areas.iter().filter(of_parent).copied().collect();
        let as_child = |a: Area| Area { mm: child, ..a };
        self.areas.extend(copies.into_iter().map(as_child));
    }

    fn history(&mut self, word: Word) -> &mut History {
        let known = self.words.iter().position(|h| h.word == word);
        let n = known.unwrap_or_else(|| {
            self.words.push(History {
                word,
                values: Vec::new(),
                done: 0,
            });
            self.words.len() - 1
        });
        &mut self.words[n]
    }

    fn begin(&mut self, word: Word, value: u64) {
        if self.given_up.iter().any(|(f, at)| word.is_in(*f, at)) {
            return;
        }
        self.history(word).values.push(value);
    }

    fn end(&mut self, word: Word) {
        if let Some(h) = self.words.iter_mut().find(|h| h.word == word) {
            h.done = h.values.len();
        }
    }

    fn give_up(&mut self, file: usize, bytes: Range<u64>) {
        self.words.retain(|h| !h.word.is_in(file, &bytes));
        self.given_up.push((file, bytes));
    }

    pub(super) fn store(&mut self, word: Word, value: u64) {
        self.begin(word, value);
        self.end(word);
    }

    /// What is wrong with finding `value` in the word.
    pub(super) fn found(&self, word: Word, value: u64) -> Option<String> {
        let h = self.words.iter().find(|h| h.word == word)?;
        (!h.allows(value)).then(|| {
            format!(
                "file {}, byte {:#x} reads {value:#x}, stored was {:#x}",
                word.file,
                word.at,
                List(&h.values)
            )
        })
    }
}

/// What of a file had been stored when a sync began: words, each with how many of its values.
struct Promise(Vec<(Word, usize)>);

impl Stage {
    /// Before a run: there is a file at place `file`, of `pages` pages that are not in memory.
    ///
    /// # Errors
    /// As [`mm::file::open_extents`].
    ///
    /// # Panics
    /// If it has more than 16, or there is no such place.
    pub fn open_file(&self, file: usize, pages: u32) -> Result<(), MmError> {
        assert!(file < FILES && pages <= MOST_PAGES);
        let extent = Extent {
            first: DATA_FIRST + file as u32 * MOST_PAGES,
            pages,
        };
        let opener = mm::file::open_extents(u64::from(pages) * PAGE_SIZE, &[extent])?;
        self.files().openers.push((file, Arc::new(opener)));
        Ok(())
    }

    /// Before a run: there is a file in memory at place `file`, of `pages` pages.
    ///
    /// # Errors
    /// As [`mm::file::shmem`].
    pub fn open_shmem(&self, file: usize, pages: u32) -> Result<(), MmError> {
        let opener = mm::file::shmem(u64::from(pages) * PAGE_SIZE)?;
        self.files().openers.push((file, Arc::new(opener)));
        Ok(())
    }

    /// The file at place `file`.
    ///
    /// # Panics
    /// If there is none.
    pub fn file(&self, file: usize) -> Arc<Opener> {
        let files = self.files();
        let found = files.openers.iter().find(|o| o.0 == file);
        Arc::clone(&found.expect("the scenario opened a file here").1)
    }

    /// Before a run: the word at byte `at` of a file holds `value`, on the disk.
    pub fn on_disk(&self, file: usize, at: u64, value: u64) {
        let word = Word { file, at };
        DATA.set_word(word.disk_page(), word.index(), value);
        self.files().store(word, value);
    }

    /// Before a run: the word at byte `at` of a file holds `value`, in memory.
    ///
    /// # Errors
    /// As [`Opener::write`].
    pub fn fill_file(&self, file: usize, at: u64, value: u64) -> Result<(), MmError> {
        self.file(file).write(at, &value.to_le_bytes())?;
        self.files().store(Word { file, at }, value);
        Ok(())
    }

    /// Before a run: maps `pages` pages of a file at `va` of `space`, from its page `first` on; `how` is SHARED or nothing.
    ///
    /// # Errors
    /// As [`MmRef::mmap_file`].
    pub fn map_file(
        &self,
        space: &MmRef,
        va: VirtAddr,
        pages: u64,
        file: usize,
        first: u32,
        how: MapFlags,
    ) -> Result<(), MmError> {
        let flags = MapFlags::FIXED | how;
        let len = pages * PAGE_SIZE;
        space.mmap_file(Some(va), len, Prot::RW, flags, &self.file(file), first)?;
        if !how.has(MapFlags::SHARED) {
            return Ok(());
        }
        self.files().map(Area {
            mm: space.id(),
            start: va.0,
            end: va.0 + len,
            file,
            from: u64::from(first) * PAGE_SIZE,
        });
        Ok(())
    }

    /// The running actor writes `value` at byte `at` (8-byte aligned) of a file, by the file's own operation.
    ///
    /// # Errors
    /// As [`Opener::write`].
    pub fn write_file(&self, file: usize, at: u64, value: u64) -> Result<(), MmError> {
        let word = Word { file, at };
        point::touch(AccessKind::Read, given_up);
        point::touch(AccessKind::Write, || word.object());
        self.files().begin(word, value);
        self.file(file).write(at, &value.to_le_bytes())?;
        point::touch(AccessKind::Write, || word.object());
        self.files().end(word);
        Ok(())
    }

    /// The running actor makes a file durable. What was stored before is held against the disk, as it would be after a
    /// loss of power.
    ///
    /// # Errors
    /// As [`Opener::sync`].
    pub fn sync_file(&self, file: usize) -> Result<(), MmError> {
        let promise = self.promise(file);
        self.file(file).sync()?;
        point::touch(AccessKind::Read, || DATA.object());
        if let Some(text) = self.broken(&promise) {
            self.violated("promise", text);
        }
        Ok(())
    }

    /// The running actor cuts a file off after `size` bytes. What was stored beyond, and will be, is forgotten.
    ///
    /// # Errors
    /// As [`Opener::truncate`].
    pub fn truncate_file(&self, file: usize, size: u64) -> Result<(), MmError> {
        self.give_up(file, size..u64::MAX);
        self.file(file).truncate(size)
    }

    /// The running actor makes a hole in a file. What was stored there, and will be, is forgotten.
    ///
    /// # Errors
    /// As [`Opener::punch`].
    pub fn punch_file(&self, file: usize, from: u64, len: u64) -> Result<(), MmError> {
        self.give_up(file, from..from + len);
        self.file(file).punch(from, len)
    }

    fn give_up(&self, file: usize, bytes: Range<u64>) {
        point::touch(AccessKind::Write, given_up);
        self.files().give_up(file, bytes);
    }

    fn promise(&self, file: usize) -> Promise {
        point::touch(AccessKind::Read, given_up);
        let files = self.files();
        let of_file = files.words.iter().filter(|h| h.word.file == file);
        let words: Vec<_> = of_file.map(|h| (h.word, h.done)).collect();
        drop(files);
        for (word, _) in &words {
            point::touch(AccessKind::Read, || word.object());
        }
        Promise(words)
    }

    /// What the promise says is on the disk, and is not.
    fn broken(&self, promise: &Promise) -> Option<String> {
        let files = self.files();
        promise.0.iter().find_map(|&(word, done)| {
            // What was given up meanwhile is not known any more.
            let h = files.words.iter().find(|h| h.word == word)?;
            let held = DATA.lasting_word(word.disk_page(), word.index());
            let place = held.and_then(|v| h.place(v)).map_or(0, |n| n + 1);
            (place < done).then(|| {
                format!(
                    "file {}, byte {:#x}: {:#x} was stored before the sync began, the disk holds {:#x}",
                    word.file,
                    word.at,
                    h.values[done - 1],
                    Maybe(held)
                )
            })
        })
    }

    /// At the end: a file has nothing in memory beyond its end, and each word is as last stored, on the disk too where memory is clean.
    ///
    /// # Errors
    /// The first that is not.
    pub(super) fn files_hold(&self) -> Result<(), String> {
        let files = self.files();
        for (file, opener) in &files.openers {
            let end = opener.size().div_ceil(PAGE_SIZE) as u32;
            if let Some(n) = (end..MOST_PAGES).find(|n| explore::file_page(opener, *n).is_some()) {
                return Err(format!(
                    "file {file} has {end} pages, page {n} is in memory"
                ));
            }
        }
        for h in files.words.iter().filter(|h| h.done > 0) {
            let Some((_, opener)) = files.openers.iter().find(|o| o.0 == h.word.file) else {
                continue;
            };
            one_word(opener, h)?;
        }
        Ok(())
    }

    /// No file is open any more, and none of their pages is in memory, unless somebody has not let go of it.
    pub(super) fn close_files(&self) {
        let old = core::mem::replace(&mut *self.files(), Files::new());
        for (_, opener) in old.openers {
            explore::discard(&opener);
        }
        explore::forget_closed();
    }
}

fn one_word(opener: &Opener, h: &History) -> Result<(), String> {
    let (word, last) = (h.word, h.values[h.done - 1]);
    let name = format!("file {}, byte {:#x}", word.file, word.at);
    let on_disk = DATA.word(word.disk_page(), word.index());
    let page = explore::file_page(opener, word.page());
    let Some(Content::Frame(pfn)) = page else {
        let held = match page {
            Some(Content::Slot(slot)) => SWAP.word(slot as usize, word.index()),
            _ => on_disk,
        };
        return match held {
            Some(v) if v == last => Ok(()),
            v => Err(format!(
                "{name}: the disk holds {:#x}, memory nothing, stored was {last:#x}",
                Maybe(v)
            )),
        };
    };
    let held = mm::explore::words(pfn)[word.index()].load(core::sync::atomic::Ordering::Relaxed);
    if held != last {
        return Err(format!(
            "{name}: its page holds {held:#x}, stored was {last:#x}"
        ));
    }
    let copy = match frame(pfn).private() {
        slot if frame(pfn).has(flag::SWAPCACHE) => SWAP.word(slot as usize - 1, word.index()),
        _ => on_disk,
    };
    if frame(pfn).flags() & (flag::DIRTY | flag::WRITEBACK) == 0 && copy != Some(last) {
        return Err(format!(
            "{name}: stored was {last:#x}, its page is clean, the disk holds {:#x}",
            Maybe(copy)
        ));
    }
    Ok(())
}

/// Locked for a moment, in which the CPU's actor is at no point.
pub(super) struct Locked<'a> {
    files: spin::MutexGuard<'a, Files>,
    _aside: Aside,
}

impl<'a> Locked<'a> {
    pub(super) fn new(files: &'a spin::Mutex<Files>) -> Self {
        let aside = Aside::begin();
        Self {
            files: files.lock(),
            _aside: aside,
        }
    }
}

impl core::ops::Deref for Locked<'_> {
    type Target = Files;
    fn deref(&self) -> &Files {
        &self.files
    }
}

impl core::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Files {
        &mut self.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: Word = Word {
        file: 0,
        at: 4096 + 16,
    };

    #[test]
    fn what_is_on_its_way_may_be_there_or_not() {
        let mut f = Files::new();
        assert!(f.found(WORD, 9).is_none(), "nothing is known");
        f.begin(WORD, 1);
        assert!(f.found(WORD, 9).is_none(), "what it held is not known");
        f.end(WORD);
        assert!(f.found(WORD, 9).is_some() && f.found(WORD, 1).is_none());
        f.begin(WORD, 2);
        assert!(f.found(WORD, 1).is_none() && f.found(WORD, 2).is_none());
        f.end(WORD);
        assert!(f.found(WORD, 1).is_some());
    }

    #[test]
    fn a_word_is_the_same_wherever_it_is_mapped() {
        let mut f = Files::new();
        let area = |mm, start, from| Area {
            mm,
            start,
            end: start + 2 * PAGE_SIZE,
            file: 0,
            from,
        };
        f.areas.push(area(1, 0x10000, 0));
        f.areas.push(area(2, 0x50000, PAGE_SIZE));
        assert_eq!(f.mapped(1, 0x11010), Some(WORD));
        assert_eq!(f.mapped(2, 0x50010), Some(WORD));
        assert_eq!(f.mapped(2, 0x11010), None);
        assert_eq!((WORD.page(), WORD.index(), WORD.disk_page()), (1, 2, 1));
    }
}
