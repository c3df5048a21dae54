//! Time: the TSC, and the local APIC timer's rate.
//!
//! Both rates are measured once against the PIT, which every PC has. Under `qemu -icount` port I/O is
//! slow and the TSC counts instructions, 1000 a microsecond, and so does the APIC timer: nothing is
//! measured there. Locks: none. Never sleeps.

use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use x86_64::instructions::port::Port;

use super::apic;

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
/// 10 ms of PIT ticks.
const PIT_TICKS: u64 = PIT_HZ / 100;

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
pub(super) fn calibrate() {
    if detect_icount() {
        ICOUNT.store(true, Ordering::Relaxed);
        START.store(cycles(), Ordering::Relaxed);
        return;
    }
    let mut runs = [measure(), measure(), measure()];
    runs.sort_unstable();
    let (tsc, timer) = runs[1];
    let hz = (tsc * PIT_HZ / PIT_TICKS).max(1);
    let timer_hz = timer * PIT_HZ / PIT_TICKS;
    TSC_HZ.store(hz, Ordering::Relaxed);
    NS_PER_TICK.store(
        ((1_000_000_000u128 << 32) / u128::from(hz)) as u64,
        Ordering::Relaxed,
    );
    TIMER_PER_NS.store(
        ((u128::from(timer_hz) << 32) / 1_000_000_000) as u64,
        Ordering::Relaxed,
    );
    START.store(cycles(), Ordering::Relaxed);
}

/// TSC and APIC timer ticks while channel 2 of the PIT counts [`PIT_TICKS`] down.
fn measure() -> (u64, u64) {
    const GATE: u8 = 1;
    const SPEAKER: u8 = 2;
    const OUT: u8 = 1 << 5;
    let mut control = Port::<u8>::new(0x61);
    let mut mode = Port::<u8>::new(0x43);
    let mut count = Port::<u8>::new(0x42);
    // SAFETY: PIT channel 2 and its gate: nothing but the speaker hangs off them, and that is kept off.
    unsafe {
        let gate_off = control.read() & !(GATE | SPEAKER);
        control.write(gate_off);
        mode.write(0b1011_0000);
        count.write(PIT_TICKS as u8);
        count.write((PIT_TICKS >> 8) as u8);
        apic::start_timer(u32::MAX);
        control.write(gate_off | GATE);
        let start = cycles();
        let timer_start = apic::timer_left();
        while control.read() & OUT == 0 {}
        let ticks = cycles() - start;
        let timer = timer_start - apic::timer_left();
        apic::start_timer(0);
        (ticks, u64::from(timer))
    }
}

/// Waits `us` microseconds by the TSC: for boot, before threads.
pub(super) fn delay_us(us: u64) {
    let end = now_ns() + us * 1000;
    while now_ns() < end {
        core::hint::spin_loop();
    }
}
