//! Schedules as short strings: `v1:SCENARIO:KNOBS:SEED:CHOICES[:PRINT]`, no spaces.
//!
//! SCENARIO is a name; KNOBS is `-` or a comma-separated list such as `tlb_flush=off`; SEED is
//! decimal; CHOICES are stretches such as `A5.B2.I1.A1` (A takes five steps, then B two, ...), `-`
//! for none; PRINT, eight hexadecimal digits, is the fingerprint of the run that the string was
//! made from ([`super::Trace::fingerprint`]). After the last stretch the actor that runs goes on
//! while it can, then the first that can, and so on.

use super::ActorId;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

const VERSION: &str = "v1";

/// Who took how many steps, in order. Neighbouring stretches are of different actors; none is
/// empty.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Choices(Vec<(ActorId, u32)>);

impl Choices {
    /// No choice yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more step of `actor`.
    #[inline]
    pub fn push(&mut self, actor: ActorId) {
        self.push_many(actor, 1);
    }

    /// `count` more steps of `actor`. Zero adds nothing.
    pub fn push_many(&mut self, actor: ActorId, count: u32) {
        match self.0.last_mut() {
            _ if count == 0 => {}
            Some(last) if last.0 == actor => last.1 = last.1.saturating_add(count),
            _ => self.0.push((actor, count)),
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The stretches: actor and number of steps.
    pub fn stretches(&self) -> &[(ActorId, u32)] {
        &self.0
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.0.iter().map(|s| u64::from(s.1)).sum()
    }

    /// Changes from one actor to another.
    pub fn switches(&self) -> usize {
        self.0.len().saturating_sub(1)
    }
}

impl FromIterator<(ActorId, u32)> for Choices {
    fn from_iter<T: IntoIterator<Item = (ActorId, u32)>>(iter: T) -> Self {
        let mut choices = Self::new();
        iter.into_iter().for_each(|(a, n)| choices.push_many(a, n));
        choices
    }
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        for (i, (actor, count)) in self.0.iter().enumerate() {
            write!(f, "{}{actor}{count}", if i == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl FromStr for Choices {
    type Err = ScheduleError;

    /// Neighbours of the same actor are merged.
    fn from_str(s: &str) -> Result<Self, ScheduleError> {
        if s == "-" {
            return Ok(Self::new());
        }
        s.split('.').map(stretch).collect()
    }
}

fn stretch(s: &str) -> Result<(ActorId, u32), ScheduleError> {
    let bad = || ScheduleError::Stretch(s.to_string());
    let mut chars = s.chars();
    let actor = chars
        .next()
        .and_then(ActorId::from_letter)
        .ok_or_else(bad)?;
    let count = number(chars.as_str()).ok_or_else(bad)?;
    match u32::try_from(count) {
        Ok(n) if n > 0 => Ok((actor, n)),
        _ => Err(bad()),
    }
}

/// Decimal digits only: `str::parse` would take a sign.
fn number(s: &str) -> Option<u64> {
    s.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    s.parse().ok()
}

/// All that it takes to repeat one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    scenario: String,
    knobs: Vec<(String, bool)>,
    /// The seed of whatever is random in the scenario.
    pub seed: u64,
    /// Who ran when.
    pub choices: Choices,
    /// The fingerprint that the run must have.
    pub fingerprint: Option<u32>,
}

impl Schedule {
    /// `scenario` under `knobs` (name, on), with nothing prescribed.
    ///
    /// # Errors
    /// A name that is empty or has other characters than letters, digits, `_` and `-`.
    pub fn new(scenario: &str, knobs: &[(&str, bool)], seed: u64) -> Result<Self, ScheduleError> {
        let knob = |k: &(&str, bool)| Ok((checked_name(k.0)?, k.1));
        Ok(Self {
            scenario: checked_name(scenario)?,
            knobs: knobs.iter().map(knob).collect::<Result<_, _>>()?,
            seed,
            choices: Choices::new(),
            fingerprint: None,
        })
    }

    /// The scenario's name.
    pub fn scenario(&self) -> &str {
        &self.scenario
    }

    /// Knobs that are not as usual.
    pub fn knobs(&self) -> impl Iterator<Item = (&str, bool)> {
        self.knobs.iter().map(|(name, on)| (name.as_str(), *on))
    }

    /// The same with other choices, made by no run yet.
    pub fn with_choices(&self, choices: Choices) -> Self {
        Self {
            choices,
            fingerprint: None,
            ..self.clone()
        }
    }
}

fn checked_name(s: &str) -> Result<String, ScheduleError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if s.is_empty() || s == "-" || !s.chars().all(fine) {
        return Err(ScheduleError::Name(s.to_string()));
    }
    Ok(s.to_string())
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}:{}:", self.scenario)?;
        if self.knobs.is_empty() {
            f.write_str("-")?;
        }
        for (i, (name, on)) in self.knobs.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{name}={}", if *on { "on" } else { "off" })?;
        }
        write!(f, ":{}:{}", self.seed, self.choices)?;
        match self.fingerprint {
            Some(print) => write!(f, ":{print:08x}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(s: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = s.split(':').collect();
        if fields[0] != VERSION {
            return Err(ScheduleError::Version(fields[0].to_string()));
        }
        let (scenario, knobs, seed, choices, print) = match fields[..] {
            [_, scenario, knobs, seed, choices] => (scenario, knobs, seed, choices, None),
            [_, scenario, knobs, seed, choices, print] => {
                (scenario, knobs, seed, choices, Some(print))
            }
            _ => return Err(ScheduleError::Fields(fields.len())),
        };
        Ok(Self {
            scenario: checked_name(scenario)?,
            knobs: parse_knobs(knobs)?,
            seed: number(seed).ok_or_else(|| ScheduleError::Seed(seed.to_string()))?,
            choices: choices.parse()?,
            fingerprint: print.map(parse_print).transpose()?,
        })
    }
}

fn parse_knobs(s: &str) -> Result<Vec<(String, bool)>, ScheduleError> {
    if s == "-" {
        return Ok(Vec::new());
    }
    let knob = |k: &str| {
        let (name, on) = match k.split_once('=') {
            Some((name, "on")) => (name, true),
            Some((name, "off")) => (name, false),
            _ => return Err(ScheduleError::Knob(k.to_string())),
        };
        Ok((checked_name(name)?, on))
    };
    s.split(',').map(knob).collect()
}

fn parse_print(s: &str) -> Result<u32, ScheduleError> {
    let bad = || ScheduleError::Print(s.to_string());
    if s.len() != 8 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    u32::from_str_radix(s, 16).map_err(|_| bad())
}

/// What is wrong with a schedule's text. Each holds the part that was not understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScheduleError {
    /// Not this version of the format.
    Version(String),
    /// Not five or six fields.
    Fields(usize),
    /// A scenario's or knob's name.
    Name(String),
    /// A knob's setting.
    Knob(String),
    /// The seed.
    Seed(String),
    /// A stretch.
    Stretch(String),
    /// The fingerprint.
    Print(String),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(s) => write!(
                f,
                "schedule: '{s}' is no known version: expected {VERSION}:SCENARIO:KNOBS:SEED:CHOICES[:PRINT]"
            ),
            Self::Fields(n) => write!(
                f,
                "schedule: {n} fields, expected 5 or 6: {VERSION}:SCENARIO:KNOBS:SEED:CHOICES[:PRINT]"
            ),
            Self::Name(s) => write!(
                f,
                "schedule: '{s}' is no name: letters, digits, '_' and '-'"
            ),
            Self::Knob(s) => write!(
                f,
                "schedule: knob '{s}': expected NAME=on or NAME=off, or '-' for none"
            ),
            Self::Seed(s) => write!(
                f,
                "schedule: seed '{s}': expected a decimal number below 2^64"
            ),
            Self::Stretch(s) => write!(
                f,
                "schedule: '{s}' in the choices: expected a letter A to P and a count of 1 or more, such as A5, with dots between"
            ),
            Self::Print(s) => write!(
                f,
                "schedule: fingerprint '{s}': expected eight hexadecimal digits"
            ),
        }
    }
}

impl core::error::Error for ScheduleError {}
