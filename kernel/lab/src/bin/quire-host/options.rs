//! The words on the command line.

use std::collections::VecDeque;

use lab::args::{UsageError, number, size};

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
usage: quire-host [--cpus N] [--mem SIZE] [--swap SIZE] [--data SIZE | --data-image FILE] [--seed S] [--evict N] [--exec 'CMD; CMD' | --test [PATTERN]]
Runs Quire's memory manager on a simulated machine in this process.
  --cpus N      CPUs for the commands, 1 to 16 (4); the simulator adds some for kernel threads
  --mem SIZE    RAM, 16M to 64G (256M)
  --swap SIZE   swap disk, 0 or 1M to 64G (64M)
  --data SIZE   data disk, 0 or 1M to 64G (64M)
  --data-image FILE  the data disk holds what this file holds, and the file what the disk holds at the end
  --seed S      seed of the simulator's choices (1)
  --evict N     after N of 1024 accesses the TLB forgets the entry used, 0 to 1024 (0)
  --exec CMDS   run these commands and end
  --test [PAT]  the same as --exec 'selftest run PAT'
Without --exec and --test, commands come from standard input.
Exit status: 0 success, 1 a command failed, 2 wrong usage, 3 the memory manager panicked.
";

/// What to do once the machine is up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Commands from standard input.
    Console,
    /// These commands.
    Exec(String),
    /// Print the usage.
    Help,
}

/// The machine and what to do with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) cpus: usize,
    pub(crate) mem: u64,
    pub(crate) swap: u64,
    pub(crate) data: u64,
    pub(crate) data_image: Option<String>,
    pub(crate) seed: u64,
    pub(crate) evict: u32,
    pub(crate) mode: Mode,
}

impl Options {
    /// What makes the machine, as words that [`parse`] takes.
    pub(crate) fn machine_words(&self) -> String {
        let kib = |bytes: u64| format!("{}K", bytes >> 10);
        let data = match &self.data_image {
            Some(path) => format!("--data-image '{path}'"),
            None => format!("--data {}", kib(self.data)),
        };
        format!(
            "quire-host --cpus {} --mem {} --swap {} {data} --seed {} --evict {}",
            self.cpus,
            kib(self.mem),
            kib(self.swap),
            self.seed,
            self.evict
        )
    }
}

fn within(option: &str, n: u64, low: u64, high: u64, text: &str) -> Result<u64, UsageError> {
    if (low..=high).contains(&n) {
        return Ok(n);
    }
    Err(UsageError(format!(
        "{option}: {n} is out of range: want {text}"
    )))
}

fn disk_size(option: &str, value: &str) -> Result<u64, UsageError> {
    let bytes = size(value).map_err(|e| UsageError(format!("{option}: {}", e.0)))?;
    let low = if bytes == 0 { 0 } else { 1 << 20 };
    Ok(within(option, bytes, low, 64 << 30, "0, or 1M to 64G")? & !4095)
}

/// Parses the words after the program's name.
pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Options, UsageError> {
    let mut words: VecDeque<String> = words.collect();
    let mut options = Options {
        cpus: 4,
        mem: 256 << 20,
        swap: 64 << 20,
        data: 64 << 20,
        data_image: None,
        seed: 1,
        evict: 0,
        mode: Mode::Console,
    };
    while let Some(option) = words.pop_front() {
        let option = option.as_str();
        match option {
            "--help" | "-h" => {
                options.mode = Mode::Help;
                return Ok(options);
            }
            "--test" => {
                let pattern = words.pop_front_if(|w| !w.starts_with("--"));
                let pattern = pattern.map(|p| format!(" '{p}'")).unwrap_or_default();
                set_mode(&mut options, format!("selftest run{pattern}"))?;
                continue;
            }
            "--cpus" | "--mem" | "--swap" | "--data" | "--data-image" | "--seed" | "--evict"
            | "--exec" => {}
            _ => {
                return Err(UsageError(format!(
                    "unknown option '{option}'; accepted: --cpus, --mem, --swap, --data, --data-image, --seed, --evict, --exec, --test, --help"
                )));
            }
        }
        let value = words
            .pop_front()
            .ok_or(UsageError(format!("option {option} wants a value")))?;
        let named = |e: UsageError| UsageError(format!("{option}: {}", e.0));
        match option {
            "--cpus" => {
                options.cpus =
                    within(option, number(&value).map_err(named)?, 1, 16, "1 to 16")? as usize
            }
            "--mem" => {
                let bytes = size(&value).map_err(named)?;
                options.mem = within(option, bytes, 16 << 20, 64 << 30, "16M to 64G")? & !4095;
            }
            "--swap" => options.swap = disk_size(option, &value)?,
            "--data" => options.data = disk_size(option, &value)?,
            "--data-image" => options.data_image = Some(value),
            "--seed" => options.seed = number(&value).map_err(named)?,
            "--evict" => {
                options.evict =
                    within(option, number(&value).map_err(named)?, 0, 1024, "0 to 1024")? as u32;
            }
            _ => set_mode(&mut options, value)?,
        }
    }
    Ok(options)
}

fn set_mode(options: &mut Options, commands: String) -> Result<(), UsageError> {
    if options.mode != Mode::Console {
        return Err(UsageError::new("--exec and --test exclude each other"));
    }
    options.mode = Mode::Exec(commands);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split(' ').filter(|w| !w.is_empty()).map(String::from)).map_err(|e| e.0)
    }

    #[test]
    fn options() {
        let o = parsed("--cpus 2 --mem 64M --swap 0 --data 8M --seed 0x10 --test fork --evict 3")
            .unwrap();
        assert_eq!(
            (o.cpus, o.mem, o.swap, o.data, o.seed, o.evict),
            (2, 64 << 20, 0, 8 << 20, 16, 3)
        );
        assert_eq!(o.mode, Mode::Exec("selftest run 'fork'".into()));
        let words = o.machine_words();
        let again = parsed(&format!(
            "{} --exec x",
            words.strip_prefix("quire-host ").unwrap()
        ));
        assert_eq!(
            again.unwrap(),
            Options {
                mode: Mode::Exec("x".into()),
                ..o
            }
        );
        assert_eq!(
            parsed("--test --cpus 2").unwrap().mode,
            Mode::Exec("selftest run".into())
        );
        assert_eq!(parsed("").unwrap().mode, Mode::Console);
        assert_eq!(parsed("--help --bogus").unwrap().mode, Mode::Help);
    }

    #[test]
    fn complaints() {
        for (line, part) in [
            ("--bogus", "unknown option '--bogus'"),
            ("--cpus", "--cpus wants a value"),
            ("--cpus 17", "--cpus: 17 is out of range: want 1 to 16"),
            ("--mem 8M", "want 16M to 64G"),
            (
                "--data 1K",
                "--data: 1024 is out of range: want 0, or 1M to 64G",
            ),
            ("--mem lots", "--mem: bad size 'lots'"),
            ("--exec a --test", "exclude each other"),
        ] {
            let e = parsed(line).unwrap_err();
            assert!(e.contains(part), "{line}: {e}");
        }
    }
}
