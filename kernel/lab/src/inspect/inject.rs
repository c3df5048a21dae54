//! `fault-inject`: errors of the disks.

use alloc::format;

use arch::block::Op;

use crate::args::{UsageError, number};
use crate::faulty::{DATA, FaultyDisk, MAX_RULES, Rule, SWAP};
use crate::out::Out;
use crate::shell::{Ctx, Status};

pub(super) fn fault_inject(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let times = args.number("--times", u64::MAX, 1..=u64::MAX)?;
    let mut verb = args.word();
    let (disk, there) = match verb.as_deref() {
        Some("data") => (&DATA, arch::data_disk().is_some()),
        _ => (&SWAP, arch::swap_disk().is_some()),
    };
    if verb.is_some() && !there {
        return Err(UsageError::new("the machine has no such disk"));
    }
    if let Some("swap" | "data") = verb.as_deref() {
        verb = args.word();
    }
    let range = args.word();
    args.done()?;
    match verb.as_deref() {
        None => {}
        Some("clear") => disk.clear(),
        Some(op @ ("read" | "write" | "flush")) => {
            let (first, end) = sectors(range.as_deref())?;
            let rule = Rule {
                op: match op {
                    "read" => Op::Read,
                    "write" => Op::Write,
                    _ => Op::Flush,
                },
                first,
                end,
                times,
            };
            if !disk.add(rule) {
                return Err(UsageError(format!(
                    "there are {MAX_RULES} rules already: 'fault-inject clear' first"
                )));
            }
        }
        Some(other) => {
            return Err(UsageError(format!(
                "unknown verb '{other}'; accepted: read, write, flush, clear, with swap or data before it"
            )));
        }
    }
    let any = print_rules(ctx.out, "swap", &SWAP) | print_rules(ctx.out, "data", &DATA);
    if !any {
        writeln!(ctx.out, "no injected errors");
    }
    Ok(Status::Ok)
}

/// True if there were some.
fn print_rules(out: &dyn Out, name: &str, disk: &FaultyDisk) -> bool {
    let mut any = false;
    for (rule, hits) in disk.rules() {
        any = true;
        write!(out, "{name}: {rule}: ");
        if rule.times == u64::MAX - hits {
            writeln!(out, "for ever, {hits} failed so far");
        } else {
            writeln!(out, "{} more, {hits} failed so far", rule.times);
        }
    }
    any
}

/// `SECTOR`, `SECTOR+COUNT`, or nothing for the whole disk.
fn sectors(word: Option<&str>) -> Result<(u64, u64), UsageError> {
    let Some(word) = word else {
        return Ok((0, u64::MAX));
    };
    let (first, count) = word.split_once('+').unwrap_or((word, "1"));
    let (first, count) = (number(first)?, number(count)?);
    if count == 0 {
        return Err(UsageError(format!(
            "bad range '{word}': want SECTOR or SECTOR+COUNT, COUNT above 0"
        )));
    }
    Ok((first, first.saturating_add(count)))
}
