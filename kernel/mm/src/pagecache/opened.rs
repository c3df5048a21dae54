//! Open files: a file in somebody's use, with what was told to them of errors and where they read
//! (Linux: `struct file`).
//!
//! An [`OpenFile`] is counted: the handle that was opened is one holder, each area that maps it
//! another. Its own state lies under `Rank::OpenFile`, a leaf that is held for a few instructions.
//! Opening sleeps, and the last close of a file in memory, which empties it: never dropped under a
//! lock that spins, or a folio lock.

use super::layout::Kind;
use super::{File, Pin, file};
use crate::arena::{Arena, Slot};
use crate::error::MmError;
use algo::errseq::Told;
use algo::ondemand::{Ondemand, Plan};
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;
use sync::point::{self, AccessKind, class};
use sync::{Rank, SpinLock};

/// What belongs to one opening of a file.
struct Record {
    link: AtomicU32,
    holders: AtomicU32,
    /// The file, which the record pins.
    file: AtomicU32,
    state: SpinLock<State>,
}

struct State {
    /// How much of the file's error sequence was told.
    told: Told,
    ahead: Ondemand,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            link: AtomicU32::new(0),
            holders: AtomicU32::new(0),
            file: AtomicU32::new(0),
            state: SpinLock::new(
                Rank::OpenFile,
                State {
                    told: Told::from_raw(0),
                    ahead: Ondemand::new(),
                },
            ),
        }
    }
}

impl Record {
    /// For the explorer: the count of holders changes.
    #[inline(always)]
    fn counting(&self) {
        point::touch(AccessKind::Write, || {
            point::object_at(class::COUNT, &self.holders)
        });
    }
}

impl Slot for Record {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

static OPENED: Arena<Record> = Arena::new();
static RELEASE: Once<fn(u32)> = Once::new();

/// `f` empties a file in memory, given by its id, that nobody has open any more. Called once, at
/// boot.
pub(crate) fn set_release(f: fn(u32)) {
    RELEASE.call_once(|| f);
}

/// The pool of open files, for the explorer.
#[cfg(feature = "lab")]
pub(crate) fn pool() -> &'static Arena<impl Slot> {
    &OPENED
}

/// A counted handle.
pub(crate) struct OpenFile(u32);

impl OpenFile {
    /// Opens the pinned file. Allocates.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub(crate) fn new(pin: Pin) -> Result<Self, MmError> {
        let id = OPENED.alloc()?;
        let record = OPENED.get(id);
        *record.state.lock() = State {
            told: pin.file().errors.sample(),
            ahead: Ondemand::new(),
        };
        record.holders.store(1, Ordering::Relaxed);
        pin.file().opened.fetch_add(1, Ordering::Relaxed);
        record.file.store(pin.0, Ordering::Relaxed);
        core::mem::forget(pin);
        Ok(Self(id))
    }

    /// The file, for another opening of it.
    pub(crate) fn pin(&self) -> Pin {
        Pin::again(self.file_id())
    }

    /// Another handle.
    pub(crate) fn share(&self) -> Self {
        Self::share_id(self.0)
    }

    /// Another handle on an open file that somebody holds.
    pub(crate) fn share_id(id: u32) -> Self {
        let record = OPENED.get(id);
        record.counting();
        record.holders.fetch_add(1, Ordering::Relaxed);
        Self(id)
    }

    /// Hands the count to whoever keeps the number; see [`OpenFile::from_id`].
    pub(crate) fn into_id(self) -> u32 {
        let id = self.0;
        core::mem::forget(self);
        id
    }

    /// Takes charge of a count that the caller has.
    pub(crate) fn from_id(id: u32) -> Self {
        Self(id)
    }

    /// The file's id.
    pub(crate) fn file_id(&self) -> u32 {
        file_id(self.0)
    }

    /// The file.
    pub(crate) fn file(&self) -> &'static File {
        file(self.file_id())
    }

    /// What has failed since this opening was last told.
    ///
    /// # Errors
    /// [`MmError::Io`], once.
    pub(crate) fn tell(&self) -> Result<(), MmError> {
        let f = self.file();
        f.touch(AccessKind::Write, &f.errors);
        let mut state = OPENED.get(self.0).state.lock();
        match f.errors.check_and_advance(&mut state.told) {
            None => Ok(()),
            Some(_) => Err(MmError::Io),
        }
    }

    /// Readahead: a read of pages `first` to `last` begins. True when the one before ended in page
    /// `first`.
    pub(crate) fn begin(&self, first: u32, last: u32) -> bool {
        OPENED.get(self.0).state.lock().ahead.begin(first, last)
    }

    /// Readahead: page `at` is in the cache; what to read beside.
    pub(crate) fn hit(&self, at: u32, pages: u32) -> Option<Plan> {
        OPENED.get(self.0).state.lock().ahead.hit(at, pages)
    }

    /// Readahead: page `at` of a read that ends with page `last` is not in the cache; what to read.
    pub(crate) fn miss(&self, at: u32, last: u32, pages: u32) -> Plan {
        OPENED.get(self.0).state.lock().ahead.miss(at, last, pages)
    }
}

/// The id of the file that `opened`, of which the caller has a count, is an opening of.
pub(crate) fn file_id(opened: u32) -> u32 {
    OPENED.get(opened).file.load(Ordering::Relaxed)
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let record = OPENED.get(self.0);
        record.counting();
        // AcqRel: the last holder's end comes after every other's use.
        if record.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let pin = Pin(record.file.load(Ordering::Relaxed));
            // AcqRel, as above: of the openings of one file.
            let last = pin.file().opened.fetch_sub(1, Ordering::AcqRel) == 1;
            if last
                && pin.file().layout.kind() == Kind::Memory
                && let Some(release) = RELEASE.get()
            {
                release(pin.id());
            }
            drop(pin);
            OPENED.free(self.0);
        }
    }
}
