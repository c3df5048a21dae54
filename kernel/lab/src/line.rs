//! The line editor: bytes from a terminal in, bytes to echo out, finished lines as events.
//!
//! A pure state machine: no I/O, no locks, no clock. It may allocate, so it runs in a thread and
//! not in the serial interrupt handler. The line holds printable ASCII only; other bytes ring the
//! bell, and a line in which one was no ASCII is refused.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Longest line in bytes. Further input rings the bell, and the line is refused as a whole.
pub const MAX_LINE: usize = 1024;
/// Lines that the history keeps.
pub const MAX_HISTORY: usize = 100;

const BELL: u8 = 7;

/// What a byte led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing to do but echo.
    None,
    /// A line was finished; it may be empty.
    Line(String),
    /// A line was finished that does not hold what was typed, and was dropped: why.
    Refused(Refusal),
    /// Ctrl-C: the line was dropped.
    Interrupt,
    /// Ctrl-D on an empty line.
    EndOfInput,
}

/// Why a line was refused; its `Display` is a sentence for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More than [`MAX_LINE`] bytes were typed.
    TooLong,
    /// Not all of it was ASCII.
    NotAscii,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the line has more than {MAX_LINE} bytes"),
            Self::NotAscii => write!(f, "the line has bytes that are not ASCII"),
        }?;
        write!(f, ": nothing of it was run")
    }
}

/// Where the byte parser stands in an escape sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    Ground,
    /// After ESC.
    Start,
    /// After `ESC O`.
    Single,
    /// After `ESC [`: the first number and the last one so far (`1;5C` is Ctrl-Right).
    Control {
        first: u16,
        last: u16,
    },
}

#[derive(Clone, Copy)]
enum Key {
    Up,
    Down,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Delete,
    Unknown,
}

/// The words that could stand where the cursor is: `f(text before the cursor)` gives full
/// replacements for the last word.
pub type Completer<'a> = &'a dyn Fn(&str) -> Vec<String>;

/// The state of one terminal's input line.
pub struct LineEditor {
    prompt: &'static str,
    line: String,
    cursor: usize,
    /// Something was typed that the line does not hold.
    refused: Option<Refusal>,
    escape: Escape,
    after_cr: bool,
    last_was_tab: bool,
    killed: String,
    history: Vec<String>,
    /// Position in the history; its length means the line being typed.
    recall: usize,
    /// The line being typed while the history is shown.
    draft: String,
}

impl LineEditor {
    /// An editor that shows `prompt` (no control characters).
    pub const fn new(prompt: &'static str) -> Self {
        Self {
            prompt,
            line: String::new(),
            cursor: 0,
            refused: None,
            escape: Escape::Ground,
            after_cr: false,
            last_was_tab: false,
            killed: String::new(),
            history: Vec::new(),
            recall: 0,
            draft: String::new(),
        }
    }

    /// The prompt, to be printed before the first byte and after each command.
    pub const fn prompt(&self) -> &'static str {
        self.prompt
    }

    /// Whether a line was begun.
    pub fn in_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// Takes one byte; appends what the terminal shall show to `echo`.
    pub fn feed(&mut self, byte: u8, echo: &mut Vec<u8>, complete: Completer<'_>) -> Event {
        let tab_before = core::mem::replace(&mut self.last_was_tab, byte == b'\t');
        let cr_before = core::mem::replace(&mut self.after_cr, byte == b'\r');
        if self.escape != Escape::Ground {
            if let Some(key) = self.escape_byte(byte) {
                self.key(key, echo);
            }
            return Event::None;
        }
        match byte {
            b'\n' if cr_before => {}
            b'\r' | b'\n' => return self.finish(echo),
            0x03 => return self.interrupt(echo),
            0x04 if self.line.is_empty() => {
                echo.extend_from_slice(b"\r\n");
                return Event::EndOfInput;
            }
            b'\t' => self.tab(tab_before, echo, complete),
            0x1b => self.escape = Escape::Start,
            b' '..=b'~' => self.insert(byte, echo),
            _ => self.control(byte, echo),
        }
        Event::None
    }

    fn control(&mut self, byte: u8, echo: &mut Vec<u8>) {
        match byte {
            0x01 => self.key(Key::Home, echo),
            0x02 => self.key(Key::Left, echo),
            0x04 => self.key(Key::Delete, echo),
            0x05 => self.key(Key::End, echo),
            0x06 => self.key(Key::Right, echo),
            0x08 | 0x7f if self.cursor > 0 => self.erase(self.cursor - 1, self.cursor, echo),
            0x0b => self.kill(self.cursor, self.line.len(), echo),
            0x0c => {
                echo.extend_from_slice(b"\x1b[H\x1b[2J");
                self.redraw(echo);
            }
            0x0e => self.key(Key::Down, echo),
            0x10 => self.key(Key::Up, echo),
            0x15 => self.kill(0, self.cursor, echo),
            0x17 => self.kill(self.word_left(), self.cursor, echo),
            0x19 => {
                for b in core::mem::take(&mut self.killed).into_bytes() {
                    self.insert(b, echo);
                }
            }
            0x80.. => {
                self.refused.get_or_insert(Refusal::NotAscii);
                echo.push(BELL);
            }
            _ => echo.push(BELL),
        }
    }

    fn escape_byte(&mut self, byte: u8) -> Option<Key> {
        let state = core::mem::replace(&mut self.escape, Escape::Ground);
        match (state, byte) {
            (Escape::Start, b'[') => self.escape = Escape::Control { first: 0, last: 0 },
            (Escape::Start, b'O') => self.escape = Escape::Single,
            (Escape::Start, b'b') => return Some(Key::WordLeft),
            (Escape::Start, b'f') => return Some(Key::WordRight),
            (Escape::Control { first, .. }, b';') => {
                self.escape = Escape::Control { first, last: 0 };
            }
            (Escape::Control { first, last }, b'0'..=b'9') => {
                let more = last
                    .saturating_mul(10)
                    .saturating_add(u16::from(byte - b'0'));
                let first = if first == last { more } else { first };
                self.escape = Escape::Control { first, last: more };
            }
            (Escape::Control { first, .. }, b'~') => return Some(numbered_key(first)),
            (Escape::Control { last, .. }, b) => return Some(letter_key(b, last == 5)),
            (Escape::Single, b) => return Some(letter_key(b, false)),
            _ => return Some(Key::Unknown),
        }
        None
    }

    fn key(&mut self, key: Key, echo: &mut Vec<u8>) {
        match key {
            Key::Up if self.recall > 0 => self.show_history(self.recall - 1, echo),
            Key::Down if self.recall < self.history.len() => {
                self.show_history(self.recall + 1, echo);
            }
            Key::Left if self.cursor > 0 => self.move_to(self.cursor - 1, echo),
            Key::Right if self.cursor < self.line.len() => self.move_to(self.cursor + 1, echo),
            Key::WordLeft => self.move_to(self.word_left(), echo),
            Key::WordRight => self.move_to(self.word_right(), echo),
            Key::Home => self.move_to(0, echo),
            Key::End => self.move_to(self.line.len(), echo),
            Key::Delete if self.cursor < self.line.len() => {
                self.erase(self.cursor, self.cursor + 1, echo);
            }
            _ => echo.push(BELL),
        }
    }

    fn insert(&mut self, byte: u8, echo: &mut Vec<u8>) {
        if self.line.len() == MAX_LINE {
            self.refused = Some(Refusal::TooLong);
            echo.push(BELL);
            return;
        }
        self.line.insert(self.cursor, char::from(byte));
        echo.extend_from_slice(&self.line.as_bytes()[self.cursor..]);
        self.cursor += 1;
        back(self.line.len() - self.cursor, echo);
    }

    /// Removes `from..to`, which the cursor touches, and repairs the display.
    fn erase(&mut self, from: usize, to: usize, echo: &mut Vec<u8>) {
        self.move_to(from, echo);
        self.line.replace_range(from..to, "");
        if self.line.is_empty() {
            self.refused = None;
        }
        echo.extend_from_slice(&self.line.as_bytes()[from..]);
        echo.extend_from_slice(b"\x1b[K");
        back(self.line.len() - from, echo);
    }

    fn kill(&mut self, from: usize, to: usize, echo: &mut Vec<u8>) {
        if from == to {
            echo.push(BELL);
            return;
        }
        self.killed = String::from(&self.line[from..to]);
        self.erase(from, to, echo);
    }

    fn move_to(&mut self, to: usize, echo: &mut Vec<u8>) {
        if to < self.cursor {
            back(self.cursor - to, echo);
        } else {
            echo.extend_from_slice(&self.line.as_bytes()[self.cursor..to]);
        }
        self.cursor = to;
    }

    fn word_left(&self) -> usize {
        let before = self.line[..self.cursor].trim_end_matches(' ');
        before.rfind(' ').map_or(0, |i| i + 1)
    }

    fn word_right(&self) -> usize {
        let after = &self.line[self.cursor..];
        let skipped = after.len() - after.trim_start_matches(' ').len();
        let word = &after[skipped..];
        self.cursor + skipped + word.find(' ').unwrap_or(word.len())
    }

    fn redraw(&self, echo: &mut Vec<u8>) {
        echo.extend_from_slice(self.prompt.as_bytes());
        echo.extend_from_slice(self.line.as_bytes());
        back(self.line.len() - self.cursor, echo);
    }

    fn set_line(&mut self, line: String, echo: &mut Vec<u8>) {
        self.move_to(0, echo);
        echo.extend_from_slice(b"\x1b[K");
        echo.extend_from_slice(line.as_bytes());
        self.cursor = line.len();
        self.line = line;
        self.refused = None;
    }

    fn show_history(&mut self, position: usize, echo: &mut Vec<u8>) {
        if self.recall == self.history.len() {
            self.draft = self.line.clone();
        }
        self.recall = position;
        let line = self.history.get(position).unwrap_or(&self.draft).clone();
        self.set_line(line, echo);
    }

    fn finish(&mut self, echo: &mut Vec<u8>) -> Event {
        echo.extend_from_slice(b"\r\n");
        self.cursor = 0;
        let line = core::mem::take(&mut self.line);
        self.recall = self.history.len();
        if let Some(why) = self.refused.take() {
            return Event::Refused(why);
        }
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            if self.history.len() == MAX_HISTORY {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        self.recall = self.history.len();
        Event::Line(line)
    }

    fn interrupt(&mut self, echo: &mut Vec<u8>) -> Event {
        echo.extend_from_slice(b"^C\r\n");
        self.line.clear();
        self.refused = None;
        self.cursor = 0;
        self.recall = self.history.len();
        Event::Interrupt
    }

    /// One candidate: completes it. Several: completes what they share; a second Tab lists them.
    fn tab(&mut self, again: bool, echo: &mut Vec<u8>, complete: Completer<'_>) {
        let before = &self.line[..self.cursor];
        let word_len = before.len() - before.rfind([' ', ';']).map_or(0, |i| i + 1);
        let candidates = complete(before);
        let shared = shared_prefix(&candidates);
        if shared.len() > word_len {
            let mut rest = String::from(&shared[word_len..]);
            if candidates.len() == 1 {
                rest.push(' ');
            }
            rest.bytes().for_each(|b| self.insert(b, echo));
            self.last_was_tab = false;
        } else if again && candidates.len() > 1 {
            echo.extend_from_slice(b"\r\n");
            for c in &candidates {
                echo.extend_from_slice(c.as_bytes());
                echo.extend_from_slice(b"  ");
            }
            echo.extend_from_slice(b"\r\n");
            self.redraw(echo);
        } else if candidates.len() == 1 && shared.len() == word_len {
            self.insert(b' ', echo);
        } else {
            echo.push(BELL);
        }
    }
}

fn numbered_key(number: u16) -> Key {
    match number {
        1 | 7 => Key::Home,
        3 => Key::Delete,
        4 | 8 => Key::End,
        _ => Key::Unknown,
    }
}

fn letter_key(byte: u8, control: bool) -> Key {
    match (byte, control) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', true) => Key::WordRight,
        (b'C', false) => Key::Right,
        (b'D', true) => Key::WordLeft,
        (b'D', false) => Key::Left,
        (b'H', _) => Key::Home,
        (b'F', _) => Key::End,
        _ => Key::Unknown,
    }
}

/// Moves the terminal's cursor `n` columns left.
fn back(n: usize, echo: &mut Vec<u8>) {
    echo.extend(core::iter::repeat_n(0x08, n));
}

fn shared_prefix(words: &[String]) -> &str {
    let Some((first, rest)) = words.split_first() else {
        return "";
    };
    let shared = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let len = rest
        .iter()
        .map(|w| shared(first, w))
        .min()
        .unwrap_or(first.len());
    &first[..len]
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
