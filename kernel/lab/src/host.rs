//! The simulated machine with the memory manager on it, for `quire-host` and for tests of the host.

use core::sync::atomic::Ordering;

use arch::simctl::{self, Config};

use crate::USABLE_CPUS;
use crate::out::Out;

/// CPUs beside those of the commands: on this machine each kernel thread takes one for life.
const HOUSEKEEPING: usize = 12;

/// What the machine is made of.
#[derive(Clone, Debug)]
pub struct Machine {
    /// CPUs for commands and their actors, 1 to 16.
    pub cpus: usize,
    /// Bytes of RAM.
    pub ram: u64,
    /// Bytes of the swap disk, 0 for none.
    pub swap: u64,
    /// Bytes of the data disk, 0 for none.
    pub data: u64,
    /// Seed of the simulator's choices.
    pub seed: u64,
    /// After how many of 1024 accesses a TLB forgets the entry used.
    pub evict: u32,
}

/// Powers the machine on, starts the memory manager with swapping to a fresh disk, and runs `f` in
/// a kernel thread. The OOM killer prints to `out`. Once per process; later calls only run `f`.
///
/// # Panics
/// If the machine cannot be made, or with `f`'s own panic.
pub fn run<R: Send + 'static>(
    machine: &Machine,
    out: &'static dyn Out,
    f: impl FnOnce() -> R + Send + 'static,
) -> R {
    let first = simctl::boot(Config {
        ram: machine.ram,
        cpus: machine.cpus + HOUSEKEEPING,
        swap: machine.swap,
        data: machine.data,
        seed: machine.seed,
        evict: machine.evict,
    });
    if first {
        USABLE_CPUS.store(machine.cpus, Ordering::Relaxed);
        let format = machine.swap > 0;
        simctl::run(move || start(out, format));
    }
    simctl::run(f)
}

fn start(out: &'static dyn Out, format: bool) {
    if let Err(e) = mm::init() {
        panic!("the memory manager cannot start: {e:?}");
    }
    mm::cpus_known();
    if let Err(e) = crate::startup::start(out, format) {
        panic!("{e}");
    }
}
