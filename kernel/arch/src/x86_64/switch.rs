//! The switch from one kernel stack to another, in assembly.
//!
//! Interrupts are off throughout. Only callee-saved registers are kept: a switch is a function call
//! to the compiler. The kernel has no floating-point state.

use core::arch::global_asm;

global_asm!(
    r#"
.globl switch_stacks, thread_start
# rdi: where to keep the stack pointer; rsi: the stack pointer to go on with; rdx: the thread that is left, which
# the thread that goes on gets as its return value.
switch_stacks:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, rsi
    mov rax, rdx
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

# Where a new thread arrives: rax = the thread that was left.
thread_start:
    mov rdi, rax
    xor ebp, ebp
    call {main}
    ud2
"#,
    main = sym super::thread::main,
);

unsafe extern "C" {
    /// Keeps the current stack pointer in `*save`, goes on with `load`.
    ///
    /// # Safety
    /// Interrupts are off; `load` was kept by this function or made by [`prepare`], and is used
    /// once.
    pub(super) fn switch_stacks(save: *mut u64, load: u64, left: u64) -> u64;
    fn thread_start();
}

/// Lays out a new thread's stack below `top`; returns the stack pointer to switch to.
///
/// # Safety
/// The page below `top` is mapped and belongs to a thread that does not run.
pub(super) unsafe fn prepare(top: u64) -> u64 {
    const REGISTERS: u64 = 6;
    // Two words of zeros end the backtrace and keep the alignment that a call expects.
    let frame = top - 8 * (REGISTERS + 3);
    let words = frame as *mut u64;
    for i in 0..REGISTERS + 3 {
        // SAFETY: inside the top page of the stack, by the caller's word.
        unsafe { words.add(i as usize).write(0) };
    }
    // SAFETY: as above.
    unsafe {
        words
            .add(REGISTERS as usize)
            .write(thread_start as *const () as u64);
    }
    frame
}
