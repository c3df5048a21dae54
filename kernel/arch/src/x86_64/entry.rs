//! The entry stubs and the user-access functions: all the assembly that traps meet.
//!
//! Every stub leaves a frame record (`[rbp]` = the interrupted frame pointer, `[rbp + 8]` = the
//! interrupted RIP), so that a backtrace walks through it. Interrupts are off at entry. Where SMAP
//! is on, each stub clears AC first: the interrupted code may have been between `stac` and `clac`,
//! and must not lend that to a handler or to another thread. The `stac` and `clac` sites hold
//! three-byte NOPs until [`enable_smap`] writes them, because the instructions do not exist without
//! SMAP.
//!
//! The page-fault stub is the short way: caller-saved registers only, and straight to the upcall
//! when the faulting RIP lies in the user-access functions.

use core::arch::global_asm;
use core::slice;
use core::sync::atomic::{AtomicU8, Ordering};

use spin::Once;
use x86_64::VirtAddr as X86Addr;
use x86_64::structures::idt::InterruptDescriptorTable;

use super::cpu::{IST_DOUBLE_FAULT, IST_NMI};
use super::layout::DIRECT_BASE;
use super::{irq, paging};
use crate::addr::VirtAddr;

global_asm!(
    r#"
.globl page_fault_entry, timer_entry, tlb_entry, call_entry, kick_entry, spurious_entry, device_entries
.globl user_load, user_store, user_load8, user_store8, user_fetch_add, user_compare_exchange
.globl user_load_nofault, user_store_nofault
.globl exception_entries, exception_entries_end, smap_sites, smap_sites_end
.pushsection .rodata.smap_sites, "a"
    .balign 8
smap_sites:
.popsection
.pushsection .rodata.exception_entries, "a"
    .balign 8
exception_entries:
.popsection
.macro smap_site kind
77: .byte 0x0f, 0x1f, 0x00
    .pushsection .rodata.smap_sites, "a"
    .quad 77b
    .quad \kind
    .popsection
.endm
.macro stac_site
    smap_site 0xcb
.endm
.macro clac_site
    smap_site 0xca
.endm

.macro push_scratch
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
.endm
.macro pop_scratch
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
.endm

# Exceptions: a full register frame (`TrapFrame`) for the report.
.macro exception vector, has_error
    .pushsection .rodata.exception_entries, "a"
    .quad \vector
    .quad exception_\vector
    .popsection
exception_\vector:
    .if \has_error == 0
    push 0
    .endif
    push \vector
    jmp exception_common
.endm

exception_common:
    push rax
    push_scratch
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    clac_site
    cld
    mov rdi, rsp
    push qword ptr [rsp + 136]      # rip, above 15 registers, vector and error code
    push rbp
    mov rbp, rsp
    and rsp, -16
    call {exception}
    mov rsp, rbp
    pop rbp
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop_scratch
    pop rax
    add rsp, 16
    iretq

exception 0, 0
exception 1, 0
exception 2, 0
exception 3, 0
exception 4, 0
exception 5, 0
exception 6, 0
exception 7, 0
exception 8, 1
exception 10, 1
exception 11, 1
exception 12, 1
exception 13, 1
exception 16, 0
exception 17, 1
exception 18, 0
exception 19, 0
exception 20, 0
exception 21, 1

# Page fault. The error code's place takes the old rbp, which completes a frame record.
page_fault_entry:
    push rax
    mov rax, [rsp + 8]
    mov [rsp + 8], rbp
    lea rbp, [rsp + 8]
    push_scratch
    sub rsp, 8
    clac_site
    mov esi, eax
    mov rax, [rbp + 8]
    sub rax, offset user_retry_start
    cmp rax, offset user_retry_len
    jae 2f
    mov rdi, cr2
    sti
    call {page_fault}
    test eax, eax
    jnz 3f
5:  add rsp, 8
    pop_scratch
    pop rax
    pop rbp
    iretq
2:  sub rax, offset user_retry_len
    cmp rax, offset user_nofault_len
    jae 4f
    mov eax, 1
3:  mov [rbp - 8], rax              # the saved rax: what the function returns
    mov qword ptr [rbp + 8], offset user_fixup
    jmp 5b
4:  mov eax, esi                    # not a user access: a kernel bug, reported with all registers
    add rsp, 8
    pop_scratch
    mov rbp, [rsp + 8]
    mov [rsp + 8], rax
    pop rax
    push 14
    jmp exception_common

# Interrupts.
.macro interrupt_body handler
    push rbp
    mov rbp, rsp
    push rax
    push_scratch
    sub rsp, 8
    clac_site
    cld
    call \handler
    add rsp, 8
    pop_scratch
    pop rax
    pop rbp
    iretq
.endm

timer_entry:
    interrupt_body {timer}
tlb_entry:
    interrupt_body {tlb}
call_entry:
    interrupt_body {call}
kick_entry:
    interrupt_body {kick}
spurious_entry:
    iretq

# Device interrupts: one stub of 16 bytes per vector.
.balign 16
device_entries:
.set vector, {device_first}
.rept {device_count}
    .balign 16
    push rbp
    mov rbp, rsp
    push rax
    mov eax, vector
    jmp device_common
    .set vector, vector + 1
.endr
device_common:
    push_scratch
    sub rsp, 8
    clac_site
    cld
    mov edi, eax
    call {device}
    add rsp, 8
    pop_scratch
    pop rax
    pop rbp
    iretq

# User access. Leaf functions: rdi = address, status in rax (0 = done), value in rdx. A fault that cannot be
# resolved continues at user_fixup with the status in rax.
.balign 16
user_retry_start:
user_load:
    stac_site
    mov rdx, [rdi]
    clac_site
    xor eax, eax
    ret
user_store:
    stac_site
    mov [rdi], rsi
    clac_site
    xor eax, eax
    ret
user_load8:
    stac_site
    movzx edx, byte ptr [rdi]
    clac_site
    xor eax, eax
    ret
user_store8:
    stac_site
    mov [rdi], sil
    clac_site
    xor eax, eax
    ret
user_fetch_add:
    stac_site
    lock xadd [rdi], rsi
    clac_site
    mov rdx, rsi
    xor eax, eax
    ret
user_compare_exchange:
    mov rax, rsi
    stac_site
    lock cmpxchg [rdi], rdx
    clac_site
    mov rdx, rax
    mov eax, 0
    ret
user_retry_end:
user_load_nofault:
    stac_site
    mov rdx, [rdi]
    clac_site
    xor eax, eax
    ret
user_store_nofault:
    stac_site
    mov [rdi], rsi
    clac_site
    xor eax, eax
    ret
user_nofault_end:
user_fixup:
    clac_site
    ret
.set user_retry_len, user_retry_end - user_retry_start
.set user_nofault_len, user_nofault_end - user_retry_end

.pushsection .rodata.smap_sites, "a"
smap_sites_end:
.popsection
.pushsection .rodata.exception_entries, "a"
exception_entries_end:
.popsection
"#,
    exception = sym super::trap::exception,
    page_fault = sym super::trap::user_page_fault,
    timer = sym super::trap::timer,
    tlb = sym super::trap::tlb,
    call = sym super::trap::call,
    kick = sym super::trap::kick,
    device = sym super::trap::device,
    device_first = const super::irq::DEVICE_FIRST as u32,
    device_count = const super::irq::DEVICE_COUNT,
);

/// A site that [`enable_smap`] patches, or an exception's stub: an address and a number.
#[repr(C)]
struct Pair(u64, u64);

unsafe extern "C" {
    static smap_sites: Pair;
    static smap_sites_end: Pair;
    static exception_entries: Pair;
    static exception_entries_end: Pair;
    fn page_fault_entry();
    fn timer_entry();
    fn tlb_entry();
    fn call_entry();
    fn kick_entry();
    fn spurious_entry();
    fn device_entries();
}

fn pairs(first: *const Pair, end: *const Pair) -> &'static [Pair] {
    let len = (end as usize - first as usize) / size_of::<Pair>();
    // SAFETY: the assembly above laid out the pairs between the two labels, in read-only data.
    unsafe { slice::from_raw_parts(first, len) }
}

/// Writes `stac` and `clac` over the NOPs, through the direct map (text itself is read-only). On
/// the boot CPU, before the first user access and before other CPUs run.
pub(super) fn enable_smap() {
    for Pair(site, kind) in pairs(&raw const smap_sites, &raw const smap_sites_end) {
        for (i, byte) in [0x0f, 0x01, *kind as u8].into_iter().enumerate() {
            let va = VirtAddr(site + i as u64);
            let phys = paging::translate(va).expect("text is mapped");
            let byte_ptr = (DIRECT_BASE + phys.0) as *mut u8;
            // SAFETY: the byte belongs to a site laid out above; no other CPU executes it yet.
            unsafe { AtomicU8::from_ptr(byte_ptr) }.store(byte, Ordering::Relaxed);
        }
    }
}

const EXCEPTION_NMI: u64 = 2;
const EXCEPTION_DOUBLE_FAULT: u64 = 8;

/// Loads the interrupt descriptor table, which all CPUs share. This CPU's GDT must be loaded.
pub(super) fn init_idt() {
    static IDT: Once<InterruptDescriptorTable> = Once::new();
    IDT.call_once(build_idt).load();
}

fn build_idt() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    let at = |f: unsafe extern "C" fn()| X86Addr::new(f as usize as u64);
    let stub = |n: u64| {
        let all = pairs(
            &raw const exception_entries,
            &raw const exception_entries_end,
        );
        let found = all
            .iter()
            .find(|p| p.0 == n)
            .expect("every exception has a stub");
        X86Addr::new(found.1)
    };
    // SAFETY: each handler is a stub of this file, made for its vector's stack layout; the two IST
    // stacks are mapped before the TSS that names them is loaded.
    unsafe {
        idt.divide_error.set_handler_addr(stub(0));
        idt.debug.set_handler_addr(stub(1));
        idt.non_maskable_interrupt
            .set_handler_addr(stub(EXCEPTION_NMI))
            .set_stack_index(IST_NMI);
        idt.breakpoint.set_handler_addr(stub(3));
        idt.overflow.set_handler_addr(stub(4));
        idt.bound_range_exceeded.set_handler_addr(stub(5));
        idt.invalid_opcode.set_handler_addr(stub(6));
        idt.device_not_available.set_handler_addr(stub(7));
        idt.double_fault
            .set_handler_addr(stub(EXCEPTION_DOUBLE_FAULT))
            .set_stack_index(IST_DOUBLE_FAULT);
        idt.invalid_tss.set_handler_addr(stub(10));
        idt.segment_not_present.set_handler_addr(stub(11));
        idt.stack_segment_fault.set_handler_addr(stub(12));
        idt.general_protection_fault.set_handler_addr(stub(13));
        idt.page_fault.set_handler_addr(at(page_fault_entry));
        idt.x87_floating_point.set_handler_addr(stub(16));
        idt.alignment_check.set_handler_addr(stub(17));
        idt.machine_check.set_handler_addr(stub(18));
        idt.simd_floating_point.set_handler_addr(stub(19));
        idt.virtualization.set_handler_addr(stub(20));
        idt.cp_protection_exception.set_handler_addr(stub(21));
        for i in 0..irq::DEVICE_COUNT {
            let entry = at(device_entries) + 16 * i as u64;
            idt[irq::DEVICE_FIRST + i as u8].set_handler_addr(entry);
        }
        idt[irq::TIMER].set_handler_addr(at(timer_entry));
        idt[irq::TLB].set_handler_addr(at(tlb_entry));
        idt[irq::CALL].set_handler_addr(at(call_entry));
        idt[irq::KICK].set_handler_addr(at(kick_entry));
        idt[irq::SPURIOUS].set_handler_addr(at(spurious_entry));
    }
    idt
}
