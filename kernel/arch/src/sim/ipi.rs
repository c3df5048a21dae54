//! Interrupts as messages. A sender puts a bit into the target's mailbox, marks it pending and
//! wakes its thread if it sleeps; the target serves its mailbox at the next polling place with
//! interrupts on.
//!
//! Handlers run with interrupts off. The sender's Release (the mailbox bit) pairs with the target's
//! Acquire when it takes the bits out, so whatever was written before the IPI is seen by its
//! handler.

use super::board::machine;
use super::cpu::{SimCpu, lock, this_cpu, try_this_cpu};
use crate::upcall::upcalls;
use std::sync::atomic::Ordering;
use std::time::Duration;
use sync::{CpuMask, cpu::CPU_LOCALS, irq};

/// Bits of a mailbox.
pub(super) mod mail {
    /// The TLB IPI.
    pub(in super::super) const TLB: u32 = 1;
    /// A function call.
    pub(in super::super) const CALL: u32 = 2;
    /// Nothing but waking up.
    pub(in super::super) const KICK: u32 = 4;
    /// The disk's interrupt.
    pub(in super::super) const DISK: u32 = 8;
}

/// The timer tick that ends a halt when nothing else does.
const TICK: Duration = Duration::from_millis(4);
/// Turns of a wait before halting.
const SPIN: u32 = 64;
/// A wait with interrupts off that lasts this long is a deadlock.
const DEADLOCK_NS: u64 = 5_000_000_000;

/// CPUs that can run kernel threads.
pub fn nr_cpus() -> usize {
    machine().cpus.len()
}

/// The CPUs that are up: all of them.
pub fn online() -> CpuMask {
    CpuMask::first(nr_cpus())
}

pub(super) fn pending(cpu: usize) -> bool {
    CPU_LOCALS[cpu].pending.load(Ordering::Acquire) != 0
}

/// Puts `bit` into the mailbox of `cpu`.
pub(super) fn post(cpu: &SimCpu, bit: u32) {
    cpu.mail.fetch_or(bit, Ordering::Release);
    CPU_LOCALS[cpu.id].pending.store(1, Ordering::Release);
    sync::host::parker(cpu.task()).interrupt();
}

/// Serves this CPU's mailbox; interrupts are on.
pub(super) fn deliver() {
    let Some(cpu) = try_this_cpu() else {
        return;
    };
    let off = irq::disable();
    let handler = irq::handler();
    let local = &CPU_LOCALS[cpu.id];
    while local.pending.swap(0, Ordering::Acquire) != 0 {
        let bits = cpu.mail.swap(0, Ordering::Acquire);
        if bits & mail::TLB != 0
            && let Some(up) = upcalls()
        {
            up.tlb_ipi();
        }
        if bits & mail::CALL != 0 {
            serve_calls(cpu);
        }
        if bits & mail::DISK != 0 {
            super::disk::interrupt(cpu);
        }
    }
    drop(handler);
    drop(off);
}

fn serve_calls(cpu: &SimCpu) {
    let from = CpuMask::from_bits(cpu.calls_from.swap(0, Ordering::Acquire));
    for sender in from.iter() {
        let call = &machine().cpus[sender].call;
        let f = *lock(&call.f);
        if let Some(f) = f {
            f(call.arg.load(Ordering::Relaxed));
        }
        let bit = CpuMask::single(cpu.id).bits();
        // Release pairs with the Acquire of the waiting sender.
        if call.missing.fetch_and(!bit, Ordering::AcqRel) == bit {
            kick(sender);
        }
    }
}

/// Runs the `tlb_ipi` upcall on each CPU of `to`, with interrupts off there; does not wait.
pub(crate) fn send_tlb_ipi(to: CpuMask) {
    for cpu in to.iter() {
        post(&machine().cpus[cpu], mail::TLB);
    }
}

/// Runs `f(arg)` on each CPU of `to` (the caller's own included, if it is there) with interrupts
/// off, and waits until all have. Interrupts are on.
pub fn call_on(to: CpuMask, f: fn(usize), arg: usize) {
    sync::might_wait_for_ipi();
    let _pinned = sync::preempt::disable();
    let me = this_cpu();
    let others = to.without(me.id);
    if !others.is_empty() {
        *lock(&me.call.f) = Some(f);
        me.call.arg.store(arg, Ordering::Relaxed);
        me.call.missing.store(others.bits(), Ordering::Relaxed);
        for cpu in others.iter() {
            let target = &machine().cpus[cpu];
            let bit = CpuMask::single(me.id).bits();
            target.calls_from.fetch_or(bit, Ordering::Release);
            post(target, mail::CALL);
        }
    }
    if to.contains(me.id) {
        let _off = irq::disable();
        f(arg);
    }
    wait_for(&|| me.call.missing.load(Ordering::Acquire) == 0);
}

/// Waits for what another CPU's interrupt handler makes true, which then calls [`kick`]; serves
/// this CPU's own interrupts meanwhile. Interrupts are on; preemption may be off.
pub(crate) fn wait_for(cond: &dyn Fn() -> bool) {
    sync::might_wait_for_ipi();
    let mut spins = 0;
    let started = super::clock::now_ns();
    loop {
        irq::poll();
        super::cpu::poll_left();
        if cond() {
            return;
        }
        spins += 1;
        if spins < SPIN {
            std::thread::yield_now();
        } else {
            assert!(
                irq::enabled() || super::clock::now_ns() - started < DEADLOCK_NS,
                "deadlock: another CPU waited for with interrupts off does not answer"
            );
            halt();
        }
    }
}

/// Sleeps until an interrupt is pending or the tick is over; takes no token of
/// [`sync::Threads::unpark`].
fn halt() {
    let parker = sync::host::parker(sync::task::current());
    match try_this_cpu() {
        Some(cpu) => {
            cpu.halted.store(true, Ordering::Release);
            parker.halt(Some(TICK), || pending(cpu.id));
            cpu.halted.store(false, Ordering::Release);
        }
        None => parker.halt(Some(TICK), || false),
    }
}

/// Wakes `cpu` out of [`wait_for`].
pub(crate) fn kick(cpu: usize) {
    if let Some(cpu) = machine().cpus.get(cpu) {
        post(cpu, mail::KICK);
    }
}
