//! Copying between a caller's bytes and a folio. Whoever copies in holds the folio lock; so does who copies out and wants
//! the page as one writer left it. Never sleeps.

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

/// The words that `len` bytes from `at` on lie in: each with its first byte that counts, and how many do.
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

/// Hands the bytes to `f`, piece by piece.
fn change(to: &impl HasContent, at: usize, len: usize, mut f: impl FnMut(&mut [u8])) {
    touch(AccessKind::Write, to);
    for (word, from, n) in words(to, at, len) {
        let mut bytes = word.load(Ordering::Relaxed).to_le_bytes();
        f(&mut bytes[from..from + n]);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}
