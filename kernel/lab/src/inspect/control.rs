//! `locks`, `fix`, `poweroff`.

use alloc::format;
use alloc::vec::Vec;

use mm::knobs::{self, Knob};
use sync::Rank;

use crate::args::{UsageError, on_off, on_or_off};
use crate::shell::{Ctx, Status, nearest};

pub(super) fn locks(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    ctx.args().done()?;
    writeln!(
        ctx.out,
        "{:<12} {:>10} {:>10}  what",
        "lock", "contended", "slept"
    );
    for rank in Rank::ALL {
        let c = rank.contention();
        writeln!(
            ctx.out,
            "{:<12} {:>10} {:>10}  {}",
            rank.name(),
            c.contended,
            c.slept,
            rank.describe()
        );
    }
    Ok(Status::Ok)
}

pub(super) fn poweroff(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    ctx.args().done()?;
    ctx.power_off();
    Ok(Status::Ok)
}

pub(super) fn knob_names() -> Vec<&'static str> {
    let names = Knob::ALL.iter().map(|k| k.1);
    names.chain(["on", "off"]).collect()
}

pub(super) fn fix(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let name = args.word();
    let value = args.word().map(|v| on_off(&v)).transpose()?;
    args.done()?;
    let chosen = name.map(|n| knob(&n)).transpose()?;
    if let (Some(knob), Some(value)) = (chosen, value) {
        set(knob, value)?;
    }
    for (knob, name, rule, what) in Knob::ALL {
        if chosen.is_none_or(|c| c == *knob) {
            let state = on_or_off(knobs::on(*knob));
            let kind = rule.map_or_else(|| "variant".into(), |n| format!("rule {n}"));
            writeln!(ctx.out, "{name:<20} {state:<3}  {kind:<7}  {what}");
        }
    }
    if !cfg!(feature = "lab") {
        writeln!(ctx.out, "# {NO_SWITCHES}");
    }
    Ok(Status::Ok)
}

/// The switch of this name.
///
/// # Errors
/// When there is none: the message names those near it, or all.
pub fn knob(name: &str) -> Result<Knob, UsageError> {
    Knob::by_name(name).ok_or_else(|| {
        let names = || Knob::ALL.iter().map(|k| k.1);
        let near = nearest(name, names()).join(", ");
        let hint = if near.is_empty() {
            format!("accepted: {}", names().collect::<Vec<_>>().join(", "))
        } else {
            format!("near: {near}")
        };
        UsageError(format!("unknown switch '{name}'; {hint}"))
    })
}

#[cfg(feature = "lab")]
fn set(knob: Knob, value: bool) -> Result<(), UsageError> {
    knobs::set(knob, value);
    Ok(())
}

const NO_SWITCHES: &str = "this build has no switches: every rule is compiled in, as it stands here \
                           (build with the lab, without --no-lab, to change one)";

#[cfg(not(feature = "lab"))]
fn set(_: Knob, _: bool) -> Result<(), UsageError> {
    Err(UsageError::new(NO_SWITCHES))
}
