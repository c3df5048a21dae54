//! The command interpreter: `CMD args; CMD args # comment`, with quotes, help and exit statuses.
//!
//! Knows nothing of what commands do. Takes no locks itself; commands run in the calling thread,
//! which must be allowed to sleep. Ctrl-C reaches a running command through [`Cancel`].

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::args::{Args, UsageError};
use crate::cancel::Cancel;
use crate::out::Out;

/// How a command ended; the numbers are the exit statuses of `run-qemu.sh`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// It did what it was asked to.
    Ok = 0,
    /// A test, a check or an oracle failed, or the command was interrupted.
    Failed = 1,
    /// The words made no sense.
    Usage = 2,
}

impl Status {
    /// `Ok` for true, `Failed` for false.
    pub const fn from_success(success: bool) -> Self {
        if success { Self::Ok } else { Self::Failed }
    }
}

/// What a command is given.
pub struct Ctx<'a> {
    /// Where it prints.
    pub out: &'a dyn Out,
    /// The words after its name.
    pub words: &'a [String],
    /// Long work looks at it between steps.
    pub cancel: &'a Cancel,
    /// The table it was found in.
    pub shell: &'a Shell,
    power_off: &'a mut bool,
}

impl Ctx<'_> {
    /// The words, ready for option parsing.
    pub fn args(&self) -> Args {
        Args::new(self.words)
    }
    /// Ends the machine after this command.
    pub fn power_off(&mut self) {
        *self.power_off = true;
    }
}

/// A console command.
pub struct Command {
    /// Its name: lower case, no spaces.
    pub name: &'static str,
    /// One line for `help`.
    pub help: &'static str,
    /// What `--help` prints after the name: the synopsis first, then explanations.
    pub usage: &'static str,
    /// Its body. A [`UsageError`] is printed with the command's name and becomes [`Status::Usage`].
    pub run: fn(&mut Ctx<'_>) -> Result<Status, UsageError>,
    /// Words that may stand after the name, for Tab.
    pub words: fn() -> Vec<&'static str>,
}

/// For commands without words to complete.
pub fn no_words() -> Vec<&'static str> {
    Vec::new()
}

/// What came of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Status of the first command that did not succeed, [`Status::Ok`] if all did.
    pub status: Status,
    /// A command asked to end the machine.
    pub power_off: bool,
}

/// The commands by name.
pub struct Shell {
    groups: Vec<&'static [Command]>,
}

impl Shell {
    /// A shell with `help` and the commands of `groups`, listed in this order.
    pub fn new(groups: &[&'static [Command]]) -> Self {
        let mut all = alloc::vec![HELP];
        all.extend_from_slice(groups);
        Self { groups: all }
    }

    /// Every command.
    pub fn commands(&self) -> impl Iterator<Item = &'static Command> + '_ {
        self.groups.iter().copied().flatten()
    }

    /// The command called `name`.
    pub fn find(&self, name: &str) -> Option<&'static Command> {
        self.commands().find(|c| c.name == name)
    }

    /// Runs every command of `line`, also after one that failed; ends early at Ctrl-C and
    /// `poweroff`. A line that cannot be parsed runs nothing.
    pub fn run(&self, line: &str, out: &dyn Out, cancel: &Cancel) -> Outcome {
        let mut outcome = Outcome {
            status: Status::Ok,
            power_off: false,
        };
        let commands = match parse(line) {
            Ok(commands) => commands,
            Err(e) => {
                writeln!(out, "{}", e.0);
                outcome.status = Status::Usage;
                return outcome;
            }
        };
        for words in commands {
            let status = self.run_one(&words, out, cancel, &mut outcome.power_off);
            if outcome.status == Status::Ok {
                outcome.status = status;
            }
            if cancel.requested() || outcome.power_off {
                break;
            }
        }
        outcome
    }

    fn run_one(
        &self,
        words: &[String],
        out: &dyn Out,
        cancel: &Cancel,
        power_off: &mut bool,
    ) -> Status {
        let Some((name, rest)) = words.split_first() else {
            return Status::Ok;
        };
        let Some(command) = self.find(name) else {
            self.unknown(name, out);
            return Status::Usage;
        };
        if wants_help(rest) {
            print_usage(command, out);
            return Status::Ok;
        }
        let mut ctx = Ctx {
            out,
            words: rest,
            cancel,
            shell: self,
            power_off,
        };
        match (command.run)(&mut ctx) {
            Ok(status) => {
                if cancel.requested() {
                    writeln!(out, "{name}: interrupted");
                }
                status
            }
            Err(e) => {
                writeln!(out, "{name}: {}", e.0);
                writeln!(out, "usage: {name} {}", synopsis(command));
                Status::Usage
            }
        }
    }

    fn unknown(&self, name: &str, out: &dyn Out) {
        write!(out, "unknown command '{name}'");
        let near = nearest(name, self.commands().map(|c| c.name));
        if near.is_empty() {
            writeln!(out, "; 'help' lists the commands");
        } else {
            writeln!(
                out,
                "; did you mean {}? ('help' lists the commands)",
                near.join(", ")
            );
        }
    }

    /// What could stand at the end of `before`, for the line editor: a command's name in the first
    /// place of a command, its words and the option `--help` after that.
    pub fn complete(&self, before: &str) -> Vec<String> {
        let command = before.rsplit(';').next().unwrap_or("").trim_start();
        let mut words: Vec<&str> = command.split(' ').collect();
        let last = words.pop().unwrap_or("");
        let candidates: Vec<&str> = match words.first() {
            None => self.commands().map(|c| c.name).collect(),
            Some(&"help") => self.commands().map(|c| c.name).collect(),
            Some(name) => self.find(name).map_or_else(Vec::new, |c| {
                let mut all = (c.words)();
                all.push("--help");
                all
            }),
        };
        let matching = candidates.into_iter().filter(|c| c.starts_with(last));
        matching.map(ToString::to_string).collect()
    }
}

/// `--help` anywhere before a `--`, or `-h` alone: elsewhere that is a word like others.
fn wants_help(words: &[String]) -> bool {
    let mut options = words.iter().take_while(|w| *w != "--");
    words == ["-h"] || options.any(|w| w == "--help")
}

fn synopsis(command: &Command) -> &'static str {
    command.usage.lines().next().unwrap_or("")
}

fn print_usage(command: &Command, out: &dyn Out) {
    writeln!(out, "{}: {}", command.name, command.help);
    writeln!(out, "usage: {} {}", command.name, command.usage);
}

const HELP: &[Command] = &[Command {
    name: "help",
    help: "list the commands, or explain one",
    usage: "[CMD]",
    run: help,
    words: no_words,
}];

fn help(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let name = args.word();
    args.done()?;
    let Some(name) = name else {
        for c in ctx.shell.commands() {
            writeln!(ctx.out, "  {:<13} {}", c.name, c.help);
        }
        writeln!(
            ctx.out,
            "'CMD --help' or 'help CMD' explains one; ';' separates commands; '#' begins a comment; \
             Ctrl-C ends a running command."
        );
        return Ok(Status::Ok);
    };
    match ctx.shell.find(&name) {
        Some(command) => print_usage(command, ctx.out),
        None => {
            ctx.shell.unknown(&name, ctx.out);
            return Ok(Status::Usage);
        }
    }
    Ok(Status::Ok)
}

/// Splits text into commands, which end at `;` or with their line, and these into words. `'…'` and
/// `"…"` keep spaces, `;`, `#` and line ends. A `#` where a word could begin starts a comment, to
/// the end of the line.
///
/// # Errors
/// When a quote is not closed.
pub fn parse(line: &str) -> Result<Vec<Vec<String>>, UsageError> {
    let mut commands = Vec::new();
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut comment = false;
    for c in line.chars() {
        comment &= c != '\n';
        match (quote, c) {
            _ if comment => {}
            (None, '#') if word.is_none() => comment = true,
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ';' | '\n') => {
                words.extend(word.take());
                commands.push(core::mem::take(&mut words));
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(q) = quote {
        return Err(UsageError(alloc::format!("a quote {q} is not closed")));
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|c| !c.is_empty());
    Ok(commands)
}

/// The names near `word`: those it begins, else those at the smallest edit distance up to 2.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let names: Vec<&str> = names.collect();
    let begun: Vec<&str> = names
        .iter()
        .copied()
        .filter(|n| n.starts_with(word))
        .collect();
    if !begun.is_empty() {
        return begun;
    }
    let limit = 2.min(word.len().saturating_sub(1));
    let distances = names.iter().map(|n| (distance(word, n), *n));
    let near: Vec<_> = distances.filter(|(d, _)| *d <= limit).collect();
    let best = near.iter().map(|(d, _)| *d).min();
    near.iter()
        .filter(|(d, _)| Some(*d) == best)
        .map(|(_, n)| *n)
        .collect()
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
