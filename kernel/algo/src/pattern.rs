//! What stress tests write into pages: words that say whose they are.
//!
//! Each 8-byte word holds the address space, the page and the version that its page should have,
//! mixed with the word's place in the page by a bijection on 64 bits. So any changed byte, a word
//! from another place, an old version or another process's page are told apart, and a page needs no
//! checksum.
//!
//! Source of the mixing: the finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable
//! pseudorandom number generators", OOPSLA 2014, variant 13 of Stafford), undone step by step.
//!
//! Locks: none. Never sleeps.

use core::fmt;

/// Words in a page of 4 KiB.
pub const WORDS: usize = 512;

/// Whose page it is, which, and how often it has been rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The address space.
    pub mm: u16,
    /// The page's index in it.
    pub page: u32,
    /// The version of its contents.
    pub version: u16,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mm, page, version } = self;
        write!(f, "mm {mm} page {page:#x} version {version}")
    }
}

/// Odd, so that every place of a word adds something else.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const MUL_1: u64 = 0xbf58_476d_1ce4_e5b9;
const MUL_2: u64 = 0x94d0_49bb_1331_11eb;

/// The inverse of an odd number modulo 2^64 by Newton's iteration: each turn doubles the right
/// bits, and `x * x = 1 (mod 8)` gives the first three.
const fn inverse(odd: u64) -> u64 {
    let mut y = odd;
    let mut turns = 0;
    while turns < 5 {
        y = y.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(y)));
        turns += 1;
    }
    y
}

const UN_1: u64 = inverse(MUL_1);
const UN_2: u64 = inverse(MUL_2);

#[inline]
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(MUL_1);
    x = (x ^ (x >> 27)).wrapping_mul(MUL_2);
    x ^ (x >> 31)
}

#[inline]
const fn unmix(mut x: u64) -> u64 {
    x = x ^ (x >> 31) ^ (x >> 62);
    x = x.wrapping_mul(UN_2);
    x = x ^ (x >> 27) ^ (x >> 54);
    x = x.wrapping_mul(UN_1);
    x ^ (x >> 30) ^ (x >> 60)
}

#[inline]
const fn place(word: usize) -> u64 {
    STEP.wrapping_mul(word as u64 + 1)
}

/// The value of word number `word` of a page with this stamp.
#[inline]
pub const fn encode(stamp: Stamp, word: usize) -> u64 {
    let plain = (stamp.mm as u64) << 48 | (stamp.page as u64) << 16 | stamp.version as u64;
    mix(plain.wrapping_add(place(word)))
}

/// The stamp of which `value` is word number `word`. Every value has one: only a comparison tells.
#[inline]
pub const fn decode(value: u64, word: usize) -> Stamp {
    let plain = unmix(value).wrapping_sub(place(word));
    Stamp {
        mm: (plain >> 48) as u16,
        page: (plain >> 16) as u32,
        version: plain as u16,
    }
}

/// What is wrong with a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All bytes are zero: contents lost, or never read in.
    Zero,
    /// The right page with another version: a lost or a late write.
    Version,
    /// Another page of the same address space.
    Page,
    /// The same page of another address space.
    Mm,
    /// A word of the right page and version, but from the place given.
    Place(usize),
    /// None of these: stray bytes, or a page with another address space and index.
    Other,
}

/// A word that is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// The word's place in the page.
    pub word: usize,
    /// What was read.
    pub value: u64,
    /// The stamp that the page should have.
    pub expected: Stamp,
    /// The stamp that the word stands for, which is noise unless it came from such a page.
    pub found: Stamp,
    /// How they differ.
    pub kind: Kind,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            word,
            value,
            expected,
            found,
            kind,
        } = self;
        write!(f, "word {word}: expected {expected}, ")?;
        match kind {
            Kind::Zero => f.write_str("read zero"),
            Kind::Place(from) => write!(f, "read word {from} of the same page"),
            Kind::Version | Kind::Page | Kind::Mm => write!(f, "read {found}"),
            Kind::Other => write!(f, "read {value:#018x} (as a stamp: {found})"),
        }
    }
}

/// Compares one word with what it should be. Costs one mixing as long as it is right.
///
/// # Errors
/// The [`Mismatch`].
#[inline]
pub fn check(value: u64, word: usize, expected: Stamp) -> Result<(), Mismatch> {
    if value == encode(expected, word) {
        Ok(())
    } else {
        Err(explain(value, word, expected))
    }
}

#[cold]
fn explain(value: u64, word: usize, expected: Stamp) -> Mismatch {
    let found = decode(value, word);
    let same_mm = found.mm == expected.mm;
    let same_page = found.page == expected.page;
    let kind = if value == 0 {
        Kind::Zero
    } else if same_mm && same_page {
        Kind::Version
    } else if let Some(from) = (0..WORDS).find(|&w| encode(expected, w) == value) {
        Kind::Place(from)
    } else if same_mm {
        Kind::Page
    } else if same_page {
        Kind::Mm
    } else {
        Kind::Other
    };
    Mismatch {
        word,
        value,
        expected,
        found,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::string::ToString;

    const STAMP: Stamp = Stamp {
        mm: 3,
        page: 0x1234,
        version: 7,
    };

    fn kind(value: u64, word: usize) -> Kind {
        check(value, word, STAMP).expect_err("unnoticed").kind
    }

    #[test]
    fn inverses() {
        assert_eq!((MUL_1.wrapping_mul(UN_1), MUL_2.wrapping_mul(UN_2)), (1, 1));
    }

    #[test]
    fn every_single_wrong_byte_is_noticed() {
        for word in [0, 1, WORDS - 1] {
            let good = encode(STAMP, word);
            assert_eq!(check(good, word, STAMP), Ok(()));
            for bit in (0..64).step_by(if cfg!(miri) { 21 } else { 1 }) {
                assert!(check(good ^ 1 << bit, word, STAMP).is_err());
            }
        }
    }

    #[test]
    fn words_of_a_page_differ() {
        let all: BTreeSet<u64> = (0..WORDS).map(|w| encode(STAMP, w)).collect();
        assert_eq!(all.len(), WORDS);
    }

    #[test]
    fn says_what_differs() {
        assert_eq!(kind(0, 5), Kind::Zero);
        assert_eq!(
            kind(
                encode(
                    Stamp {
                        version: 6,
                        ..STAMP
                    },
                    5
                ),
                5
            ),
            Kind::Version
        );
        assert_eq!(kind(encode(Stamp { page: 6, ..STAMP }, 5), 5), Kind::Page);
        assert_eq!(kind(encode(Stamp { mm: 6, ..STAMP }, 5), 5), Kind::Mm);
        assert_eq!(kind(encode(STAMP, 6), 5), Kind::Place(6));
        assert_eq!(
            kind(
                encode(
                    Stamp {
                        mm: 6,
                        page: 6,
                        version: 6
                    },
                    5
                ),
                5
            ),
            Kind::Other
        );
        assert_eq!(kind(encode(STAMP, 5) ^ 0xff00, 5), Kind::Other);
    }

    #[test]
    fn messages() {
        let text = |value| check(value, 5, STAMP).unwrap_err().to_string();
        let begin = "word 5: expected mm 3 page 0x1234 version 7, read ";
        assert_eq!(text(0), std::format!("{begin}zero"));
        assert_eq!(
            text(encode(STAMP, 9)),
            std::format!("{begin}word 9 of the same page")
        );
        let old = encode(
            Stamp {
                version: 6,
                ..STAMP
            },
            5,
        );
        assert_eq!(text(old), std::format!("{begin}mm 3 page 0x1234 version 6"));
        assert!(text(1).starts_with(&std::format!("{begin}0x0000000000000001 (as")));
    }

    proptest! {
        #![proptest_config(config(500))]
        #[test]
        fn decode_undoes_encode(mm: u16, page: u32, version: u16, word in 0..WORDS, value: u64) {
            let stamp = Stamp { mm, page, version };
            prop_assert_eq!(decode(encode(stamp, word), word), stamp);
            prop_assert_eq!(encode(decode(value, word), word), value);
            prop_assert_eq!(unmix(mix(value)), value);
            prop_assert_eq!(check(value, word, stamp).is_ok(), decode(value, word) == stamp);
        }
    }
}
