//! The primitives under loom (feature `loom`; for `tests/loom` alone): [`check`] runs a small
//! program in every order of its atomic operations, and with every value that a load may return
//! under the C++11 memory model.
//!
//! Loom's objects belong to one run and cannot be made by a `const fn`, ours are often static.
//! [`PerRun`] finds a loom object for each when a run first touches it, so every run starts from
//! the initial state. All threads of a model are coroutines of one OS thread; `LOCK` keeps two
//! models from sharing the statics.
//!
//! Not modelled: spurious wake-ups, clocks (time stands still), interrupts, preemption counts.

use crate::twin::Twin;
use loom::model::Builder;
use loom::sync::atomic::AtomicU32 as LoomWord;
use std::sync::atomic::{AtomicU32 as Plain, AtomicU64 as Plain64, Ordering};
use std::sync::{Arc, LockResult, Mutex as StdMutex, PoisonError};
use std::time::Duration;

pub(crate) use loom::sync::MutexGuard;
pub use loom::{cell, sync::Notify, sync::atomic, thread};

static LOCK: StdMutex<()> = StdMutex::new(());
/// Number of the run, over all models.
static RUN: Plain64 = Plain64::new(0);
/// The next thread's task number in this run.
static NEXT_TASK: Plain = Plain::new(0);
/// The twin that is broken now, as its number and 1.
static BROKEN: Plain = Plain::new(0);

/// Runs `program` in every order with at most `preemptions` preemptions (`None`: any number), with
/// `twin` broken. Returns how many runs that were.
///
/// # Panics
/// With what goes wrong in a run: an assertion of the program, a deadlock, a data race on a
/// [`cell`]. Locks that are held then are given back in a run that no longer exists, so the process
/// often aborts.
pub fn check(
    twin: Option<Twin>,
    preemptions: Option<usize>,
    program: impl Fn() + Send + Sync + 'static,
) -> u64 {
    let _one = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    BROKEN.store(twin.map_or(0, |t| t as u32 + 1), Ordering::Relaxed);
    let before = RUN.load(Ordering::Relaxed);
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        RUN.fetch_add(1, Ordering::Relaxed);
        NEXT_TASK.store(crate::MAX_CPUS as u32, Ordering::Relaxed);
        fill_pool();
        program();
    });
    RUN.load(Ordering::Relaxed) - before
}

pub(crate) fn broken(t: Twin) -> bool {
    BROKEN.load(Ordering::Relaxed) == t as u32 + 1
}

/// What stands for one object of ours in the current run.
struct PerRun<T>(StdMutex<Option<(u64, T)>>);

impl<T: Clone> PerRun<T> {
    const fn new() -> Self {
        Self(StdMutex::new(None))
    }

    fn get(&self, make: impl FnOnce() -> T) -> T {
        let run = RUN.load(Ordering::Relaxed);
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some((of, it)) if *of == run => it.clone(),
            _ => {
                let it = make();
                *slot = Some((run, it.clone()));
                it
            }
        }
    }
}

/// Loom's [`loom::sync::atomic::fence`].
pub(crate) fn fence(order: Ordering) {
    loom::sync::atomic::fence(order);
}

/// What [`crate::own`] is outside of models.
pub(crate) mod own {
    use super::{NEXT_TASK, Ordering};
    use crate::cpu::CpuLocal;

    loom::thread_local! {
        static OWN: CpuLocal = block();
    }

    fn block() -> CpuLocal {
        let own = CpuLocal::new(0);
        let task = NEXT_TASK.fetch_add(1, Ordering::Relaxed);
        own.task.store(task, Ordering::Relaxed);
        own
    }

    pub(crate) fn with<R>(f: impl FnOnce(&CpuLocal) -> R) -> R {
        OWN.with(f)
    }

    pub(crate) fn set(cpu: usize) {
        panic!("a thread of a model cannot become CPU {cpu}");
    }
}

/// What stands for a word.
struct LoomWords {
    value: LoomWord,
    loads: LoomWord,
}

/// Words that are not in use yet. Made before a run starts any thread: loom takes an access that
/// does not happen after the making for a race.
static POOL: StdMutex<Vec<Arc<LoomWords>>> = StdMutex::new(Vec::new());
/// Words in a run.
const WORDS: usize = 32;

fn fill_pool() {
    let words = (0..WORDS)
        .map(|_| {
            Arc::new(LoomWords {
                value: LoomWord::new(0),
                loads: LoomWord::new(0),
            })
        })
        .collect();
    *POOL.lock().unwrap_or_else(PoisonError::into_inner) = words;
}

/// A word of a primitive. Loom's word is 0 at first, so it counts from the initial value.
struct Word {
    initial: u32,
    run: PerRun<Arc<LoomWords>>,
}

impl Word {
    const fn new(initial: u32) -> Self {
        Self {
            initial,
            run: PerRun::new(),
        }
    }
    fn get(&self) -> Arc<LoomWords> {
        self.run.get(|| {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            pool.pop().expect("a model with more words than its pool")
        })
    }
    fn seen(&self, value: u32) -> u32 {
        value.wrapping_add(self.initial)
    }
    fn kept(&self, value: u32) -> u32 {
        value.wrapping_sub(self.initial)
    }
    /// With a change of another word before it: loom knows only of the last access to a word, so
    /// that a thread's own load would hide from its next store that another thread loaded too.
    #[track_caller]
    fn load(&self, order: Ordering) -> u32 {
        let words = self.get();
        words.loads.fetch_add(1, Ordering::Relaxed);
        self.seen(words.value.load(order))
    }
    #[track_caller]
    fn swap(&self, value: u32, order: Ordering) -> u32 {
        self.seen(self.get().value.swap(self.kept(value), order))
    }
}

macro_rules! atomics {
    ($($name:ident: $word:ty,)+) => {$(
        /// As its namesake in `core`.
        #[repr(transparent)]
        pub struct $name(Word);

        impl $name {
            pub(crate) const fn new(initial: $word) -> Self {
                Self(Word::new(initial as u32))
            }
            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $word {
                <$word>::from_word(self.0.load(order))
            }
            /// As an exchange: loom lets a plain store slip between the two halves of another
            /// thread's exchange.
            #[track_caller]
            pub(crate) fn store(&self, value: $word, order: Ordering) {
                self.0.swap(value.to_word(), order);
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(<$word>::default())
            }
        }
    )+};
}

atomics! { AtomicBool: bool, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, }

/// What a word holds, in 32 bits: numbers stay small in a model.
trait InWord {
    fn from_word(word: u32) -> Self;
    fn to_word(self) -> u32;
}

impl InWord for bool {
    fn from_word(word: u32) -> Self {
        word != 0
    }
    fn to_word(self) -> u32 {
        u32::from(self)
    }
}

macro_rules! numbers {
    ($($number:ty)+) => {$(
        impl InWord for $number {
            fn from_word(word: u32) -> Self {
                word as Self
            }
            fn to_word(self) -> u32 {
                u32::try_from(self).expect("a small number")
            }
        }
    )+};
}

numbers! { u8 u16 u32 u64 }

impl AtomicU64 {
    #[track_caller]
    pub(crate) fn fetch_add(&self, n: u64, order: Ordering) -> u64 {
        let before = self.0.get().value.fetch_add(n.to_word(), order);
        u64::from(self.0.seen(before))
    }
    #[track_caller]
    pub(crate) fn fetch_max(&self, n: u64, order: Ordering) -> u64 {
        assert!(self.0.initial == 0);
        u64::from(self.0.get().value.fetch_max(n.to_word(), order))
    }
}

impl AtomicU16 {
    #[track_caller]
    pub(crate) fn swap(&self, value: u16, order: Ordering) -> u16 {
        self.0.swap(u32::from(value), order) as u16
    }
}

/// Arithmetic is the same from any initial value; the mask needs one that it leaves as it is, 0.
impl AtomicU32 {
    #[track_caller]
    pub(crate) fn swap(&self, value: u32, order: Ordering) -> u32 {
        self.0.swap(value, order)
    }
    #[track_caller]
    pub(crate) fn fetch_add(&self, n: u32, order: Ordering) -> u32 {
        self.0.seen(self.0.get().value.fetch_add(n, order))
    }
    #[track_caller]
    pub(crate) fn fetch_sub(&self, n: u32, order: Ordering) -> u32 {
        self.0.seen(self.0.get().value.fetch_sub(n, order))
    }
    #[track_caller]
    pub(crate) fn fetch_and(&self, mask: u32, order: Ordering) -> u32 {
        assert!(self.0.initial == 0);
        self.0.get().value.fetch_and(mask, order)
    }
    #[track_caller]
    pub(crate) fn fetch_or(&self, bits: u32, order: Ordering) -> u32 {
        assert!(self.0.initial == 0);
        self.0.get().value.fetch_or(bits, order)
    }
    #[track_caller]
    pub(crate) fn compare_exchange_weak(
        &self,
        old: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        self.0
            .get()
            .value
            .compare_exchange(self.0.kept(old), self.0.kept(new), success, failure)
            .map(|v| self.0.seen(v))
            .map_err(|v| self.0.seen(v))
    }
}

/// As its namesake in `std`.
/// What loom makes for it is never freed: few threads of a run sleep, and models are small.
pub(crate) struct Mutex<T: Copy + 'static> {
    initial: T,
    run: PerRun<&'static loom::sync::Mutex<T>>,
}

impl<T: Copy> Mutex<T> {
    pub(crate) const fn new(initial: T) -> Self {
        Self {
            initial,
            run: PerRun::new(),
        }
    }
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.run
            .get(|| Box::leak(Box::new(loom::sync::Mutex::new(self.initial))))
            .lock()
    }
}

/// As its namesake in `std`, never freed either.
pub(crate) struct Condvar(PerRun<&'static loom::sync::Condvar>);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(PerRun::new())
    }
    fn get(&self) -> &'static loom::sync::Condvar {
        self.0
            .get(|| Box::leak(Box::new(loom::sync::Condvar::new())))
    }
    pub(crate) fn wait<'a, T>(&self, token: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.get().wait(token)
    }
    /// Time stands still: as a wait without end.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        token: MutexGuard<'a, T>,
        _: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        self.wait(token)
            .map(|token| (token, ()))
            .map_err(|e| PoisonError::new((e.into_inner(), ())))
    }
    pub(crate) fn notify_all(&self) {
        self.get().notify_all();
    }
}
