//! What `race run all` may spend, and what it has spent where.
//!
//! The budget is the simulator's: a scenario that wants more runs than its share is not exhausted,
//! and the last line names it. Nothing is left out in silence, and nothing fails for being slow.

use alloc::string::String;
use alloc::vec::Vec;

use super::run::Outcome;
use crate::out::Out;

/// Runs for one scenario, those given up included, unless `--full` or `--max` says otherwise.
pub(super) const RUNS_OF_ONE: u64 = 200_000;

/// Minutes for all scenarios together on two cores.
const MINUTES_OF_ALL: u64 = 15;

/// What was spent on one scenario, with all the searches for it.
struct Share {
    name: &'static str,
    ms: u64,
    /// Of all searches.
    runs: u64,
    /// Of the search that had most.
    longest: u64,
    /// Nothing was left to try in any of them, or a failure ended it.
    is_done: bool,
}

/// What a command has spent where.
#[derive(Default)]
pub(super) struct Spent {
    shares: Vec<Share>,
}

impl Spent {
    /// Counts a search.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let p = &outcome.progress;
        let runs = p.schedules + p.redundant;
        self.add_share(Share {
            name: outcome.subject.scenario.name(),
            ms: outcome.ms,
            runs,
            longest: runs,
            is_done: outcome.exhausted || !outcome.is_clean(),
        });
    }

    fn add_share(&mut self, new: Share) {
        match self.shares.iter_mut().find(|s| s.name == new.name) {
            Some(of) => {
                of.ms += new.ms;
                of.runs += new.runs;
                of.longest = of.longest.max(new.longest);
                of.is_done &= new.is_done;
            }
            None => self.shares.push(new),
        }
    }

    /// Each scenario with its time and its runs, most first, and how that compares with the budget.
    /// `limit` is the most runs that a search had.
    pub(super) fn show(mut self, limit: u64, out: &dyn Out) {
        let all: u64 = self.shares.iter().map(|s| s.ms).sum();
        let runs: u64 = self.shares.iter().map(|s| s.runs).sum();
        self.shares
            .sort_by_key(|s| core::cmp::Reverse((s.ms, s.runs)));
        let n = self.shares.len();
        writeln!(
            out,
            "# spent: {n} scenarios ms={all} runs={runs}, and of that:"
        );
        for Share { name, ms, runs, .. } in &self.shares {
            let percent = ms * 100 / all.max(1);
            writeln!(
                out,
                "# spent: {name:<28} ms={ms:<7} {percent:>3} % runs={runs}"
            );
        }
        self.compare(all, limit, out);
    }

    fn compare(&self, ms: u64, limit: u64, out: &dyn Out) {
        if !cfg!(target_os = "none") {
            let secs = MINUTES_OF_ALL * 60;
            writeln!(out, "# budget: {} of {secs} seconds", ms / 1000);
        }
        if let Some(most) = self.shares.iter().max_by_key(|s| s.longest) {
            let Share { name, longest, .. } = most;
            match limit {
                u64::MAX => writeln!(out, "# budget: most runs {longest}, in {name}"),
                _ => writeln!(out, "# budget: most runs {longest} of {limit}, in {name}"),
            }
        }
        let beyond: Vec<&str> = self
            .shares
            .iter()
            .filter(|s| !s.is_done)
            .map(|s| s.name)
            .collect();
        let beyond: String = match beyond.as_slice() {
            [] => "nothing".into(),
            some => some.join(", "),
        };
        writeln!(out, "# budget: not exhausted: {beyond}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::Buffer;

    fn share(name: &'static str, ms: u64, runs: u64, is_done: bool) -> Share {
        Share {
            name,
            ms,
            runs,
            longest: runs,
            is_done,
        }
    }

    fn shown(shares: impl IntoIterator<Item = Share>, limit: u64) -> String {
        let mut spent = Spent::default();
        for s in shares {
            spent.add_share(s);
        }
        let out = Buffer::default();
        spent.show(limit, &out);
        out.take()
    }

    #[test]
    fn searches_of_one_scenario_are_added_and_the_longest_comes_first() {
        let text = shown(
            [
                share("short", 10, 5, true),
                share("long", 20, 100, true),
                share("long", 60_000, 40, true),
            ],
            200,
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "# spent: 2 scenarios ms=60030 runs=145, and of that:"
        );
        assert!(lines[1].starts_with("# spent: long ") && lines[1].ends_with("99 % runs=140"));
        assert!(lines[2].starts_with("# spent: short "));
        assert!(text.contains("# budget: 60 of 900 seconds"));
        assert!(text.contains("# budget: most runs 100 of 200, in long"));
        assert!(text.contains("# budget: not exhausted: nothing"));
    }

    #[test]
    fn what_is_not_exhausted_is_named() {
        let all = [
            share("a", 1, 200, false),
            share("b", 1, 1, true),
            share("c", 1, 200, false),
        ];
        let text = shown(all, u64::MAX);
        assert!(text.contains("# budget: not exhausted: a, c"));
        assert!(text.contains("# budget: most runs 200, in "));
    }
}
