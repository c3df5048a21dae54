//! The console's thread: starts swap, runs the commands of the command line or of the keyboard,
//! powers off.
//!
//! Runs in a thread of its own and may sleep. Long-lived helpers (kswapd, the disks' watchdog)
//! start here too, once threads exist.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use lab::cancel::CONSOLE;
use lab::console::{self, Terminal};
use lab::shell::{Shell, Status};

use crate::serial::Console;
use crate::{fwcfg, println, serial, virtio};

/// Ends the boot messages; `run-qemu.sh --exec` shows only what comes after.
const READY: &str = "=== ready ===";

/// Never returns: the machine goes off when the commands are done.
pub(crate) fn main() {
    if let Some(why) = fwcfg::options("lab").find_map(wrong_kernel) {
        println!("quire: {why}");
        arch::exit(Status::Failed as u8);
    }
    serial::enable_interrupts();
    background("disks", || {
        loop {
            let next = virtio::check_all();
            arch::thread::sleep_ns(next);
        }
    });
    if let Some(words) = fwcfg::options("machine").next() {
        lab::replay::set_machine(String::from(words));
    }
    println!("{READY}");
    let swap = lab::startup::start(&Console, false);
    if let Err(why) = &swap {
        println!("quire: {why}");
    }
    if let Some(why) = fwcfg::complaint() {
        println!("quire: {why}");
        arch::exit(Status::Usage as u8);
    }
    let shell = lab::shell();
    let commands: Vec<&str> = fwcfg::options("exec").collect();
    let status = if commands.is_empty() {
        keyboard(&shell, swap.is_ok())
    } else {
        let text = commands.join("\n");
        if swap.is_ok() || text.contains("swap mkswap") {
            shell.run(&text, &Console, &CONSOLE).status
        } else {
            WITHOUT_SWAP
        }
    };
    arch::exit(lab::shutdown::end(&Console, status) as u8)
}

/// Commands that were to run with swap must not pass without it.
const WITHOUT_SWAP: Status = Status::Usage;

/// Commands from the serial port: of somebody at a terminal, or from a file or pipe of the host.
fn keyboard(shell: &Shell, swap_is_good: bool) -> Status {
    let piped = fwcfg::options("input").next() == Some("pipe");
    let terminal = if piped {
        Terminal::Absent
    } else {
        println!("Quire. `help` lists the commands, `exit` ends.");
        Terminal::Raw
    };
    let mut keys = || Some(serial::wait_key());
    let status = console::run(shell, &mut keys, &Console, &CONSOLE, terminal);
    match status {
        Status::Ok if piped && !swap_is_good => WITHOUT_SWAP,
        status => status,
    }
}

/// Why this is not the kernel that was asked for: with the lab (`yes`), or without.
fn wrong_kernel(lab: &str) -> Option<&'static str> {
    match (lab, cfg!(feature = "lab")) {
        ("yes", false) => Some("this kernel was built without the lab; one with it was asked for"),
        ("no", true) => Some("this kernel was built with the lab; one without was asked for"),
        _ => None,
    }
}

fn background(name: &'static str, body: fn()) {
    let spawn = arch::thread::Spawn { name, cpu: None };
    if arch::thread::spawn(spawn, Box::new(body)).is_err() {
        println!("quire: no memory for the {name} thread; going on without it");
    }
}
