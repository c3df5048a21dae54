//! The console: keys through the line editor into the interpreter, until power-off or end of input.
//!
//! Runs in a thread that may sleep in `keys`. The serial interrupt handler raises
//! [`crate::cancel::CONSOLE`] when Ctrl-C arrives, so that a running command hears of it; the byte itself
//! still comes through `keys`.

use alloc::vec::Vec;

use crate::cancel::Cancel;
use crate::line::{Event, LineEditor};
use crate::out::Out;
use crate::shell::{Shell, Status};

/// What is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terminal {
    /// Sends every key at once and shows what it is sent: the serial line.
    Raw,
    /// Shows what is typed by itself and sends whole lines.
    Cooked,
    /// Nobody: a file or a pipe. No prompt.
    Absent,
}

/// Runs commands from `keys` (one byte a call, sleeps until there is one, `None` at the end of input).
/// Returns the status of the first command that did not succeed; somebody at a terminal has seen it, so
/// there it is always [`Status::Ok`].
pub fn run(
    shell: &Shell,
    keys: &mut dyn FnMut() -> Option<u8>,
    out: &dyn Out,
    cancel: &Cancel,
    terminal: Terminal,
) -> Status {
    let mut editor = LineEditor::new("quire> ");
    let mut status = Status::Ok;
    let mut shown = Vec::new();
    let text = editor.prompt();
    let prompt = |out: &dyn Out| {
        if terminal != Terminal::Absent {
            out.put(text);
        }
    };
    prompt(out);
    while let Some(key) = keys() {
        shown.clear();
        let event = editor.feed(key, &mut shown, &|before| shell.complete(before));
        if terminal == Terminal::Raw {
            show(&shown, out);
        }
        match event {
            Event::None => continue,
            Event::EndOfInput if terminal != Terminal::Raw => break,
            Event::EndOfInput | Event::Interrupt => {}
            Event::Line(line) => {
                cancel.clear();
                let outcome = shell.run(&line, out, cancel);
                if status == Status::Ok && terminal == Terminal::Absent {
                    status = outcome.status;
                }
                if outcome.power_off {
                    break;
                }
            }
        }
        prompt(out);
    }
    status
}

/// The editor sends ASCII only; sinks turn `\n` into what their terminal needs, so `\r` is left out.
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
    static COMMANDS: [Command; 2] = [
        Command {
            name: "say",
            help: "",
            usage: "",
            run: say,
            words: no_words,
        },
        Command {
            name: "off",
            help: "",
            usage: "",
            run: off,
            words: no_words,
        },
    ];

    fn session(input: &str, terminal: Terminal) -> (Status, alloc::string::String) {
        let buffer = Buffer::new();
        let mut bytes = input.bytes();
        let shell = Shell::new(&[&COMMANDS]);
        let status = run(
            &shell,
            &mut || bytes.next(),
            &buffer,
            &Cancel::new(),
            terminal,
        );
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
        let (status, text) = session("say a\nsay b\n\x04say c\n", Terminal::Absent);
        assert_eq!((status, text.as_str()), (Status::Ok, "said a\nsaid b\n"));
        assert_eq!(
            session("say bad\nsay b\n", Terminal::Absent).0,
            Status::Failed
        );
    }

    #[test]
    fn the_end_of_input_ends_the_session() {
        assert_eq!(
            session("say", Terminal::Raw),
            (Status::Ok, "quire> say".into())
        );
    }
}
