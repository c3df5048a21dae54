//! The laboratory on top of the memory manager: self-tests, stress, bench and the console commands,
//! the same bodies on the host simulator and in QEMU.
//!
//! Everything here runs in threads and may sleep. The memory manager's rules of order are watched,
//! not relied upon: a check that fails says what was wrong and what replays it.
#![deny(unsafe_code)]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

pub mod args;
pub mod bench;
pub mod cancel;
pub mod console;
#[cfg(feature = "lab")]
pub mod faulty;
pub mod files;
#[cfg(not(target_os = "none"))]
pub mod host;
pub mod inspect;
pub mod ktap;
pub mod line;
pub mod oracle;
pub mod out;
#[cfg(feature = "lab")]
pub mod race;
pub mod replay;
pub mod selftest;
pub mod shell;
pub mod shown;
pub mod shutdown;
pub mod space;
pub mod startup;
pub mod stress;
mod suites;

/// CPUs that commands may use; 0: all. The simulator has more, for its kernel threads.
static USABLE_CPUS: AtomicUsize = AtomicUsize::new(0);

/// How many CPUs commands use if they are not told.
pub fn usable_cpus() -> usize {
    match USABLE_CPUS.load(Ordering::Relaxed) {
        0 => arch::nr_cpus(),
        n => n,
    }
}

/// The console: every command of the laboratory.
pub fn shell() -> shell::Shell {
    shell::Shell::new(&[
        selftest::COMMANDS,
        stress::COMMANDS,
        #[cfg(feature = "lab")]
        race::command::COMMANDS,
        bench::COMMANDS,
        files::COMMANDS,
        inspect::COMMANDS,
    ])
}

/// Every self-test that runs on this machine.
pub fn suites() -> Vec<&'static selftest::Suite> {
    #[cfg(feature = "lab")]
    let own = Some(race::suite::suite());
    #[cfg(not(feature = "lab"))]
    let own = None;
    suites::ALL.iter().copied().chain(own).collect()
}
