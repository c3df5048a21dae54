//! Merges the slots of a batch into runs, so that neighbours on disk become one request.
//!
//! Locks: none. Never sleeps.

/// Splits `pages`, pairs of (slot, pfn) by ascending slot, into the longest runs of consecutive
/// slots of at most `max` pages each (0 counts as 1). The frames of a run need not be consecutive:
/// a request takes one segment per frame.
pub fn runs(pages: &[(u32, u32)], max: usize) -> Runs<'_> {
    debug_assert!(pages.is_sorted_by(|a, b| a.0 < b.0), "slots not ascending");
    Runs {
        rest: pages,
        max: max.max(1),
    }
}

/// Runs of consecutive slots: see [`runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    rest: &'a [(u32, u32)],
    max: usize,
}

impl<'a> Iterator for Runs<'a> {
    type Item = &'a [(u32, u32)];

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let broken = |w: &[(u32, u32)]| w[0].0.checked_add(1) != Some(w[1].0);
        let natural = match self.rest.windows(2).take(self.max).position(broken) {
            Some(at) => at + 1,
            None => self.rest.len(),
        };
        let (run, rest) = self.rest.split_at(natural.min(self.max));
        self.rest = rest;
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    #[test]
    fn cuts_at_holes_and_at_the_limit() {
        let pages = [(3, 9), (4, 1), (5, 7), (6, 0), (8, 2), (u32::MAX, 3)];
        let lens = |max| runs(&pages, max).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(lens(32), [4, 1, 1]);
        assert_eq!(lens(4), [4, 1, 1]);
        assert_eq!(lens(3), [3, 1, 1, 1]);
        assert_eq!(lens(0), [1; 6]);
        assert_eq!(runs(&[], 8).count(), 0);
    }

    proptest! {
        #![proptest_config(config(300))]
        #[test]
        fn runs_are_maximal_and_lose_nothing(
            pages in prop::collection::btree_map(0u32..80, any::<u32>(), 0..60), max in 1usize..12,
        ) {
            let pages: Vec<(u32, u32)> = BTreeMap::into_iter(pages).collect();
            let all: Vec<&[(u32, u32)]> = runs(&pages, max).collect();
            prop_assert_eq!(all.concat(), &pages[..]);
            for run in &all {
                prop_assert!(!run.is_empty() && run.len() <= max);
                prop_assert!(run.windows(2).all(|w| w[0].0 + 1 == w[1].0));
            }
            for pair in all.windows(2) {
                let joined = pair[0][pair[0].len() - 1].0 + 1 == pair[1][0].0;
                prop_assert!(!joined || pair[0].len() == max, "two runs that could be one");
            }
        }
    }
}
