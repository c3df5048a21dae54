//! Copying between a caller's bytes and a folio. Whoever copies in holds the folio lock; so does
//! who copies out and wants the page as one writer left it. Never sleeps.

use crate::content::HasContent;
use core::sync::atomic::{AtomicU64, Ordering};
use sync::point::{self, AccessKind, class};

/// For the explorer: the step touches the folio's content.
#[inline(always)]
fn touch(access: AccessKind, of: &impl HasContent) {
    point::touch(access, || {
        point::object(class::CONTENT, u64::from(of.frame_number().0))
    });
}

/// The words that `len` bytes from `at` on lie in: each with its first byte that counts, and how
/// many do.
fn words(
    of: &impl HasContent,
    at: usize,
    len: usize,
) -> impl Iterator<Item = (&AtomicU64, usize, usize)> {
    let end = at + len;
    let first = at / 8;
    of.words()[first..end.div_ceil(8)]
        .iter()
        .enumerate()
        .map(move |(i, word)| {
            let start = (first + i) * 8;
            let from = at.max(start);
            (word, from - start, end.min(start + 8) - from)
        })
}

/// `into` becomes what the folio holds from byte `at` on.
pub(super) fn copy_out(from: &impl HasContent, at: usize, mut into: &mut [u8]) {
    touch(AccessKind::Read, from);
    for (word, first, n) in words(from, at, into.len()) {
        let (now, rest) = into.split_at_mut(n);
        now.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes()[first..first + n]);
        into = rest;
    }
}

/// The folio holds `what` from byte `at` on.
pub(super) fn copy_in(to: &impl HasContent, at: usize, mut what: &[u8]) {
    change(to, at, what.len(), |bytes| {
        let (now, rest) = what.split_at(bytes.len());
        bytes.copy_from_slice(now);
        what = rest;
    });
}

/// The folio holds zeroes in `len` bytes from `at` on.
pub(super) fn zero(to: &impl HasContent, at: usize, len: usize) {
    change(to, at, len, |bytes| bytes.fill(0));
}

/// The bytes become what `f` makes of zeroes, piece by piece.
fn change(to: &impl HasContent, at: usize, len: usize, mut f: impl FnMut(&mut [u8])) {
    touch(AccessKind::Write, to);
    for (word, from, n) in words(to, at, len) {
        let mut bytes = [0; 8];
        f(&mut bytes[from..from + n]);
        put(word, from, n, u64::from_le_bytes(bytes));
    }
}

/// `n` bytes of the word from byte `from` on become those of `new`. The others stay what they are:
/// a CPU that has the page mapped may store to them meanwhile.
#[inline]
fn put(word: &AtomicU64, from: usize, n: usize, new: u64) {
    if n == 8 {
        return word.store(new, Ordering::Relaxed);
    }
    let mask = ((1 << (8 * n)) - 1) << (8 * from);
    let patched = |old: u64| old & !mask | new & mask;
    word.update(Ordering::Relaxed, Ordering::Relaxed, patched);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_word() {
        let word = AtomicU64::new(0x1122_3344_5566_7788);
        put(&word, 2, 3, 0x00aa_bbcc_0000);
        assert_eq!(word.load(Ordering::Relaxed), 0x1122_33aa_bbcc_7788);
        put(&word, 0, 8, 5);
        assert_eq!(word.load(Ordering::Relaxed), 5);
        put(&word, 7, 1, 9 << 56);
        assert_eq!(word.load(Ordering::Relaxed), 9 << 56 | 5);
    }

    /// What another CPU stores beside the bytes that are written is not lost. (Where the two write
    /// whole words it is, within a third of the rounds.)
    #[test]
    fn stores_beside_what_is_written_stay() {
        const HIGH: u64 = !0 << 32;
        const ROUNDS: u64 = 30_000_000;
        let (word, written) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|s| {
            s.spawn(|| {
                for n in 1..=ROUNDS {
                    put(&word, 0, 4, n);
                    written.store(n, Ordering::Relaxed);
                }
            });
            // To the other half, as through a mapping.
            let mut n = 0;
            while written.load(Ordering::Relaxed) < ROUNDS {
                n += 1_u64;
                let new = n << 32;
                let store = |old: u64| old & !HIGH | new;
                word.update(Ordering::Relaxed, Ordering::Relaxed, store);
                for _ in 0..8 {
                    let held = word.load(Ordering::Relaxed) & HIGH;
                    assert_eq!(held, new & HIGH, "store {n} is gone");
                }
            }
        });
    }
}
