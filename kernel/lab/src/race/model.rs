//! What memory must hold: of each word what it may be, of each page what it shows.
//!
//! A word that nobody stored to is what its page is by itself: zero, or what the file has. A store
//! is a step. What takes time (giving pages up, mapping something else, moving, a fork) has a
//! beginning and an end: in between each page may be what it was or what it becomes, and while
//! there are two of it a store may go to the one that is lost. Afterwards there is one of it again,
//! and what was there before the beginning does not come back.
//!
//! Pure: no lock, never sleeps.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use arch::PAGE_SIZE;

use super::file_words::{FileWord, Files};
use super::held::{Before, Maybe, Moment};

mod ops;
mod terms;

pub(super) use ops::Ended;
pub(super) use terms::{Fresh, Pages};
use terms::{Kind, Op, Shown, Source, Value};

/// The name of an operation under way.
#[must_use = "it ends"]
pub(super) struct Token(u32);

struct Cell {
    mm: u32,
    va: u64,
    word: Maybe<Value>,
    /// It was stored to while its page was being made free to take: that may have been dropped
    /// before, and not since.
    met_free: bool,
}

#[derive(Clone)]
struct Page {
    mm: u32,
    page: u64,
    shown: Maybe<Shown>,
    /// It may become zeroes until it is stored to.
    lazy: Maybe<bool>,
    /// Nothing is known of it.
    unknown: Maybe<bool>,
}

impl Page {
    const fn is(&self, mm: u32, page: u64) -> bool {
        self.mm == mm && self.page == page
    }
    fn may_be(what: &Maybe<bool>) -> bool {
        what.now().any(|is| is)
    }
}

/// See the module text.
pub(super) struct Model {
    moment: Moment,
    cells: Vec<Cell>,
    pages: Vec<Page>,
    under_way: Vec<Op>,
    /// Pages below stacks, in every space: where nothing is mapped a fault may map memory.
    grows: Range<u64>,
}

/// Words of a page.
const WORDS: usize = PAGE_SIZE as usize / 8;

const fn page_of(va: u64) -> u64 {
    va / PAGE_SIZE
}

impl Model {
    /// Nothing was stored.
    pub(super) const fn new() -> Self {
        Self {
            moment: 0,
            cells: Vec::new(),
            pages: Vec::new(),
            under_way: Vec::new(),
            grows: 0..0,
        }
    }

    /// Stacks may grow down to each of these pages.
    pub(super) fn set_grows(&mut self, pages: Range<u64>) {
        self.grows = pages;
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.moment = 0;
        self.cells.clear();
        self.pages.clear();
        self.under_way.clear();
        self.grows = 0..0;
    }

    fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    fn page(&self, mm: u32, page: u64) -> Option<&Page> {
        self.pages.iter().find(|p| p.is(mm, page))
    }

    fn page_mut(&mut self, mm: u32, page: u64) -> &mut Page {
        let known = self.pages.iter().position(|p| p.is(mm, page));
        let n = known.unwrap_or_else(|| {
            self.pages.push(Page {
                mm,
                page,
                shown: Maybe::new(Shown::Memory),
                lazy: Maybe::new(false),
                unknown: Maybe::new(false),
            });
            self.pages.len() - 1
        });
        &mut self.pages[n]
    }

    fn cell(&self, mm: u32, va: u64) -> Option<&Cell> {
        self.cells.iter().find(|c| c.mm == mm && c.va == va)
    }

    fn cell_mut(&mut self, mm: u32, va: u64) -> &mut Cell {
        let known = self.cells.iter().position(|c| c.mm == mm && c.va == va);
        let n = known.unwrap_or_else(|| {
            self.cells.push(Cell {
                mm,
                va,
                word: Maybe::new(Value::Base),
                met_free: false,
            });
            self.cells.len() - 1
        });
        &mut self.cells[n]
    }

    fn ops(&self, mm: u32, page: u64) -> impl Iterator<Item = &Op> {
        self.under_way.iter().filter(move |op| op.has(mm, page))
    }

    fn is_unknown(&self, mm: u32, page: u64) -> bool {
        let known = self.page(mm, page);
        known.is_some_and(|p| Page::may_be(&p.unknown))
            || self
                .ops(mm, page)
                .any(|op| op.met || self.moves_unknown(op, page))
    }

    /// What comes from elsewhere is unknown there.
    fn moves_unknown(&self, op: &Op, page: u64) -> bool {
        let from = self.source(op, page);
        let there = from.and_then(|from| self.page(op.pages.mm, from.page));
        there.is_some_and(|p| Page::may_be(&p.unknown))
    }

    fn is_lazy(&self, mm: u32, page: u64) -> bool {
        let known = |page| self.page(mm, page).is_some_and(|p| Page::may_be(&p.lazy));
        known(page)
            || self
                .ops(mm, page)
                .any(|op| self.source(op, page).is_some_and(|from| known(from.page)))
    }

    /// Where what `op` moves to `page` comes from.
    fn source(&self, op: &Op, page: u64) -> Option<Source> {
        let Kind::Move(to) = op.kind else {
            return None;
        };
        to.has(op.pages.mm, page)
            .then(|| Source::of(op.pages, page - to.first))
    }

    /// What the page may show.
    fn shown(&self, mm: u32, page: u64) -> Vec<Shown> {
        let mut all: Vec<Shown> = self.settled(mm, page);
        for op in self.ops(mm, page) {
            match op.kind {
                Kind::Fresh(fresh) => {
                    let n = page - op.pages.first;
                    all.extend(fresh.shown().map(|s| s.advanced(n)));
                }
                Kind::Move(_) => {
                    if let Some(from) = self.source(op, page) {
                        let there = self.settled(mm, from.page).into_iter();
                        all.extend(there.map(|s| s.advanced(from.beyond)));
                    }
                }
                Kind::Free | Kind::Fork | Kind::Cut(..) => {}
            }
        }
        if self.grows.contains(&page) {
            // A fault may have found it just below a stack.
            let nothing = all.iter_mut().filter(|s| **s == Shown::Nothing);
            nothing.for_each(|s| *s = Shown::Memory);
        }
        // Nobody gets at what is not there.
        if all.iter().any(|s| *s != Shown::Nothing) {
            all.retain(|s| *s != Shown::Nothing);
        }
        all
    }

    /// What the page shows is a private copy that may just go.
    fn is_being_cut(&self, mm: u32, page: u64) -> bool {
        let cuts = self.under_way.iter().filter_map(|op| match op.kind {
            Kind::Cut(file, first) => Some((file, first)),
            _ => None,
        });
        let mut cuts = cuts.peekable();
        if cuts.peek().is_none() {
            return false;
        }
        let shown = self.shown(mm, page);
        cuts.any(|(file, first)| {
            let goes = |s: &Shown| matches!(s, Shown::Private(f, n) if *f == file && *n >= first);
            shown.iter().any(goes)
        })
    }

    /// The same without what is under way.
    fn settled(&self, mm: u32, page: u64) -> Vec<Shown> {
        match self.page(mm, page) {
            Some(p) => p.shown.now().collect(),
            None => alloc::vec![Shown::Memory],
        }
    }

    /// What the word may hold if it is memory's, or a copy's.
    fn values(&self, mm: u32, va: u64) -> Vec<Value> {
        let page = page_of(va);
        let mut all = self.stored(mm, va);
        if self.is_being_cut(mm, page) {
            all.push(Value::Base);
        }
        for op in self.ops(mm, page) {
            match op.kind {
                Kind::Fresh(_) => all.push(Value::Base),
                Kind::Move(_) => {
                    if let Some(from) = self.source(op, page) {
                        all.push(Value::Base);
                        if from.beyond == 0 {
                            let there = from.page * PAGE_SIZE + va % PAGE_SIZE;
                            all.extend(self.stored(mm, there));
                        }
                    }
                    if let Some(to) = op.moves_to(mm, page) {
                        // A CPU that was not flushed finds here what was stored there.
                        let cell = self.cell(mm, to * PAGE_SIZE + va % PAGE_SIZE);
                        all.extend(cell.iter().flat_map(|c| c.word.become_since(op.since)));
                    }
                }
                Kind::Free | Kind::Fork | Kind::Cut(..) => {}
            }
        }
        all
    }

    fn stored(&self, mm: u32, va: u64) -> Vec<Value> {
        match self.cell(mm, va) {
            Some(c) => c.word.now().collect(),
            None => alloc::vec![Value::Base],
        }
    }

    /// A word that reads `value` is as it should be.
    pub(super) fn allows(&self, files: &Files, mm: u32, va: u64, value: u64) -> bool {
        let page = page_of(va);
        if self.is_unknown(mm, page) || self.is_lazy(mm, page) && value == 0 {
            return true;
        }
        self.shown(mm, page).into_iter().any(|shown| match shown {
            Shown::Nothing => false,
            Shown::Shared(file, n) => files.wrong(word(file, n, va), value).is_none(),
            _ => {
                let mut values = self.values(mm, va).into_iter();
                values.any(|v| fits(files, shown, va, v, value))
            }
        })
    }

    /// What the word may hold, in words.
    pub(super) fn expected(&self, files: &Files, mm: u32, va: u64) -> String {
        let mut text = String::new();
        let mut say = |what: String| {
            let or = if text.is_empty() { "" } else { " or " };
            text = format!("{text}{or}{what}");
        };
        for shown in self.shown(mm, page_of(va)) {
            match shown {
                Shown::Nothing => say("nothing".into()),
                Shown::Shared(file, n) => say(files.expected(word(file, n, va))),
                _ => self.values(mm, va).into_iter().for_each(|v| match v {
                    Value::Is(v) => say(format!("{v:#x}")),
                    Value::Base if shown == Shown::Memory => say("0x0".into()),
                    Value::Base => say("what the file has".into()),
                }),
            }
        }
        text
    }

    /// The moment now.
    pub(super) fn moment(&mut self) -> Moment {
        self.tick()
    }

    /// The page of a file that `page` has shown, shared, since `began`, if it was one all the time.
    pub(super) fn shares_since(&self, mm: u32, page: u64, began: Moment) -> Option<(usize, u32)> {
        let p = self.page(mm, page)?;
        let mut shown = p.shown.since(began);
        let known = !p.unknown.since(began).any(|is| is);
        match (shown.next(), shown.next()) {
            (Some(Shown::Shared(file, n)), None)
                if known && self.ops(mm, page).next().is_none() =>
            {
                Some((file, n))
            }
            _ => None,
        }
    }

    /// Nothing is mapped at `va`.
    pub(super) fn is_nothing(&self, mm: u32, va: u64) -> bool {
        let page = page_of(va);
        !self.is_unknown(mm, page) && self.shown(mm, page) == [Shown::Nothing]
    }

    /// The words of files that may be at `va`.
    pub(super) fn file_words(&self, mm: u32, va: u64) -> Vec<FileWord> {
        let shown = self.shown(mm, page_of(va)).into_iter();
        let of_file = shown.filter_map(|s| match s {
            Shown::Shared(file, n) | Shown::Private(file, n) => Some(word(file, n, va)),
            Shown::Memory | Shown::Nothing => None,
        });
        of_file.collect()
    }

    /// The first word of the page that is not as it should be: its address and what it holds. `of`
    /// are its words by number. All are looked at that are known or may be no more than zero, of
    /// others some.
    pub(super) fn wrong_in_page(
        &self,
        files: &Files,
        (mm, page): (u32, u64),
        of: impl Fn(usize) -> u64,
    ) -> Option<(u64, u64)> {
        const SOME: [usize; 6] = [0, 1, 2, 255, 510, 511];
        let va_of = |i: usize| page * PAGE_SIZE + 8 * i as u64;
        let look = |i: usize| {
            let value = of(i);
            (!self.allows(files, mm, va_of(i), value)).then_some((va_of(i), value))
        };
        let shown = self.shown(mm, page);
        if shown == [Shown::Memory] {
            let stored = (0..WORDS).filter(|&i| of(i) != 0);
            if let Some(wrong) = stored.into_iter().find_map(look) {
                return Some(wrong);
            }
        } else if let Some(wrong) = SOME.into_iter().find_map(look) {
            return Some(wrong);
        }
        let cells = self.cells.iter();
        let mut known = cells.filter(|c| c.mm == mm && page_of(c.va) == page);
        let wrong = known.find_map(|c| look((c.va % PAGE_SIZE) as usize / 8));
        wrong.or_else(|| {
            shown.into_iter().find_map(|s| match s {
                Shown::Shared(file, n) => files.known_in(file, n).find_map(look),
                _ => None,
            })
        })
    }

    /// A word that was stored to in a page of `mm` that `has` not, though that was never given up.
    pub(super) fn missing(&self, mm: u32, has: impl Fn(u64) -> bool) -> Option<u64> {
        let cells = self.cells.iter().filter(|c| c.mm == mm);
        let gone = cells.filter(|c| !has(page_of(c.va)));
        gone.map(|c| c.va).find(|&va| {
            let page = page_of(va);
            let values = self.values(mm, va);
            let empty = values
                .iter()
                .any(|v| matches!(v, Value::Base | Value::Is(0)));
            !empty && !self.is_lazy(mm, page) && !self.is_unknown(mm, page)
        })
    }

    /// `value` was stored to the word.
    pub(super) fn store(&mut self, files: &mut Files, mm: u32, va: u64, value: u64) {
        let (at, page) = (self.tick(), page_of(va));
        if self.is_unknown(mm, page) {
            // Perhaps to a file.
            return files.store_somewhere(va % PAGE_SIZE, value);
        }
        let shown = self.shown(mm, page);
        let is_sure = shown.len() == 1;
        let mut in_memory = false;
        for s in shown {
            match s {
                Shown::Shared(file, n) if is_sure => files.store(word(file, n, va), value),
                Shown::Shared(file, n) => files.store_perhaps(word(file, n, va), value),
                _ => in_memory = true,
            }
        }
        if !in_memory {
            return;
        }
        let two = self
            .ops(mm, page)
            .any(|op| matches!(op.kind, Kind::Fresh(_) | Kind::Move(_)));
        let before = if two || !is_sure || self.is_being_cut(mm, page) {
            Before::MayLast
        } else {
            Before::Over
        };
        let freeing = self.ops(mm, page).any(|op| op.kind == Kind::Free);
        let cell = self.cell_mut(mm, va);
        cell.word.becomes(Value::Is(value), at, before);
        cell.met_free = freeing;
        if before == Before::Over && !freeing && self.is_lazy(mm, page) {
            self.no_longer_lazy(mm, va, at);
        }
    }

    /// The page of `va`, which could be dropped, is stored to there: it is kept, if it was not
    /// dropped before.
    fn no_longer_lazy(&mut self, mm: u32, va: u64, at: Moment) {
        let page = page_of(va);
        self.page_mut(mm, page)
            .lazy
            .becomes(false, at, Before::Over);
        let of_page = self.cells.iter_mut();
        let of_page = of_page.filter(|c| c.mm == mm && page_of(c.va) == page && c.va != va);
        of_page.for_each(|c| c.word.add(Value::Base, at));
    }

    /// A load found `value` in the word, as it may: what else it might have been it is not.
    pub(super) fn seen(&mut self, files: &mut Files, mm: u32, va: u64, value: u64) {
        let page = page_of(va);
        let is_moving = self.ops(mm, page).next().is_some() || self.is_being_cut(mm, page);
        if is_moving || self.is_unknown(mm, page) {
            return;
        }
        let at = self.tick();
        let [shown] = self.shown(mm, page)[..] else {
            return;
        };
        if let Shown::Shared(file, n) = shown {
            return files.seen(word(file, n, va), value);
        }
        let fits = |v: Value| fits(files, shown, va, v, value);
        if self.stored(mm, va).into_iter().any(fits) {
            if let Some(c) = self.cells.iter_mut().find(|c| c.mm == mm && c.va == va) {
                c.word.seen(at, fits);
            }
        } else if self.is_lazy(mm, page) {
            // It was dropped, as a whole; what was stored after that is there.
            self.page_mut(mm, page)
                .lazy
                .becomes(false, at, Before::Over);
            let of_page = self.cells.iter_mut();
            let of_page = of_page.filter(|c| c.mm == mm && page_of(c.va) == page);
            of_page.for_each(|c| {
                let before = if c.met_free && c.va != va {
                    Before::MayLast
                } else {
                    Before::Over
                };
                c.word.becomes(Value::Base, at, before);
            });
        }
    }
}

/// The word of page `n` of a file that is at `va`.
pub(super) fn word(file: usize, n: u32, va: u64) -> FileWord {
    FileWord {
        file,
        at: u64::from(n) * PAGE_SIZE + va % PAGE_SIZE,
    }
}

/// A word that `shown` shows at `va` and that is `v` may read `value`.
fn fits(files: &Files, shown: Shown, va: u64, v: Value, value: u64) -> bool {
    match (v, shown) {
        (Value::Is(v), _) => v == value,
        (Value::Base, Shown::Private(file, n)) => files.ever(word(file, n, va), value),
        (Value::Base, _) => value == 0,
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
