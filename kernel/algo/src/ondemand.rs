//! How far to read ahead when a file is read, and when to begin.
//!
//! A read that goes on where the one before ended is sequential, and so is one from the start of
//! the file. The first page it misses brings in a window of pages, part of them ahead of what was
//! asked; when the reader comes to the window's marker, the next window, twice as large, is to be
//! read in the background: a steady reader never waits again. Any other read brings in exactly what
//! it asks. What is in memory the caller knows; this only decides.
//!
//! Locks: none; the state is an opener's own, and a lost update costs a guess only (a read may work
//! on a copy and store it at its end). Never sleeps.

/// Largest window in pages: the largest request too.
pub const MAX_WINDOW: u32 = 32;
const MIN_WINDOW: u32 = 4;

/// Pages to be brought in, those of them that are not in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The first page.
    pub first: u32,
    /// How many: at least 1, at most [`MAX_WINDOW`].
    pub pages: u32,
}

/// What one opener of a file has read and read ahead.
///
/// For each read: [`Ondemand::begin`], then for each of its pages in ascending order
/// [`Ondemand::hit`] or [`Ondemand::miss`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ondemand {
    /// The page behind the last read.
    next: u32,
    /// The last window, `[start, end)`.
    start: u32,
    end: u32,
    /// Its first page at which the next window is begun.
    marker: u32,
    /// The current read is sequential.
    sequential: bool,
}

impl Ondemand {
    /// Nothing read yet.
    pub const fn new() -> Self {
        Self {
            next: 0,
            start: 0,
            end: 0,
            marker: 0,
            sequential: false,
        }
    }

    /// A read of the pages `first..=last` begins. True when its first page is the last of the read
    /// before: reads shorter than a page, of which all but the first are no further use of it.
    pub fn begin(&mut self, first: u32, last: u32) -> bool {
        let next = last.saturating_add(1);
        let same = first.checked_add(1) == Some(self.next);
        self.sequential = match same {
            true if next == self.next => self.sequential || first == 0,
            same => same || first == self.next || first == 0,
        };
        self.next = next;
        same
    }

    /// Page `at` of the read is in memory. Returns what to read ahead now, without waiting for it;
    /// `pages` is the length of the file.
    pub fn hit(&mut self, at: u32, pages: u32) -> Option<Plan> {
        let due = self.sequential && self.marker <= at && at < self.end && self.end < pages;
        // The reader has a whole window before it, so the marker of the new one is its first page.
        due.then(|| self.open(self.end, self.grown(), pages, 0))
    }

    /// Page `at` of the read is not in memory, `at..=last` is what the read still asks for, and
    /// `pages`, greater than `at`, is the length of the file. Returns what to read; it begins with
    /// `at`.
    pub fn miss(&mut self, at: u32, last: u32, pages: u32) -> Plan {
        let asked = last.saturating_sub(at).saturating_add(1);
        if !self.sequential {
            return cut(at, asked, pages);
        }
        let size = if at == self.end && self.start < self.end {
            self.grown()
        } else {
            // Also inside the last window: what was read ahead is gone again, so less would have
            // done.
            MIN_WINDOW
        };
        let wanted = asked.min(MAX_WINDOW / 2) * 2;
        let size = size.max(wanted.next_power_of_two());
        // The next window is begun behind what was asked, but with half of this one still to come.
        self.open(at, size, pages, asked.min(size / 2))
    }

    fn grown(&self) -> u32 {
        ((self.end - self.start) * 2).clamp(MIN_WINDOW, MAX_WINDOW)
    }

    fn open(&mut self, first: u32, size: u32, pages: u32, marker: u32) -> Plan {
        let plan = cut(first, size, pages);
        self.start = first;
        self.end = first.saturating_add(plan.pages);
        self.marker = first.saturating_add(marker);
        plan
    }
}

/// The part of a window that the file has and one request can take.
fn cut(first: u32, size: u32, pages: u32) -> Plan {
    Plan {
        first,
        pages: size.min(pages.saturating_sub(first)).clamp(1, MAX_WINDOW),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, steps};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// A file, what of it is in memory, and a reader.
    struct File {
        pages: u32,
        cached: BTreeSet<u32>,
        reader: Ondemand,
        /// All plans, and how many of them the reader waited for.
        plans: Vec<(u32, u32)>,
        waits: usize,
    }

    impl File {
        fn new(pages: u32) -> Self {
            Self {
                pages,
                cached: BTreeSet::new(),
                reader: Ondemand::new(),
                plans: Vec::new(),
                waits: 0,
            }
        }

        fn carry_out(&mut self, plan: Plan) {
            assert!((1..=MAX_WINDOW).contains(&plan.pages));
            assert!(plan.first + plan.pages <= self.pages, "past the end");
            self.cached.extend(plan.first..plan.first + plan.pages);
            self.plans.push((plan.first, plan.pages));
        }

        fn read(&mut self, first: u32, count: u32) {
            let last = first + count - 1;
            self.reader.begin(first, last);
            for at in first..=last {
                if self.cached.contains(&at) {
                    if let Some(plan) = self.reader.hit(at, self.pages) {
                        assert!(plan.first > at, "ahead");
                        self.carry_out(plan);
                    }
                } else {
                    let plan = self.reader.miss(at, last, self.pages);
                    assert_eq!(plan.first, at);
                    self.carry_out(plan);
                    self.waits += 1;
                }
            }
        }

        fn read_plans(&mut self, first: u32, count: u32) -> Vec<(u32, u32)> {
            self.plans.clear();
            self.read(first, count);
            self.plans.clone()
        }
    }

    #[test]
    fn windows_double_up_to_the_limit() {
        let mut f = File::new(1000);
        (0..200).for_each(|at| f.read(at, 1));
        let windows = [(0, 4), (4, 8), (12, 16), (28, 32), (60, 32), (92, 32)];
        assert_eq!(f.plans[..6], windows);
        assert_eq!(f.waits, 1, "only for the first");
    }

    #[test]
    fn the_next_window_is_begun_at_the_marker() {
        let mut f = File::new(1000);
        assert_eq!(f.read_plans(0, 1), [(0, 4)]);
        assert_eq!(f.read_plans(1, 1), [(4, 8)], "behind what was asked");
        for at in 2..4 {
            assert_eq!(f.read_plans(at, 1), []);
        }
        assert_eq!(f.read_plans(4, 1), [(12, 16)], "with a window to come");
        assert_eq!(f.read_plans(5, 7), []);
    }

    #[test]
    fn large_reads_get_large_windows() {
        let mut f = File::new(1000);
        assert_eq!(f.read_plans(0, 5), [(0, 16)]);
        let mut f = File::new(1000);
        assert_eq!(f.read_plans(0, 64), [(0, 32), (32, 32), (64, 32)]);
        assert_eq!(f.waits, 1);
    }

    #[test]
    fn a_random_read_gets_what_it_asks() {
        let mut f = File::new(1000);
        assert_eq!(f.read_plans(500, 1), [(500, 1)]);
        assert_eq!(f.read_plans(300, 3), [(300, 3)]);
        assert_eq!(f.read_plans(700, 40), [(700, 32), (732, 8)]);
        assert_eq!(f.read_plans(302, 1), []);
        assert_eq!(f.read_plans(303, 1), [(303, 4)], "now it goes on");
    }

    #[test]
    fn a_random_read_into_a_window_leaves_it_alone() {
        let mut f = File::new(1000);
        (0..5).for_each(|at| f.read(at, 1));
        assert_eq!(f.read_plans(13, 1), [], "the marker");
        assert_eq!(f.read_plans(14, 1), [(28, 32)], "but two in a row");
    }

    #[test]
    fn reads_shorter_than_a_page_are_sequential_too() {
        let mut f = File::new(100);
        // 3000 bytes each from page 50 on: pages of 4096 bytes.
        for i in 0..20u32 {
            let (from, to) = (i * 3000, i * 3000 + 2999);
            f.read(50 + from / 4096, to / 4096 - from / 4096 + 1);
        }
        let mut reader = Ondemand::new();
        let seen =
            [(7, 7), (7, 7), (7, 8), (8, 8), (9, 9), (8, 9)].map(|(a, b)| reader.begin(a, b));
        assert_eq!(seen, [false, true, true, true, false, false]);
        assert_eq!(f.plans[..3], [(50, 1), (51, 4), (55, 8)]);
        assert_eq!(f.waits, 2);
        let mut f = File::new(100);
        (0..9).for_each(|_| f.read(50, 1));
        assert_eq!(f.plans, [(50, 1)], "the same page again is no sequence");
    }

    #[test]
    fn what_was_dropped_before_use_makes_the_window_small() {
        let mut f = File::new(1000);
        (0..40).for_each(|at| f.read(at, 1));
        f.cached.clear();
        assert_eq!(f.read_plans(40, 1), [(40, 4)]);
    }

    #[test]
    fn the_end_of_the_file_ends_it_until_the_file_grows() {
        let mut f = File::new(6);
        (0..6).for_each(|at| f.read(at, 1));
        assert_eq!(f.plans, [(0, 4), (4, 2)]);
        f.pages = 100;
        assert_eq!(f.read_plans(6, 1), [(6, 4)]);
        let mut last = Ondemand::new();
        last.begin(u32::MAX - 1, u32::MAX - 1);
        let (first, pages) = (u32::MAX - 1, 1);
        assert_eq!(last.miss(first, first, u32::MAX), Plan { first, pages });
    }

    proptest! {
        #![proptest_config(config(300))]
        #[test]
        fn a_sequential_reader_waits_once_and_reads_each_page_once(
            pages in 1u32..600, sizes in prop::collection::vec(1u32..70, 1..40), from in 0u32..600,
        ) {
            let mut f = File::new(pages);
            let start = from % pages;
            let mut at = start;
            for size in sizes.iter().cycle().take(700) {
                let size = (*size).min(pages - at);
                if size == 0 { break; }
                f.read(at, size);
                at += size;
            }
            let mut expected = start;
            for &(first, size) in &f.plans {
                prop_assert_eq!(first, expected, "no gap, no overlap");
                expected += size;
            }
            prop_assert!(expected >= at);
            // One from the middle is known to be sequential by its second read.
            let first_read = sizes[0].div_ceil(MAX_WINDOW) as usize;
            let most = if start == 0 { 1 } else { first_read + 1 };
            prop_assert!(f.waits <= most, "{} waits", f.waits);
        }

        #[test]
        fn random_reads_get_what_they_ask(reads in prop::collection::vec((1u32..500, 1u32..50), 1..steps(60))) {
            let mut f = File::new(600);
            let mut asked = BTreeSet::new();
            let mut before = 0u32..1;
            for (first, count) in reads {
                // Neither behind the read before, nor from its last page on.
                if first == before.end || first + 1 == before.end { continue; }
                f.read(first, count);
                before = first..first + count;
                asked.extend(before.clone());
                prop_assert_eq!(&f.cached, &asked);
            }
        }

        #[test]
        fn any_reads_stay_inside_the_file_and_near_the_reader(
            reads in prop::collection::vec((0u32..200, 1u32..50, 0u8..4, 1u32..300, 0u32..200), 1..steps(80)),
        ) {
            let mut f = File::new(200);
            let mut at = 0;
            for (jump, count, how, pages, dropped) in reads {
                match how {
                    0 => at = jump,
                    1 => {
                        // Truncated or grown; `carry_out` looks at the end.
                        f.pages = pages;
                        f.cached.split_off(&pages);
                    }
                    2 => { f.cached.split_off(&dropped); }
                    _ => {}
                }
                at = at.min(f.pages - 1);
                let count = count.min(f.pages - at);
                f.plans.clear();
                f.read(at, count);
                at += count;
                for &(first, size) in &f.plans {
                    prop_assert!(first + size <= at + 2 * MAX_WINDOW, "too far ahead");
                }
            }
        }
    }
}
