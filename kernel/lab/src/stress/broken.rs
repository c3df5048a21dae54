//! `--broken`: a stress without the rule that it watches succeeds when the damage is seen.

use alloc::format;
use alloc::string::String;

use mm::knobs::Knob;

use super::Env;

/// Runs `hunt`; with `--broken` without the rules `rules`, and then it must fail with a message
/// that contains `sign`.
///
/// # Errors
/// What `hunt` has found, or with `--broken` that nothing was.
pub fn hunt(
    env: &Env<'_>,
    rules: &[Knob],
    sign: &str,
    hunt: fn(&Env<'_>) -> Result<(), String>,
) -> Result<(), String> {
    if !env.broken {
        return hunt(env);
    }
    match without(rules, || hunt(env))? {
        Err(message) if message.contains(sign) => {
            writeln!(
                env.out,
                "stress {}: seen, as it must be: {message}",
                env.name
            );
            Ok(())
        }
        Err(message) => Err(message),
        Ok(()) if env.cancel.requested() => Ok(()),
        Ok(()) => Err(format!("{} off, and no damage was seen", names(rules))),
    }
}

fn names(rules: &[Knob]) -> String {
    let names: alloc::vec::Vec<&str> = rules.iter().map(|knob| knob.name()).collect();
    names.join(", ")
}

/// `f` with these rules switched off; the outer error: this build has no switches.
#[cfg(feature = "lab")]
fn without(
    rules: &[Knob],
    f: impl FnOnce() -> Result<(), String>,
) -> Result<Result<(), String>, String> {
    let off = rules
        .iter()
        .map(|knob| (*knob, mm::knobs::set(*knob, false)));
    let were: alloc::vec::Vec<(Knob, bool)> = off.collect();
    let found = f();
    for (knob, was) in were {
        mm::knobs::set(knob, was);
    }
    // The simulator's oracle may have seen it too.
    crate::oracle::take();
    Ok(found)
}

#[cfg(not(feature = "lab"))]
fn without(
    _: &[Knob],
    _: impl FnOnce() -> Result<(), String>,
) -> Result<Result<(), String>, String> {
    Err(String::from("--broken wants a build with the lab"))
}
