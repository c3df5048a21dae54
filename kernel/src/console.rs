//! The console's thread: starts swap, runs the commands of the command line or of the keyboard, powers off.
//!
//! Runs in a thread of its own and may sleep. Long-lived helpers (kswapd, the disks' watchdog) start here too,
//! once threads exist.

use alloc::boxed::Box;

use lab::cancel::CONSOLE;

use crate::serial::Console;
use crate::{fwcfg, println, serial, virtio};

/// Ends the boot messages; `run-qemu.sh --exec` shows only what comes after.
const READY: &str = "=== ready ===";

/// Never returns: the machine goes off when the commands are done.
pub(crate) fn main() {
    serial::enable_interrupts();
    background("disks", || {
        loop {
            let next = virtio::check_all();
            arch::thread::sleep_ns(next);
        }
    });
    println!("{READY}");
    let swap = lab::startup::start(&Console, false);
    if let Err(why) = &swap {
        println!("quire: {why}");
    }
    let shell = lab::shell();
    let status = match fwcfg::option("exec") {
        // Commands that were to run with swap must not pass without it.
        Some(line) if swap.is_err() && !line.contains("swap mkswap") => lab::shell::Status::Usage,
        Some(line) => shell.run(line, &Console, &CONSOLE).status,
        None => {
            println!("Quire. `help` lists the commands, `poweroff` ends.");
            lab::console::run(
                &shell,
                &mut || Some(serial::wait_key()),
                &Console,
                &CONSOLE,
                lab::console::Terminal::Raw,
            )
        }
    };
    arch::exit(status as u8)
}

fn background(name: &'static str, body: fn()) {
    let spawn = arch::thread::Spawn { name, cpu: None };
    if arch::thread::spawn(spawn, Box::new(body)).is_err() {
        println!("quire: no memory for the {name} thread; going on without it");
    }
}
