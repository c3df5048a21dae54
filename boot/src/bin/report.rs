//! Embeds one phase of the tests into the overall KTAP report: `report TOTALS [--cargo]`, from standard
//! input to standard output.
//!
//! Indents a KTAP stream by one level, or with `--cargo` makes one of what `cargo test` prints, and
//! appends `PASSED FAILED SKIPPED` to the file TOTALS. Only leaves count: the result of a test that has
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

fn run(path: &str, cargo: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut leaves = Leaves::default();
    let mut totals = Totals::default();
    let mut number = 0;
    if cargo {
        writeln!(out, "    KTAP version 1")?;
    }
    for line in io::stdin().lock().lines() {
        let line = line?;
        if cargo {
            out.write_all(convert(&line, &mut totals, &mut number).as_bytes())?;
        } else {
            leaves.line(&line);
            totals = leaves.totals;
            writeln!(out, "    {line}")?;
        }
        out.flush()?;
    }
    if cargo {
        writeln!(out, "    1..{number}")?;
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(
        file,
        "{} {} {}",
        totals.passed, totals.failed, totals.skipped
    )
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (path, cargo) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path] => (path, false),
        [path, "--cargo"] => (path, true),
        _ => {
            eprintln!("usage: report TOTALS [--cargo]");
            return ExitCode::from(2);
        }
    };
    match run(path, cargo) {
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
