//! Interrupts between CPUs, and waiting for what they do.
//!
//! A wait keeps interrupts on, so that two CPUs which wait for each other serve each other. It
//! spins without PAUSE for a moment and then halts: under QEMU's TCG a PAUSE takes the emulator's
//! big lock, and a bare spin starves the very CPU that is waited for when there are more virtual
//! CPUs than host cores.
//!
//! Locks: none. Preemption is off while waiting.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use sync::{AtomicCpuMask, CpuMask};
use x86_64::instructions::interrupts;

use super::{MAX_X86_CPUS, apic, irq, time};

/// Turns of a bare spin before a wait halts: a few microseconds on hardware.
const SPIN_TURNS: u32 = 2000;

/// A wait with interrupts off that lasts this long is a deadlock.
const DEADLOCK_NS: u64 = 5_000_000_000;

/// Set around a halt in [`halt_until`]: [`kick`] has to interrupt this CPU.
static HALTING: [AtomicBool; MAX_X86_CPUS] = [const { AtomicBool::new(false) }; MAX_X86_CPUS];

/// Sends the TLB interrupt to every CPU of `to` but this one; each runs the `tlb_ipi` upcall. Does
/// not wait. What was stored before is visible to the upcall.
#[inline]
pub(crate) fn send_tlb_ipi(to: CpuMask) {
    apic::send(to, irq::TLB);
}

/// Wakes `cpu` if it halts in [`halt_until`]. Called after making what it waits for true.
#[inline]
pub(crate) fn kick(cpu: usize) {
    // Pairs with the fence in `halt_until`: either this sees HALTING, or the waiter sees the
    // condition.
    fence(Ordering::SeqCst);
    if HALTING[cpu].load(Ordering::Relaxed) {
        apic::send(CpuMask::single(cpu), irq::KICK);
    }
}

/// Waits until `cond` holds. Whoever makes it true calls [`kick`] for this CPU, or does it in an
/// interrupt handler here. Interrupts are on, and served; preemption is off meanwhile.
///
/// # Panics
/// With interrupts off, when `cond` does not come true for [`DEADLOCK_NS`]: the CPU that is waited
/// for may itself be waiting for this one, which takes no interrupt.
pub(crate) fn wait_for(cond: &dyn Fn() -> bool) {
    sync::might_wait_for_ipi();
    let _pinned = sync::preempt::disable();
    for _ in 0..turns(SPIN_TURNS) {
        if cond() {
            return;
        }
    }
    if sync::irq::enabled() {
        halt_until(cond);
    } else {
        wait_deaf(cond);
    }
}

/// How often to look before halting. When instructions are counted only one CPU runs at a time:
/// spinning is in vain.
pub(super) fn turns(wanted: u32) -> u32 {
    if time::counts_instructions() {
        1
    } else {
        wanted
    }
}

/// Halts until `cond` holds. Whoever makes it true calls [`kick`]. Interrupts are on and preemption
/// is off, before and after.
pub(super) fn halt_until(cond: &dyn Fn() -> bool) {
    let halting = &HALTING[sync::cpu::id()];
    loop {
        interrupts::disable();
        halting.store(true, Ordering::Relaxed);
        // Pairs with the fence in `kick`.
        fence(Ordering::SeqCst);
        if cond() {
            halting.store(false, Ordering::Relaxed);
            interrupts::enable();
            return;
        }
        // `sti` takes effect after `hlt` has begun: an interrupt in between ends the halt.
        interrupts::enable_and_hlt();
    }
}

#[cold]
fn wait_deaf(cond: &dyn Fn() -> bool) {
    let end = time::now_ns() + DEADLOCK_NS;
    while !cond() {
        core::hint::spin_loop();
        assert!(
            time::now_ns() < end,
            "deadlock: another CPU waited for with interrupts off does not answer"
        );
    }
}

/// A function call in flight from one CPU: what to call, and who has not done it yet.
struct Call {
    f: AtomicUsize,
    arg: AtomicUsize,
    pending: AtomicCpuMask,
}

/// One call per calling CPU.
static CALLS: [Call; MAX_X86_CPUS] = [const {
    Call {
        f: AtomicUsize::new(0),
        arg: AtomicUsize::new(0),
        pending: AtomicCpuMask::new(),
    }
}; MAX_X86_CPUS];

/// Runs `f(arg)` on each CPU of `to`, with interrupts off and in interrupt context (on the calling
/// CPU: with interrupts off), and waits until all have. Interrupts are on. `f` takes irq-safe locks
/// only.
pub fn call_on(to: CpuMask, f: fn(usize), arg: usize) {
    let _pinned = sync::preempt::disable();
    let me = sync::cpu::id();
    let others = to.without(me);
    let call = &CALLS[me];
    if !others.is_empty() {
        call.f.store(f as usize, Ordering::Relaxed);
        call.arg.store(arg, Ordering::Relaxed);
        // Release: pairs with the Acquire in `call_interrupt`, which then sees the function.
        call.pending.store(others, Ordering::Release);
        apic::send(others, irq::CALL);
    }
    if to.contains(me) {
        let _off = sync::irq::disable();
        f(arg);
    }
    if !others.is_empty() {
        // Acquire: pairs with the Release of each CPU's removal; what `f` did there is visible.
        wait_for(&|| call.pending.load(Ordering::Acquire).is_empty());
    }
}

/// The function-call interrupt: serves every call that waits for this CPU.
pub(super) fn call_interrupt() {
    let me = sync::cpu::id();
    for (caller, call) in CALLS.iter().enumerate() {
        if !call.pending.load(Ordering::Acquire).contains(me) {
            continue;
        }
        let f = call.f.load(Ordering::Relaxed);
        // SAFETY: `call_on` stored a `fn(usize)` before it set this CPU's bit, and changes it only
        // after the bit is clear again.
        let f: fn(usize) = unsafe { core::mem::transmute::<usize, fn(usize)>(f) };
        f(call.arg.load(Ordering::Relaxed));
        call.pending.remove(me, Ordering::AcqRel);
        kick(caller);
    }
}
