//! Time: the TSC, and the local APIC timer's rate.
//!
//! Both rates are measured once against the PIT, which every PC has. Under `qemu -icount` port I/O
//! is slow and the TSC counts instructions, 1000 a microsecond, and so does the APIC timer: nothing
//! is measured there. Locks: none. Never sleeps.

use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use x86_64::instructions::port::Port;

use super::apic;
use crate::countdown::{Stopped, wait_ticks};

/// TSC ticks per second.
static TSC_HZ: AtomicU64 = AtomicU64::new(1_000_000_000);
/// Nanoseconds per TSC tick, times 2^32.
static NS_PER_TICK: AtomicU64 = AtomicU64::new(1 << 32);
/// APIC timer ticks per nanosecond, times 2^32.
static TIMER_PER_NS: AtomicU64 = AtomicU64::new(1 << 32);
/// The TSC when the boot CPU measured it: time 0.
static START: AtomicU64 = AtomicU64::new(0);
static ICOUNT: AtomicBool = AtomicBool::new(false);

const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_MODE: u16 = 0x43;
/// 20 ms of PIT ticks.
const PIT_TICKS: u16 = (PIT_HZ / 50) as u16;

/// The TSC. Under `qemu -icount shift=0`: guest instructions.
#[inline]
pub fn cycles() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 CPU and the kernel never forbids it.
    unsafe { _rdtsc() }
}

/// Nanoseconds since boot, monotonic on each CPU.
#[inline]
pub fn now_ns() -> u64 {
    let ticks = cycles().saturating_sub(START.load(Ordering::Relaxed));
    ((u128::from(ticks) * u128::from(NS_PER_TICK.load(Ordering::Relaxed))) >> 32) as u64
}

/// TSC ticks per second.
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// The TSC counts instructions, exactly (`qemu -icount`).
pub fn counts_instructions() -> bool {
    ICOUNT.load(Ordering::Relaxed)
}

/// APIC timer ticks in `ns` nanoseconds, at most 2^31.
pub(super) fn timer_ticks(ns: u64) -> u32 {
    let per_ns = TIMER_PER_NS.load(Ordering::Relaxed);
    let ticks = (u128::from(ns) * u128::from(per_ns)) >> 32;
    ticks.clamp(1, 1 << 31) as u32
}

/// TSC ticks that 1001 instructions take (a loop of 500 turns, and the one before it).
fn ticks_of_loop() -> u64 {
    let before = cycles();
    // SAFETY: counts a register down to zero.
    unsafe {
        asm!("mov {0:e}, 500", "2: dec {0:e}", "jnz 2b", out(reg) _, options(nomem, nostack));
    }
    cycles() - before
}

/// A TSC that counts instructions gives the same number every time, and the right one.
fn detect_icount() -> bool {
    let first = ticks_of_loop();
    (1001..1064).contains(&first) && (0..8).all(|_| ticks_of_loop() == first)
}

/// Measures both rates. On the boot CPU with its local APIC on.
///
/// # Errors
/// Says that there is no clock to measure by.
pub(super) fn calibrate() -> Result<(), &'static str> {
    if detect_icount() {
        ICOUNT.store(true, Ordering::Relaxed);
        START.store(cycles(), Ordering::Relaxed);
        return Ok(());
    }
    // A run in which this CPU lost its host core for longer than the PIT takes to wrap looks like a
    // faster TSC, never a slower one.
    let no_clock = |Stopped| {
        "the timer chip (PIT) does not count; a PC's is needed to measure the CPU's clock \
         (QEMU: without -machine pit=off)"
    };
    let run = || measure().map_err(no_clock);
    let (hz, timer_hz) = run()?.min(run()?).min(run()?);
    TSC_HZ.store(hz, Ordering::Relaxed);
    let ns = (1_000_000_000u128 << 32) / u128::from(hz.max(1));
    NS_PER_TICK.store(ns as u64, Ordering::Relaxed);
    let per_ns = (u128::from(timer_hz) << 32) / 1_000_000_000;
    TIMER_PER_NS.store(per_ns as u64, Ordering::Relaxed);
    START.store(cycles(), Ordering::Relaxed);
    Ok(())
}

/// The three clocks at one moment.
struct Sample {
    tsc: u64,
    timer: u32,
    pit: u16,
}

/// Reads the clocks close together: of a few tries the one that took the shortest.
fn sample() -> Sample {
    let mut best = None;
    for _ in 0..8 {
        let before = cycles();
        let timer = apic::timer_left();
        let pit = read_pit();
        let took = cycles() - before;
        if best.as_ref().is_none_or(|(least, _)| took < *least) {
            let tsc = before + took / 2;
            best = Some((took, Sample { tsc, timer, pit }));
        }
    }
    best.expect("there was a try").1
}

/// Channel 2's count, latched.
fn read_pit() -> u16 {
    let mut data = Port::<u8>::new(PIT_CHANNEL_2);
    // SAFETY: latches and reads PIT channel 2, which nothing else uses.
    unsafe {
        Port::<u8>::new(PIT_MODE).write(0x80);
        u16::from(data.read()) | u16::from(data.read()) << 8
    }
}

/// TSC and APIC timer ticks per second, by about 20 ms of PIT channel 2, which counts down and
/// wraps.
fn measure() -> Result<(u64, u64), Stopped> {
    const GATE: u8 = 1;
    const SPEAKER: u8 = 2;
    let mut control = Port::<u8>::new(0x61);
    let mut data = Port::<u8>::new(PIT_CHANNEL_2);
    // SAFETY: PIT channel 2 and its gate: nothing but the speaker hangs off them, and that is kept
    // off.
    unsafe {
        let gate = (control.read() & !SPEAKER) | GATE;
        control.write(gate);
        Port::<u8>::new(PIT_MODE).write(0b1011_0100);
        data.write(0);
        data.write(0);
    }
    apic::start_timer(u32::MAX);
    let first = sample();
    wait_ticks(first.pit, PIT_TICKS, read_pit)?;
    let last = sample();
    apic::start_timer(0);
    let pit = u64::from(first.pit.wrapping_sub(last.pit)).max(1);
    let hz = |ticks: u64| ticks * PIT_HZ / pit;
    Ok((
        hz(last.tsc - first.tsc),
        hz(u64::from(first.timer - last.timer)),
    ))
}

/// Waits `us` microseconds by the TSC: for boot, before threads.
pub(super) fn delay_us(us: u64) {
    let end = now_ns() + us * 1000;
    while now_ns() < end {
        core::hint::spin_loop();
    }
}
