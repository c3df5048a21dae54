//! The simulated machine's controls, which the real one lacks: power-on, the oracle, disk faults.

use super::board::{self, machine};
use super::cpu::{self, lock};
use super::thread::{self, Spawn};
use super::{disk, oracle};
use crate::addr::{PAGE_SIZE, Pfn, VirtAddr};
use std::any::Any;
use std::sync::{Arc, Mutex};

#[cfg(feature = "lab")]
pub use super::actor::is_playing;
pub use super::disk::{DiskEvent, DiskFault, FaultKind, RamDisk};
pub use oracle::Violation;

/// What a caught panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    thread::message(panic).to_owned()
}

/// What the machine is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of RAM, whole pages, 4 MiB at least. The host backs what is touched.
    pub ram: u64,
    /// CPUs, 1 to [`sync::MAX_CPUS`]. Every kernel thread needs one of its own.
    pub cpus: usize,
    /// Bytes of the swap disk, whole pages; 0 = no disk.
    pub swap: u64,
    /// Bytes of the data disk, whole pages; 0 = no disk. Its cache is volatile: see [`power_cut`].
    pub data: u64,
    /// For random eviction.
    pub seed: u64,
    /// After how many of 1024 user accesses the CPU forgets the translation used; 0 = never.
    pub evict: u32,
}

impl Default for Config {
    /// 256 MiB, 16 CPUs, 64 MiB of swap, no data disk, no eviction.
    fn default() -> Self {
        Self {
            ram: 256 << 20,
            cpus: 16,
            swap: 64 << 20,
            data: 0,
            seed: 1,
            evict: 0,
        }
    }
}

/// Powers the machine on and registers its scheduler. There is one machine per process: later calls
/// leave it as it is. True if this call made it.
///
/// # Panics
/// If a size in `config` is out of its range.
pub fn boot(config: Config) -> bool {
    assert!(
        config.ram.is_multiple_of(PAGE_SIZE) && config.ram >= 4 << 20,
        "RAM of {} bytes: whole pages, at least 4 MiB, are accepted",
        config.ram
    );
    assert!(
        (1..=sync::MAX_CPUS).contains(&config.cpus),
        "{} CPUs: 1 to {} are accepted",
        config.cpus,
        sync::MAX_CPUS
    );
    for (disk, bytes) in [("swap", config.swap), ("data", config.data)] {
        assert!(
            bytes.is_multiple_of(PAGE_SIZE),
            "{disk} disk of {bytes} bytes: whole pages are accepted"
        );
    }
    assert!(
        config.evict <= 1024,
        "evict {}: 0 to 1024 are accepted",
        config.evict
    );
    // Others must not see the machine before its CPUs run.
    static BOOT: Mutex<()> = Mutex::new(());
    let _one = lock(&BOOT);
    let first = board::make(config);
    if first {
        sync::set_threads(&thread::SIM_THREADS);
        cpu::start_all();
        disk::start();
    }
    first
}

/// What the machine was made with.
pub fn config() -> &'static Config {
    &machine().config
}

/// Runs `f` as a kernel thread and waits for it; the way in for threads of the host program. While
/// the caller waits it must not be a simulated CPU that others need: a CPU blocked outside of the
/// simulation serves no interrupts.
///
/// # Panics
/// With `f`'s own panic, or if every CPU is taken.
pub fn run<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let slot = Arc::new(Mutex::new(None));
    let result = slot.clone();
    let opts = Spawn {
        name: "run",
        cpu: None,
    };
    let work = Box::new(move || *lock(&result) = Some(f()));
    match thread::spawn(opts, work) {
        Ok(handle) => handle.join(),
        Err(e) => panic!("no simulated CPU for a thread of the host: {e:?}"),
    }
    lock(&slot)
        .take()
        .expect("the thread stored its result before it ended")
}

/// Every TLB entry, of any CPU, that leads to `pfn` through a user mapping.
pub fn stale_translations(pfn: Pfn) -> Vec<(usize, VirtAddr)> {
    let mut found = Vec::new();
    for cpu in &machine().cpus {
        found.extend(cpu.tlb().translations_to(pfn).map(|va| (cpu.id, va)));
    }
    found
}

/// How often `pfn` has been freed.
pub fn generation(pfn: Pfn) -> u32 {
    machine().oracle.generation(pfn)
}

/// What the oracle saw go wrong since the last call.
pub fn take_violations() -> Vec<Violation> {
    machine().oracle.take()
}

/// The swap disk, to make it fail or look at it.
///
/// # Panics
/// If the machine has none.
pub fn swap_disk() -> &'static RamDisk {
    let disk = machine().swap.as_ref();
    disk.expect("this machine has no swap disk: Config::swap is 0")
}

/// The data disk, to make it fail or look at it.
///
/// # Panics
/// If the machine has none.
pub fn data_disk() -> &'static RamDisk {
    let disk = machine().data.as_ref();
    disk.expect("this machine has no data disk: Config::data is 0")
}

/// The power fails for the data disk, and is back at once: a sector written since the last flush
/// that succeeded holds its newest data or what it held at that flush. `seed` chooses. Requests in
/// flight are carried out before or after.
///
/// # Panics
/// If the machine has no data disk.
pub fn power_cut(seed: u64) {
    data_disk().power_cut(seed);
}
