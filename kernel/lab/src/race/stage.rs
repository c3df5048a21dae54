//! What the actors of a scenario share: address spaces, words of their own, and what was stored
//! where.
//!
//! Every store of an actor is remembered by address space and address, so that every load, and the
//! state at the end, can be held against it: memory that nobody gave up holds what was last stored
//! to it.
//!
//! Locks: spinning leaves of its own that no actor is stopped in. Never sleeps, except for the
//! fault of an access.

use alloc::format;
use alloc::string::String;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

use arch::upcall::{Access, FaultError};
use arch::{PAGE_SHIFT, Pfn, VirtAddr};
use mm::inspect::HeldToWrite;
use mm::{HasContent, MmError, MmRef};
use sync::point::{self, AccessKind, Aside, PointKind, Quiet, class, object};

use super::engine::{ENGINE, tlb_object};
use super::file_words::Files;
use super::files;
use super::model::Model;
use super::oracles;
use super::shadow::Outcome;

/// Address spaces on a stage.
pub const SPACES: usize = 8;
/// Words that a scenario may use as it likes.
pub const WORDS: usize = 16;

/// A handle on an address space of the stage. That it is taken and given back is no part of what is
/// explored.
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
pub(super) struct Remembered<'a> {
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

    /// A word of the scenario's own; 0 at the start of each run. An actor has to say that it
    /// touches it: see [`Stage::get`] and [`Stage::set`], which do.
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

    /// Adds 1 to the scenario's own word `i`: a step.
    pub fn tick(&self, i: usize) {
        point::at(PointKind::Count, AccessKind::Write, || {
            object(class::OWN, i as u64)
        });
        self.words[i].fetch_add(1, Ordering::Relaxed);
    }

    /// Something is wrong: the run ends here, with this verdict. The first one counts.
    pub fn violated(&self, oracle: &'static str, detail: String) {
        ENGINE.violated(oracle, detail);
    }

    /// The run is being given up: an actor that goes round in a loop leaves it.
    pub fn ending(&self) -> bool {
        ENGINE.is_ending()
    }

    /// Before a run: the space at place `i` holds `value` at `va`, by the fault path, but in
    /// nobody's TLB.
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
        let mut model = self.model();
        model.store(&mut self.files(), space.id(), va.0, value);
        Ok(())
    }

    /// The running actor stores `value` through a reference that the lockless walk gave it at `va`
    /// in the space at place `i`: a step, past the MMU.
    pub fn store_through(&self, i: usize, held: &HeldToWrite<'_>, va: VirtAddr, value: u64) {
        point::at(PointKind::UserWrite, AccessKind::Write, || {
            object(class::CONTENT, u64::from(held.frame_number().0))
        });
        held.words()[(va.0 as usize & 0xfff) / 8].store(value, Ordering::Relaxed);
        self.stored(self.space(i).id(), va, value);
    }

    /// The frame that is mapped at `va` in the space at place `i`.
    pub fn frame_of(&self, i: usize, va: VirtAddr) -> Option<Pfn> {
        let space = self.try_space(i)?;
        let entry = oracles::entry_at(&space, va)?;
        entry.is_mapped().then(|| entry.pfn())
    }

    /// The slot that the entry of `va` in the space at place `i` names.
    pub fn slot_of(&self, i: usize, va: VirtAddr) -> Option<u32> {
        let space = self.try_space(i)?;
        let entry = oracles::entry_at(&space, va)?;
        entry.is_swap().then(|| entry.swap_slot())
    }

    /// As [`Stage::frame_of`], by an actor: a look from outside that belongs to its step.
    pub fn glance(&self, i: usize, va: VirtAddr) -> Option<Pfn> {
        let _quiet = Quiet::begin();
        self.frame_of(i, va)
    }

    /// The word at `va` in the space at place `i`, wherever it is: no access of an actor, but a
    /// look from outside.
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

    /// Takes the space at place `i` off the stage: the caller's is its last handle but for those of
    /// threads in it.
    pub fn take(&self, i: usize) -> Option<MmRef> {
        let space = self.spaces[i].lock().take()?;
        point::touch(AccessKind::Write, || space_object(space.id()));
        self.model().forget_space(space.id());
        Some(space)
    }

    /// The space at place `child` is a copy of that at place `parent`, as it was at some moment
    /// when nobody stored.
    pub fn forked(&self, parent: usize, child: usize) {
        let (parent, child) = (self.space(parent).id(), self.space(child).id());
        for mm in [parent, child] {
            point::touch(AccessKind::Write, || space_object(mm));
        }
        self.model().fork(parent, child);
    }

    /// The running actor loads the word at `va` (8-byte aligned) in its address space: a step, and
    /// those of the fault if there is one. What it reads is held against what was stored.
    ///
    /// # Errors
    /// What the access failed with.
    pub fn load(&self, va: VirtAddr) -> Result<u64, FaultError> {
        let (value, pfn) = access(va, None)?;
        let mm = space_of_current();
        self.touch_word(AccessKind::Read, mm, va);
        let mut model = self.model();
        let mut files = self.files();
        let wrong = if model.allows(&files, mm, va.0, value) {
            let held = mm::explore::words(pfn);
            let of = |i: usize| held[i].load(Ordering::Relaxed);
            model.wrong_in_page(&files, (mm, va.page_index().into()), of)
        } else {
            Some((va.0, value))
        };
        let Some((at, found)) = wrong else {
            model.seen(&mut files, mm, va.0, value);
            return Ok(value);
        };
        let expected = model.expected(&files, mm, at);
        drop((files, model));
        self.violated(
            "content",
            format!("{at:#x} reads {found:#x}, stored was {expected}"),
        );
        Ok(value)
    }

    /// The running actor stores `value` at `va` (8-byte aligned); see [`Stage::load`].
    ///
    /// # Errors
    /// What the access failed with.
    pub fn store(&self, va: VirtAddr, value: u64) -> Result<(), FaultError> {
        access(va, Some(value))?;
        self.stored(space_of_current(), va, value);
        Ok(())
    }

    /// As [`Stage::store`], where the MMU allows it as things are: one step, without a fault. False
    /// where it does not.
    pub fn try_store(&self, va: VirtAddr, value: u64) -> bool {
        let stored = matches!(one_access(va, Some(value)), Outcome::Done { .. });
        if stored {
            self.stored(space_of_current(), va, value);
        }
        stored
    }

    fn stored(&self, mm: u32, va: VirtAddr, value: u64) {
        self.touch_word(AccessKind::Write, mm, va);
        let mut model = self.model();
        let mut files = self.files();
        let nowhere = model.is_nothing(mm, va.0);
        model.store(&mut files, mm, va.0, value);
        drop((files, model));
        if nowhere {
            let text = format!("{:#x} takes {value:#x}, where nothing is mapped", va.0);
            self.violated("content", text);
        }
    }

    /// The step touches what is remembered of the page of `va`, and of the file that it shows.
    fn touch_word(&self, access: AccessKind, mm: u32, va: VirtAddr) {
        point::touch(AccessKind::Read, || space_object(mm));
        point::touch(access, || page_object(mm, va));
        let words = self.model().file_words(mm, va.0);
        for word in words {
            point::touch(AccessKind::Read, || files::file_object(word.file));
            point::touch(access, || word.object());
        }
    }

    pub(super) fn files_cell(&self) -> &spin::Mutex<Files> {
        &self.files
    }

    pub(super) fn model(&self) -> Remembered<'_> {
        let aside = Aside::begin();
        Remembered {
            model: self.model.lock(),
            _aside: aside,
        }
    }

    /// What is known of memory and of files, locked for a moment.
    pub(super) fn known_mut<R>(&self, f: impl FnOnce(&mut Model, &mut Files) -> R) -> R {
        let mut model = self.model();
        let mut files = self.files();
        f(&mut model, &mut files)
    }

    /// As [`Stage::known_mut`], for looking at.
    pub(super) fn known<R>(&self, f: impl FnOnce(&Model, &Files) -> R) -> R {
        self.known_mut(|model, files| f(model, files))
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

/// What is remembered of an address space as a whole, in footprints.
pub(super) fn space_object(mm: u32) -> u32 {
    object(class::OWN, 1 << 37 | u64::from(mm))
}

/// The same of the page of `va`.
fn page_object(mm: u32, va: VirtAddr) -> u32 {
    object(
        class::OWN,
        1 << 32 | va.0 >> PAGE_SHIFT ^ u64::from(mm) << 40,
    )
}

/// The address space that the running thread has adopted: its id.
fn space_of_current() -> u32 {
    (arch::thread::adopted() as u32).wrapping_sub(1)
}

/// One access through the MMU of the running actor's CPU, and the fault path as often as it takes:
/// the value, and the frame.
fn access(va: VirtAddr, store: Option<u64>) -> Result<(u64, Pfn), FaultError> {
    loop {
        match one_access(va, store) {
            Outcome::Done { value, pfn } => return Ok((value, pfn)),
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
