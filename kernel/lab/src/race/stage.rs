//! What the actors of a scenario share: address spaces, words of their own, and what was stored where.
//!
//! Every store of an actor is remembered by address space and address, so that every load, and the state at the end, can
//! be held against it: memory that nobody gave up holds what was last stored to it.
//!
//! Locks: spinning leaves of its own that no actor is stopped in. Never sleeps, except for the fault of an access.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

use arch::upcall::{Access, FaultError};
use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::{MmError, MmRef};
use sync::point::{self, AccessKind, Aside, PointKind, Quiet, class, object};

use super::engine::{ENGINE, tlb_object};
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

/// A word that was stored to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) mm: u32,
    pub(super) va: u64,
    pub(super) value: u64,
    /// Its page may be given up: it may hold 0 as well.
    pub(super) volatile: bool,
}

/// What was stored, locked: meanwhile the CPU's actor is at no point.
struct Remembered<'a> {
    stored: spin::MutexGuard<'a, Vec<Stored>>,
    _aside: Aside,
}

impl Deref for Remembered<'_> {
    type Target = Vec<Stored>;
    fn deref(&self) -> &Vec<Stored> {
        &self.stored
    }
}

impl DerefMut for Remembered<'_> {
    fn deref_mut(&mut self) -> &mut Vec<Stored> {
        &mut self.stored
    }
}

/// See the module text.
pub struct Stage {
    spaces: [spin::Mutex<Option<MmRef>>; SPACES],
    words: [AtomicU64; WORDS],
    stored: spin::Mutex<Vec<Stored>>,
}

pub(super) static STAGE: Stage = Stage {
    spaces: [const { spin::Mutex::new(None) }; SPACES],
    words: [const { AtomicU64::new(0) }; WORDS],
    stored: spin::Mutex::new(Vec::new()),
};

impl Stage {
    /// Puts `space` at place `i`; the explorer drops it when the run is over.
    pub fn put(&self, i: usize, space: MmRef) {
        *self.spaces[i].lock() = Some(space);
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
        mm::fault::handle(space.id(), &space, va, Access::Write).map_err(|_| MmError::NotMapped)?;
        let pfn = self.frame_of(i, va).ok_or(MmError::NotMapped)?;
        arch::frame_words(pfn)[(va.0 as usize & 0xfff) / 8].store(value, Ordering::Relaxed);
        self.note_stored(space.id(), va, value);
        Ok(())
    }

    /// The frame that is mapped at `va` in the space at place `i`.
    pub fn frame_of(&self, i: usize, va: VirtAddr) -> Option<Pfn> {
        let space = self.try_space(i)?;
        let entry = oracles::entry_at(&space, va)?;
        entry.is_mapped().then(|| entry.pfn())
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
        self.set_volatile(i, va, pages * PAGE_SIZE, true);
    }

    /// The word at `va` holds what was stored from now on.
    pub fn lasting(&self, i: usize, va: VirtAddr) {
        self.set_volatile(i, va, 8, false);
    }

    fn set_volatile(&self, i: usize, va: VirtAddr, bytes: u64, volatile: bool) {
        point::touch(AccessKind::Write, || object(class::OWN, MODEL));
        let mm = self.space(i).id();
        let end = va.0 + bytes;
        for s in self.stored().iter_mut() {
            if s.mm == mm && (va.0..end).contains(&s.va) {
                s.volatile = volatile;
            }
        }
    }

    /// The space at place `child` is a copy of that at place `parent`, as it was at some moment when nobody stored.
    pub fn forked(&self, parent: usize, child: usize) {
        point::touch(AccessKind::Write, || object(class::OWN, MODEL));
        let (parent, child) = (self.space(parent).id(), self.space(child).id());
        let mut stored = self.stored();
        for i in 0..stored.len() {
            if stored[i].mm == parent {
                let copy = Stored {
                    mm: child,
                    ..stored[i]
                };
                stored.push(copy);
            }
        }
    }

    /// The running actor loads the word at `va` (8-byte aligned) in its address space: a step, and those of the
    /// fault if there is one. What it reads is held against what was stored.
    ///
    /// # Errors
    /// What the access failed with.
    pub fn load(&self, va: VirtAddr) -> Result<u64, FaultError> {
        let value = access(va, None)?;
        let mm = space_of_current();
        touch_word(AccessKind::Read, mm, va);
        let stored = self.stored();
        let known = stored.iter().find(|s| s.mm == mm && s.va == va.0);
        if let Some(s) = known
            && value != s.value
            && !(s.volatile && value == 0)
        {
            let text = format!("{:#x} reads {value:#x}, stored was {:#x}", va.0, s.value);
            drop(stored);
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
        let mm = space_of_current();
        touch_word(AccessKind::Write, mm, va);
        self.note_stored(mm, va, value);
        Ok(())
    }

    fn note_stored(&self, mm: u32, va: VirtAddr, value: u64) {
        let mut stored = self.stored();
        match stored.iter_mut().find(|s| s.mm == mm && s.va == va.0) {
            Some(s) => s.value = value,
            None => stored.push(Stored {
                mm,
                va: va.0,
                value,
                volatile: false,
            }),
        }
    }

    fn stored(&self) -> Remembered<'_> {
        let aside = Aside::begin();
        Remembered {
            stored: self.stored.lock(),
            _aside: aside,
        }
    }

    /// Every word that was stored to.
    pub(super) fn each_stored(&self, mut f: impl FnMut(&Stored)) {
        self.stored().iter().for_each(&mut f);
    }

    /// Every address space on it.
    pub(super) fn each_space(&self, mut f: impl FnMut(&MmRef)) {
        for place in &self.spaces {
            if let Some(space) = place.lock().as_ref() {
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
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
        self.stored().clear();
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
    let (kind, want) = match store {
        Some(_) => (PointKind::UserWrite, Access::Write),
        None => (PointKind::UserRead, Access::Read),
    };
    loop {
        point::at(kind, AccessKind::Write, tlb_object);
        match ENGINE.user_access(va, store) {
            Outcome::Done(value) => return Ok(value),
            Outcome::Fault => mm::fault::current(va, want)?,
        }
    }
}
