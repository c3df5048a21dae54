//! What files must hold: of each word what it may be, and what it was when, so that what the disk
//! has can be told to be older or newer than a store.
//!
//! A word of a file is one thing however it is written: by a store through any shared mapping, or
//! by a write. Stores are steps; writes, holes and truncations change bytes at some moment between
//! their beginning and their end. A scenario gives each word a value only once.
//!
//! Pure: no lock, never sleeps.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use arch::PAGE_SIZE;
use mm::file::Opener;

use super::disk;
use super::held::{Before, Maybe, Moment};
use super::openings::Openings;

/// Most pages of a file.
pub(super) const MOST_PAGES: u32 = 16;

/// A word of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileWord {
    pub(super) file: usize,
    /// In bytes from the start.
    pub(super) at: u64,
}

impl FileWord {
    pub(super) fn page(self) -> u32 {
        (self.at / PAGE_SIZE) as u32
    }

    pub(super) fn index(self) -> usize {
        (self.at % PAGE_SIZE) as usize / 8
    }

    /// The page of the data disk where it lies.
    pub(super) fn disk_page(self) -> usize {
        self.file * MOST_PAGES as usize + self.page() as usize
    }
}

/// Bytes that an operation changes.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) file: usize,
    pub(super) bytes: Range<u64>,
    /// What they become, from the first on; without, zeroes.
    pub(super) data: Option<u64>,
    /// Their pages may leave the cache: a CPU may still store to one that nobody will find.
    pub(super) drops: bool,
    /// The new size, if it changes: the exact one, or the least.
    pub(super) size: Option<Size>,
}

/// What an operation does to a file's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Size {
    /// It becomes this.
    Is(u64),
    /// It becomes no less than this.
    AtLeast(u64),
}

impl Size {
    fn of(self, old: u64) -> u64 {
        match self {
            Self::Is(new) => new,
            Self::AtLeast(least) => old.max(least),
        }
    }
}

impl Change {
    /// The word, changed.
    fn of(&self, at: u64, old: u64) -> u64 {
        let mut new = old.to_le_bytes();
        for (byte, place) in new.iter_mut().zip(at..) {
            if self.bytes.contains(&place) {
                let n = place - self.bytes.start;
                *byte = self.data.map_or(0, |d| d.to_le_bytes()[n as usize]);
            }
        }
        u64::from_le_bytes(new)
    }

    fn touches(&self, word: FileWord) -> bool {
        let end = word.at + 8;
        self.file == word.file && self.bytes.start < end && word.at < self.bytes.end
    }
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wrote {
    /// All of it.
    All,
    /// Nobody knows how much of it.
    Perhaps,
}

/// An operation of this run, and when it was.
struct Op {
    id: u32,
    change: Change,
    since: Moment,
    /// When it was over, and whether what was before was over then.
    end: Option<(Moment, Before, Wrote)>,
}

impl Op {
    fn is_under_way(&self) -> bool {
        self.end.is_none()
    }

    /// It was under way at `moment`.
    fn is_under_way_at(&self, moment: Moment) -> bool {
        self.since < moment && self.end.is_none_or(|(end, ..)| end > moment)
    }

    /// It has ended: so the word is what it has become, whichever of `others` were before it.
    fn apply(&self, at: u64, word: &mut Maybe<u64>, others: &[Self]) {
        let Some((end, before, wrote)) = self.end else {
            return;
        };
        let before = match wrote {
            Wrote::All => before,
            Wrote::Perhaps => Before::MayLast,
        };
        let others = others.iter().filter(|o| o.id != self.id);
        let meanwhile: Vec<&Self> = others
            .filter(|o| o.change.file == self.change.file && o.is_under_way_at(end))
            .collect();
        let found = closed(at, word.now().collect(), &meanwhile);
        // Before others that came after it and are over already.
        let at_first: Vec<u64> = word.since(self.since).collect();
        word.changed(self.since, end, before, |old| self.change.of(at, old));
        for old in at_first {
            word.was(self.change.of(at, old), end);
        }
        for old in found {
            word.add(self.change.of(at, old), end);
        }
    }
}

/// The values of a word, and what `ops` may have made of them.
fn closed(at: u64, mut values: Vec<u64>, ops: &[&Op]) -> Vec<u64> {
    let mut n = 0;
    while n < values.len() {
        for op in ops {
            let new = op.change.of(at, values[n]);
            if !values.contains(&new) {
                values.push(new);
            }
        }
        n += 1;
    }
    values
}

/// The name of an operation under way.
#[must_use = "it ends"]
pub(super) struct Token(u32);

struct File {
    place: usize,
    opener: Arc<Opener>,
    in_memory: bool,
    /// What the disk has of it.
    first_size: u64,
    size: Maybe<u64>,
}

/// See the module text.
pub(super) struct Files {
    moment: Moment,
    files: Vec<File>,
    words: Vec<(FileWord, Maybe<u64>)>,
    ops: Vec<Op>,
    pub(super) openings: Openings,
}

impl Files {
    pub(super) const fn new() -> Self {
        Self {
            moment: 0,
            files: Vec::new(),
            words: Vec::new(),
            ops: Vec::new(),
            openings: Openings::new(),
        }
    }

    fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    /// The moment now: what is over before it cannot be found after it.
    pub(super) fn moment(&mut self) -> Moment {
        self.tick()
    }

    /// There is a file.
    pub(super) fn open(&mut self, place: usize, opener: Opener, in_memory: bool) {
        let (first_size, opener) = (opener.size(), Arc::new(opener));
        self.openings.add(place, None, Arc::clone(&opener));
        self.files.push(File {
            place,
            opener,
            in_memory,
            first_size,
            size: Maybe::new(first_size),
        });
    }

    /// Every file: its place and opener.
    pub(super) fn openers(&self) -> impl Iterator<Item = (usize, &Arc<Opener>)> {
        self.files.iter().map(|f| (f.place, &f.opener))
    }

    fn file(&self, place: usize) -> Option<&File> {
        self.files.iter().find(|f| f.place == place)
    }

    /// It is in memory, and swap.
    pub(super) fn is_in_memory(&self, place: usize) -> bool {
        self.file(place).is_some_and(|f| f.in_memory)
    }

    /// Sizes that the file may have now.
    pub(super) fn sizes(&self, place: usize) -> Vec<u64> {
        self.sizes_since(place, self.moment + 1)
    }

    /// Sizes that it may have had at some moment from `begin` on.
    pub(super) fn sizes_since(&self, place: usize, begin: Moment) -> Vec<u64> {
        let Some(f) = self.file(place) else {
            return Vec::new();
        };
        let mut all: Vec<u64> = f.size.since(begin).collect();
        let under_way = self.ops.iter().filter(|op| op.is_under_way());
        for op in under_way.filter(|op| op.change.file == place) {
            let Some(size) = op.change.size else {
                continue;
            };
            let more: Vec<u64> = all.iter().map(|old| size.of(*old)).collect();
            all.extend(more);
        }
        all
    }

    /// The largest size that it may have now.
    pub(super) fn largest_size(&self, place: usize) -> u64 {
        self.sizes(place).into_iter().max().unwrap_or(0)
    }

    /// The word may lie behind the end, in the last page: it is nobody's, and anything.
    pub(super) fn is_nobodys(&self, word: FileWord) -> bool {
        self.sizes(word.file).into_iter().any(|size| {
            let same_page = size / PAGE_SIZE == word.at / PAGE_SIZE;
            size % PAGE_SIZE != 0 && same_page && word.at + 8 > size
        })
    }

    /// What the word was when it was first heard of.
    fn first(&self, word: FileWord) -> u64 {
        let on_disk = |f: &File| !f.in_memory && word.at < f.first_size;
        match self.file(word.file) {
            Some(f) if on_disk(f) => disk::WIPED,
            _ => 0,
        }
    }

    /// The word as it has come about.
    fn look(&self, word: FileWord) -> Maybe<u64> {
        if let Some((_, known)) = self.words.iter().find(|w| w.0 == word) {
            return known.clone();
        }
        let mut new = Maybe::new(self.first(word));
        let mut ended: Vec<&Op> = self.ops.iter().filter(|op| !op.is_under_way()).collect();
        ended.sort_unstable_by_key(|op| op.end.map(|e| e.0));
        for op in ended.into_iter().filter(|op| op.change.touches(word)) {
            op.apply(word.at, &mut new, &self.ops);
        }
        new
    }

    fn look_mut(&mut self, word: FileWord) -> &mut Maybe<u64> {
        let known = self.words.iter().position(|w| w.0 == word);
        let n = known.unwrap_or_else(|| {
            let new = self.look(word);
            self.words.push((word, new));
            self.words.len() - 1
        });
        &mut self.words[n].1
    }

    fn under_way(&self, word: FileWord) -> impl Iterator<Item = &Op> {
        let ops = self.ops.iter().filter(|op| op.is_under_way());
        ops.filter(move |op| op.change.touches(word))
    }

    /// The values, and what those under way may have made of them.
    fn closed(&self, word: FileWord, values: Vec<u64>) -> Vec<u64> {
        let ops: Vec<&Op> = self.under_way(word).collect();
        closed(word.at, values, &ops)
    }

    /// What the word may hold now.
    pub(super) fn values(&self, word: FileWord) -> Vec<u64> {
        self.closed(word, self.look(word).now().collect())
    }

    /// What it may have held at some moment from `begin` on.
    pub(super) fn values_since(&self, word: FileWord, begin: Moment) -> Vec<u64> {
        self.closed(word, self.look(word).since(begin).collect())
    }

    /// It may have held `value` once, or may yet: a copy of its page may be of any age.
    pub(super) fn ever(&self, word: FileWord, value: u64) -> bool {
        self.is_nobodys(word) || self.values_since(word, 0).contains(&value)
    }

    /// What is wrong with finding `value` in the word.
    pub(super) fn wrong(&self, word: FileWord, value: u64) -> Option<String> {
        if self.is_nobodys(word) || self.values(word).contains(&value) {
            return None;
        }
        Some(format!(
            "file {}, byte {:#x} reads {value:#x}, stored was {}",
            word.file,
            word.at,
            self.expected(word)
        ))
    }

    /// What the word may hold, in words.
    pub(super) fn expected(&self, word: FileWord) -> String {
        let mut text = String::new();
        for v in self.values(word) {
            let or = if text.is_empty() { "" } else { " or " };
            text = format!("{text}{or}{v:#x}");
        }
        text
    }

    /// The numbers of the words of page `n` that were stored to.
    pub(super) fn known_in(&self, file: usize, n: u32) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.iter().map(|w| w.0);
        let here = words.filter(move |w| w.file == file && w.page() == n);
        here.map(FileWord::index)
    }

    /// An operation has changed something of page `n`.
    pub(super) fn was_changed(&self, file: usize, n: u32) -> bool {
        self.changes_in(file, n).next().is_some()
    }

    fn changes_in(&self, file: usize, n: u32) -> impl Iterator<Item = Range<u64>> + '_ {
        let start = u64::from(n) * PAGE_SIZE;
        let changes = self.ops.iter().map(|op| &op.change);
        let of_file = changes.filter(move |c| c.file == file);
        let bytes = of_file.map(|c| c.bytes.clone());
        bytes.filter(move |b| b.start < start + PAGE_SIZE && start < b.end)
    }

    /// The numbers of the words of page `n` where something that was changed ends, and of the first
    /// and last.
    pub(super) fn edges_in(&self, file: usize, n: u32) -> impl Iterator<Item = usize> + '_ {
        let start = u64::from(n) * PAGE_SIZE;
        let ends = self.changes_in(file, n).flat_map(|b| [b.start, b.end]);
        let around = ends.flat_map(|at| [at.saturating_sub(8), at, at.saturating_add(8)]);
        let both = [start, start + PAGE_SIZE - 8].into_iter().chain(around);
        let inside = both.filter(move |at| (start..start + PAGE_SIZE).contains(at));
        inside.map(move |at| ((at - start) / 8) as usize)
    }

    /// Every word of the file that was stored to.
    pub(super) fn known(&self, file: usize) -> impl Iterator<Item = FileWord> + '_ {
        let words = self.words.iter().map(|w| w.0);
        words.filter(move |w| w.file == file)
    }

    /// Before a run: the word is this.
    pub(super) fn begin_with(&mut self, word: FileWord, value: u64) {
        *self.look_mut(word) = Maybe::new(value);
    }

    /// `value` was stored to the word, through a mapping.
    pub(super) fn store(&mut self, word: FileWord, value: u64) {
        let two = self.under_way(word).any(|op| op.change.drops);
        let before = if two || self.is_nobodys(word) {
            Before::MayLast
        } else {
            Before::Over
        };
        let at = self.tick();
        self.look_mut(word).becomes(value, at, before);
    }

    /// It may have been, or to something else.
    pub(super) fn store_perhaps(&mut self, word: FileWord, value: u64) {
        let at = self.tick();
        self.look_mut(word).add(value, at);
    }

    /// It may have been, to the word at `offset` of any page.
    pub(super) fn store_somewhere(&mut self, offset: u64, value: u64) {
        let files: Vec<(usize, u64)> = self
            .files
            .iter()
            .map(|f| (f.place, self.largest_size(f.place)))
            .collect();
        for (file, size) in files {
            let pages = size.div_ceil(PAGE_SIZE);
            for at in (0..pages).map(|n| n * PAGE_SIZE + offset) {
                self.store_perhaps(FileWord { file, at }, value);
            }
        }
    }

    /// A load found `value` in the word, as it may: what else it might have been it is not.
    pub(super) fn seen(&mut self, word: FileWord, value: u64) {
        if self.under_way(word).next().is_some() || self.is_nobodys(word) {
            return;
        }
        let at = self.tick();
        if let Some((_, known)) = self.words.iter_mut().find(|w| w.0 == word) {
            known.seen(at, |v| v == value);
        }
    }

    /// A change begins.
    pub(super) fn begin(&mut self, change: Change) -> Token {
        let id = self.tick();
        self.ops.push(Op {
            id,
            change,
            since: id,
            end: None,
        });
        Token(id)
    }

    /// It is over; of its bytes it has changed `bytes`.
    pub(super) fn finish(&mut self, token: &Token, bytes: Range<u64>, wrote: Wrote) {
        let at = self.tick();
        let n = self.ops.iter().position(|op| op.id == token.0);
        let n = n.expect("it was begun");
        self.ops[n].change.bytes = bytes;
        let (change, since) = (self.ops[n].change.clone(), self.ops[n].since);
        let of_others = |op: &Op| op.id != token.0 && op.is_under_way() && op.change.drops;
        let overlaps = |op: &Op| {
            let (a, b) = (&op.change.bytes, &change.bytes);
            op.change.file == change.file && a.start < b.end && b.start < a.end
        };
        let two = self.ops.iter().any(|op| of_others(op) && overlaps(op));
        let before = if two && !change.drops {
            Before::MayLast
        } else {
            Before::Over
        };
        self.ops[n].end = Some((at, before, wrote));
        for (word, known) in &mut self.words {
            if change.touches(*word) {
                self.ops[n].apply(word.at, known, &self.ops);
            }
        }
        let file = self.files.iter_mut().find(|f| f.place == change.file);
        if let (Some(size), Some(f)) = (change.size, file) {
            let before = match wrote {
                Wrote::All => Before::Over,
                Wrote::Perhaps => Before::MayLast,
            };
            f.size.changed(since, at, before, |old| size.of(old));
        }
    }
}

#[cfg(test)]
#[path = "file_words_tests.rs"]
mod tests;
