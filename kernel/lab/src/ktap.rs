//! KTAP version 1 output: suites as nested documents, diagnostics before the result they explain.
//!
//! Source of the format: the kernel documentation's "The Kernel Test Anything Protocol (KTAP),
//! version 1". Takes no locks and allocates nothing, so that a result can be reported when memory
//! is out.

use core::fmt;

use crate::out::Out;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It could not run here.
    Skipped,
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// Tests that could not run here.
    pub skipped: u32,
}

impl Tally {
    /// Counts one verdict.
    pub fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed => self.failed += 1,
            Verdict::Skipped => self.skipped += 1,
        }
    }

    /// Counts all that `other` counted.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The verdict on a suite: failed if a test failed, skipped if every test was.
    pub const fn verdict(self) -> Verdict {
        if self.failed > 0 {
            Verdict::Failed
        } else if self.passed == 0 && self.skipped > 0 {
            Verdict::Skipped
        } else {
            Verdict::Passed
        }
    }
}

/// One document: a plan and its numbered results. Nested ones are indented by two spaces per level.
pub struct Document<'a> {
    out: &'a dyn Out,
    level: usize,
    planned: usize,
    done: usize,
}

impl<'a> Document<'a> {
    /// Starts the outermost document of `planned` results.
    pub fn new(out: &'a dyn Out, planned: usize) -> Self {
        Self::start(out, 0, planned, None)
    }

    /// Starts the document of the suite `name`; its result comes next in `self`.
    pub fn nested(&self, name: &str, planned: usize) -> Self {
        Self::start(self.out, self.level + 1, planned, Some(name))
    }

    fn start(out: &'a dyn Out, level: usize, planned: usize, name: Option<&str>) -> Self {
        let document = Self {
            out,
            level,
            planned,
            done: 0,
        };
        document.line(format_args!("KTAP version 1"));
        if let Some(name) = name {
            document.line(format_args!("# Subtest: {name}"));
        }
        document.line(format_args!("1..{planned}"));
        document
    }

    fn line(&self, text: fmt::Arguments<'_>) {
        writeln!(self.out, "{:indent$}{text}", "", indent = 2 * self.level);
    }

    /// A `# …` line about the result that comes next; `text` must be one line.
    pub fn diagnostic(&self, text: fmt::Arguments<'_>) {
        self.line(format_args!("# {text}"));
    }

    /// The next result.
    ///
    /// # Panics
    /// When the plan is already fulfilled: the caller's count is wrong.
    pub fn result(&mut self, verdict: Verdict, name: &str, skip_reason: &str) {
        assert!(self.done < self.planned, "more results than planned");
        self.done += 1;
        let number = self.done;
        match verdict {
            Verdict::Passed => self.line(format_args!("ok {number} {name}")),
            Verdict::Failed => self.line(format_args!("not ok {number} {name}")),
            Verdict::Skipped => self.line(format_args!("ok {number} {name} # SKIP {skip_reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::Buffer;

    #[test]
    fn a_nested_document() {
        let buffer = Buffer::new();
        let mut top = Document::new(&buffer, 1);
        let mut inner = top.nested("fork", 3);
        inner.result(Verdict::Passed, "a", "");
        inner.diagnostic(format_args!("seed: {}", 7));
        inner.result(Verdict::Failed, "b", "");
        inner.result(Verdict::Skipped, "c", "no swap");
        top.result(Verdict::Failed, "fork", "");
        assert_eq!(
            buffer.take(),
            "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: fork\n  1..3\n  ok 1 a\n  # seed: 7\n  \
             not ok 2 b\n  ok 3 c # SKIP no swap\nnot ok 1 fork\n"
        );
    }

    #[test]
    fn tallies() {
        let mut t = Tally::default();
        assert_eq!(t.verdict(), Verdict::Passed);
        t.count(Verdict::Skipped);
        assert_eq!(t.verdict(), Verdict::Skipped);
        t.count(Verdict::Passed);
        assert_eq!(t.verdict(), Verdict::Passed);
        t.count(Verdict::Failed);
        assert_eq!(t.verdict(), Verdict::Failed);
    }

    #[test]
    #[should_panic(expected = "more results than planned")]
    fn a_result_beyond_the_plan_is_a_bug() {
        Document::new(&Buffer::new(), 0).result(Verdict::Passed, "x", "");
    }
}
