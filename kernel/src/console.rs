//! The console's thread: starts swap, runs the commands of the command line or of the keyboard, powers off.
//!
//! Runs in a thread of its own and may sleep. Long-lived helpers (kswapd, the disks' watchdog) start here too,
//! once threads exist.

use alloc::boxed::Box;

use lab::cancel::CONSOLE;

use crate::serial::Console;
use crate::{fwcfg, println, serial, virtio};

/// How often the disks are looked after.
const DISK_CHECK_NS: u64 = 1_000_000_000;

/// Never returns: the machine goes off when the commands are done.
pub(crate) fn main() {
    serial::enable_interrupts();
    background("disks", || {
        loop {
            arch::thread::sleep_ns(DISK_CHECK_NS);
            virtio::check_all();
        }
    });
    let shell = lab::shell::Shell::new(&[]);
    let status = match fwcfg::option("exec") {
        Some(line) => shell.run(line, &Console, &CONSOLE).status,
        None => {
            println!("Quire. `help` lists the commands, `poweroff` ends.");
            lab::console::run(
                &shell,
                &mut || Some(serial::wait_key()),
                &Console,
                &CONSOLE,
                true,
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
