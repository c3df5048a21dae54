//! What the entry stubs call: exceptions, user page faults, interrupts.
//!
//! Interrupts are off here (a user page fault excepted, which runs as its thread with interrupts on
//! and may sleep). An interrupt handler ends with [`leave`], which switches threads when one is
//! due.

use core::fmt;

use x86_64::registers::control::Cr2;

use super::{apic, ipi, irq, power, sched, stack, user};
use crate::addr::VirtAddr;
use crate::upcall::{Access, upcalls};

/// Everything the exception stub saved, lowest address first.
#[repr(C)]
pub(super) struct TrapFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbp: u64,
    rbx: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;

/// Bits of a page fault's error code.
const PF_PRESENT: u64 = 1;
const PF_WRITE: u64 = 1 << 1;
const PF_RESERVED: u64 = 1 << 3;
const PF_FETCH: u64 = 1 << 4;

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "floating point used in the kernel",
        DOUBLE_FAULT => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack segment fault",
        13 => "general protection fault",
        PAGE_FAULT => "page fault",
        16 | 19 => "floating point exception",
        17 => "alignment check",
        18 => "machine check",
        _ => "exception",
    }
}

/// The readable report of an exception.
struct Report<'a>(&'a TrapFrame);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        let cr2 = Cr2::read_raw();
        write!(f, "{} in the kernel", name(t.vector))?;
        if t.vector == PAGE_FAULT {
            let what = match t.error {
                e if e & PF_FETCH != 0 => "execute",
                e if e & PF_WRITE != 0 => "write",
                _ => "read",
            };
            let why = match t.error {
                e if e & PF_RESERVED != 0 => "the page tables are corrupt",
                e if e & PF_PRESENT != 0 => "not allowed",
                _ => "not mapped",
            };
            write!(f, ": {what} at {cr2:#x}: {why}")?;
        }
        if let Some(task) = stack::overflowed_task(cr2)
            && (t.vector == PAGE_FAULT || t.vector == DOUBLE_FAULT)
        {
            write!(f, ": kernel stack overflow of task {task}")?;
        }
        writeln!(f, " (error code {:#x})", t.error)?;
        writeln!(
            f,
            "  rip {:016x}  cs {:x}  rflags {:x}",
            t.rip, t.cs, t.rflags
        )?;
        writeln!(f, "  rsp {:016x}  ss {:x}  cr2 {cr2:016x}", t.rsp, t.ss)?;
        writeln!(
            f,
            "  rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
            t.rax, t.rbx, t.rcx, t.rdx
        )?;
        writeln!(
            f,
            "  rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}",
            t.rsi, t.rdi, t.rbp, t.r8
        )?;
        writeln!(
            f,
            "  r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}",
            t.r9, t.r10, t.r11, t.r12
        )?;
        write!(
            f,
            "  r13 {:016x} r14 {:016x} r15 {:016x}",
            t.r13, t.r14, t.r15
        )
    }
}

/// An exception that is no user page fault: an NMI stops this CPU if a panic asks for it, all else
/// is a bug.
pub(super) extern "C" fn exception(frame: &TrapFrame) {
    if frame.vector == NMI {
        power::nmi();
        return;
    }
    panic!("{}", Report(frame));
}

/// A fault of a user-access function: 0 = retry, else the status to fail with. Interrupts on.
pub(super) extern "C" fn user_page_fault(va: u64, error: u64) -> u64 {
    assert!(
        error & PF_RESERVED == 0,
        "the page tables of {va:#x} are corrupt"
    );
    let access = if error & PF_WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    };
    match upcalls().map(|u| u.page_fault(VirtAddr(va), access)) {
        Some(Ok(())) => 0,
        Some(Err(e)) => user::status_of(e),
        None => user::status_of(crate::upcall::FaultError::Unmapped),
    }
}

/// The end of every interrupt: the thread that was interrupted had interrupts on, so it may be
/// switched away from unless it holds preemption off.
#[inline]
fn leave() {
    if sync::cpu::need_resched() && sync::preempt::count() == 0 {
        sched::preempt();
    }
}

#[inline]
fn handle(f: impl FnOnce()) {
    let in_handler = sync::irq::handler();
    // The idle threads have the first numbers.
    let idle_since = (sync::task::current().index() < sync::MAX_CPUS).then(super::cycles);
    f();
    apic::eoi();
    if let Some(since) = idle_since {
        IDLE_INTERRUPTS.add(super::cycles() - since);
    }
    drop(in_handler);
    leave();
}

/// Cycles spent in interrupt handlers while a CPU was idle.
static IDLE_INTERRUPTS: sync::Counter = sync::Counter::new();

pub(super) fn idle_interrupt_time() -> u64 {
    IDLE_INTERRUPTS.sum()
}

pub(super) extern "C" fn timer() {
    handle(sched::timer_interrupt);
}

pub(super) extern "C" fn tlb() {
    handle(|| {
        if let Some(u) = upcalls() {
            u.tlb_ipi();
        }
    });
}

pub(super) extern "C" fn call() {
    handle(ipi::call_interrupt);
}

pub(super) extern "C" fn kick() {
    handle(sched::kick_interrupt);
}

pub(super) extern "C" fn device(vector: u64) {
    handle(|| irq::dispatch(vector as u8));
}
