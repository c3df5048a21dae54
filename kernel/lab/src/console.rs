//! The console: keys through the line editor into the interpreter, until power-off or end of input.
//!
//! Runs in a thread that may sleep in `keys`. The serial interrupt handler raises
//! [`crate::cancel::CONSOLE`] when Ctrl-C arrives, so that a running command hears of it; the byte
//! itself still comes through `keys`, first of all that comes then. The console takes the request
//! back when it takes the byte.

use alloc::vec::Vec;

use crate::cancel::Cancel;
use crate::line::{Event, LineEditor};
use crate::out::Out;
use crate::shell::{Shell, Status};

/// The byte that Ctrl-C sends.
pub const CTRL_C: u8 = 3;

/// What is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terminal {
    /// Sends every key at once and shows what it is sent: the serial line.
    Raw,
    /// Shows what is typed by itself and sends whole lines.
    Cooked,
    /// Nobody: a file or a pipe. No prompt; tabs are spaces; a line that fails is named.
    Absent,
}

/// Runs commands from `keys` (one byte a call, sleeps until there is one, `None` at the end of
/// input, and from then on). Ends at power-off, at the end of input and at Ctrl-D. Returns the
/// status of the first command that did not succeed; somebody at a terminal has seen it, so there
/// it is always [`Status::Ok`].
pub fn run(
    shell: &Shell,
    keys: &mut dyn FnMut() -> Option<u8>,
    out: &dyn Out,
    cancel: &Cancel,
    terminal: Terminal,
) -> Status {
    let mut editor = LineEditor::new("quire> ");
    let mut verdicts = Verdicts {
        out,
        terminal,
        lines: 0,
        first: Status::Ok,
    };
    let mut shown = Vec::new();
    let text = editor.prompt();
    let prompt = |out: &dyn Out| {
        if terminal != Terminal::Absent {
            out.put(text);
        }
    };
    prompt(out);
    loop {
        let key = match keys() {
            Some(b'\t') if terminal == Terminal::Absent => b' ',
            Some(key) => key,
            // The last line of a file may lack its end.
            None if terminal == Terminal::Absent && editor.in_line() => b'\n',
            None => break,
        };
        shown.clear();
        let event = editor.feed(key, &mut shown, &|before| shell.complete(before));
        if terminal == Terminal::Raw {
            show(&shown, out);
        }
        match event {
            Event::None => continue,
            Event::EndOfInput => break,
            Event::Interrupt => cancel.clear(),
            Event::Refused(why) => {
                writeln!(out, "{why}");
                verdicts.line(Status::Usage);
            }
            Event::Line(line) => {
                let outcome = shell.run(&line, out, cancel);
                verdicts.line(outcome.status);
                if outcome.power_off {
                    break;
                }
                if cancel.requested() {
                    // What was typed before Ctrl-C goes with it.
                    while keys().is_some_and(|key| key != CTRL_C) {}
                    cancel.clear();
                }
            }
        }
        prompt(out);
    }
    verdicts.first
}

/// What becomes of the lines' statuses.
struct Verdicts<'a> {
    out: &'a dyn Out,
    terminal: Terminal,
    lines: u64,
    first: Status,
}

impl Verdicts<'_> {
    /// The next line has ended with `status`.
    fn line(&mut self, status: Status) {
        self.lines += 1;
        if self.terminal != Terminal::Absent || status == Status::Ok {
            return;
        }
        writeln!(self.out, "# line {}: status {}", self.lines, status as u8);
        if self.first == Status::Ok {
            self.first = status;
        }
    }
}

/// The editor sends ASCII only; sinks turn `\n` into what their terminal needs, so `\r` is left
/// out.
fn show(bytes: &[u8], out: &dyn Out) {
    for piece in bytes.split(|b| *b == b'\r') {
        if let Ok(text) = core::str::from_utf8(piece) {
            out.put(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::UsageError;
    use crate::out::Buffer;
    use crate::shell::{Command, Ctx, no_words};

    fn say(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
        writeln!(ctx.out, "said {}", ctx.words.join(" "));
        Ok(Status::from_success(ctx.words != ["bad"]))
    }
    fn off(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
        ctx.power_off();
        Ok(Status::Ok)
    }
    macro_rules! command {
        ($name:literal, $run:ident) => {
            Command {
                name: $name,
                help: "",
                usage: "",
                run: $run,
                words: no_words,
            }
        };
    }
    static COMMANDS: [Command; 3] = [
        command!("say", say),
        command!("off", off),
        command!("wait", wait),
    ];

    /// Runs until a key is pressed: Ctrl-C, in the tests.
    fn wait(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
        ctx.cancel.request();
        Ok(Status::Failed)
    }

    fn session(input: &str, terminal: Terminal) -> (Status, alloc::string::String) {
        let buffer = Buffer::new();
        let cancel = Cancel::new();
        let mut bytes = input.bytes();
        let mut keys = || {
            let key = bytes.next();
            if key == Some(CTRL_C) {
                cancel.request();
            }
            key
        };
        let shell = Shell::new(&[&COMMANDS]);
        let status = run(&shell, &mut keys, &buffer, &cancel, terminal);
        (status, buffer.take())
    }

    #[test]
    fn a_session_shows_prompt_echo_and_output() {
        let (status, text) = session("sa\ty a\rsay bad\roff\rsay b\r", Terminal::Raw);
        assert_eq!(status, Status::Ok);
        assert_eq!(
            text,
            "quire> say y a\nsaid y a\nquire> say bad\nsaid bad\nquire> off\n"
        );
    }

    #[test]
    fn without_a_terminal_only_output_is_shown() {
        let (status, text) = session("say a\nsay\tb\n\x04say c\n", Terminal::Absent);
        assert_eq!((status, text.as_str()), (Status::Ok, "said a\nsaid b\n"));
        // A line without an end counts as one; a line that fails is named.
        let (status, text) = session("say a\n\nsay bad\nfoo\nsay b", Terminal::Absent);
        assert_eq!(status, Status::Failed);
        assert_eq!(
            text,
            "said a\nsaid bad\n# line 3: status 1\nunknown command 'foo'; 'help' lists the commands\n\
             # line 4: status 2\nsaid b\n"
        );
    }

    #[test]
    fn a_line_that_is_too_long_runs_nothing() {
        let long = alloc::format!("say {}; say b\nsay c\n", "x".repeat(2000));
        let want = "the line has more than 1024 bytes: nothing of it was run\n# line 1: status 2\nsaid c\n";
        assert_eq!(
            session(&long, Terminal::Absent),
            (Status::Usage, want.into())
        );
    }

    #[test]
    fn the_end_of_input_ends_the_session() {
        for (input, text) in [
            ("say", "quire> say"),
            ("\x04say a\r", "quire> \n"),
            ("say a\x04\x03\x04x", "quire> say a\u{7}^C\nquire> \n"),
        ] {
            assert_eq!(session(input, Terminal::Raw), (Status::Ok, text.into()));
        }
    }

    #[test]
    fn ctrl_c_takes_what_was_typed_ahead_and_shows_one_prompt() {
        let (_, text) = session("wait; say x\rsay a\rsay\x03say b\r", Terminal::Raw);
        assert_eq!(
            text,
            "quire> wait; say x\nwait: interrupted\nquire> say b\nsaid b\nquire> "
        );
        // With no command running it ends the line, and asks nothing of the next command.
        let (_, text) = session("sa\x03wait\r\x03say b\r", Terminal::Raw);
        assert_eq!(
            text,
            "quire> sa^C\nquire> wait\nwait: interrupted\nquire> say b\nsaid b\nquire> "
        );
    }
}
