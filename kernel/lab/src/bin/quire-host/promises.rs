//! What syncs have promised, as `stress NAME --promises` has printed it, against the disk image
//! that the machine left.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};

use algo::pattern::WORDS;
use lab::stress::versions::{LAST, PAGE, PROMISED, version, word, wrong_word};

/// Page → the version that its words have at least.
#[derive(Default)]
pub(crate) struct Promises(BTreeMap<usize, u32>);

impl Promises {
    /// Reads what the guest has printed. A last line without an end was cut off with the machine:
    /// it does not count.
    ///
    /// # Errors
    /// A line that begins like a promise and is none.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        let finished = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        for line in finished {
            if let Some(promise) = line.strip_prefix(PROMISED) {
                all.add(promise)
                    .ok_or_else(|| format!("not a promise: {line:?}"))?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, promise: &str) -> Option<()> {
        let mut words = promise.split_ascii_whitespace();
        let first = words.next()?.strip_prefix("0x")?;
        let first = usize::from_str_radix(first, 16).ok()?;
        for (page, version) in (first..).zip(words) {
            let version: u32 = version.parse().ok().filter(|v| *v <= LAST)?;
            let least = self.0.entry(page).or_default();
            *least = version.max(*least);
        }
        Some(())
    }

    /// Pages of which something is promised.
    pub(crate) fn pages(&self) -> usize {
        self.0.values().filter(|version| **version > 0).count()
    }

    /// Holds the whole image, which was zeroes at the beginning, against what was promised; what is
    /// wrong, a line for each page.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn check(&self, image: &mut impl Read) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut bytes = [0; PAGE];
        let mut pages = 0;
        loop {
            match image.read_exact(&mut bytes) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e),
            }
            let least = self.0.get(&pages).copied().unwrap_or(0);
            wrong.extend(look(&bytes, pages, least).map(|what| format!("page {pages:#x}, {what}")));
            pages += 1;
        }
        let beyond = self.0.range(pages..).filter(|(_, version)| **version > 0);
        wrong.extend(beyond.map(|(page, _)| format!("page {page:#x} is beyond the image")));
        Ok(wrong)
    }
}

/// What is wrong with a page of which version `least` is promised, if anything.
fn look(bytes: &[u8; PAGE], page: usize, least: u32) -> Option<String> {
    if least == 0 && is_begun(bytes, page) {
        return None;
    }
    wrong_word(bytes, page, least..=LAST, None).or_else(|| torn(bytes, page))
}

/// The first version up to some word, and nothing yet from there on.
fn is_begun(bytes: &[u8; PAGE], page: usize) -> bool {
    let begun = |i: &usize| version(bytes, page, *i) == Ok(1);
    let first = (0..WORDS).take_while(begun).count();
    (first..WORDS).all(|i| word(bytes, i) == 0)
}

/// Owners write a page's words in ascending order, and a page does not change while it is written
/// to the disk: what is there is a new version up to some word, and the one before it from there
/// on.
fn torn(bytes: &[u8; PAGE], page: usize) -> Option<String> {
    let versions: Vec<u32> = (0..WORDS)
        .map_while(|i| version(bytes, page, i).ok())
        .collect();
    let (first, last) = (versions.first()?, versions.last()?);
    if first - last.min(first) <= 1 && versions.is_sorted_by(|a, b| a >= b) {
        return None;
    }
    let at = (1..WORDS).find(|i| versions[*i] != versions[i - 1])?;
    Some(format!(
        "word {at}: version {} follows version {}: it changed while it was written",
        versions[at],
        versions[at - 1]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use algo::pattern::encode;
    use lab::stress::versions::{fill, stamp};

    /// An image of four pages: page 0 untouched, the others at version 5.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 4 * PAGE];
        for (page, bytes) in image.chunks_mut(PAGE).enumerate().skip(1) {
            fill(bytes, stamp(page, 5));
        }
        image
    }

    fn put(image: &mut [u8], page: usize, word: usize, value: u64) {
        let at = page * PAGE + 8 * word;
        image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    const SAID: &str =
        "stress msync: begins\npromised 0x0 0 2\npromised 0x1 5 4\npromised 0x1 3\npromised 0x3 9";

    /// What is found in the image after `damage`.
    fn found(damage: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let mut image = image();
        damage(&mut image);
        Promises::read(SAID)
            .unwrap()
            .check(&mut &image[..])
            .unwrap()
    }

    #[test]
    fn the_newest_promise_counts_and_half_a_line_does_not() {
        let promises = Promises::read(SAID).unwrap();
        assert_eq!(
            promises.0.into_iter().collect::<Vec<_>>(),
            [(0, 0), (1, 5), (2, 4)]
        );
        assert_eq!(Promises::read(SAID).unwrap().pages(), 2);
    }

    #[test]
    fn what_is_no_promise_is_refused() {
        for line in [
            "promised \n",
            "promised 7 1\n",
            "promised 0x1 x\n",
            "promised 0x1 17000000\n",
        ] {
            assert!(Promises::read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_good_image_is_good() {
        assert_eq!(found(|_| {}), Vec::<String>::new());
        // Newer than promised; and two versions of a page that was being written.
        let good = found(|image| {
            fill(&mut image[PAGE..2 * PAGE], stamp(1, 9));
            for word in 0..100 {
                put(image, 2, word, encode(stamp(2, 6), word));
            }
        });
        assert_eq!(good, Vec::<String>::new());
        // Nothing is promised of these: the first store to one was under way, the other is new.
        let good = found(|image| {
            for word in 0..100 {
                put(image, 0, word, encode(stamp(0, 1), word));
            }
            fill(&mut image[3 * PAGE..], stamp(3, 70_000));
        });
        assert_eq!(good, Vec::<String>::new());
    }

    /// One planted damage, one line that names the page.
    #[track_caller]
    fn one(part: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        let found = found(damage);
        assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
    }

    #[test]
    fn planted_damage_is_found() {
        one("page 0x1, word 511: expected version 5", |image| {
            put(image, 1, 511, encode(stamp(1, 4), 511));
        });
        one(
            "page 0x2, word 0: expected version 4 to 16777215, found 0x0",
            |image| {
                image[2 * PAGE..3 * PAGE].fill(0);
            },
        );
        one("page 0x2, word 17", |image| {
            image[2 * PAGE + 17 * 8 + 3] ^= 1
        });
        one("page 0x1, word 0", |image| {
            image.copy_within(2 * PAGE..3 * PAGE, PAGE);
        });
        // Of another page, though nothing is promised of this one.
        one("page 0x0, word 0", |image| {
            image.copy_within(PAGE..2 * PAGE, 0)
        });
        one("page 0x3, word 9", |image| put(image, 3, 9, 7));
        // A page that is begun has nothing behind, and no hole; and only the first version begins
        // so.
        one("page 0x0, word 4", |image| {
            for word in [0, 1, 2, 3, 5] {
                put(image, 0, word, encode(stamp(0, 1), word));
            }
        });
        one("page 0x0, word 1", |image| {
            put(image, 0, 0, encode(stamp(0, 2), 0));
        });
        one("page 0x2 is beyond the image", |image| {
            image.truncate(2 * PAGE + 100);
        });
    }

    #[test]
    fn a_page_that_changed_while_it_was_written_is_found() {
        one("page 0x2, word 300: version 6 follows version 5", |image| {
            put(image, 2, 300, encode(stamp(2, 6), 300));
        });
        one("page 0x3, word 4: version 5 follows version 7", |image| {
            for word in 0..4 {
                put(image, 3, word, encode(stamp(3, 7), word));
            }
        });
    }
}
