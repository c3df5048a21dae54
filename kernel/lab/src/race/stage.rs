//! What the actors of a scenario share: address spaces, words of their own, and what was stored where.
//!
//! Every store of an actor is remembered by address space and address, so that every load, and the state at the end, can
//! be held against it: memory that nobody gave up holds what was last stored to it.
//!
//! Locks: spinning leaves of its own that no actor is stopped in. Never sleeps, except for the fault of an access.

use alloc::format;
use alloc::string::String;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

use arch::upcall::{Access, FaultError};
use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::pt::walk::HeldToWrite;
use mm::{HasContent, MmError, MmRef};
use sync::point::{self, AccessKind, Aside, PointKind, Quiet, class, object};

use super::engine::{ENGINE, tlb_object};
use super::files::{self, Files, Word};
use super::model::{Fate, Model, Stored};
use super::oracles;
use super::shadow::Outcome;

/// Address spaces on a stage.
pub const SPACES: usize = 4;
/// Words that a scenario may use as it likes.
pub const WORDS: usize = 16;

/// A handle on an address space of the stage. That it is taken and given back is no part of what is explored.
pub struct Space(Option<MmRef>);

impl Deref for Space {
    type Target = MmRef;
    fn deref(&self) -> &MmRef {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _quiet = Quiet::begin();
        self.0 = None;
    }
}

/// What was stored, locked: meanwhile the CPU's actor is at no point.
struct Remembered<'a> {
    model: spin::MutexGuard<'a, Model>,
    _aside: Aside,
}

impl Deref for Remembered<'_> {
    type Target = Model;
    fn deref(&self) -> &Model {
        &self.model
    }
}

impl DerefMut for Remembered<'_> {
    fn deref_mut(&mut self) -> &mut Model {
        &mut self.model
    }
}

/// See the module text.
pub struct Stage {
    spaces: [spin::Mutex<Option<MmRef>>; SPACES],
    words: [AtomicU64; WORDS],
    model: spin::Mutex<Model>,
    files: spin::Mutex<Files>,
    seed: AtomicU64,
}

pub(super) static STAGE: Stage = Stage {
    spaces: [const { spin::Mutex::new(None) }; SPACES],
    words: [const { AtomicU64::new(0) }; WORDS],
    model: spin::Mutex::new(Model::new()),
    files: spin::Mutex::new(Files::new()),
    seed: AtomicU64::new(0),
};

impl Stage {
    /// Puts `space` at place `i`; the explorer drops it when the run is over.
    pub fn put(&self, i: usize, space: MmRef) {
        let before = self.spaces[i].lock().replace(space);
        assert!(before.is_none(), "place {i} of the stage is taken");
    }

    /// The address space at place `i`.
    ///
    /// # Panics
    /// If there is none.
    pub fn space(&self, i: usize) -> Space {
        self.try_space(i).expect("the scenario put a space here")
    }

    /// The address space at place `i`, if there is one.
    pub fn try_space(&self, i: usize) -> Option<Space> {
        let _quiet = Quiet::begin();
        self.spaces[i].lock().clone().map(|mm| Space(Some(mm)))
    }

    /// What the schedule says of all that is random in the scenario.
    pub fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }

    pub(super) fn set_seed(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }

    /// A word of the scenario's own; 0 at the start of each run. An actor has to say that it touches it: see
    /// [`Stage::get`] and [`Stage::set`], which do.
    pub fn word(&self, i: usize) -> &AtomicU64 {
        &self.words[i]
    }

    /// The scenario's own word `i`.
    pub fn get(&self, i: usize) -> u64 {
        point::touch(AccessKind::Read, || object(class::OWN, i as u64));
        self.words[i].load(Ordering::Relaxed)
    }

    /// Sets the scenario's own word `i`.
    pub fn set(&self, i: usize, value: u64) {
        point::touch(AccessKind::Write, || object(class::OWN, i as u64));
        self.words[i].store(value, Ordering::Relaxed);
    }

    /// Something is wrong: the run ends here, with this verdict. The first one counts.
    pub fn violated(&self, oracle: &'static str, detail: String) {
        ENGINE.violated(oracle, detail);
    }

    /// The run is being given up: an actor that goes round in a loop leaves it.
    pub fn ending(&self) -> bool {
        ENGINE.is_ending()
    }

    /// Before a run: the space at place `i` holds `value` at `va`, by the fault path, but in nobody's TLB.
    ///
    /// # Errors
    /// [`MmError::NotMapped`] when the fault fails.
    pub fn fill(&self, i: usize, va: VirtAddr, value: u64) -> Result<(), MmError> {
        let space = self.space(i);
        space
            .fault(va, Access::Write)
            .map_err(|_| MmError::NotMapped)?;
        let pfn = self.frame_of(i, va).ok_or(MmError::NotMapped)?;
        mm::explore::words(pfn)[(va.0 as usize & 0xfff) / 8].store(value, Ordering::Relaxed);
        self.model().store(space.id(), va.0, value);
        Ok(())
    }

    /// The running actor stores `value` through a reference that the lockless walk gave it at `va`
    /// in the space at place `i`: a step, past the MMU.
    pub fn store_through(&self, i: usize, held: &HeldToWrite<'_>, va: VirtAddr, value: u64) {
        point::at(PointKind::UserWrite, AccessKind::Write, || {
            object(class::CONTENT, u64::from(held.frame_number().0))
        });
        held.words()[(va.0 as usize & 0xfff) / 8].store(value, Ordering::Relaxed);
        let mm = self.space(i).id();
        touch_word(AccessKind::Write, mm, va);
        self.model().store(mm, va.0, value);
    }

    /// The frame that is mapped at `va` in the space at place `i`.
    pub fn frame_of(&self, i: usize, va: VirtAddr) -> Option<Pfn> {
        let space = self.try_space(i)?;
        let entry = oracles::entry_at(&space, va)?;
        entry.is_mapped().then(|| entry.pfn())
    }

    /// As [`Stage::frame_of`], by an actor: a look from outside that belongs to its step.
    pub fn glance(&self, i: usize, va: VirtAddr) -> Option<Pfn> {
        let _quiet = Quiet::begin();
        self.frame_of(i, va)
    }

    /// The word at `va` in the space at place `i`, wherever it is: no access of an actor, but a look from outside.
    pub fn peek(&self, i: usize, va: VirtAddr) -> Option<u64> {
        let space = self.try_space(i)?;
        let _quiet = Quiet::begin();
        if let Some(pfn) = self.frame_of(i, va) {
            point::touch(AccessKind::Read, || {
                object(class::CONTENT, u64::from(pfn.0))
            });
        }
        oracles::word_at(&space, va)
    }

    /// The pages at `va` in the space at place `i` may be given up by an actor: from now on they hold what was
    /// stored, or 0.
    pub fn volatile(&self, i: usize, va: VirtAddr, pages: u64) {
        self.range(i, va, pages, Fate::Volatile);
    }

    /// Actor `me` gives the pages at `va` in the space at place `i` up, with `op`. Others may store
    /// there meanwhile.
    pub fn giving_up<R>(
        &self,
        me: usize,
        i: usize,
        va: VirtAddr,
        pages: u64,
        op: impl FnOnce() -> R,
    ) -> R {
        point::touch(AccessKind::Write, || object(class::OWN, MODEL));
        let mm = self.space(i).id();
        let end = va.0 + pages * PAGE_SIZE;
        self.model().giving_up(me, mm, va.0, end);
        let r = op();
        point::touch(AccessKind::Write, || object(class::OWN, MODEL));
        self.model().gave_up(me);
        r
    }

    /// Nothing is known any more of the pages at `va` in the space at place `i`.
    pub fn forget(&self, i: usize, va: VirtAddr, pages: u64) {
        self.range(i, va, pages, Fate::Unknown);
    }

    fn range(&self, i: usize, va: VirtAddr, pages: u64, fate: Fate) {
        point::touch(AccessKind::Write, || object(class::OWN, MODEL));
        let mm = self.space(i).id();
        let end = va.0 + pages * PAGE_SIZE;
        self.model().range(mm, va.0, end, fate);
    }

    /// The word at `va` holds what was stored from now on.
    pub fn lasting(&self, i: usize, va: VirtAddr) {
        point::touch(AccessKind::Write, || object(class::OWN, MODEL));
        let mm = self.space(i).id();
        self.model().lasting(mm, va.0);
    }

    /// The space at place `child` is a copy of that at place `parent`, as it was at some moment when nobody stored.
    pub fn forked(&self, parent: usize, child: usize) {
        point::touch(AccessKind::Write, || object(class::OWN, MODEL));
        let (parent, child) = (self.space(parent).id(), self.space(child).id());
        self.model().fork(parent, child);
        self.files().fork(parent, child);
    }

    /// The running actor loads the word at `va` (8-byte aligned) in its address space: a step, and those of the
    /// fault if there is one. What it reads is held against what was stored.
    ///
    /// # Errors
    /// What the access failed with.
    pub fn load(&self, va: VirtAddr) -> Result<u64, FaultError> {
        let value = access(va, None)?;
        let mm = space_of_current();
        if let Some(word) = self.file_word(AccessKind::Read, mm, va) {
            let wrong = self.files().found(word, value);
            if let Some(text) = wrong {
                self.violated("content", text);
            }
            return Ok(value);
        }
        touch_word(AccessKind::Read, mm, va);
        let known = self.model().find(mm, va.0);
        if let Some(s) = known.filter(|s| !s.allows(value)) {
            let text = format!("{:#x} reads {value:#x}, stored was {:#x}", va.0, s.value);
            self.violated("content", text);
        }
        Ok(value)
    }

    /// The running actor stores `value` at `va` (8-byte aligned); see [`Stage::load`].
    ///
    /// # Errors
    /// What the access failed with.
    pub fn store(&self, va: VirtAddr, value: u64) -> Result<(), FaultError> {
        access(va, Some(value))?;
        self.stored(va, value);
        Ok(())
    }

    /// As [`Stage::store`], where the MMU allows it as things are: one step, without a fault. False where it does not.
    pub fn try_store(&self, va: VirtAddr, value: u64) -> bool {
        let stored = matches!(one_access(va, Some(value)), Outcome::Done(_));
        if stored {
            self.stored(va, value);
        }
        stored
    }

    fn stored(&self, va: VirtAddr, value: u64) {
        let mm = space_of_current();
        if let Some(word) = self.file_word(AccessKind::Write, mm, va) {
            return self.files().store(word, value);
        }
        touch_word(AccessKind::Write, mm, va);
        self.model().store(mm, va.0, value);
    }

    /// The word of a file that is mapped shared at `va`, which the step touches.
    fn file_word(&self, access: AccessKind, mm: u32, va: VirtAddr) -> Option<Word> {
        let word = self.files().mapped(mm, va.0)?;
        point::touch(AccessKind::Read, files::given_up);
        point::touch(access, || word.object());
        Some(word)
    }

    pub(super) fn files(&self) -> files::Locked<'_> {
        files::Locked::new(&self.files)
    }

    fn model(&self) -> Remembered<'_> {
        let aside = Aside::begin();
        Remembered {
            model: self.model.lock(),
            _aside: aside,
        }
    }

    /// Every word that was stored to.
    pub(super) fn each_stored(&self, mut f: impl FnMut(&Stored)) {
        self.model().words().iter().for_each(&mut f);
    }

    /// Every address space on it, once.
    pub(super) fn each_space(&self, mut f: impl FnMut(&MmRef)) {
        let mut seen = [None; SPACES];
        for (i, place) in self.spaces.iter().enumerate() {
            if let Some(space) = place.lock().as_ref()
                && !seen.contains(&Some(space.id()))
            {
                seen[i] = Some(space.id());
                f(space);
            }
        }
    }

    /// Nothing is on it any more. Drops the address spaces.
    pub(super) fn clear(&self) {
        for place in &self.spaces {
            let space = place.lock().take();
            drop(space);
        }
        self.close_files();
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
        self.model().clear();
    }
}

/// What is remembered of the stores, as a whole, in footprints.
const MODEL: u64 = 1 << 32;

/// The step touches what is remembered of the word at `va`.
fn touch_word(access: AccessKind, mm: u32, va: VirtAddr) {
    point::touch(AccessKind::Read, || object(class::OWN, MODEL));
    point::touch(access, || {
        object(class::OWN, MODEL | va.0 ^ u64::from(mm) << 40)
    });
}

/// The address space that the running thread has adopted: its id.
fn space_of_current() -> u32 {
    (arch::thread::adopted() as u32).wrapping_sub(1)
}

/// One access through the MMU of the running actor's CPU, and the fault path as often as it takes.
fn access(va: VirtAddr, store: Option<u64>) -> Result<u64, FaultError> {
    loop {
        match one_access(va, store) {
            Outcome::Done(value) => return Ok(value),
            Outcome::Fault => mm::fault::current(va, wants(store))?,
        }
    }
}

fn wants(store: Option<u64>) -> Access {
    match store {
        Some(_) => Access::Write,
        None => Access::Read,
    }
}

/// One access, or what keeps the MMU from it.
fn one_access(va: VirtAddr, store: Option<u64>) -> Outcome {
    let kind = match store {
        Some(_) => PointKind::UserWrite,
        None => PointKind::UserRead,
    };
    point::at(kind, AccessKind::Write, tlb_object);
    ENGINE.user_access(va, store)
}
