//! Where commands print: the serial port in the kernel, standard output on the host, a buffer in
//! tests.
//!
//! Locks: none of its own; an implementation serialises whole calls, so that lines written by one
//! call are not torn. May be called by any thread, not from interrupt handlers. Formatting
//! allocates nothing: a report must still come out when memory is out.

use core::fmt::{self, Write};

/// A sink for text.
pub trait Out: Sync {
    /// Writes `text`; a line ends with `\n` alone, the sink adds what its terminal needs.
    fn put(&self, text: &str);
}

struct Adapter<'a>(&'a dyn Out);

impl fmt::Write for Adapter<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.put(s);
        Ok(())
    }
}

impl dyn Out + '_ {
    /// Makes `write!` and `writeln!` work on a `&dyn Out`. Sinks cannot fail, so there is no
    /// result.
    pub fn write_fmt(&self, args: fmt::Arguments<'_>) {
        // `Adapter` never fails; a failing `Display` of an argument loses only that text.
        let _ = fmt::write(&mut Adapter(self), args);
    }
}

/// Text that a disk or a user made up, as a terminal may have it: what would steer it, or cannot be
/// seen, is escaped.
pub fn shown(text: &str) -> impl fmt::Display + '_ {
    struct Shown<'a>(&'a str);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for c in self.0.chars() {
                match c {
                    '\'' | '"' => f.write_char(c)?,
                    _ => write!(f, "{}", c.escape_debug())?,
                }
            }
            Ok(())
        }
    }
    Shown(text)
}

/// A sink that keeps the text, for tests and for commands that need another's output.
pub struct Buffer(spin::Mutex<alloc::string::String>);

impl Buffer {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self(spin::Mutex::new(alloc::string::String::new()))
    }
    /// What was written so far; leaves the buffer empty.
    pub fn take(&self) -> alloc::string::String {
        core::mem::take(&mut *self.0.lock())
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Out for Buffer {
    fn put(&self, text: &str) {
        self.0.lock().push_str(text);
    }
}

/// Writes every line of the inner sink with a prefix: nested KTAP, diagnostics.
pub struct Prefixed<'a> {
    inner: &'a dyn Out,
    prefix: &'a str,
    at_line_start: core::sync::atomic::AtomicBool,
}

impl<'a> Prefixed<'a> {
    /// Text written to the result appears in `inner` with `prefix` before each line.
    pub fn new(inner: &'a dyn Out, prefix: &'a str) -> Self {
        Self {
            inner,
            prefix,
            at_line_start: core::sync::atomic::AtomicBool::new(true),
        }
    }
}

impl Out for Prefixed<'_> {
    fn put(&self, text: &str) {
        use core::sync::atomic::Ordering::Relaxed;
        for piece in text.split_inclusive('\n') {
            if self.at_line_start.swap(piece.ends_with('\n'), Relaxed) {
                self.inner.put(self.prefix);
            }
            self.inner.put(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_shown() {
        let name = "a\u{1b}[2J\nnot ok 1\u{202e}\u{9b}é 'x'\\";
        let text = alloc::format!("{}", shown(name));
        let escaped = "a\\u{1b}[2J\\nnot ok 1\\u{202e}\\u{9b}é 'x'\\\\";
        assert_eq!(text, escaped);
    }

    #[test]
    fn prefix_is_put_once_per_line_however_the_text_is_cut() {
        let buffer = Buffer::new();
        let p = Prefixed::new(&buffer, "# ");
        let out: &dyn Out = &p;
        let b = "b";
        write!(out, "a{b}c\nd");
        writeln!(out, "e");
        writeln!(out);
        assert_eq!(buffer.take(), "# abc\n# de\n# \n");
    }
}
