//! How far to read ahead when a page is swapped in, and which pages.
//!
//! The window doubles while pages read ahead get used, and shrinks by half at most from one fault
//! to the next when they do not. It is laid either over slots (neighbours on disk) or over the
//! addresses of one VMA. Behaviour as swap-in readahead in Linux 6.1.
//!
//! Locks: none; the state of an area or a VMA is one word, and a lost update costs a guess only.
//! Never sleeps.

/// Largest window in pages; a power of two.
pub const MAX_WINDOW: u32 = 8;

/// What is remembered between two faults: fits the atomic word of a VMA or a swap area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readahead {
    /// Where the last fault was (slot, or page index of the address).
    prev: u32,
    window: u8,
    /// Pages read ahead that were used since the last fault.
    hits: u8,
}

impl Default for Readahead {
    fn default() -> Self {
        Self::new()
    }
}

impl Readahead {
    /// Nothing known: the first fault reads its own page and little more.
    pub const fn new() -> Self {
        Self {
            prev: 0,
            window: 0,
            hits: 0,
        }
    }

    /// From [`Readahead::to_bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            prev: bits as u32,
            window: (bits >> 32) as u8,
            hits: (bits >> 40) as u8,
        }
    }

    /// One word; 0 is the state of [`Readahead::new`].
    pub const fn to_bits(self) -> u64 {
        self.prev as u64 | (self.window as u64) << 32 | (self.hits as u64) << 40
    }

    /// Where the last fault was.
    pub const fn prev(self) -> u32 {
        self.prev
    }

    /// A page that was read ahead is used for the first time.
    pub const fn hit(&mut self) {
        self.hits = self.hits.saturating_add(1);
    }

    /// Notes a fault at `at` and returns the window in pages: a power of two from 1 to `max`,
    /// itself cut to [`MAX_WINDOW`] and down to a power of two. 1 means: only this page.
    pub fn fault(&mut self, at: u32, max: u32) -> u32 {
        let max = 1 << max.clamp(1, MAX_WINDOW).ilog2();
        let wanted = if self.hits == 0 {
            // Without hits, only a fault next to the last one is a sign of a sequence.
            if self.prev.abs_diff(at) == 1 { 2 } else { 1 }
        } else {
            (u32::from(self.hits) + 2).next_power_of_two()
        };
        let window = wanted.min(max).max((u32::from(self.window) / 2).min(max));
        *self = Self {
            prev: at,
            window: window as u8,
            hits: 0,
        };
        window
    }
}

/// The aligned window of `window` pages (a power of two) that contains slot `at`, as (first, last),
/// cut to the slots `1..slots`: slot 0 is the header.
pub fn slot_window(at: u32, window: u32, slots: u32) -> (u32, u32) {
    debug_assert!(window.is_power_of_two() && at < slots);
    let first = at & !(window - 1);
    let last = at | (window - 1);
    (first.max(1).min(at), last.min(slots - 1))
}

/// The window of `window` pages for a fault at page `at` after one at `prev`, as (first, last), cut
/// to `[low, high)`: ahead of an ascending or a descending sequence, else around the page.
pub fn vma_window(at: u32, prev: u32, window: u32, low: u32, high: u32) -> (u32, u32) {
    debug_assert!(window > 0 && low <= at && at < high);
    let more = window - 1;
    let behind = if at.wrapping_sub(prev) == 1 {
        0
    } else if prev.wrapping_sub(at) == 1 {
        more
    } else {
        more / 2
    };
    let first = at.saturating_sub(behind).max(low);
    let last = at.saturating_add(more - behind).min(high - 1);
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use proptest::prelude::*;

    #[test]
    fn grows_with_hits_and_decays_without() {
        let mut r = Readahead::new();
        assert_eq!(r.fault(100, 8), 1, "the first fault is no sequence");
        assert_eq!(r.fault(101, 8), 2, "the next page is");
        assert_eq!(r.fault(100, 8), 2, "also downwards");
        assert_eq!(r.fault(500, 8), 1);
        r.hit();
        assert_eq!(r.fault(1500, 8), 4);
        (0..3).for_each(|_| r.hit());
        assert_eq!(r.fault(2500, 8), 8);
        (0..300).for_each(|_| r.hit());
        assert_eq!((r.fault(3500, 8), r.prev()), (8, 3500));
        let decay = [r.fault(9, 8), r.fault(99, 8), r.fault(999, 8)];
        assert_eq!(decay, [4, 2, 1], "half of the last window at least");
    }

    #[test]
    fn the_limit_binds() {
        let mut r = Readahead::new();
        (0..300).for_each(|_| r.hit());
        assert_eq!(r.fault(7, 1000), MAX_WINDOW);
        (0..300).for_each(|_| r.hit());
        assert_eq!(r.fault(70, 7), 4);
        (0..300).for_each(|_| r.hit());
        assert_eq!(r.fault(700, 0), 1);
    }

    #[test]
    fn slot_windows() {
        assert_eq!(slot_window(13, 8, 100), (8, 15));
        assert_eq!(slot_window(13, 1, 100), (13, 13));
        assert_eq!(slot_window(3, 8, 100), (1, 7), "not the header");
        assert_eq!(slot_window(97, 8, 99), (96, 98), "not past the end");
    }

    #[test]
    fn vma_windows() {
        assert_eq!(vma_window(50, 49, 8, 0, 100), (50, 57));
        assert_eq!(vma_window(50, 51, 8, 0, 100), (43, 50));
        assert_eq!(vma_window(50, 7, 8, 0, 100), (47, 54));
        assert_eq!(vma_window(50, 49, 8, 50, 53), (50, 52));
        assert_eq!(vma_window(50, 51, 8, 48, 53), (48, 50));
        assert_eq!(vma_window(0, 9, 8, 0, 2), (0, 1));
        assert_eq!(vma_window(50, 7, 1, 0, 100), (50, 50));
    }

    proptest! {
        #![proptest_config(config(500))]
        #[test]
        fn windows_contain_the_page_and_stay_inside(
            prev: u32, at: u32, near in -2i32..=2, low: u32, high: u32, shift in 0u32..=3,
        ) {
            let window = 1 << shift;
            let high = high.max(at.saturating_add(1));
            let at = at.min(high - 1);
            let low = low.min(at);
            for prev in [prev, at.wrapping_add_signed(near)] {
                let (first, last) = vma_window(at, prev, window, low, high);
                prop_assert!(low <= first && first <= at && at <= last && last < high);
                prop_assert!(last - first < window);
            }
            let (first, last) = slot_window(at, window, high);
            prop_assert!(first <= at && at <= last && last < high && last - first < window);
            prop_assert!(first > 0 || at == 0);
        }

        #[test]
        fn the_window_is_a_power_of_two_and_halves_at_most(
            faults in prop::collection::vec((any::<u32>(), 0u8..12, 0u32..12), 1..40),
        ) {
            let mut r = Readahead::new();
            prop_assert_eq!(r.to_bits(), 0);
            for (at, hits, max) in faults {
                (0..hits).for_each(|_| r.hit());
                prop_assert_eq!(Readahead::from_bits(r.to_bits()), r);
                let before = u32::from(r.window);
                let window = r.fault(at, max);
                prop_assert!(window.is_power_of_two() && window <= max.clamp(1, MAX_WINDOW));
                let limit = 1 << max.clamp(1, MAX_WINDOW).ilog2();
                prop_assert!(window >= (before / 2).min(limit));
                prop_assert!(hits == 0 || window >= 4.min(limit));
            }
        }
    }
}
