//! `fault-inject`: errors of the swap disk.

use alloc::format;

use arch::block::Op;

use crate::args::{UsageError, number};
use crate::faulty::{DISK, MAX_RULES, Rule};
use crate::shell::{Ctx, Status};

pub(super) fn fault_inject(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let times = args.number("--times", u64::MAX, 1..=u64::MAX)?;
    let verb = args.word();
    let range = args.word();
    args.done()?;
    match verb.as_deref() {
        None => {}
        Some("clear") => DISK.clear(),
        Some(op @ ("read" | "write")) => {
            let (first, end) = sectors(range.as_deref())?;
            let rule = Rule {
                op: if op == "read" { Op::Read } else { Op::Write },
                first,
                end,
                times,
            };
            if !DISK.add(rule) {
                return Err(UsageError(format!(
                    "there are {MAX_RULES} rules already: 'fault-inject clear' first"
                )));
            }
        }
        Some(other) => {
            return Err(UsageError(format!(
                "unknown verb '{other}'; accepted: read, write, clear"
            )));
        }
    }
    let mut any = false;
    for (rule, hits) in DISK.rules() {
        any = true;
        let end = if rule.end == u64::MAX {
            "the end".into()
        } else {
            format!("{}", rule.end - 1)
        };
        let left = if rule.times == u64::MAX - hits {
            "for ever".into()
        } else {
            format!("{} more", rule.times)
        };
        writeln!(
            ctx.out,
            "{:?} of sectors {} to {end}: {left}, {hits} failed so far",
            rule.op, rule.first
        );
    }
    if !any {
        writeln!(ctx.out, "no injected errors");
    }
    Ok(Status::Ok)
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
