//! Words of a command line into options, numbers and sizes; every complaint names what was wrong
//! and what is accepted. Pure: no locks, no I/O.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Why the words of a command were refused: a message for the user.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

impl UsageError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Parses a number: decimal or `0x…`, `_` between digits allowed.
///
/// # Errors
/// When `word` is none, or above 2^64 - 1.
pub fn number(word: &str) -> Result<u64, UsageError> {
    let digits: String = word.chars().filter(|c| *c != '_').collect();
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| {
        UsageError(format!(
            "bad number '{word}': want decimal digits, or 0x and hex digits"
        ))
    })
}

/// Parses a size in bytes: a number and an optional `K`, `M`, `G` or `T` (powers of 1024, either
/// case).
///
/// # Errors
/// When `word` is none, or above 2^64 - 1 bytes.
pub fn size(word: &str) -> Result<u64, UsageError> {
    let shift = match word.as_bytes().last() {
        Some(b'k' | b'K') => 10,
        Some(b'm' | b'M') => 20,
        Some(b'g' | b'G') => 30,
        Some(b't' | b'T') => 40,
        _ => 0,
    };
    let digits = if shift == 0 {
        word
    } else {
        &word[..word.len() - 1]
    };
    let complaint = || {
        UsageError(format!(
            "bad size '{word}': want a number with K, M, G or T after it, such as 64M"
        ))
    };
    let n: u64 = digits.parse().map_err(|_| complaint())?;
    n.checked_mul(1 << shift).ok_or_else(complaint)
}

/// Parses `on` or `off`.
///
/// # Errors
/// When `word` is neither.
pub fn on_off(word: &str) -> Result<bool, UsageError> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(UsageError(format!("bad switch '{word}': want on or off"))),
    }
}

/// The word that [`on_off`] reads as `on`.
pub fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The words after a command's name. Take the options first, then the positional words, then
/// [`Self::done`]. Behind a `--` no word is an option.
pub struct Args {
    words: Vec<String>,
    behind: Vec<String>,
    known: Vec<&'static str>,
}

impl Args {
    /// Takes over `words`.
    pub fn new(words: &[String]) -> Self {
        let mut parts = words.splitn(2, |w| w == "--").map(<[String]>::to_vec);
        Self {
            words: parts.next().unwrap_or_default(),
            behind: parts.next().unwrap_or_default(),
            known: Vec::new(),
        }
    }

    /// Whether the option `name` was given, once or more.
    pub fn flag(&mut self, name: &'static str) -> bool {
        self.known.push(name);
        let before = self.words.len();
        self.words.retain(|w| w != name);
        self.words.len() != before
    }

    /// The value of option `name`, as `--name VALUE` or `--name=VALUE`; the last one wins.
    ///
    /// # Errors
    /// When the value is missing.
    pub fn value(&mut self, name: &'static str) -> Result<Option<String>, UsageError> {
        Ok(self.values(name)?.pop())
    }

    /// Every value of option `name`, in the order given.
    ///
    /// # Errors
    /// When one is missing.
    pub fn values(&mut self, name: &'static str) -> Result<Vec<String>, UsageError> {
        self.known.push(name);
        let mut found = Vec::new();
        let mut i = 0;
        while i < self.words.len() {
            if self.words[i] == name {
                if i + 1 == self.words.len() {
                    return Err(UsageError(format!("option {name} wants a value")));
                }
                found.push(self.words.remove(i + 1));
                self.words.remove(i);
            } else if let Some(v) = self.words[i]
                .strip_prefix(name)
                .and_then(|r| r.strip_prefix('='))
            {
                found.push(v.to_string());
                self.words.remove(i);
            } else {
                i += 1;
            }
        }
        Ok(found)
    }

    /// A numeric option with its bounds, `default` when it is not given.
    ///
    /// # Errors
    /// When the value is missing, no number, or outside `range`.
    pub fn number(
        &mut self,
        name: &'static str,
        default: u64,
        range: core::ops::RangeInclusive<u64>,
    ) -> Result<u64, UsageError> {
        let Some(word) = self.value(name)? else {
            return Ok(default);
        };
        let n = number(&word).map_err(|e| UsageError(format!("{name}: {}", e.0)))?;
        if range.contains(&n) {
            return Ok(n);
        }
        Err(UsageError(format!(
            "{name}: {n} is out of range: want {} to {}",
            range.start(),
            range.end()
        )))
    }

    /// An option whose value is a size in bytes.
    ///
    /// # Errors
    /// When the value is missing or no size.
    pub fn size(&mut self, name: &'static str) -> Result<Option<u64>, UsageError> {
        let Some(word) = self.value(name)? else {
            return Ok(None);
        };
        size(&word)
            .map(Some)
            .map_err(|e| UsageError(format!("{name}: {}", e.0)))
    }

    /// The next word that is no option.
    pub fn word(&mut self) -> Option<String> {
        match self.words.iter().position(|w| !w.starts_with("--")) {
            Some(i) => Some(self.words.remove(i)),
            None if self.behind.is_empty() => None,
            None => Some(self.behind.remove(0)),
        }
    }

    /// The next word that is no option, which must be there; `what` says what it is.
    ///
    /// # Errors
    /// When there is none. An option that is not known is named first.
    pub fn want(&mut self, what: &str) -> Result<String, UsageError> {
        if let Some(word) = self.word() {
            return Ok(word);
        }
        self.all_known()?;
        Err(UsageError(format!("want {what}")))
    }

    /// Ends the parse.
    ///
    /// # Errors
    /// When a word is left: an unknown option or one word too many.
    pub fn done(self) -> Result<(), UsageError> {
        if let Some(word) = self.behind.first() {
            return Err(UsageError(format!("unexpected word '{word}'")));
        }
        self.all_known()
    }

    fn all_known(&self) -> Result<(), UsageError> {
        let Some(word) = self.words.first() else {
            return Ok(());
        };
        if !word.starts_with('-') {
            return Err(UsageError(format!("unexpected word '{word}'")));
        }
        let accepted = if self.known.is_empty() {
            "no options here".to_string()
        } else {
            format!("accepted: {}", self.known.join(", "))
        };
        Err(UsageError(format!("unknown option '{word}'; {accepted}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        Args::new(&words)
    }

    #[test]
    fn sizes_and_numbers() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("8g"), Ok(8 << 30));
        for bad in ["", "M", "64Q", "-1", "1.5G", "0x10", "99999999999T", "64 M"] {
            assert!(size(bad).unwrap_err().0.contains("bad size"), "{bad}");
        }
        assert_eq!(number("0x1_f"), Ok(31));
        assert_eq!(number("1_000"), Ok(1000));
        for bad in ["", "0x", "x1", "-3", "18446744073709551616"] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_words_and_leftovers() {
        let mut a = args("swap --secs 5 --seed=0x10 --watch");
        assert_eq!(a.number("--secs", 1, 1..=10), Ok(5));
        assert_eq!(a.number("--seed", 1, 0..=u64::MAX), Ok(16));
        assert_eq!(a.number("--cpus", 4, 1..=16), Ok(4));
        assert!(a.flag("--watch"));
        assert!(!a.flag("--watch"));
        assert_eq!(a.word().as_deref(), Some("swap"));
        assert_eq!(a.word(), None);
        assert_eq!(a.done(), Ok(()));
        let mut a = args("--fix a x --fix=b");
        assert_eq!(
            a.values("--fix").as_deref(),
            Ok(&["a".to_string(), "b".into()][..])
        );
        assert_eq!(a.word().as_deref(), Some("x"));
    }

    #[test]
    fn behind_two_dashes_words_are_words() {
        let mut a = args("--watch /f -- --watch --help");
        assert!(a.flag("--watch"));
        for word in ["/f", "--watch", "--help"] {
            assert_eq!(a.word().as_deref(), Some(word));
        }
        assert_eq!(a.word(), None);
        assert_eq!(a.done(), Ok(()));
        let e = args("-- --x").done().unwrap_err().0;
        assert_eq!(e, "unexpected word '--x'");
    }

    #[test]
    fn complaints_name_the_word_and_what_is_accepted() {
        let mut a = args("--secs 11 --bogus");
        let e = a.number("--secs", 1, 1..=10).unwrap_err();
        assert_eq!(e.0, "--secs: 11 is out of range: want 1 to 10");
        assert_eq!(
            a.done().unwrap_err().0,
            "unknown option '--bogus'; accepted: --secs"
        );
        assert_eq!(
            args("--x").done().unwrap_err().0,
            "unknown option '--x'; no options here"
        );
        assert_eq!(args("x").done().unwrap_err().0, "unexpected word 'x'");
        assert_eq!(
            args("--secs").value("--secs").unwrap_err().0,
            "option --secs wants a value"
        );
        // A word that is missing does not hide an option that is wrong.
        let wanted = |line| args(line).want("a name").unwrap_err().0;
        assert_eq!(wanted(""), "want a name");
        assert_eq!(
            wanted("--bogus"),
            "unknown option '--bogus'; no options here"
        );
        assert_eq!(args("x --bogus").want("a name").as_deref(), Ok("x"));
        assert!(on_off("yes").unwrap_err().0.contains("on or off"));
    }
}
