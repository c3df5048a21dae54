//! What replays a failure: the machine, the switches and injected errors as they are set, and the
//! command with its seed.
//!
//! Allocates nothing: a failure must come out when memory is out. Takes no locks.

use alloc::string::String;
use core::fmt;

#[cfg(feature = "lab")]
use mm::knobs::{self, Knob};

#[cfg(feature = "lab")]
use crate::args::on_or_off;
#[cfg(feature = "lab")]
use crate::faulty;

/// What makes this machine, as words of a command line of the host.
static MACHINE: spin::Once<String> = spin::Once::new();

/// Keeps what makes this machine; the first call counts.
pub fn set_machine(words: String) {
    MACHINE.call_once(|| words);
}

/// Gives `tell` the lines about a failure of `command`, which has `--seed seed` among its words.
pub fn tell(seed: u64, command: fmt::Arguments<'_>, tell: &dyn Fn(fmt::Arguments<'_>)) {
    tell(format_args!("seed: {seed:#x}"));
    if let Some(machine) = MACHINE.get() {
        tell(format_args!("machine: {machine}"));
    }
    tell(format_args!("replay: {Settings}{command}"));
}

/// The commands that set what is not as it was at boot, each with `; ` after it.
struct Settings;

#[cfg(feature = "lab")]
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (knob, name, rule, _) in Knob::ALL {
            // A rule is on by default, a variant off.
            if knobs::on(*knob) != rule.is_some() {
                write!(f, "fix {name} {}; ", on_or_off(knobs::on(*knob)))?;
            }
        }
        for (name, disk) in [("swap", &faulty::SWAP), ("data", &faulty::DATA)] {
            for (rule, hits) in disk.rules() {
                write!(f, "fault-inject {name} {rule}")?;
                match rule.times.checked_add(hits) {
                    None | Some(u64::MAX) => {}
                    Some(times) => write!(f, " --times {times}")?,
                }
                write!(f, "; ")?;
            }
        }
        Ok(())
    }
}

#[cfg(not(feature = "lab"))]
impl fmt::Display for Settings {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
