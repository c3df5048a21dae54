//! Which CPUs there are, and starting them.
//!
//! The boot CPU starts the others one after the other: INIT to all, 10 ms, then a start-up command each, with
//! the parameters of the one CPU that starts now in the trampoline page. Locks: none. Runs before there are
//! threads; the frames of stacks come from [`super::kernel_frame`].

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sync::{AtomicCpuMask, CpuMask};
use x86_64::registers::control::{Cr0, Cr4, Efer, EferFlags};

use super::frame::{flush_local, frame_ptr, pt_cell};
use super::memory::TRAMPOLINE;
use super::paging::{NoMemory, kernel_root, translate};
use super::{MAX_X86_CPUS, apic, cpu, entry, sched, stack, time};
use crate::addr::{ENTRIES, PhysAddr, VirtAddr};
use crate::pte::{ACCESSED, Entry, WRITE};

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

/// Page tables that show the trampoline page at its physical address.
#[repr(C, align(4096))]
struct Tables([[AtomicU64; ENTRIES]; 3]);

static IDENTITY: Tables = Tables([const { [const { AtomicU64::new(0) }; ENTRIES] }; 3]);

/// Shows the trampoline page, read-only and executable, in the lower half of the kernel's root.
fn map_identity() {
    let mut below = Entry::new(PhysAddr(TRAMPOLINE).pfn(), ACCESSED);
    for (level, table) in IDENTITY.0.iter().enumerate() {
        let index = VirtAddr(TRAMPOLINE).table_index(level as u32);
        table[index].store(below.0, Ordering::Relaxed);
        let va = VirtAddr(table.as_ptr() as u64);
        let phys = translate(va).expect("the kernel's data is mapped");
        below = Entry::new(phys.pfn(), ACCESSED | WRITE);
    }
    // Release: the other CPUs' MMUs see complete tables.
    pt_cell(kernel_root(), 0).store(below.0, Ordering::Release);
}

fn unmap_identity() {
    pt_cell(kernel_root(), 0).store(0, Ordering::Release);
    flush_local();
}

fn copy_trampoline() {
    let start = &raw const trampoline_start;
    let len = &raw const trampoline_end as usize - start as usize;
    // SAFETY: the page at TRAMPOLINE is the kernel's (the memory map says so) and the code fits it.
    unsafe { core::ptr::copy_nonoverlapping(start, frame_ptr(PhysAddr(TRAMPOLINE).pfn()), len) };
}

fn write_params(stack_top: u64) {
    let offset = &raw const trampoline_params as usize - &raw const trampoline_start as usize;
    let efer = Efer::read() - EferFlags::LONG_MODE_ACTIVE;
    let params = Params {
        cr4: Cr4::read_raw(),
        cr3: kernel_root().phys().0,
        efer: efer.bits(),
        cr0: Cr0::read_raw(),
        stack: stack_top,
        entry: ap_entry as *const () as u64,
    };
    // SAFETY: the parameters' place in the trampoline page, 8-byte aligned.
    unsafe {
        let at = frame_ptr(PhysAddr(TRAMPOLINE).pfn()).add(offset);
        at.cast::<Params>().write_volatile(params);
    }
}

/// Starts CPUs 1 to `cpus`, stopping at the first that does not answer or has no memory for its stacks.
/// Returns how many run.
pub(super) fn start_all(cpus: usize) -> usize {
    let cpus = cpus.min(MAX_X86_CPUS);
    copy_trampoline();
    map_identity();
    for cpu in 1..cpus {
        apic::send_init(cpu);
    }
    if cpus > 1 {
        time::delay_us(10_000);
    }
    for cpu in 1..cpus {
        if start(cpu).is_err() || !ONLINE.load(Ordering::Acquire).contains(cpu) {
            // It must not arrive late, when the page that it starts on is gone.
            apic::send_init(cpu);
            break;
        }
        COUNT.store(cpu + 1, Ordering::Release);
    }
    unmap_identity();
    nr_cpus()
}

fn start(cpu: usize) -> Result<(), NoMemory> {
    stack::map_exception_stacks(cpu)?;
    write_params(stack::idle_stack(cpu)?);
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
    Ok(())
}

/// Where a started CPU arrives, on its idle thread's stack with the kernel's page tables.
extern "C" fn ap_entry() -> ! {
    let cpu = STARTING.load(Ordering::Acquire);
    cpu::init_control();
    cpu::init_segments(cpu);
    cpu::init_local(cpu);
    entry::init_idt();
    apic::enable(cpu);
    sched::init_cpu(cpu);
    // Release: pairs with the Acquire in `start`: all of the above is done.
    ONLINE.insert(cpu, Ordering::AcqRel);
    sched::idle()
}
