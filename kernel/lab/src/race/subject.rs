//! What is run: a scenario, how the switches stand, a seed. Schedule strings name the three, so
//! they lead here and back.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use algo::explore::{Schedule, ScheduleError};
use mm::knobs::{self, Knob};

use super::scenario::Scenario;
use super::scenarios;
use super::theatre::Theatre;
use crate::args::{UsageError, on_off, on_or_off};
use crate::inspect::knob;

/// Which switches do not stand as usual: fixes that are off, variants that are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fixes {
    switched: u64,
}

impl Fixes {
    /// Every rule is kept, no variant is chosen.
    pub const ALL: Self = Self { switched: 0 };

    /// As the command `fix` has set them.
    pub fn current() -> Self {
        let each = Knob::ALL.iter().map(|k| (k.0, knobs::on(k.0)));
        each.fold(Self::ALL, |fixes, (k, on)| fixes.with(k, on))
    }

    /// The same with `knob` on or off.
    #[must_use]
    pub const fn with(self, knob: Knob, on: bool) -> Self {
        let bit = 1 << knob as u8;
        let switched = if on == knob.usual() {
            self.switched & !bit
        } else {
            self.switched | bit
        };
        Self { switched }
    }

    /// The same with `knob` as it usually is not: a fix off, a variant on.
    #[must_use]
    pub const fn against(self, knob: Knob) -> Self {
        self.with(knob, !knob.usual())
    }

    /// The same with what `words` say: `K=on|off`, several with commas between.
    ///
    /// # Errors
    /// When one is not understood.
    pub fn with_words(self, words: &str) -> Result<Self, UsageError> {
        words.split(',').try_fold(self, |fixes, word| {
            let (name, value) = word
                .split_once('=')
                .ok_or_else(|| UsageError(format!("bad fix '{word}': want K=on or K=off")))?;
            Ok(fixes.with(knob(name)?, on_off(value)?))
        })
    }

    /// Every switch with its position.
    pub fn positions(self) -> Vec<(Knob, bool)> {
        let on = |k: Knob| (self.switched & (1 << k as u8) == 0) == k.usual();
        Knob::ALL.iter().map(|k| (k.0, on(k.0))).collect()
    }

    fn switched_names(self) -> Vec<(&'static str, bool)> {
        let positions = self.positions().into_iter();
        let switched = positions.filter(|(k, on)| *on != k.usual());
        switched.map(|(k, on)| (k.name(), on)).collect()
    }
}

impl fmt::Display for Fixes {
    /// `all`, or those that do not stand as usual: `K=off,…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all");
        }
        for (i, (name, on)) in self.switched_names().iter().enumerate() {
            let (comma, state) = (if i == 0 { "" } else { "," }, on_or_off(*on));
            write!(f, "{comma}{name}={state}")?;
        }
        Ok(())
    }
}

/// See the module text.
#[derive(Clone, Copy)]
pub struct Subject {
    /// What is played.
    pub scenario: &'static dyn Scenario,
    /// Under which rules.
    pub fixes: Fixes,
    /// Of whatever is random in it.
    pub seed: u64,
}

impl Subject {
    /// The schedule string of it that prescribes nothing.
    ///
    /// # Panics
    /// If the scenario's name is none.
    pub fn schedule(&self) -> Schedule {
        let schedule = Schedule::new(
            self.scenario.name(),
            &self.fixes.switched_names(),
            self.seed,
        );
        schedule.expect("names of scenarios and switches fit into a schedule")
    }

    /// What `schedule` is about.
    ///
    /// # Errors
    /// When there is no such scenario or switch.
    pub fn of(schedule: &Schedule) -> Result<Self, UsageError> {
        let mut fixes = Fixes::ALL;
        for (name, on) in schedule.knobs() {
            fixes = fixes.with(knob(name)?, on);
        }
        Ok(Self {
            scenario: scenario(schedule.scenario())?,
            fixes,
            seed: schedule.seed,
        })
    }

    /// Runs `f` in the subject's world; the switches are then as they were before. Sleeps.
    ///
    /// # Errors
    /// A sentence saying what the machine lacks.
    pub fn perform<R>(&self, f: impl FnOnce(&mut Theatre) -> R) -> Result<R, String> {
        let before = Fixes::current();
        let theatre = Theatre::open(self.scenario, &self.fixes.positions());
        let played = theatre.map(|mut theatre| {
            theatre.set_seed(self.seed);
            f(&mut theatre)
        });
        for (knob, on) in before.positions() {
            knobs::set(knob, on);
        }
        played
    }
}

/// The scenario of this name.
///
/// # Errors
/// When there is none: the message lists those there are.
pub fn scenario(name: &str) -> Result<&'static dyn Scenario, UsageError> {
    scenarios::find(name).ok_or_else(|| {
        let names: Vec<&str> = scenarios::every().map(|s| s.name()).collect();
        UsageError(format!(
            "unknown scenario '{name}'; accepted: {}",
            names.join(", ")
        ))
    })
}

/// Parses a schedule string and finds what it is about.
///
/// # Errors
/// When the string is none, or names a scenario or switch that does not exist.
pub fn parse(text: &str) -> Result<(Subject, Schedule), UsageError> {
    let parsed: Result<Schedule, ScheduleError> = text.parse();
    let schedule = parsed.map_err(|e| UsageError(format!("{e}")))?;
    Ok((Subject::of(&schedule)?, schedule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_named_when_on() {
        assert_eq!(
            Fixes::ALL.with(Knob::LateDirty, false).to_string(),
            "all",
            "a variant is off by itself"
        );
        let both = Fixes::ALL
            .with_words("late_dirty=on,delay_rmap=off")
            .unwrap();
        assert_eq!(both.to_string(), "delay_rmap=off,late_dirty=on");
        assert_eq!(
            both,
            Fixes::ALL.against(Knob::LateDirty).against(Knob::DelayRmap)
        );
        let late = both.positions();
        assert!(late.contains(&(Knob::LateDirty, true)));
        assert!(late.contains(&(Knob::ImmediateGather, false)));
    }

    #[test]
    fn fixes_are_named_by_what_is_off() {
        assert_eq!(Fixes::ALL.to_string(), "all");
        let two = Fixes::ALL.with_words("wp_flush=off,tlb_flush=off").unwrap();
        assert_eq!(two.to_string(), "tlb_flush=off,wp_flush=off");
        let off = |(k, on): &(Knob, bool)| *on != k.usual();
        assert_eq!(two.positions().into_iter().filter(off).count(), 2);
        let one = two.with_words("wp_flush=on").unwrap();
        assert_eq!(one, Fixes::ALL.with(Knob::TlbFlush, false));
        assert_eq!(one, Fixes::ALL.against(Knob::TlbFlush));
        for (bad, part) in [
            ("tlb_flush", "want K=on or K=off"),
            ("tlb_flush=maybe", "want on or off"),
            ("tlb_flosh=off", "near: tlb_flush"),
            ("xyz=off", "pmd_recheck"),
        ] {
            let e = Fixes::ALL.with_words(bad).unwrap_err();
            assert!(e.0.contains(part), "{bad}: {}", e.0);
        }
    }

    #[test]
    fn a_schedule_leads_back_to_its_subject() {
        let subject = Subject {
            scenario: scenario("planted-deadlock").unwrap(),
            fixes: Fixes::ALL.with(Knob::AckIrqsOn, false),
            seed: 9,
        };
        let text = subject.schedule().to_string();
        assert_eq!(text, "v1:planted-deadlock:ack_irqs_on=off:9:-");
        let (back, schedule) = parse(&text).unwrap();
        assert_eq!(back.scenario.name(), "planted-deadlock");
        assert_eq!((back.fixes, back.seed), (subject.fixes, 9));
        assert_eq!(schedule.to_string(), text);
    }

    #[test]
    fn strings_that_mean_nothing_here_are_refused() {
        for (bad, part) in [
            ("v1:no-such:-:0:-", "accepted: "),
            (
                "v1:planted-deadlock:no_fix=off:0:-",
                "unknown switch 'no_fix'",
            ),
            ("v1:planted-deadlock:-:0", "4 fields"),
            ("v1:planted-deadlock:-:0:A0", "'A0'"),
        ] {
            let e = parse(bad).err().expect(bad);
            assert!(e.0.contains(part), "{bad}: {}", e.0);
        }
    }
}
