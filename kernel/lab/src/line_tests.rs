//! Tests of the line editor against a one-line terminal: what the user sees must be what the editor
//! holds.

use super::*;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

fn no_words(_: &str) -> Vec<String> {
    Vec::new()
}

/// A terminal of one endless line, which understands what the editor sends.
#[derive(Default)]
struct Terminal {
    cells: Vec<u8>,
    column: usize,
    bells: usize,
}

impl Terminal {
    fn show(&mut self, bytes: &[u8]) {
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                BELL => self.bells += 1,
                b'\r' => self.column = 0,
                b'\n' => self.cells.clear(),
                0x08 => self.column -= 1,
                0x1b => {
                    let rest = &bytes[i..];
                    if rest.starts_with(b"\x1b[K") {
                        self.cells.truncate(self.column);
                        i += 2;
                    } else if rest.starts_with(b"\x1b[H\x1b[2J") {
                        self.cells.clear();
                        self.column = 0;
                        i += 6;
                    } else {
                        panic!("unknown sequence {rest:?}");
                    }
                }
                b => {
                    if self.column == self.cells.len() {
                        self.cells.push(b);
                    } else {
                        self.cells[self.column] = b;
                    }
                    self.column += 1;
                }
            }
            i += 1;
        }
    }
}

/// An editor and its terminal.
struct Pair {
    editor: LineEditor,
    terminal: Terminal,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            editor: LineEditor::new("> "),
            terminal: Terminal::default(),
        };
        pair.terminal.show(b"> ");
        pair
    }
    fn typed(&mut self, bytes: &[u8], complete: Completer<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        for &b in bytes {
            let mut echo = Vec::new();
            let event = self.editor.feed(b, &mut echo, complete);
            self.terminal.show(&echo);
            if event != Event::None {
                self.terminal.show(b"> ");
                events.push(event);
            }
        }
        events
    }
    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        self.typed(bytes, &no_words)
            .into_iter()
            .map(|e| match e {
                Event::Line(l) => l,
                other => panic!("{other:?}"),
            })
            .collect()
    }
    fn assert_display(&self) {
        let shown = core::str::from_utf8(&self.terminal.cells)
            .unwrap()
            .to_string();
        assert_eq!(shown, alloc::format!("> {}", self.editor.line));
        assert_eq!(self.terminal.column, 2 + self.editor.cursor);
    }
}

fn line_of(bytes: &[u8]) -> String {
    let mut lines = Pair::new().lines(bytes);
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[test]
fn cr_lf_and_crlf_each_end_one_line() {
    assert_eq!(
        Pair::new().lines(b"a\rb\nc\r\nd\n\n"),
        ["a", "b", "c", "d", ""]
    );
}

#[test]
fn editing_keys() {
    assert_eq!(line_of(b"bc\x01a\x05d\r"), "abcd");
    assert_eq!(line_of(b"abX\x7fc\x08\r"), "ab");
    assert_eq!(line_of(b"aXb\x1b[D\x1b[D\x1b[3~\r"), "ab");
    assert_eq!(line_of(b"bc\x1b[Ha\x1b[Fd\r"), "abcd");
    assert_eq!(line_of(b"bc\x1b[1~a\x1b[4~d\r"), "abcd");
    assert_eq!(line_of(b"bc\x1bOHa\x1bOFd\r"), "abcd");
    assert_eq!(line_of(b"one two\x17three\r"), "one three");
    assert_eq!(line_of(b"one two \x17\r"), "one ");
    assert_eq!(line_of(b"one two\x02\x02\x02\x15\r"), "two");
    assert_eq!(line_of(b"one two\x02\x02\x02\x0b\x19\x19\r"), "one two");
    assert_eq!(line_of(b"one two\x1b[1;5DX\x1b[1;5CY\r"), "one XtwoY");
    assert_eq!(line_of(b"one two\x1bbX\x01\x1bfY\r"), "oneY Xtwo");
}

#[test]
fn interrupt_drops_the_line_and_end_of_input_needs_an_empty_one() {
    let mut p = Pair::new();
    assert_eq!(p.typed(b"abc\x03", &no_words), [Event::Interrupt]);
    assert_eq!(p.typed(b"a\x01\x04\x04", &no_words), [Event::EndOfInput]);
}

#[test]
fn history_recalls_and_keeps_the_draft() {
    let mut p = Pair::new();
    p.lines(b"one\rtwo\rtwo\r \r");
    assert_eq!(p.lines(b"dra\x1b[A\x1b[A\x1b[A\x1b[B\x1b[Bft\r"), ["draft"]);
    assert_eq!(p.lines(b"\x1b[A\x1b[A\x1b[A\r"), ["one"]);
    assert_eq!(p.lines(b"\x10\x0e\r"), [""]);
}

#[test]
fn history_is_bounded() {
    let mut p = Pair::new();
    for i in 0..MAX_HISTORY + 10 {
        p.lines(alloc::format!("{i}\r").as_bytes());
    }
    assert_eq!(p.editor.history.len(), MAX_HISTORY);
    assert_eq!(p.lines(b"\x1b[A\r"), [(MAX_HISTORY + 9).to_string()]);
}

#[test]
fn a_full_line_rings_the_bell() {
    let mut p = Pair::new();
    p.typed(&vec![b'x'; MAX_LINE + 3], &no_words);
    assert_eq!((p.editor.line.len(), p.terminal.bells), (MAX_LINE, 3));
}

#[test]
fn a_line_that_lost_a_byte_is_refused() {
    let mut p = Pair::new();
    let refused = |p: &mut Pair, bytes: &[u8], why| {
        p.typed(bytes, &no_words);
        assert_eq!(p.typed(b"\r", &no_words), [Event::Refused(why)]);
    };
    let long = vec![b'x'; MAX_LINE + 1];
    refused(&mut p, &long, Refusal::TooLong);
    refused(&mut p, "write caf\u{e9}".as_bytes(), Refusal::NotAscii);
    // Not the next one, nor one that was begun anew.
    for again in [&b""[..], b"\x15", b"\x03"] {
        if !again.is_empty() {
            p.typed(&long, &no_words);
        }
        p.typed(again, &no_words);
        assert_eq!(p.typed(b"a\r", &no_words), [Event::Line("a".into())]);
    }
}

#[test]
fn tab_completes_what_is_certain_and_lists_the_rest() {
    let words = |before: &str| {
        let word = before.rsplit([' ', ';']).next().unwrap_or("");
        let all = ["stress", "swap", "selftest"];
        all.iter()
            .filter(|w| w.starts_with(word))
            .map(|w| w.to_string())
            .collect()
    };
    let mut p = Pair::new();
    p.typed(b"st\t", &words);
    assert_eq!(p.editor.line, "stress ");
    p.typed(b"s\t", &words);
    assert_eq!((p.editor.line.as_str(), p.terminal.bells), ("stress s", 1));
    p.typed(b"\t", &words);
    p.assert_display();
    p.typed(b"wap\t;sel\t", &words);
    assert_eq!(p.editor.line, "stress swap ;selftest ");
    p.typed(b"zz\t", &words);
    assert_eq!(p.terminal.bells, 2);
}

fn fixed_seed() -> ProptestConfig {
    ProptestConfig {
        cases: 2000,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(fixed_seed())]
    #[test]
    fn the_display_always_shows_the_line(bytes in proptest::collection::vec(
        prop_oneof![
            4 => b' '..=b'~',
            4 => prop::sample::select(b"\x01\x02\x05\x06\x08\x0b\x0c\x0e\x10\x15\x17\x19\x7f\x1b[ABCDOH35~;\r".to_vec()),
            1 => any::<u8>(),
        ], 0..200))
    {
        let mut p = Pair::new();
        p.typed(&bytes, &no_words);
        p.assert_display();
        prop_assert!(p.editor.cursor <= p.editor.line.len());
    }
}
