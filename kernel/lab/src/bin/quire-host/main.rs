//! `quire-host`: the laboratory's commands on the simulated machine, in a process of the host.
//!
//! The machine is powered on once; the commands run in one of its kernel threads. A panic ends the
//! process with status 3, as a kernel panic ends QEMU; one that the explorer provokes is its
//! verdict.

mod crash;
mod fat_promises;
mod image;
mod options;
mod promises;

use std::io::{IsTerminal, Read, Write};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use image::Image;
use lab::args::UsageError;
use lab::cancel;
use lab::console::{self, Terminal};
use lab::out::Out;
use lab::shell::Status;
use options::{Mode, Options};

/// Standard output; a closed pipe is not worth a panic.
struct Stdout;

impl Out for Stdout {
    fn put(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn refuse(e: &UsageError) -> ! {
    eprintln!("quire-host: {} (--help lists the options)", e.0);
    std::process::exit(Status::Usage as i32);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words
        .first()
        .is_some_and(|w| crash::NAMES.contains(&w.as_str()))
    {
        let status = crash::run(&words).unwrap_or_else(|e| refuse(&e));
        std::process::exit(status as i32);
    }
    let options = options::parse(words.into_iter()).unwrap_or_else(|e| refuse(&e));
    if options.mode == Mode::Help {
        print!("{}{}", options::USAGE, crash::USAGE);
        return;
    }
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !lab::race::is_verdict(info) {
            report(info);
            std::process::exit(3);
        }
    }));
    lab::replay::set_machine(options.machine_words());
    let image = options.data_image.clone().map(Image::open);
    let machine = options.machine(image.as_ref());
    let filled = image.clone();
    let status = lab::host::run(&machine, &Stdout, move || {
        filled.iter().for_each(Image::fill);
        session(&options)
    });
    image.iter().for_each(Image::keep);
    std::process::exit(status as i32);
}

impl Options {
    fn machine(&self, image: Option<&Image>) -> lab::host::Machine {
        lab::host::Machine {
            cpus: self.cpus,
            ram: self.mem,
            swap: self.swap,
            data: image.map_or(self.data, Image::bytes),
            seed: self.seed,
            evict: self.evict,
        }
    }
}

/// Runs in a kernel thread.
fn session(options: &Options) -> Status {
    lab::shutdown::end(&Stdout, commands(options))
}

fn commands(options: &Options) -> Status {
    let shell = lab::shell();
    if let Mode::Exec(commands) = &options.mode {
        return shell.run(commands, &Stdout, &cancel::CONSOLE).status;
    }
    let terminal = if std::io::stdin().is_terminal() {
        Terminal::Cooked
    } else {
        Terminal::Absent
    };
    let keys = keyboard();
    console::run(
        &shell,
        &mut || next_key(&keys),
        &Stdout,
        &cancel::CONSOLE,
        terminal,
    )
}

/// Standard input through a thread of the host: a simulated CPU must not block outside of the
/// simulation.
fn keyboard() -> Receiver<u8> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for byte in std::io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.send(byte).is_err() {
                break;
            }
        }
    });
    receiver
}

fn next_key(keys: &Receiver<u8>) -> Option<u8> {
    loop {
        match keys.try_recv() {
            Ok(key) => return Some(key),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => arch::thread::sleep_ns(5_000_000),
        }
    }
}
