//! Runs the guest and filters its serial output: `console KERNEL_ELF [--raw | --pipe] COMMAND
//! [ARG...]`.
//!
//! COMMAND is the guest, with its serial port on standard input and output. What it prints goes to
//! standard output, without what firmware and bootloader print, and with names for backtrace
//! addresses. Without `--raw` (no terminal behind it) CR LF becomes LF, and the boot messages are
//! kept back, unless the guest ends before its console was ready: then they are what one wants to
//! see.
//!
//! With `--pipe` standard input is held back until the console is ready (the firmware would swallow
//! it), and ends with Ctrl-D. Exit status: COMMAND's; 141 when nobody reads the output any more,
//! and the guest was ended for it.

mod filter;
mod guest;
mod symbols;

use std::process::ExitCode;

use filter::Filter;
use guest::Guest;
use symbols::Symbols;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [elf, command @ ..] = args.as_slice() else {
        return usage();
    };
    let (raw, pipe, command) = match command {
        [option, command @ ..] if option == "--raw" => (true, false, command),
        [option, command @ ..] if option == "--pipe" => (false, true, command),
        command => (false, false, command),
    };
    let [program, args @ ..] = command else {
        return usage();
    };
    let symbols = Symbols::new(elf);
    let filter = Filter::new(raw, Box::new(move |address| symbols.describe(address)));
    match Guest::start(program, args, pipe).and_then(|guest| guest.show(filter)) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            eprintln!("console: {program}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: console KERNEL_ELF [--raw | --pipe] COMMAND [ARG...]");
    ExitCode::from(2)
}
