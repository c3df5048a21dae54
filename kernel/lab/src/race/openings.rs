//! The openings of a scenario's files, and what each was told of failures.
//!
//! A failed write is told to each opening once, by its next sync. (A failed flush is told as well,
//! but of which file it was is not known here: what its caller was promised shows it.)
//!
//! Pure, but for the openers that it keeps: no lock, never sleeps.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mm::file::Opener;

/// What one opening was told.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Told {
    /// Syncs that returned with an error.
    times: usize,
    /// Failed writes that it knows of.
    known: usize,
}

/// Requests that had failed, of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failures {
    /// Writes of it.
    pub(super) writes: usize,
    /// Flushes of the disk.
    pub(super) flushes: usize,
}

impl Told {
    /// A sync returns, with an error or without, when `now` had failed, and `before` when it began.
    /// What is wrong with that.
    pub(super) fn sync(
        &mut self,
        before: Failures,
        now: Failures,
        refused: bool,
    ) -> Option<String> {
        if !refused {
            let lost = before.writes.saturating_sub(self.known);
            return (lost > 0).then(|| {
                format!("a sync returns without an error, and {lost} failed writes were not told")
            });
        }
        self.times += 1;
        self.known = now.writes;
        let failed = now.writes + now.flushes;
        (self.times > failed).then(|| {
            let times = self.times;
            format!("error {times} of a sync, and {failed} requests have failed")
        })
    }
}

struct Opening {
    file: usize,
    /// Whose it is; of all others, if nobody's.
    actor: Option<usize>,
    opener: Arc<Opener>,
    told: Told,
}

/// See the module text.
pub(super) struct Openings(Vec<Opening>);

impl Openings {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The file at place `file` has another opening: that of `actor`, or of all that have none of
    /// their own.
    pub(super) fn add(&mut self, file: usize, actor: Option<usize>, opener: Arc<Opener>) {
        self.0.push(Opening {
            file,
            actor,
            opener,
            told: Told::default(),
        });
    }

    fn find(&mut self, file: usize, actor: Option<usize>) -> Option<&mut Opening> {
        let is = |whose| move |o: &Opening| (o.file, o.actor) == (file, whose);
        let own = self.0.iter().position(is(actor));
        let n = own.or_else(|| self.0.iter().position(is(None)))?;
        self.0.get_mut(n)
    }

    /// The opening of a file that `actor` uses.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn of(&mut self, file: usize, actor: Option<usize>) -> Arc<Opener> {
        let found = self.find(file, actor);
        Arc::clone(&found.expect("the scenario opened a file here").opener)
    }

    /// What it was told.
    pub(super) fn told(&mut self, file: usize, actor: Option<usize>) -> Option<&mut Told> {
        self.find(file, actor).map(|o| &mut o.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Failures = failed(0, 0);

    const fn failed(writes: usize, flushes: usize) -> Failures {
        Failures { writes, flushes }
    }

    #[test]
    fn a_failed_write_is_told_once() {
        let mut told = Told::default();
        assert_eq!(told.sync(NONE, NONE, false), None);
        assert_eq!(told.sync(NONE, failed(1, 0), true), None);
        assert_eq!(told.sync(failed(1, 0), failed(1, 0), false), None);
        let twice = told.sync(failed(1, 0), failed(1, 0), true).unwrap();
        assert!(
            twice.contains("error 2 of a sync, and 1 requests"),
            "{twice}"
        );
    }

    #[test]
    fn a_failed_write_is_told_by_the_next_sync() {
        let mut told = Told::default();
        // It failed while the sync was under way, which may have returned before.
        assert_eq!(told.sync(NONE, failed(1, 0), false), None);
        let lost = told.sync(failed(1, 0), failed(1, 0), false).unwrap();
        assert!(lost.contains("1 failed writes"), "{lost}");
        assert_eq!(told.sync(failed(1, 0), failed(2, 0), true), None);
        assert_eq!(told.sync(failed(2, 0), failed(2, 0), false), None);
    }

    #[test]
    fn an_error_without_a_failure_is_none() {
        let mut told = Told::default();
        assert!(told.sync(NONE, NONE, true).is_some());
        let mut told = Told::default();
        assert_eq!(told.sync(NONE, failed(0, 1), true), None);
        // A failed flush is not known to be this file's.
        assert_eq!(
            Told::default().sync(failed(0, 1), failed(0, 1), false),
            None
        );
    }
}
