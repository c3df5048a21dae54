//! The block of words that each CPU owns, and the few instructions that reach it.
//!
//! On x86-64 the GS base points to the running CPU's [`CpuLocal`] (the machine sets it before it
//! takes its first lock); every access below is one GS-relative instruction, hence atomic towards
//! interrupts and preemption. On the host a thread-local pointer plays the part of GS (see
//! [`crate::host`]). No locks; nothing here sleeps.

use crate::MAX_CPUS;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// No thread's number: the explorer drives nobody on this CPU.
pub const NO_ACTOR: u32 = u32::MAX;

/// What a CPU owns. The offsets are a contract with the machine's entry code: `self_ptr` 0,
/// `cpu_id` 8, `preempt_count` 12, `task` 16, `need_resched` 20, `irq_off` 24, `pending` 28,
/// `irq_depth` 32, `actor` 36, `quiet` 40, `machine` 64.
#[repr(C, align(128))]
pub struct CpuLocal {
    /// Offset 0: the address of this block, so that GS:0 loads it.
    pub self_ptr: AtomicU64,
    /// Offset 8: this CPU's number, below [`MAX_CPUS`].
    pub cpu_id: AtomicU32,
    /// Offset 12: above 0 the running thread is not switched away from. Spin locks count here.
    pub preempt_count: AtomicU32,
    /// Offset 16: the running thread's [`crate::TaskId`].
    pub task: AtomicU32,
    /// Offset 20: not 0 asks for a reschedule as soon as preemption and interrupts allow it.
    pub need_resched: AtomicU32,
    /// Offset 24: host only: not 0 = interrupts are off on this simulated CPU.
    pub irq_off: AtomicU32,
    /// Offset 28: host only: not 0 = the mailbox of this simulated CPU holds an interrupt.
    pub pending: AtomicU32,
    /// Offset 32: interrupt handlers running on this CPU (see [`crate::irq::handler`]).
    pub irq_depth: AtomicU32,
    /// Offset 36: the thread that the explorer drives on this CPU, or [`NO_ACTOR`].
    pub actor: AtomicU32,
    /// Offset 40: not 0 = the actor is in a section where it is not stopped (see [`crate::point`]).
    pub quiet: AtomicU32,
    reserved: [u32; 5],
    /// Offset 64: for the machine's own use (stack pointers of its entry code and the like).
    pub machine: [AtomicU64; 8],
}

const _: () = {
    assert!(core::mem::offset_of!(CpuLocal, self_ptr) == 0);
    assert!(core::mem::offset_of!(CpuLocal, cpu_id) == 8);
    assert!(core::mem::offset_of!(CpuLocal, preempt_count) == 12);
    assert!(core::mem::offset_of!(CpuLocal, task) == 16);
    assert!(core::mem::offset_of!(CpuLocal, need_resched) == 20);
    assert!(core::mem::offset_of!(CpuLocal, irq_off) == 24);
    assert!(core::mem::offset_of!(CpuLocal, pending) == 28);
    assert!(core::mem::offset_of!(CpuLocal, irq_depth) == 32);
    assert!(core::mem::offset_of!(CpuLocal, actor) == 36);
    assert!(core::mem::offset_of!(CpuLocal, quiet) == 40);
    assert!(core::mem::offset_of!(CpuLocal, machine) == 64);
    assert!(size_of::<CpuLocal>() == 128);
};

impl CpuLocal {
    pub(crate) const fn new(cpu: u32) -> Self {
        Self {
            self_ptr: AtomicU64::new(0),
            cpu_id: AtomicU32::new(cpu),
            preempt_count: AtomicU32::new(0),
            task: AtomicU32::new(cpu),
            need_resched: AtomicU32::new(0),
            irq_off: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            irq_depth: AtomicU32::new(0),
            actor: AtomicU32::new(NO_ACTOR),
            quiet: AtomicU32::new(0),
            reserved: [0; 5],
            machine: [const { AtomicU64::new(0) }; 8],
        }
    }
}

const fn all_locals() -> [CpuLocal; MAX_CPUS] {
    let mut locals = [const { CpuLocal::new(0) }; MAX_CPUS];
    let mut cpu = 0;
    while cpu < MAX_CPUS {
        locals[cpu] = CpuLocal::new(cpu as u32);
        cpu += 1;
    }
    locals
}

/// One block per CPU; CPU `i` starts as task `i` (its boot and idle thread).
pub static CPU_LOCALS: [CpuLocal; MAX_CPUS] = all_locals();

/// The block of `cpu`, with its self pointer filled in: what the machine puts into that CPU's GS
/// base.
///
/// # Panics
/// If `cpu` is not below [`MAX_CPUS`].
pub fn local_ptr(cpu: usize) -> *const CpuLocal {
    let local = &CPU_LOCALS[cpu];
    let ptr: *const CpuLocal = local;
    local.self_ptr.store(ptr as u64, Ordering::Relaxed);
    ptr
}

/// The running CPU's number. The answer holds only while the caller cannot migrate (see
/// [`crate::Pinned`]).
#[inline]
pub fn id() -> usize {
    backend::cpu_id() as usize
}

/// The running thread's number.
#[inline]
pub(crate) fn task() -> u32 {
    backend::task()
}

/// Makes `task` the running thread of this CPU: for the machine's scheduler, interrupts off.
#[inline]
pub fn set_task(task: crate::TaskId) {
    backend::set_task(u32::from(task.0));
}

/// Makes the running thread the one that the explorer drives on this CPU, or ends that.
#[cfg(feature = "lab")]
pub(crate) fn set_actor(yes: bool) {
    backend::set_actor(if yes { task() } else { NO_ACTOR });
}

/// A reschedule of this CPU is asked for.
#[inline]
pub fn need_resched() -> bool {
    backend::need_resched()
}

/// Asks for a reschedule of `cpu`, or withdraws the request. The scheduler clears it before it
/// picks.
#[inline]
pub fn set_need_resched(cpu: usize, wanted: bool) {
    CPU_LOCALS[cpu]
        .need_resched
        .store(u32::from(wanted), Ordering::Release);
}

#[cfg(not(target_os = "none"))]
pub use crate::host::install;

#[cfg(not(target_os = "none"))]
pub(crate) use crate::host as backend;

/// GS-relative access. The constants are the offsets asserted above.
#[cfg(target_os = "none")]
pub(crate) mod backend {
    use core::arch::asm;

    macro_rules! read_gs {
        ($offset:literal) => {{
            let value: u32;
            // SAFETY: GS base points to this CPU's `CpuLocal`; one aligned load of one of its
            // words.
            unsafe {
                asm!(concat!("mov {0:e}, dword ptr gs:[", $offset, "]"), out(reg) value,
                     options(nostack, preserves_flags, readonly));
            }
            value
        }};
    }

    #[inline(always)]
    pub(crate) fn cpu_id() -> u32 {
        read_gs!(8)
    }
    #[inline(always)]
    pub(crate) fn task() -> u32 {
        read_gs!(16)
    }
    #[inline(always)]
    pub(crate) fn preempt_count() -> u32 {
        read_gs!(12)
    }
    #[inline(always)]
    pub(crate) fn need_resched() -> bool {
        read_gs!(20) != 0
    }
    #[inline(always)]
    pub(crate) fn irq_depth() -> u32 {
        read_gs!(32)
    }
    #[inline(always)]
    pub(crate) fn set_task(task: u32) {
        // SAFETY: GS base points to this CPU's `CpuLocal`; one aligned store.
        unsafe { asm!("mov dword ptr gs:[16], {0:e}", in(reg) task, options(nostack)) }
    }
    #[cfg(feature = "lab")]
    #[inline(always)]
    pub(crate) fn is_actor() -> bool {
        read_gs!(36) == read_gs!(16)
    }
    #[cfg(feature = "lab")]
    pub(crate) fn set_actor(actor: u32) {
        // SAFETY: GS base points to this CPU's `CpuLocal`; one aligned store.
        unsafe { asm!("mov dword ptr gs:[36], {0:e}", in(reg) actor, options(nostack)) }
    }
    #[cfg(feature = "lab")]
    #[inline(always)]
    pub(crate) fn quiet() -> u32 {
        read_gs!(40)
    }
    #[cfg(feature = "lab")]
    #[inline(always)]
    pub(crate) fn quiet_add(n: i32) {
        // SAFETY: as above; one instruction, so no interrupt can split it.
        unsafe { asm!("add dword ptr gs:[40], {0:e}", in(reg) n, options(nostack)) }
    }
    #[inline(always)]
    pub(crate) fn irq_depth_inc() {
        // SAFETY: as above; one instruction, so no interrupt can split it.
        unsafe { asm!("inc dword ptr gs:[32]", options(nostack)) }
    }
    #[inline(always)]
    pub(crate) fn irq_depth_dec() {
        // SAFETY: as above.
        unsafe { asm!("dec dword ptr gs:[32]", options(nostack)) }
    }
    /// The asm is a compiler barrier: nothing of the critical section moves above it.
    #[inline(always)]
    pub(crate) fn preempt_inc() {
        // SAFETY: as above.
        unsafe { asm!("inc dword ptr gs:[12]", options(nostack)) }
    }
    /// True when the count fell to zero. A compiler barrier likewise.
    #[inline(always)]
    pub(crate) fn preempt_dec() -> bool {
        // SAFETY: as above; the label is an ordinary block of this function.
        unsafe {
            asm!("dec dword ptr gs:[12]", "jz {0}", label { return true }, options(nostack));
        }
        false
    }
    #[inline(always)]
    pub(crate) fn irq_enabled() -> bool {
        let flags: u64;
        // SAFETY: reads RFLAGS through the stack, changes nothing else.
        unsafe { asm!("pushfq", "pop {0}", out(reg) flags, options(preserves_flags)) }
        flags & (1 << 9) != 0
    }
    /// Interrupts off; returns whether they were on.
    #[inline(always)]
    pub(crate) fn irq_save() -> bool {
        let was_on = irq_enabled();
        // SAFETY: masking interrupts is always allowed in ring 0; a compiler barrier.
        unsafe { asm!("cli", options(nostack)) }
        was_on
    }
    #[inline(always)]
    pub(crate) fn irq_restore(on: bool) {
        if on {
            // SAFETY: they were on when the matching `irq_save` ran; a compiler barrier.
            unsafe { asm!("sti", options(nostack)) }
        }
    }
    /// Interrupts of the real machine arrive by themselves.
    #[inline(always)]
    pub(crate) fn poll() {}
}
