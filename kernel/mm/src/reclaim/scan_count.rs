//! How much of which lists one round of reclaim looks at (Linux: `get_scan_count`).
//!
//! Where nothing can be swapped, files alone. Where files have hardly a page left, anonymous folios
//! alone; where there are inactive file folios in plenty, which cost nothing to drop, these alone:
//! a file that is read once pushes out nothing else. Else both, each the less the more its reclaim
//! has cost lately (`workingset`). Takes the LRU locks, one at a time; never sleeps.

use crate::buddy;
use crate::lru::{self, Counts, Kind};
use crate::rmap::batch::BATCH;
use crate::swap::{area, cache};
use crate::workingset;
use core::sync::atomic::{AtomicU64, Ordering};

/// How readily anonymous folios are taken where files cost the same, of 200 (Linux:
/// `vm_swappiness`).
const SWAPPINESS: u64 = 60;

/// Activations of refaulting pages when the last run of reclaim ended; by [`Kind`].
static SEEN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// A run of reclaim is over: the refaults until now were not its doing.
pub(super) fn end_run() {
    for kind in Kind::ALL {
        SEEN[kind as usize].store(workingset::activations(kind), Ordering::Relaxed);
    }
}

/// What one round does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    priority: u8,
    /// Of the share of each kind's list that `priority` names, so many parts of `whole` are looked
    /// at.
    parts: [u64; 2],
    whole: u64,
    /// A new working set comes in: what is active must prove itself though the inactive list is
    /// long enough.
    unsettled: [bool; 2],
    /// Anonymous folios can be evicted.
    swapping: bool,
}

/// What [`Plan::of`] decides by.
struct State {
    lists: [Counts; 2],
    cost: [u64; 2],
    unsettled: [bool; 2],
    swapping: bool,
    free: u64,
    high: u64,
}

impl Plan {
    /// The plan for this moment; 12 is the mildest `priority`, 0: all of both lists.
    pub(super) fn new(priority: u8) -> Self {
        // When swap is full, what has its copy there still can go.
        let swapping = area::free_slots() > 0 || cache::len() > 0;
        let lists = lru::counts();
        workingset::publish(&lists, swapping);
        let came_back = |kind: Kind| {
            workingset::activations(kind) != SEEN[kind as usize].load(Ordering::Relaxed)
        };
        let state = State {
            lists,
            cost: workingset::costs(),
            unsettled: Kind::ALL.map(came_back),
            swapping,
            free: u64::from(buddy::free_pages()),
            high: u64::from(buddy::watermarks().2),
        };
        Self::of(priority, &state)
    }

    fn of(priority: u8, state: &State) -> Self {
        let [anon, file] = &state.lists;
        let low = |c: &Counts| inactive_is_low(c.active, c.inactive);
        let (parts, whole) = if !state.swapping {
            ([0, 1], 1)
        } else if priority == 0 {
            ([1, 1], 1)
        } else if file.all() + state.free <= state.high && !low(anon) && anon.inactive > 0 {
            ([1, 0], 1)
        } else if file.inactive >= BATCH as u64 && !low(file) && !state.unsettled[1] {
            ([0, 1], 1)
        } else {
            by_cost(state.cost)
        };
        Self {
            priority,
            parts,
            whole,
            unsettled: state.unsettled,
            swapping: state.swapping,
        }
    }

    /// How many folios of a list of `len` to look at.
    pub(super) fn share(&self, kind: Kind, len: u32) -> u32 {
        let most = (len >> self.priority).max(BATCH as u32).min(len);
        (u64::from(most) * self.parts[kind as usize] / self.whole) as u32
    }

    /// How many of a shard's `active` folios are to become inactive.
    pub(super) fn aging(&self, kind: Kind, active: u32, inactive: u32) -> u32 {
        let low = inactive_is_low(u64::from(active), u64::from(inactive));
        if kind == Kind::Anon && !self.swapping {
            return 0;
        }
        if !low && !self.unsettled[kind as usize] && self.priority > 0 {
            return 0;
        }
        let share = self.share(kind, active);
        if low {
            // Also where it is not this kind's turn: it shall know by then what is in use.
            share.max(active.min(BATCH as u32))
        } else {
            share
        }
    }
}

/// The parts for lists that both have something to give, and their whole.
fn by_cost([anon, file]: [u64; 2]) -> ([u64; 2], u64) {
    // Each kind pays for all, and for its own once more: neither is left out for what it has cost.
    let all = anon + file;
    let part = |weight: u64, own: u64| weight * (all + 1) * 64 / (all + own + 1);
    let parts = [part(SWAPPINESS, anon), part(200 - SWAPPINESS, file)];
    (parts, parts[0] + parts[1])
}

/// The inactive list should hold a part of all that shrinks with the square root of memory (Linux:
/// `inactive_is_low`): at 1 GiB a half, at 10 GiB a quarter, at 100 GiB 1/33.
fn inactive_is_low(active: u64, inactive: u64) -> bool {
    let gib = (active + inactive) >> (30 - arch::PAGE_SHIFT);
    let ratio = if gib > 0 { (10 * gib).isqrt() } else { 1 };
    inactive * ratio < active
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(active: u64, inactive: u64) -> Counts {
        Counts { active, inactive }
    }

    /// Much of both kinds, no refaults, equal costs.
    fn state() -> State {
        State {
            lists: [counts(4000, 4000), counts(4000, 4000)],
            cost: [100, 100],
            unsettled: [false; 2],
            swapping: true,
            free: 100,
            high: 200,
        }
    }

    /// How much of lists of 4096 folios is looked at.
    fn shares(plan: &Plan) -> [u32; 2] {
        Kind::ALL.map(|kind| plan.share(kind, 4096))
    }

    #[test]
    fn without_swap_only_files_are_looked_at() {
        let mut s = state();
        s.swapping = false;
        for priority in 0..=12 {
            let plan = Plan::of(priority, &s);
            assert_eq!(shares(&plan), [0, (4096 >> priority).max(32)]);
            assert_eq!(plan.aging(Kind::Anon, 100, 0), 0);
        }
    }

    #[test]
    fn inactive_files_in_plenty_go_first() {
        assert_eq!(shares(&Plan::of(6, &state())), [0, 64]);
        let mut s = state();
        s.lists[1] = counts(0, 32);
        s.free = 1000;
        assert_eq!(shares(&Plan::of(6, &s)), [0, 64]);
        // Not when they come back, nor when most of what files have is in use.
        s.unsettled[1] = true;
        assert!(shares(&Plan::of(6, &s))[0] > 0);
        let mut s = state();
        s.lists[1] = counts(4000, 3000);
        assert!(shares(&Plan::of(6, &s))[0] > 0);
    }

    #[test]
    fn the_last_file_pages_stay() {
        let mut s = state();
        s.lists[1] = counts(0, 50);
        assert_eq!(shares(&Plan::of(6, &s)), [64, 0]);
        // Unless anonymous pages are all in use.
        s.lists[0] = counts(4000, 10);
        assert_eq!(shares(&Plan::of(6, &s)), [0, 64]);
    }

    #[test]
    fn the_strongest_pressure_looks_at_everything() {
        assert_eq!(shares(&Plan::of(0, &state())), [4096, 4096]);
        assert_eq!(Plan::of(0, &state()).aging(Kind::Anon, 100, 500), 100);
    }

    #[test]
    fn who_cost_more_is_looked_at_less() {
        let share = |anon: u64, file: u64| {
            let (parts, whole) = by_cost([anon, file]);
            (100 * parts[0]).div_ceil(whole)
        };
        assert_eq!(share(0, 0), 30, "the swappiness decides");
        assert_eq!(share(500, 500), 30);
        assert!(share(1000, 0) < 25 && share(0, 1000) > 40);
        assert!(share(u64::MAX >> 16, 0) > 10, "nobody is left out");
    }

    #[test]
    fn the_active_ages_where_the_inactive_is_short_or_refaults() {
        let mut s = state();
        let plan = Plan::of(12, &s);
        assert_eq!(plan.aging(Kind::File, 1000, 1000), 0);
        assert_eq!(plan.aging(Kind::File, 1000, 999), 32);
        assert_eq!(plan.aging(Kind::Anon, 1000, 10), 32, "in the background");
        assert_eq!(plan.aging(Kind::Anon, 10, 1000), 0);
        s.unsettled = [true; 2];
        assert_eq!(Plan::of(12, &s).aging(Kind::File, 1000, 1000), 22);
    }
}
