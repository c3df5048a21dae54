//! What memory must hold: the last value stored to each word, and which words may hold something else.
//!
//! Pure: no lock, never sleeps.

use alloc::vec::Vec;

/// A word that was stored to.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) mm: u32,
    pub(super) va: u64,
    pub(super) value: u64,
    /// Its page may be given up: it may hold 0 as well.
    pub(super) volatile: bool,
    /// Values stored before, of which one may be the last all the same: while a page is being given
    /// up a CPU may still store to it, and another already to the page that comes after.
    others: Vec<u64>,
}

impl Stored {
    /// `value` is one that the word may hold; an unmapped one counts as 0.
    pub(super) fn allows(&self, value: u64) -> bool {
        value == self.value || self.volatile && value == 0 || self.others.contains(&value)
    }
}

/// What is known of a range from now on, also of words that are stored to later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Its pages may be given up at any time.
    Volatile,
    /// Nothing: they may be somewhere else, and others here.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    mm: u32,
    start: u64,
    end: u64,
    fate: Fate,
}

impl Range {
    fn has(&self, mm: u32, va: u64) -> bool {
        self.mm == mm && (self.start..self.end).contains(&va)
    }
}

/// See the module text.
pub(super) struct Model {
    words: Vec<Stored>,
    ranges: Vec<Range>,
    /// Ranges whose pages are being given up now: (what, by which actor).
    under_way: Vec<(Range, usize)>,
}

impl Model {
    /// Nothing was stored.
    pub(super) const fn new() -> Self {
        Self {
            words: Vec::new(),
            ranges: Vec::new(),
            under_way: Vec::new(),
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.ranges.clear();
        self.under_way.clear();
    }

    fn is(&self, mm: u32, va: u64, fate: Fate) -> bool {
        self.ranges.iter().any(|r| r.fate == fate && r.has(mm, va))
    }

    /// `value` was stored to the word.
    pub(super) fn store(&mut self, mm: u32, va: u64, value: u64) {
        if self.is(mm, va, Fate::Unknown) {
            return;
        }
        let volatile = self.is(mm, va, Fate::Volatile);
        let two_pages = self.under_way.iter().any(|(r, _)| r.has(mm, va));
        match self.words.iter_mut().find(|s| s.mm == mm && s.va == va) {
            Some(s) => {
                if two_pages {
                    s.others.push(s.value);
                } else {
                    s.others.clear();
                }
                s.value = value;
            }
            None => self.words.push(Stored {
                mm,
                va,
                value,
                volatile,
                others: Vec::new(),
            }),
        }
    }

    /// `actor` begins to give up the pages of a range, until [`Model::gave_up`]. Each does one such
    /// thing at a time.
    pub(super) fn giving_up(&mut self, actor: usize, mm: u32, start: u64, end: u64) {
        self.range(mm, start, end, Fate::Volatile);
        let fate = Fate::Volatile;
        let range = Range {
            mm,
            start,
            end,
            fate,
        };
        self.under_way.push((range, actor));
    }

    /// It is done: every CPU has one page there, and the same one.
    pub(super) fn gave_up(&mut self, actor: usize) {
        self.under_way.retain(|(_, by)| *by != actor);
    }

    /// What the word must hold, if that is known.
    pub(super) fn find(&self, mm: u32, va: u64) -> Option<Stored> {
        let word = self.words.iter().find(|s| s.mm == mm && s.va == va);
        word.cloned()
    }

    /// The words of a range may come to hold something else.
    pub(super) fn range(&mut self, mm: u32, start: u64, end: u64, fate: Fate) {
        let range = Range {
            mm,
            start,
            end,
            fate,
        };
        self.ranges.push(range);
        match fate {
            Fate::Volatile => {
                let inside = self.words.iter_mut().filter(|s| range.has(s.mm, s.va));
                inside.for_each(|s| s.volatile = true);
            }
            Fate::Unknown => self.words.retain(|s| !range.has(s.mm, s.va)),
        }
    }

    /// The word holds what was stored, whatever was said before.
    pub(super) fn lasting(&mut self, mm: u32, va: u64) {
        let word = self.words.iter_mut().find(|s| s.mm == mm && s.va == va);
        if let Some(s) = word {
            s.volatile = false;
        }
    }

    /// `child` is a copy of `parent`.
    pub(super) fn fork(&mut self, parent: u32, child: u32) {
        for i in 0..self.words.len() {
            let word = &self.words[i];
            if word.mm == parent {
                let word = word.clone();
                self.words.push(Stored { mm: child, ..word });
            }
        }
    }

    /// Every word that is known.
    pub(super) fn words(&self) -> &[Stored] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(m: &Model, va: u64, value: u64) -> Option<bool> {
        m.find(0, va).map(|s| s.allows(value))
    }

    #[test]
    fn the_last_store_counts() {
        let mut m = Model::new();
        assert_eq!(allows(&m, 8, 1), None);
        m.store(0, 8, 1);
        m.store(0, 8, 2);
        assert_eq!(allows(&m, 8, 2), Some(true));
        assert_eq!(allows(&m, 8, 1), Some(false));
        assert_eq!(allows(&m, 8, 0), Some(false));
        m.fork(0, 1);
        m.store(0, 8, 3);
        assert!(m.find(1, 8).is_some_and(|s| s.allows(2) && !s.allows(3)));
        m.clear();
        assert!(m.words().is_empty());
    }

    #[test]
    fn what_is_given_up_may_be_empty_also_if_it_is_stored_to_later() {
        let mut m = Model::new();
        m.store(0, 8, 1);
        m.range(0, 0, 4096, Fate::Volatile);
        m.store(0, 16, 5);
        for (va, value) in [(8, 1), (16, 5)] {
            assert_eq!(allows(&m, va, value), Some(true));
            assert_eq!(allows(&m, va, 0), Some(true));
            assert_eq!(allows(&m, va, 7), Some(false));
        }
        m.store(0, 8, 2);
        m.lasting(0, 8);
        assert_eq!(allows(&m, 8, 0), Some(false));
        assert_eq!(allows(&m, 16, 0), Some(true));
    }

    #[test]
    fn while_a_page_is_given_up_two_may_store_to_different_pages() {
        let mut m = Model::new();
        m.store(0, 8, 1);
        m.giving_up(2, 0, 0, 4096);
        m.store(0, 8, 2);
        m.store(0, 8, 3);
        for value in [0, 1, 2, 3] {
            assert_eq!(allows(&m, 8, value), Some(true), "{value}");
        }
        m.gave_up(1);
        m.store(0, 8, 4);
        assert_eq!(allows(&m, 8, 3), Some(true));
        m.gave_up(2);
        assert_eq!(allows(&m, 8, 3), Some(true));
        m.store(0, 8, 5);
        assert_eq!(allows(&m, 8, 4), Some(false));
        assert_eq!(allows(&m, 8, 0), Some(true));
    }

    #[test]
    fn nothing_is_known_of_what_was_moved() {
        let mut m = Model::new();
        m.store(0, 8, 1);
        m.store(0, 5000, 1);
        m.range(0, 0, 4096, Fate::Unknown);
        m.store(0, 8, 2);
        assert_eq!(allows(&m, 8, 2), None);
        assert_eq!(allows(&m, 5000, 1), Some(true));
    }
}
