//! Whose doing it was that a region of instrumented code was reached: for the coverage of what the
//! explorer's actors reach while others are under way. Only in builds with `--cfg reach`
//! (`.ci/coverage`), whose code counts relative to a bias
//! (`-Cinstrument-coverage -Cllvm-args=-runtime-counter-relocation`).
//!
//! Each function loads the bias when it is entered. With it in a *book* of somebody's own, whole
//! activations are counted there, whatever others do in between: the counts that a report takes
//! from differences of others stay true. What is to be reported is added to the counters
//! themselves, which nothing else reaches once [`open`] has been called.
//!
//! No lock: one thread explores, and instrumented code runs in no other meanwhile.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Books there are.
pub const BOOKS: usize = 8;

unsafe extern "C" {
    /// Added to the address of each counter.
    static __llvm_profile_counter_bias: AtomicU64;
    fn __llvm_profile_begin_counters() -> *const AtomicU64;
    fn __llvm_profile_end_counters() -> *const AtomicU64;
}

type Book = Box<[AtomicU64]>;

/// The books, and one that nobody reads.
static ALL: OnceLock<[Book; BOOKS + 1]> = OnceLock::new();

/// The counters that the profile is written from when the process ends.
fn counters() -> &'static [AtomicU64] {
    // SAFETY: the two are the bounds of one section of the program, which only counts of 8 bytes
    // are in; where other threads change some at the same time, they are stale by that, which is
    // what counts are.
    unsafe {
        let (begin, end) = (
            __llvm_profile_begin_counters(),
            __llvm_profile_end_counters(),
        );
        std::slice::from_raw_parts(begin, end.offset_from_unsigned(begin))
    }
}

fn all() -> &'static [Book; BOOKS + 1] {
    ALL.get_or_init(|| {
        let book = || counters().iter().map(|_| AtomicU64::new(0)).collect();
        std::array::from_fn(|_| book())
    })
}

/// From now on instrumented functions that are entered count in book `n`; in none that is ever
/// added, where there is no such book.
pub fn open(n: usize) {
    let first = ALL.get().is_none();
    let book = &all()[n.min(BOOKS)];
    let bias = book
        .as_ptr()
        .addr()
        .wrapping_sub(counters().as_ptr().addr());
    // SAFETY: the compiler defines it in each object that counts, as one word that is only read;
    // see the module text for why nothing reads it at the same time.
    unsafe { &__llvm_profile_counter_bias }.store(bias as u64, Relaxed);
    if first {
        // What was counted until now was no actor's.
        counters().iter().for_each(|c| c.store(0, Relaxed));
    }
}

/// Adds book `n` to what is reported, and empties it.
///
/// # Panics
/// If there is no such book.
pub fn add(n: usize) {
    assert!(n < BOOKS, "there is no book {n}");
    for (sum, count) in counters().iter().zip(&all()[n]) {
        let n = count.load(Relaxed);
        if n != 0 {
            sum.store(sum.load(Relaxed).wrapping_add(n), Relaxed);
            count.store(0, Relaxed);
        }
    }
}

/// Empties book `n`.
///
/// # Panics
/// If there is no such book.
pub fn tear(n: usize) {
    assert!(n < BOOKS, "there is no book {n}");
    all()[n].iter().for_each(|c| c.store(0, Relaxed));
}
