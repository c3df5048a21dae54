//! Filters the guest's serial output: `console KERNEL_ELF [--raw]`, from standard input to standard output.
//!
//! Drops what firmware and bootloader print, adds names to backtrace addresses, and without `--raw` (no
//! terminal behind it) also turns CR LF into LF and keeps the boot messages back, unless the guest ends
//! before its console was ready: then they are what one wants to see.

mod filter;
mod symbols;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use filter::Filter;
use symbols::Symbols;

fn copy(mut filter: Filter) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut buffer = [0; 4096];
    loop {
        let n = match input.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let text = match &buffer[..n] {
            [] => filter.finish(),
            bytes => filter.feed(bytes),
        };
        output.write_all(&text)?;
        output.flush()?;
        if n == 0 {
            return Ok(());
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (elf, raw) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [elf] => (elf, false),
        [elf, "--raw"] => (elf, true),
        _ => {
            eprintln!("usage: console KERNEL_ELF [--raw]");
            return ExitCode::from(2);
        }
    };
    let symbols = Symbols::new(elf);
    match copy(Filter::new(
        raw,
        Box::new(move |address| symbols.describe(address)),
    )) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("console: {e}");
            ExitCode::FAILURE
        }
    }
}
