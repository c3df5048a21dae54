//! The simulated MMU: walks the page tables in simulated RAM, as the hardware does.
//!
//! A walk sets the accessed bit at every level and the dirty bit of the leaf on a write through a
//! writable entry, each by compare-exchange; if the entry changed meanwhile it is read again. A
//! write through a cached translation that is writable and dirty does not look at the tables; one
//! that is writable and clean walks again; one that is read-only walks again too (so a permission
//! upgrade needs no flush). Non-present entries are never cached.
//!
//! Locks: the CPU's TLB mutex, a leaf. Translation and access are one step: no interrupt comes
//! between.

use super::board::{Machine, machine};
use super::cpu::this_cpu;
use super::tlb::{TableRef, Tlb, Translation};
use crate::addr::{PAGE_SHIFT, Pfn, VirtAddr, shift};
use crate::pte::{ACCESSED, DIRTY, Entry, USER};
use crate::upcall::Access;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// The MMU found no (sufficient) translation.
pub(super) struct PageFault;

/// Loads `root` into this CPU's page-table base register: drops every cached translation.
/// Interrupts are off.
pub(crate) fn switch_root(root: Pfn) {
    debug_assert!(!sync::irq::enabled(), "root loaded with interrupts on");
    this_cpu().tlb().load_root(root, &machine().oracle);
}

/// The root that this CPU walks.
pub fn current_root() -> Pfn {
    this_cpu().tlb().root
}

/// Drops this CPU's translations of the page at `va`.
pub(crate) fn invlpg(va: VirtAddr) {
    this_cpu().tlb().invlpg(va, &machine().oracle);
}

/// Drops all of this CPU's translations.
pub(crate) fn flush_local() {
    this_cpu().tlb().flush(&machine().oracle);
}

/// Does `op` on the word that `va` (8-byte aligned) translates to for `want`.
pub(super) fn access<R>(
    va: VirtAddr,
    want: Access,
    op: impl FnOnce(&AtomicU64) -> R,
) -> Result<R, PageFault> {
    let m = machine();
    let cpu = this_cpu();
    let mut tlb = cpu.tlb();
    let t = match tlb.get(va) {
        Some(t) if want != Access::Write || t.write && t.dirty => t,
        _ => walk(m, &mut tlb, va, want)?,
    };
    m.oracle.check_use(cpu.id, va, t.pfn, t.generation);
    let result = op(m.ram.word(t.pfn, (va.0 as usize & 0xfff) / 8));
    tlb.maybe_evict(va, &m.oracle);
    Ok(result)
}

fn walk(m: &Machine, tlb: &mut Tlb, va: VirtAddr, want: Access) -> Result<Translation, PageFault> {
    let from_root = TableRef {
        table: tlb.root,
        write: true,
        generation: m.oracle.generation(tlb.root),
    };
    let (mut level, mut at) = tlb.table(va).unwrap_or((4, from_root));
    loop {
        level -= 1;
        m.oracle.check_walk(at.table, at.generation, va);
        let cell = m.ram.word(at.table, va.table_index(level));
        let entry = use_entry(cell, level, at.write, want)?;
        let write = at.write && entry.is_write();
        if level == 0 || entry.is_huge() {
            let t = leaf(m, entry, level, va, write);
            tlb.insert(va, t, &m.oracle);
            return Ok(t);
        }
        at = TableRef {
            table: entry.pfn(),
            write,
            generation: m.oracle.generation(entry.pfn()),
        };
        tlb.insert_table(va, level, at, &m.oracle);
    }
}

/// Reads an entry and sets its accessed (and dirty) bit; the value returned was in the cell with
/// the bits set.
fn use_entry(
    cell: &AtomicU64,
    level: u32,
    write_above: bool,
    want: Access,
) -> Result<Entry, PageFault> {
    // Acquire pairs with the Release that published the entry: the table or page below is
    // initialised.
    let mut seen = cell.load(Acquire);
    loop {
        let entry = Entry(seen);
        if !entry.is_present() || seen & USER == 0 {
            return Err(PageFault);
        }
        let leaf = level == 0 || entry.is_huge();
        let writes = want == Access::Write && leaf;
        if writes && !(write_above && entry.is_write()) {
            return Err(PageFault);
        }
        let new = seen | ACCESSED | if writes { DIRTY } else { 0 };
        if new == seen {
            return Ok(entry);
        }
        match cell.compare_exchange(seen, new, AcqRel, Acquire) {
            Ok(_) => return Ok(Entry(new)),
            Err(now) => seen = now,
        }
    }
}

fn leaf(m: &Machine, entry: Entry, level: u32, va: VirtAddr, write: bool) -> Translation {
    let piece = va.page_index() & ((1 << (shift(level) - PAGE_SHIFT)) - 1);
    let pfn = entry.pfn().add(piece);
    Translation {
        pfn,
        write,
        dirty: entry.is_dirty(),
        huge: level > 0,
        generation: m.oracle.generation(pfn),
    }
}
