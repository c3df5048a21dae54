//! Which CPUs there are, and starting them.
//!
//! The boot CPU starts the others one after the other: INIT to all, 10 ms, then a start-up command
//! each, with the parameters of the one CPU that starts now in the trampoline page. A CPU turns on
//! paging, and only then global pages. Locks: none. Runs before there are threads; the frames of
//! stacks come from [`super::kernel_frame`].

use core::arch::global_asm;
use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicUsize, Ordering};

use sync::{AtomicCpuMask, CpuMask};
use x86_64::registers::control::{Cr0, Cr4, Cr4Flags, Efer, EferFlags};

use super::frame::frame_ptr;
use super::memory::TRAMPOLINE;
use super::paging::{NoMemory, kernel_root};
use super::{MAX_X86_CPUS, apic, cpu, entry, identity, sched, stack, time};
use crate::addr::PhysAddr;

static ONLINE: AtomicCpuMask = AtomicCpuMask::new();
static COUNT: AtomicUsize = AtomicUsize::new(1);
/// The number of the CPU that starts now.
static STARTING: AtomicUsize = AtomicUsize::new(0);

/// Number of CPUs that run. Their numbers are 0 to this.
#[inline]
pub fn nr_cpus() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// The CPUs that run.
#[inline]
pub fn online() -> CpuMask {
    CpuMask::first(nr_cpus())
}

/// The calling CPU's number, also when its GS base is not to be trusted.
pub(super) fn cpu_id_or_boot() -> usize {
    if ONLINE.load(Ordering::Relaxed).is_empty() {
        0
    } else {
        sync::cpu::id()
    }
}

/// The boot CPU can use its per-CPU data.
pub(super) fn boot_cpu_online() {
    ONLINE.insert(0, Ordering::Relaxed);
}

global_asm!(
    r#"
.pushsection .rodata.trampoline, "a"
.globl trampoline_start, trampoline_params, trampoline_end
.balign 16
.code16
trampoline_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl {base} + trampoline_gdtr - trampoline_start
    movl {base} + trampoline_params - trampoline_start + {cr4}, %eax
    movl %eax, %cr4
    movl {base} + trampoline_params - trampoline_start + {cr3}, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    movl {base} + trampoline_params - trampoline_start + {efer}, %eax
    xorl %edx, %edx
    wrmsr
    movl {base} + trampoline_params - trampoline_start + {cr0}, %eax
    movl %eax, %cr0
    .byte 0x66, 0xea                # far jump into 64-bit code
    .long {base} + trampoline_long - trampoline_start
    .word 8
.code64
trampoline_long:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %ebp, %ebp
    movq {base} + trampoline_params - trampoline_start + {stack}, %rsp
    movq {base} + trampoline_params - trampoline_start + {entry}, %rax
    pushq $0
    jmpq *%rax
.balign 8
trampoline_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # code, accessed already: the page is read-only
    .quad 0x00cf93000000ffff        # data, likewise
trampoline_gdtr:
    .word 23
    .long {base} + trampoline_gdt - trampoline_start
.balign 8
trampoline_params:
    .fill {params_size}, 1, 0
trampoline_end:
.popsection
"#,
    base = const TRAMPOLINE,
    cr4 = const offset_of!(Params, cr4),
    cr3 = const offset_of!(Params, cr3),
    efer = const offset_of!(Params, efer),
    cr0 = const offset_of!(Params, cr0),
    stack = const offset_of!(Params, stack),
    entry = const offset_of!(Params, entry),
    params_size = const size_of::<Params>(),
    options(att_syntax),
);

/// What the trampoline loads, as the boot CPU has it.
#[repr(C)]
struct Params {
    cr4: u64,
    cr3: u64,
    efer: u64,
    cr0: u64,
    stack: u64,
    entry: u64,
}

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_params: u8;
    static trampoline_end: u8;
}

fn copy_trampoline() {
    let start = &raw const trampoline_start;
    let len = &raw const trampoline_end as usize - start as usize;
    // SAFETY: the page at TRAMPOLINE is the kernel's (the memory map says so) and the code fits it.
    unsafe { core::ptr::copy_nonoverlapping(start, frame_ptr(PhysAddr(TRAMPOLINE).pfn()), len) };
}

/// The parameters' place in the trampoline page.
fn params() -> *mut Params {
    let offset = &raw const trampoline_params as usize - &raw const trampoline_start as usize;
    frame_ptr(PhysAddr(TRAMPOLINE).pfn())
        .wrapping_add(offset)
        .cast()
}

fn write_params(stack_top: u64) {
    let efer = Efer::read() - EferFlags::LONG_MODE_ACTIVE;
    let params = Params {
        // Global pages come after paging, and after the identity page: in `ap_entry`.
        cr4: (Cr4::read() - Cr4Flags::PAGE_GLOBAL).bits(),
        cr3: kernel_root().phys().0,
        efer: efer.bits(),
        cr0: Cr0::read_raw(),
        stack: stack_top,
        entry: ap_entry as *const () as u64,
    };
    // SAFETY: the page is the kernel's, and no CPU reads it now; the place is 8-byte aligned.
    unsafe { self::params().write_volatile(params) };
}

/// For a self-test: global pages were on in what the trampoline loaded last, before paging.
pub fn started_with_global_pages() -> bool {
    // SAFETY: the parameters' place in the trampoline page, which keeps what `write_params` left.
    let cr4 = unsafe { (*params()).cr4 };
    cr4 & Cr4Flags::PAGE_GLOBAL.bits() != 0
}

/// Why a CPU stays off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuFault {
    /// There was no memory for its stacks.
    NoMemory,
    /// It did not answer its start-up command.
    NoAnswer,
}

/// What became of starting the other CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartedCpus {
    /// CPUs that run.
    pub running: usize,
    /// CPUs that the firmware lists, at most [`MAX_X86_CPUS`].
    pub listed: usize,
    /// Why there are fewer of the one than of the other: the first CPU that stays off, with those
    /// after it.
    pub fault: Option<CpuFault>,
}

impl fmt::Display for StartedCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.running, self.listed)?;
        let cpu = self.running;
        match self.fault {
            None => return Ok(()),
            Some(CpuFault::NoMemory) => write!(f, " (no memory for the stacks of CPU {cpu}"),
            Some(CpuFault::NoAnswer) => {
                let id = apic::id_of(cpu);
                write!(f, " (CPU {cpu}, APIC id {id}, does not answer")
            }
        }?;
        write!(f, "; it and those after it stay off)")
    }
}

/// Starts CPUs 1 to `listed`, stopping at the first that does not answer or has no memory for its
/// stacks.
pub(super) fn start_all(listed: usize) -> StartedCpus {
    let listed = listed.min(MAX_X86_CPUS);
    copy_trampoline();
    identity::map();
    for cpu in 1..listed {
        apic::send_init(cpu);
    }
    if listed > 1 {
        time::delay_us(10_000);
    }
    let fault = (1..listed).find_map(|cpu| {
        let fault = start(cpu).err();
        match fault {
            None => COUNT.store(cpu + 1, Ordering::Release),
            // It must not arrive late, when the page that it starts on is gone.
            Some(_) => apic::send_init(cpu),
        }
        fault
    });
    identity::unmap();
    StartedCpus {
        running: nr_cpus(),
        listed,
        fault,
    }
}

fn start(cpu: usize) -> Result<(), CpuFault> {
    let no_memory = |NoMemory| CpuFault::NoMemory;
    stack::map_exception_stacks(cpu).map_err(no_memory)?;
    write_params(stack::idle_stack(cpu).map_err(no_memory)?);
    STARTING.store(cpu, Ordering::Release);
    // A second command only where the first was lost, as old hardware may.
    for wait_ms in [100, 1000] {
        apic::send_startup(cpu, TRAMPOLINE);
        let end = time::now_ns() + wait_ms * 1_000_000;
        while time::now_ns() < end {
            // Acquire: pairs with the Release in `ap_entry`.
            if ONLINE.load(Ordering::Acquire).contains(cpu) {
                return Ok(());
            }
            core::hint::spin_loop();
        }
    }
    Err(CpuFault::NoAnswer)
}

/// Where a started CPU arrives, on its idle thread's stack with the kernel's page tables.
extern "C" fn ap_entry() -> ! {
    let cpu = STARTING.load(Ordering::Acquire);
    cpu::init_control();
    cpu::enable_global_pages();
    cpu::init_segments(cpu);
    cpu::init_local(cpu);
    entry::init_idt();
    apic::enable(cpu);
    sched::init_cpu(cpu);
    // Release: pairs with the Acquire in `start`: all of the above is done.
    ONLINE.insert(cpu, Ordering::AcqRel);
    sched::idle()
}
