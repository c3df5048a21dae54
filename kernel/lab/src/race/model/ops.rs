//! What takes time: its beginning, and what is so after its end.

use alloc::vec::Vec;

use arch::PAGE_SIZE;

use super::{Cell, Kind, Model, Op, Page, Pages, Source, Token, Value, page_of};
use super::{Fresh, Shown};
use crate::race::held::{Before, Moment};

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::race) enum Ended {
    /// It did what it was to do, whole.
    Done,
    /// It did what it was to do, or nothing.
    Perhaps,
    /// It did nothing, or nobody knows what.
    Failed,
}

impl Model {
    fn begin(&mut self, kind: Kind, pages: Pages) -> Token {
        let since = self.tick();
        let moves = |kind| matches!(kind, Kind::Move(_));
        let mut met = false;
        if moves(kind) {
            let here = self.under_way.iter_mut().filter(|o| o.pages.mm == pages.mm);
            for other in here.filter(|o| moves(o.kind)) {
                (other.met, met) = (true, true);
            }
        }
        self.under_way.push(Op {
            id: since,
            kind,
            pages,
            since,
            met,
            moved: Vec::new(),
        });
        Token(since)
    }

    fn end(&mut self, token: &Token) -> Op {
        let n = self.under_way.iter().position(|op| op.id == token.0);
        self.under_way.remove(n.expect("it was begun"))
    }

    /// The pages begin to be given up, for `fresh` ones.
    pub(in crate::race) fn begin_fresh(&mut self, pages: Pages, fresh: Fresh) -> Token {
        self.begin(Kind::Fresh(fresh), pages)
    }

    /// The content of the pages begins to be free to take (MADV_FREE).
    pub(in crate::race) fn begin_free(&mut self, pages: Pages) -> Token {
        let token = self.begin(Kind::Free, pages);
        for page in pages.first..pages.first + pages.n {
            self.page_mut(pages.mm, page).lazy.add(true, token.0);
        }
        token
    }

    /// The pages begin to be moved to `to`; of none it is a second mapping.
    pub(in crate::race) fn begin_move(&mut self, from: Pages, to: Pages) -> Token {
        self.begin(Kind::Move(to), from)
    }

    /// The private copies of `file` from page `first` of it on begin to go, also those that come
    /// about or are moved meanwhile.
    pub(in crate::race) fn begin_cut(&mut self, file: usize, first: u32) -> Token {
        let nowhere = Pages {
            mm: u32::MAX,
            first: 0,
            n: 0,
        };
        let copies = self.private_pages(file, first);
        let token = self.begin(Kind::Cut(file, first), nowhere);
        if let Some(op) = self.under_way.last_mut() {
            op.moved = copies;
        }
        token
    }

    /// The copies are gone that were there at the beginning; others may be.
    fn cut(&mut self, op: &Op, ended: Ended, at: Moment) {
        let Kind::Cut(file, first) = op.kind else {
            return;
        };
        for pages in self.private_pages(file, first) {
            let cells = self.cells.iter_mut();
            cells
                .filter(|c| pages.has(c.mm, page_of(c.va)))
                .for_each(|c| c.word.add(Value::Base, at));
        }
        if ended == Ended::Done {
            for pages in &op.moved {
                self.anew(*pages, Fresh::Same, op.since, at);
            }
        }
    }

    /// A copy of `mm` begins to be made.
    pub(in crate::race) fn begin_fork(&mut self, mm: u32) -> Token {
        self.begin(Kind::Fork, Pages { mm, first: 0, n: 0 })
    }

    /// What was begun is over.
    pub(in crate::race) fn finish(&mut self, token: &Token, ended: Ended) {
        let at = self.tick();
        let op = self.end(token);
        if let Kind::Move(to) = op.kind {
            let mm = op.pages.mm;
            let forks = self.under_way.iter_mut();
            forks
                .filter(|o| o.kind == Kind::Fork && o.pages.mm == mm)
                .for_each(|o| o.moved.extend([op.pages, to]));
            if op.met {
                self.unknown(op.pages, at);
                return self.unknown(to, at);
            }
        }
        if ended == Ended::Failed {
            // What it might have done was allowed meanwhile, no longer.
            return;
        }
        match op.kind {
            Kind::Fresh(fresh) => self.anew(op.pages, fresh, op.since, at),
            Kind::Free => {
                for page in op.pages.first..op.pages.first + op.pages.n {
                    let lazy = &mut self.page_mut(op.pages.mm, page).lazy;
                    lazy.replaced(op.since, at, [true]);
                }
            }
            Kind::Move(to) => self.moved(op.pages, to, op.since, at),
            Kind::Cut(..) => self.cut(&op, ended, at),
            Kind::Fork => {}
        }
    }

    /// Nothing is known of the pages.
    fn unknown(&mut self, pages: Pages, at: Moment) {
        for page in pages.first..pages.first + pages.n {
            let unknown = &mut self.page_mut(pages.mm, page).unknown;
            unknown.becomes(true, at, Before::Over);
        }
    }

    fn anew(&mut self, pages: Pages, fresh: Fresh, since: Moment, at: Moment) {
        for c in &mut self.cells {
            if pages.has(c.mm, page_of(c.va)) {
                c.word.replaced(since, at, [Value::Base]);
            }
        }
        for page in pages.first..pages.first + pages.n {
            let p = self.page_mut(pages.mm, page);
            if let Some(shown) = fresh.shown() {
                let shown = shown.advanced(page - pages.first);
                p.shown.replaced(since, at, [shown]);
                p.unknown.replaced(since, at, [false]);
            }
            p.lazy.replaced(since, at, [false]);
        }
    }

    fn moved(&mut self, from: Pages, to: Pages, since: Moment, at: Moment) {
        let stays = from.first == to.first && from.n > 0;
        let first = if stays { from.n.min(to.n) } else { 0 };
        for k in first..to.n {
            self.arrive(from, to.first + k, Source::of(from, k), (since, at));
        }
        let left = if stays { first } else { 0 };
        let gone = Pages {
            first: from.first + left,
            n: from.n - left,
            ..from
        };
        self.anew(gone, Fresh::Nothing, since, at);
    }

    /// `page` shows what was at `source`, which is in `from` if it is no more than that.
    fn arrive(&mut self, from: Pages, page: u64, source: Source, (since, at): (Moment, Moment)) {
        let mm = from.mm;
        let carried = source.beyond == 0 && from.n > 0;
        // Whatever else is under way there may have been before it.
        let shown = self.shown(mm, source.page).into_iter();
        let shown = shown.map(|s| s.advanced(source.beyond));
        let unknown = self.is_unknown(mm, source.page);
        let lazy = carried && self.is_lazy(mm, source.page);
        let here = self.page_mut(mm, page);
        here.shown.replaced(since, at, shown);
        here.unknown.replaced(since, at, [unknown]);
        here.lazy.replaced(since, at, [lazy]);
        let (start, old) = (page * PAGE_SIZE, source.page * PAGE_SIZE);
        let in_either = |c: &&Cell| {
            c.mm == mm && (page_of(c.va) == page || carried && page_of(c.va) == source.page)
        };
        let mut offsets: Vec<u64> = self
            .cells
            .iter()
            .filter(in_either)
            .map(|c| c.va % PAGE_SIZE)
            .collect();
        offsets.sort_unstable();
        offsets.dedup();
        for offset in offsets {
            let values = match carried {
                true => self.values(mm, old + offset),
                false => alloc::vec![Value::Base],
            };
            let met_free = carried && self.cell(mm, old + offset).is_some_and(|c| c.met_free);
            let cell = self.cell_mut(mm, start + offset);
            cell.word.replaced(since, at, values);
            cell.met_free |= met_free;
        }
    }

    /// The copy that was begun is `child`, which is new. Its words are what the parent's were at
    /// some moment meanwhile.
    pub(in crate::race) fn finish_fork(&mut self, token: &Token, child: u32) {
        let fork = self.end(token);
        let (mm, since, at) = (fork.pages.mm, fork.since, self.tick());
        self.forget_space(child);
        let mut cells: Vec<Cell> = Vec::new();
        for c in self.cells.iter().filter(|c| c.mm == mm) {
            let mut word = c.word.copy_since(since, at);
            self.values(mm, c.va)
                .into_iter()
                .for_each(|v| word.add(v, at));
            cells.push(Cell {
                mm: child,
                va: c.va,
                word,
                met_free: c.met_free,
            });
        }
        let mut pages: Vec<Page> = Vec::new();
        for p in self.pages.iter().filter(|p| p.mm == mm) {
            let mut copy = Page {
                mm: child,
                page: p.page,
                shown: p.shown.copy_since(since, at),
                lazy: p.lazy.copy_since(since, at),
                unknown: p.unknown.copy_since(since, at),
            };
            for shown in self.shown(mm, p.page) {
                copy.shown.add(shown, at);
            }
            pages.push(copy);
        }
        self.cells.append(&mut cells);
        self.pages.append(&mut pages);
        let moving = |op: &Op| match op.kind {
            Kind::Move(to) if op.pages.mm == mm => [Some(op.pages), Some(to)],
            _ => [None, None],
        };
        let under_way: Vec<Pages> = self.under_way.iter().flat_map(moving).flatten().collect();
        for moved in fork.moved.into_iter().chain(under_way) {
            self.unknown(Pages { mm: child, ..moved }, at);
        }
        self.fresh_in_child(mm, child, at);
    }

    /// What the parent's areas are being replaced by may be in the child too.
    fn fresh_in_child(&mut self, parent: u32, child: u32, at: Moment) {
        let ops = self.under_way.iter().filter(|op| op.pages.mm == parent);
        let fresh: Vec<(Pages, Fresh)> = ops
            .filter_map(|op| match op.kind {
                Kind::Fresh(fresh) => Some((op.pages, fresh)),
                _ => None,
            })
            .collect();
        for (pages, fresh) in fresh {
            for page in pages.first..pages.first + pages.n {
                if let Some(shown) = fresh.shown() {
                    let shown = shown.advanced(page - pages.first);
                    self.page_mut(child, page).shown.add(shown, at);
                }
            }
        }
    }

    /// `child` is a copy of `parent`.
    pub(in crate::race) fn fork(&mut self, parent: u32, child: u32) {
        let token = self.begin_fork(parent);
        self.finish_fork(&token, child);
    }

    /// The address space is gone, or not there yet.
    pub(in crate::race) fn forget_space(&mut self, mm: u32) {
        self.cells.retain(|c| c.mm != mm);
        self.pages.retain(|p| p.mm != mm);
    }

    /// The pages that may show private copies of `file` from page `first` of it on.
    pub(in crate::race) fn private_pages(&self, file: usize, first: u32) -> Vec<Pages> {
        let shows = |p: &&Page| {
            let all = self.shown(p.mm, p.page);
            all.iter()
                .any(|s| matches!(s, Shown::Private(f, n) if *f == file && *n >= first))
        };
        let one = |p: &Page| Pages {
            mm: p.mm,
            first: p.page,
            n: 1,
        };
        self.pages.iter().filter(shows).map(one).collect()
    }
}
