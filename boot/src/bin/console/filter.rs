//! The stream filter itself: bytes in, bytes out, no I/O.

/// The kernel's first line.
const MARKER: &[u8] = b"=== quire ===";
/// The kernel's line between its boot messages and its console.
const READY: &[u8] = b"=== ready ===";
/// How a line of a backtrace begins.
const FRAME: &[u8] = b"  at 0x";

/// Where in the guest's life the stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Firmware and bootloader: dropped.
    Firmware,
    /// The kernel's boot messages: held back, or shown when raw.
    Boot,
    /// The console.
    Console,
}

/// Turns an address into text for people; empty when it has none.
pub(crate) type Describe = Box<dyn Fn(u64) -> String>;

/// The filter's state between chunks of input.
pub(crate) struct Filter {
    raw: bool,
    describe: Describe,
    stage: Stage,
    /// The current line so far.
    line: Vec<u8>,
    /// How much of `line` has been given out.
    shown: usize,
    /// Boot messages held back.
    held: Vec<u8>,
}

impl Filter {
    pub(crate) fn new(raw: bool, describe: Describe) -> Self {
        Self {
            raw,
            describe,
            stage: Stage::Firmware,
            line: Vec::new(),
            shown: 0,
            held: Vec::new(),
        }
    }

    /// Whether the guest's console takes input.
    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Console
    }

    /// What to print after `bytes` arrived.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for &byte in bytes {
            self.line.push(byte);
            if byte == b'\n' {
                self.end_line(&mut out);
            }
        }
        self.show_partial(&mut out);
        out
    }

    /// What to print at the end of the input: the unfinished line, and boot messages without a
    /// console.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.stage {
            Stage::Firmware => {}
            Stage::Boot if !self.raw => {
                out.append(&mut self.held);
                out.extend(&self.line);
            }
            Stage::Boot | Stage::Console => out.extend(&self.line[self.shown..]),
        }
        out
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        let text = self.line.trim_ascii_end();
        match self.stage {
            Stage::Firmware if text.ends_with(MARKER) => self.stage = Stage::Boot,
            Stage::Firmware => {}
            Stage::Boot if text.ends_with(READY) => {
                self.stage = Stage::Console;
                self.held.clear();
            }
            Stage::Boot if !self.raw => self.held.extend(self.finished_line()),
            Stage::Boot | Stage::Console => out.extend(&self.finished_line()[self.shown..]),
        }
        self.line.clear();
        self.shown = 0;
    }

    /// The current line, symbolised when it belongs to a backtrace.
    fn finished_line(&self) -> Vec<u8> {
        let text = self.line.trim_ascii_end();
        let end: &[u8] = if self.raw { b"\r\n" } else { b"\n" };
        let Some(digits) = text.strip_prefix(FRAME) else {
            return match self.raw {
                true => self.line.clone(),
                false => [self.line.trim_suffix_crlf(), end].concat(),
            };
        };
        let digits = digits.split(|b| !b.is_ascii_hexdigit()).next();
        let address = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u64::from_str_radix(d, 16).ok());
        match address.map(&self.describe).as_deref() {
            None | Some("") => [text, end].concat(),
            Some(name) => [text, b" ", name.as_bytes(), end].concat(),
        }
    }

    /// A prompt or the echo of a key does not wait for the end of its line; what may become a
    /// marker or a backtrace does.
    fn show_partial(&mut self, out: &mut Vec<u8>) {
        let visible = match self.stage {
            Stage::Firmware => false,
            Stage::Boot => self.raw,
            Stage::Console => true,
        };
        let undecided = [FRAME, READY].iter().any(|special| {
            let n = special.len().min(self.line.len());
            self.line[..n] == special[..n]
        });
        // Without a terminal nobody reads half lines, and a CR at the end may belong to a line
        // feed.
        if visible && self.raw && !undecided {
            out.extend(&self.line[self.shown..]);
            self.shown = self.line.len();
        }
    }
}

trait TrimCrlf {
    fn trim_suffix_crlf(&self) -> &[u8];
}

impl TrimCrlf for [u8] {
    fn trim_suffix_crlf(&self) -> &[u8] {
        let line = self.strip_suffix(b"\n").unwrap_or(self);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything the filter prints when `input` arrives in chunks of `chunk` bytes.
    fn run(raw: bool, input: &str, chunk: usize) -> String {
        let mut filter = Filter::new(raw, Box::new(|a| format!("<{a:x}>")));
        let mut out = Vec::new();
        for bytes in input.as_bytes().chunks(chunk) {
            out.extend(filter.feed(bytes));
        }
        out.extend(filter.finish());
        String::from_utf8(out).unwrap()
    }

    const BOOT: &str = "SeaBIOS\r\nx=== quire ===\r\nboot\r\n";

    #[test]
    fn firmware_and_boot_messages_are_dropped() {
        for chunk in 1..20 {
            let input = format!("{BOOT}=== ready ===\r\nok 1\r\n  odd\r\n");
            assert_eq!(run(false, &input, chunk), "ok 1\n  odd\n");
        }
    }

    #[test]
    fn boot_messages_appear_when_the_console_never_came() {
        for chunk in 1..20 {
            let input = format!("{BOOT}panic\r\n  at 0xff\r\nhalf");
            assert_eq!(
                run(false, &input, chunk),
                "boot\npanic\n  at 0xff <ff>\nhalf"
            );
        }
    }

    #[test]
    fn raw_keeps_line_ends_and_shows_the_boot() {
        for chunk in 1..20 {
            let input = format!("{BOOT}=== ready ===\r\n  at 0x10\r\n  atx\r\n> ");
            let want = "boot\r\n  at 0x10 <10>\r\n  atx\r\n> ";
            assert_eq!(run(true, &input, chunk), want);
        }
    }

    #[test]
    fn a_prompt_is_shown_at_once() {
        let mut filter = Filter::new(true, Box::new(|_| String::new()));
        filter.feed(BOOT.as_bytes());
        filter.feed(b"=== ready ===\r\n");
        assert_eq!(filter.feed(b"quire> "), b"quire> ");
        assert_eq!(filter.feed(b"h"), b"h");
    }

    #[test]
    fn nothing_before_the_marker_even_at_the_end() {
        assert_eq!(run(false, "BdsDxe: failed\r\nno", 3), "");
    }
}
