//! The files of a scenario: openings on the stage, what actors do with them, and what a sync
//! promises.
//!
//! Locks: spinning leaves of its own that no actor is stopped in. Sleeps where the operation does.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch::{PAGE_SIZE, VirtAddr};
use mm::file::{Extent, Opener};
use mm::{MapFlags, MmError, MmRef, Prot, Sync, explore};
use sync::point::{self, AccessKind, Aside, class, object};

use super::disk::{self, DATA, DATA_FIRST, PAGES, SWAP};
use super::engine::ENGINE;
use super::file_words::{Change, FileWord, Files, MOST_PAGES, Size, Wrote};
use super::held::Moment;
use super::model::Fresh;
use super::openings::Failures;
use super::stage::Stage;
use crate::shown::Maybe;

/// Places for files on a stage.
const FILES: usize = 2;

impl FileWord {
    /// What is remembered of its page, in footprints.
    pub(super) fn object(self) -> u32 {
        object(
            class::OWN,
            1 << 33 | (self.file as u64) << 34 | u64::from(self.page()),
        )
    }
}

/// What operations do to a file, in footprints.
pub(super) fn file_object(file: usize) -> u32 {
    object(class::OWN, 1 << 36 | file as u64)
}

/// What of a file had been stored when a sync began: the moment, and the words.
struct Promise(Moment, Vec<FileWord>);

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
        self.files().open(file, opener, false);
        Ok(())
    }

    /// Before a run: as [`Stage::open_file`], and others find the file by its extent of the disk.
    ///
    /// # Errors
    /// As [`mm::file::open`].
    pub fn open_extent(&self, file: usize, pages: u32) -> Result<(), MmError> {
        let opener = mm::file::open(DATA_FIRST + file as u32 * MOST_PAGES, pages)?;
        self.files().open(file, opener, false);
        Ok(())
    }

    /// Before a run: there is a file in memory at place `file`, of `pages` pages.
    ///
    /// # Errors
    /// As [`mm::file::shmem`].
    pub fn open_shmem(&self, file: usize, pages: u32) -> Result<(), MmError> {
        let opener = mm::file::shmem(u64::from(pages) * PAGE_SIZE)?;
        self.files().open(file, opener, true);
        Ok(())
    }

    /// Before a run: actor `me` has an opening of the file at place `file` for itself.
    ///
    /// # Errors
    /// As [`Opener::again`].
    pub fn open_again(&self, file: usize, me: usize) -> Result<(), MmError> {
        let opener = Arc::new(self.file(file).again()?);
        self.files().openings.add(file, Some(me), opener);
        Ok(())
    }

    /// The file at place `file`, in the opening that the running actor uses.
    ///
    /// # Panics
    /// If there is none.
    pub fn file(&self, file: usize) -> Arc<Opener> {
        self.files().openings.of(file, ENGINE.running())
    }

    /// Before a run: the word at byte `at` of a file holds `value`, on the disk.
    pub fn on_disk(&self, file: usize, at: u64, value: u64) {
        let word = FileWord { file, at };
        DATA.set_word(word.disk_page(), word.index(), value);
        self.files().begin_with(word, value);
    }

    /// The running actor looks past memory at the disk's word at byte `at` of a file: a step.
    pub fn look_at_disk(&self, file: usize, at: u64) -> Option<u64> {
        let word = FileWord { file, at };
        DATA.look(word.disk_page(), word.index())
    }

    /// Requests that the disks have failed in this run.
    pub fn failed_requests(&self) -> usize {
        disk::failed_requests()
    }

    /// Writes of the file at place `file` that have failed in this run.
    pub fn failed_writes(&self, file: usize) -> usize {
        failures(file).writes
    }

    /// Writes to swap that have failed in this run.
    pub fn failed_swap_writes(&self) -> usize {
        SWAP.failed_writes(&(0..PAGES as u64))
    }

    /// Before a run: the word at byte `at` of a file holds `value`, in memory.
    ///
    /// # Errors
    /// As [`Opener::write`].
    pub fn fill_file(&self, file: usize, at: u64, value: u64) -> Result<(), MmError> {
        self.file(file).write(at, &value.to_le_bytes())?;
        self.files().begin_with(FileWord { file, at }, value);
        Ok(())
    }

    /// Maps `pages` pages of a file at `va` of `space`, from its page `first` on, in place of what
    /// is there; `how` is SHARED or nothing.
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
        let fresh = if how.has(MapFlags::SHARED) {
            Fresh::Shared(file, first)
        } else {
            Fresh::Private(file, first)
        };
        let (flags, len) = (MapFlags::FIXED | how, pages * PAGE_SIZE);
        let opener = self.file(file);
        self.remapping(space, va, pages, fresh, || {
            space.mmap_file(Some(va), len, Prot::RW, flags, &opener, first)
        })?;
        Ok(())
    }

    /// The running actor writes `value` at byte `at` of a file, by the file's own operation. Eight
    /// bytes; how many of them it has written.
    ///
    /// # Errors
    /// As [`Opener::write`].
    pub fn write_file(&self, file: usize, at: u64, value: u64) -> Result<usize, MmError> {
        let end = at + 8;
        let touched = |access| {
            point::touch(access, || file_object(file));
            for at in [at, end - 1] {
                point::touch(AccessKind::Write, || FileWord { file, at }.object());
            }
        };
        // Where it may make the file longer, all that looks at its size depends on it.
        let access = || match least_of(&self.files().sizes(file)) < end {
            true => AccessKind::Write,
            false => AccessKind::Read,
        };
        let sizes = self.files().sizes(file);
        let (least, most) = (least_of(&sizes), self.files().largest_size(file));
        touched(access());
        let gap = (least < at).then(|| {
            self.files().begin(Change {
                file,
                bytes: least..at,
                data: None,
                drops: false,
                size: None,
            })
        });
        let token = self.files().begin(Change {
            file,
            bytes: at..end,
            data: Some(value),
            drops: false,
            // Also where it is long enough now: it may be cut off meanwhile.
            size: Some(Size::AtLeast(end)),
        });
        let wrote = self.file(file).write(at, &value.to_le_bytes());
        touched(access());
        let mut files = self.files();
        let how = match wrote {
            Ok(_) => Wrote::All,
            Err(_) => Wrote::Perhaps,
        };
        if let Some(gap) = gap {
            let sure = least == most && wrote.is_ok();
            let how = if sure { Wrote::All } else { Wrote::Perhaps };
            files.finish(&gap, least..at, how);
        }
        let n = wrote.map_or(8, |n| n as u64);
        files.finish(&token, at..at + n, how);
        drop(files);
        wrote
    }

    /// The running actor reads eight bytes at byte `at` of a file, by the file's own operation. How
    /// many there are.
    ///
    /// # Errors
    /// As [`Opener::read`].
    pub fn read_file(&self, file: usize, at: u64) -> Result<usize, MmError> {
        let words = || {
            [at & !7, (at + 7) & !7]
                .into_iter()
                .map(|at| FileWord { file, at })
        };
        let touched = || {
            point::touch(AccessKind::Read, || file_object(file));
            words().for_each(|w| point::touch(AccessKind::Read, || w.object()));
        };
        touched();
        let began = self.files().moment();
        let mut bytes = [0; 8];
        let n = self.file(file).read(at, &mut bytes)?;
        touched();
        let files = self.files();
        for word in words() {
            let is_of_it = |i: &usize| word.at <= at + *i as u64 && at + (*i as u64) < word.at + 8;
            let of_it: Vec<usize> = (0..n).filter(is_of_it).collect();
            let fits = |v: u64| {
                let v = v.to_le_bytes();
                of_it
                    .iter()
                    .all(|&i| v[(at + i as u64 - word.at) as usize] == bytes[i])
            };
            let mut values = files.values_since(word, began).into_iter();
            if !of_it.is_empty() && !files.is_nobodys(word) && !values.any(fits) {
                let text = format!(
                    "file {file}, byte {at:#x}: {n} bytes of {:#x} were read, stored was {}",
                    u64::from_le_bytes(bytes),
                    files.expected(word)
                );
                self.violated("content", text);
            }
        }
        Ok(n)
    }

    /// The running actor makes a file durable. What was stored before is held against the disk, as
    /// it would be after a loss of power.
    ///
    /// # Errors
    /// As [`Opener::sync`].
    pub fn sync_file(&self, file: usize) -> Result<(), MmError> {
        let promise = self.promise(file);
        let before = failures(file);
        let done = self.file(file).sync();
        let now = failures(file);
        let mut files = self.files();
        let told = files.openings.told(file, ENGINE.running());
        let wrong = told.and_then(|t| t.sync(before, now, done.is_err()));
        drop(files);
        if let Some(text) = wrong {
            self.violated("promise", text);
        }
        done?;
        DATA.touch_lasting();
        point::touch(AccessKind::Read, || file_object(file));
        if let Some(text) = self.broken(&promise) {
            self.violated("promise", text);
        }
        Ok(())
    }

    /// The running actor makes what `pages` pages at `va` of `space` show of files durable, or
    /// begins to. Of those that show the same meanwhile it is held against the disk.
    ///
    /// # Errors
    /// As [`MmRef::msync`].
    pub fn msync(&self, space: &MmRef, va: VirtAddr, pages: u64, how: Sync) -> Result<(), MmError> {
        let (mm, first) = (space.id(), u64::from(va.page_index()));
        point::touch(AccessKind::Read, || super::stage::space_object(mm));
        let began = self.known_mut(|model, _| model.moment());
        let all: Vec<Promise> = (0..FILES).map(|file| self.promise(file)).collect();
        space.msync(va, pages * PAGE_SIZE, how)?;
        if how == Sync::Start {
            return Ok(());
        }
        DATA.touch_lasting();
        point::touch(AccessKind::Read, || super::stage::space_object(mm));
        let shown: Vec<(usize, u32)> = self.known(|model, _| {
            let each = first..first + pages;
            each.filter_map(|page| model.shares_since(mm, page, began))
                .collect()
        });
        for (file, Promise(moment, words)) in all.into_iter().enumerate() {
            point::touch(AccessKind::Read, || file_object(file));
            let is_shown = |w: &FileWord| shown.contains(&(file, w.page()));
            let words = words.into_iter().filter(is_shown).collect();
            if let Some(text) = self.broken(&Promise(moment, words)) {
                self.violated("promise", text);
            }
        }
        Ok(())
    }

    /// The running actor cuts a file off after `size` bytes, or makes it longer.
    ///
    /// # Errors
    /// As [`Opener::truncate`].
    pub fn truncate_file(&self, file: usize, size: u64) -> Result<(), MmError> {
        let sizes = self.files().sizes(file);
        let from = match sizes[..] {
            // What lay behind the old end was nobody's.
            [old] => size.min(old),
            _ => size,
        };
        let first = size.div_ceil(PAGE_SIZE) as u32;
        let copies = self.giving_copies_up(file, first);
        let done = self.changing(
            Change {
                file,
                bytes: from..u64::MAX,
                data: None,
                drops: true,
                size: Some(Size::Is(size)),
            },
            || self.file(file).truncate(size),
        );
        self.gave_up((file, first), &copies, done.is_ok());
        done
    }

    /// The running actor makes a hole in a file.
    ///
    /// # Errors
    /// As [`Opener::punch`].
    pub fn punch_file(&self, file: usize, from: u64, len: u64) -> Result<(), MmError> {
        self.changing(
            Change {
                file,
                bytes: from..from + len,
                data: None,
                drops: true,
                size: None,
            },
            || self.file(file).punch(from, len),
        )
    }

    fn changing(
        &self,
        change: Change,
        op: impl FnOnce() -> Result<(), MmError>,
    ) -> Result<(), MmError> {
        let (file, bytes) = (change.file, change.bytes.clone());
        point::touch(AccessKind::Write, || file_object(file));
        let token = self.files().begin(change);
        let done = op();
        point::touch(AccessKind::Write, || file_object(file));
        let wrote = match done {
            Ok(()) => Wrote::All,
            Err(_) => Wrote::Perhaps,
        };
        self.files().finish(&token, bytes, wrote);
        done
    }

    fn promise(&self, file: usize) -> Promise {
        point::touch(AccessKind::Read, || file_object(file));
        let mut files = self.files();
        let moment = files.moment();
        let words: Vec<FileWord> = files.known(file).collect();
        drop(files);
        for word in &words {
            point::touch(AccessKind::Read, || word.object());
        }
        Promise(moment, words)
    }

    /// What the promise says is on the disk, and is not.
    fn broken(&self, Promise(began, words): &Promise) -> Option<String> {
        let files = self.files();
        let on_disk = |w: &&FileWord| !files.is_in_memory(w.file);
        words.iter().filter(on_disk).find_map(|&word| {
            // What is behind the end is on no disk, nor was what has been.
            let sizes = files.sizes_since(word.file, *began);
            if sizes.into_iter().any(|size| word.at + 8 > size) {
                return None;
            }
            let held = DATA.lasting_word(word.disk_page(), word.index());
            let may_be = files.values_since(word, *began);
            (!held.is_some_and(|v| may_be.contains(&v))).then(|| {
                format!(
                    "file {}, byte {:#x}: {} was stored before the sync began, the disk holds {:#x}",
                    word.file,
                    word.at,
                    files.expected(word),
                    Maybe(held)
                )
            })
        })
    }

    pub(super) fn files(&self) -> Locked<'_> {
        Locked::new(self.files_cell())
    }

    /// No file is open any more, and none of their pages is in memory, unless somebody has not let
    /// go of it.
    pub(super) fn close_files(&self) {
        let old = core::mem::replace(&mut *self.files(), Files::new());
        for (_, opener) in old.openers() {
            explore::discard(opener);
        }
        drop(old);
        explore::forget_closed();
    }
}

/// What has failed so far of the file at place `file`.
fn failures(file: usize) -> Failures {
    let first = u64::from(file as u32 * MOST_PAGES);
    let pages = first..first + u64::from(MOST_PAGES);
    Failures {
        writes: DATA.failed_writes(&pages),
        flushes: DATA.failed_flushes(),
    }
}

fn least_of(sizes: &[u64]) -> u64 {
    sizes.iter().copied().min().unwrap_or(0)
}

/// Locked for a moment, in which the CPU's actor is at no point.
pub(super) struct Locked<'a> {
    files: spin::MutexGuard<'a, Files>,
    _aside: Aside,
}

impl<'a> Locked<'a> {
    fn new(files: &'a spin::Mutex<Files>) -> Self {
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
