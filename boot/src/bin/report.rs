//! Embeds one phase of the tests into the overall KTAP report: `report TOTALS NAME [--cargo
//! PLANNED]`, from standard
//! input to standard output.
//!
//! Indents a KTAP stream by one level, or with `--cargo` makes one of what `cargo test` prints
//! about PLANNED tests; its subtest line, which follows its version line, says NAME. Appends
//! `PASSED FAILED SKIPPED` to the file TOTALS. Only leaves count: the result of a test that has
//! subtests says nothing new.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Totals {
    fn count(&mut self, ok: bool, skipped: bool) {
        match (ok, skipped) {
            (true, true) => self.skipped += 1,
            (true, false) => self.passed += 1,
            (false, _) => self.failed += 1,
        }
    }
}

/// Counts the leaves of a nested KTAP stream.
#[derive(Default)]
struct Leaves {
    totals: Totals,
    /// Indentation of the last result line: a result that is indented less sums up those above it.
    depth: usize,
}

impl Leaves {
    fn line(&mut self, line: &str) {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        let ok = text.starts_with("ok ");
        if !ok && !text.starts_with("not ok ") {
            return;
        }
        if depth >= self.depth {
            self.totals.count(ok, text.contains("# SKIP"));
        }
        self.depth = depth;
    }
}

/// One line of `cargo test`: the test's name and its outcome.
fn cargo_result(line: &str) -> Option<(&str, &str)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    Some((name, outcome.trim_end()))
}

/// The KTAP line for a line of `cargo test`.
fn convert(line: &str, totals: &mut Totals, number: &mut u64) -> String {
    let Some((name, outcome)) = cargo_result(line) else {
        return match line.trim().is_empty() {
            true => String::new(),
            false => format!("    # {line}\n"),
        };
    };
    *number += 1;
    let (ok, skipped) = match outcome {
        "ok" => (true, false),
        o if o.starts_with("ignored") => (true, true),
        _ => (false, false),
    };
    totals.count(ok, skipped);
    let verdict = if ok { "ok" } else { "not ok" };
    let skip = if skipped { " # SKIP" } else { "" };
    format!("    {verdict} {number} - {name}{skip}\n")
}

/// The line that begins a KTAP document.
const VERSION: &str = "KTAP version 1";

/// Turns the phase's output into what belongs into the overall report, line by line.
struct Phase<'a> {
    name: &'a str,
    cargo: bool,
    leaves: Leaves,
    number: u64,
    begun: bool,
}

impl<'a> Phase<'a> {
    fn new(name: &'a str, cargo: bool) -> Self {
        Self {
            name,
            cargo,
            leaves: Leaves::default(),
            number: 0,
            begun: false,
        }
    }

    /// The lines before the first one of a `cargo test` with so many tests.
    fn cargo_head(&self, planned: u64) -> String {
        let name = self.name;
        format!("    {VERSION}\n    # Subtest: {name}\n    1..{planned}\n")
    }

    fn line(&mut self, line: &str) -> String {
        if self.cargo {
            return convert(line, &mut self.leaves.totals, &mut self.number);
        }
        self.leaves.line(line);
        let first = line == VERSION && !std::mem::replace(&mut self.begun, true);
        match first {
            true => format!("    {line}\n    # Subtest: {}\n", self.name),
            false => format!("    {line}\n"),
        }
    }
}

fn run(path: &str, name: &str, planned: Option<u64>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut phase = Phase::new(name, planned.is_some());
    if let Some(planned) = planned {
        out.write_all(phase.cargo_head(planned).as_bytes())?;
    }
    // Bytes: a test may print what is no text.
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
        out.write_all(phase.line(&line).as_bytes())?;
        out.flush()?;
    }
    let totals = phase.leaves.totals;
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(
        file,
        "{} {} {}",
        totals.passed, totals.failed, totals.skipped
    )
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let planned = |n: &str| n.parse::<u64>().ok();
    let (path, name, planned) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path, name] => (path, name, None),
        [path, name, "--cargo", n] if planned(n).is_some() => (path, name, planned(n)),
        _ => {
            eprintln!("usage: report TOTALS NAME [--cargo PLANNED]");
            return ExitCode::from(2);
        }
    };
    match run(path, name, planned) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("report: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leaves_are_counted() {
        let mut leaves = Leaves::default();
        let stream = "KTAP version 1\n1..3\n  KTAP version 1\n  1..2\n  ok 1 a\n  not ok 2 b\nnot ok 1 x\n\
                      ok 2 y\n  ok 1 c # SKIP no disk\nok 3 z\n# ok 4\n";
        stream.lines().for_each(|l| leaves.line(l));
        let want = Totals {
            passed: 2,
            failed: 1,
            skipped: 1,
        };
        assert_eq!(leaves.totals, want);
    }

    /// What is printed for a phase with this output.
    fn shown(name: &str, planned: Option<u64>, output: &str) -> String {
        let mut phase = Phase::new(name, planned.is_some());
        let head = planned.map(|n| phase.cargo_head(n)).unwrap_or_default();
        output
            .lines()
            .fold(head, |shown, line| shown + &phase.line(line))
    }

    const GUEST: &str = "# from the guest\nKTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: fork\n  1..1\n  ok 1 a\n\
                         ok 1 fork\n1 passed, 0 failed\n";

    #[test]
    fn a_phase_is_a_subtest_that_is_named_within() {
        assert_eq!(
            shown("in QEMU", None, GUEST),
            "    # from the guest\n    KTAP version 1\n    # Subtest: in QEMU\n    1..1\n      KTAP version 1\n      \
             # Subtest: fork\n      1..1\n      ok 1 a\n    ok 1 fork\n    1 passed, 0 failed\n"
        );
    }

    /// The parser's rules: a nested document is named by a subtest line right after its version
    /// line and before its plan, and has as many results as planned, numbered from 1; the name is
    /// that of the result that sums it up, which comes next. Returns how many results there are.
    fn parse<'a>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> usize {
        let depth_of = |line: &str| line.len() - line.trim_start().len();
        let is_result = |line: &str| line.starts_with("ok ") || line.starts_with("not ok ");
        let first = lines.find(|l| l.trim_start() == VERSION).unwrap();
        let depth = depth_of(first);
        let mut next = || lines.next().unwrap().trim_start();
        let mut line = next();
        let name = line.strip_prefix("# Subtest: ");
        assert_eq!(name.is_some(), depth > 0, "{line}");
        if name.is_some() {
            line = next();
        }
        let planned: usize = line.strip_prefix("1..").unwrap().parse().unwrap();
        let (mut done, mut results) = (0, 0);
        while let Some(line) = lines.peek() {
            let (at, text) = (depth_of(line), line.trim_start());
            let expected = [format!("ok {} ", done + 1), format!("not ok {} ", done + 1)];
            if at < depth && is_result(text) {
                let title = text.split_once(' ').unwrap().1.trim_start_matches("ok ");
                let title = title.trim_start_matches(char::is_numeric);
                let title = title.trim_start_matches([' ', '-']);
                assert!(title.starts_with(name.unwrap()), "{line}");
                break;
            }
            if text == VERSION {
                assert!(at > depth, "{line}");
                results += parse(lines);
                continue;
            }
            if is_result(text) {
                assert!(at == depth && expected.iter().any(|e| text.starts_with(e)));
                (done, results) = (done + 1, results + 1);
            }
            lines.next();
        }
        assert_eq!(done, planned, "{name:?}");
        results
    }

    #[test]
    fn the_report_parses() {
        let cargo = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n";
        let report = format!(
            "KTAP version 1\n1..3\n{}not ok 1 - on the host\n{}ok 2 - in QEMU\n{}ok 3 - none\n1 passed, 1 failed\n",
            shown("on the host", Some(2), cargo),
            shown("in QEMU", None, GUEST),
            shown("none", Some(0), "running 0 tests\n"),
        );
        assert_eq!(parse(&mut report.lines().peekable()), 7);
    }

    #[test]
    fn cargo_lines_become_ktap() {
        let mut totals = Totals::default();
        let mut n = 0;
        let mut ktap = |line: &str| convert(line, &mut totals, &mut n);
        assert_eq!(ktap("test a::b ... ok"), "    ok 1 - a::b\n");
        assert_eq!(
            ktap("test c - should panic ... FAILED"),
            "    not ok 2 - c - should panic\n"
        );
        assert_eq!(ktap("test d ... ignored, slow"), "    ok 3 - d # SKIP\n");
        assert_eq!(ktap("running 3 tests"), "    # running 3 tests\n");
        assert_eq!(ktap(""), "");
        let want = Totals {
            passed: 1,
            failed: 1,
            skipped: 1,
        };
        assert_eq!(totals, want);
    }
}
