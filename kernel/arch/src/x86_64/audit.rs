//! Checks of what the kernel's page tables allow, and of what its code holds, for the self-tests.
//!
//! Walks all of the kernel's root. Locks: none; mappings are only added meanwhile, and no large
//! block of the heap is freed. Never sleeps.

use core::sync::atomic::Ordering;

use super::frame::pt_cell;
use super::paging::{in_text, kernel_root, text};
use super::{apic, stack};
use crate::addr::{PAGE_SIZE, Pfn, VirtAddr, entries, span};
use crate::pte::{Entry, GLOBAL, NX, USER, WRITE};

/// Something that the kernel's page tables must not allow, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flaw {
    /// What is wrong.
    pub what: &'static str,
    /// The first address of the mapping.
    pub va: VirtAddr,
}

/// What an audit saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// Pages of any size that can be written.
    pub writable: u64,
    /// Pages that can be executed.
    pub executable: u64,
    /// Stacks whose guard pages were looked at.
    pub stacks: u64,
}

/// Checks the kernel's mappings: nothing in the lower half, nothing for user mode, nothing both
/// writable and executable, only the kernel's code executable, unmapped pages below every stack.
///
/// # Errors
/// The first flaw found.
pub fn audit() -> Result<Audit, Flaw> {
    let mut seen = Audit::default();
    for index in 0..entries(3) {
        let entry = Entry(pt_cell(kernel_root(), index).load(Ordering::Relaxed));
        if entry.is_none() {
            continue;
        }
        let va = index as u64 * span(3);
        if index < entries(3) / 2 {
            return Err(Flaw {
                what: "the lower half is not empty",
                va: VirtAddr(va),
            });
        }
        table(entry.pfn(), 2, va | 0xffff << 48, WRITE, &mut seen)?;
    }
    guards(&mut seen)?;
    Ok(seen)
}

/// Checks the entries of `t`, whose first maps `va`; `allowed` is WRITE if the levels above allow
/// writing.
fn table(t: Pfn, level: u32, va: u64, allowed: u64, seen: &mut Audit) -> Result<(), Flaw> {
    for index in 0..entries(level) {
        let entry = Entry(pt_cell(t, index).load(Ordering::Relaxed));
        let va = va + index as u64 * span(level);
        if entry.is_none() {
            continue;
        }
        let allowed = allowed & entry.0;
        if level > 0 && !entry.is_huge() {
            table(entry.pfn(), level - 1, va, allowed, seen)?;
        } else {
            leaf(entry, va, allowed, seen)?;
        }
    }
    Ok(())
}

fn leaf(entry: Entry, va: u64, allowed: u64, seen: &mut Audit) -> Result<(), Flaw> {
    let executable = entry.0 & NX == 0;
    let what = if entry.0 & USER != 0 {
        "user mode may use it"
    } else if executable && allowed & WRITE != 0 {
        "it is both writable and executable"
    } else if executable && !in_text(va) {
        "it is executable but no kernel code"
    } else if !executable && in_text(va) {
        "kernel code is not executable"
    } else if entry.0 & GLOBAL == 0 {
        "it is not global"
    } else {
        seen.writable += u64::from(allowed & WRITE != 0);
        seen.executable += u64::from(executable);
        return Ok(());
    };
    Err(Flaw {
        what,
        va: VirtAddr(va),
    })
}

/// Every mapped stack: its pages translate, the rest of its slot does not.
fn guards(seen: &mut Audit) -> Result<(), Flaw> {
    for (slot, stack, end) in stack::mapped() {
        seen.stacks += 1;
        for va in (slot..end).step_by(PAGE_SIZE as usize) {
            let is_mapped = super::translate(VirtAddr(va)).is_some();
            let what = match (is_mapped, va >= stack) {
                (true, false) => "a stack's guard page is mapped",
                (false, true) => "a stack's page is not mapped",
                _ => continue,
            };
            return Err(Flaw {
                what,
                va: VirtAddr(va),
            });
        }
    }
    Ok(())
}

/// Checks every write to x2APIC's command register in the kernel's code: MFENCE and LFENCE stand
/// before the WRMSR, or the interrupt could overtake the stores that it tells of. Returns how many
/// there are.
///
/// # Errors
/// The first one without its fences.
pub fn audit_commands() -> Result<usize, Flaw> {
    const FENCES: [u8; 6] = [0x0f, 0xae, 0xf0, 0x0f, 0xae, 0xe8];
    const WRMSR: [u8; 2] = [0x0f, 0x30];
    /// The register's number may be loaded some instructions before.
    const NEAR: usize = 24;
    let mut load_number = [0xb9, 0, 0, 0, 0];
    load_number[1..].copy_from_slice(&apic::X2APIC_COMMAND.to_le_bytes());
    let mut found = 0;
    for (at, code) in text().windows(load_number.len() + NEAR).enumerate() {
        let Some(rest) = code.strip_prefix(&load_number) else {
            continue;
        };
        let Some(wrmsr) = rest.windows(WRMSR.len()).position(|w| w == WRMSR) else {
            continue;
        };
        found += 1;
        if !rest[..wrmsr].ends_with(&FENCES) {
            return Err(Flaw {
                what: "an interrupt command without its fences",
                va: VirtAddr(text().as_ptr() as u64 + at as u64),
            });
        }
    }
    Ok(found)
}
