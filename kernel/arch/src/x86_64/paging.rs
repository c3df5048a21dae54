//! The kernel's page tables: the upper half, shared by every address space.
//!
//! [`build`] makes them out of early frames while the bootloader's still run; [`map_kernel_page`]
//! adds to the heap and stack windows afterwards. Upper-half PGD entries never change once built,
//! so a new root copies them and is complete. Mappings are added without a flush; what
//! [`unmap_kernel_spans`] takes out is flushed on every CPU before its frames are anybody's.
//!
//! Locks: none; the caller serialises calls for the same window.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::Mutex;

use super::frame::{flush_global, frame_words, pt_cell, zero_frame};
use super::layout::{
    DIRECT_BASE, HEAP_BASE, HEAP_MAX, IMAGE_BASE, MMIO_BASE, MMIO_SIZE, STACK_BASE,
};
use super::{cpu, memory};
use crate::addr::{PAGE_SIZE, PGD_SIZE, PMD_SIZE, PUD_SIZE, Pfn, PhysAddr, VirtAddr, span};
use crate::pte::{ACCESSED, DIRTY, Entry, GLOBAL, HUGE, NX, PRESENT, WRITE};

/// Cache disable: device registers.
const UNCACHED: u64 = 1 << 4 | 1 << 3;
const TABLE: u64 = WRITE | ACCESSED;
const KERNEL_RO: u64 = ACCESSED | DIRTY | GLOBAL;
const KERNEL_RW: u64 = KERNEL_RO | WRITE | NX;

static ROOT: AtomicU32 = AtomicU32::new(0);

/// No frame was to be had for a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
}

/// Root of the kernel's own page tables. Its upper 256 entries are complete and never change.
#[inline]
pub fn kernel_root() -> Pfn {
    Pfn(ROOT.load(Ordering::Relaxed))
}

fn new_table(alloc: &mut dyn FnMut() -> Option<Pfn>) -> Result<Pfn, NoMemory> {
    let table = alloc().ok_or(NoMemory)?;
    zero_frame(table);
    Ok(table)
}

/// The table one level below entry `index` of `table`, made if it is missing.
fn descend(
    table: Pfn,
    index: usize,
    alloc: &mut dyn FnMut() -> Option<Pfn>,
) -> Result<Pfn, NoMemory> {
    let cell = pt_cell(table, index);
    let entry = Entry(cell.load(Ordering::Relaxed));
    if !entry.is_none() {
        return Ok(entry.pfn());
    }
    let below = new_table(alloc)?;
    // Release: whoever walks to the new table (this CPU's MMU, or another's) sees it zeroed.
    cell.store(Entry::new(below, TABLE).0, Ordering::Release);
    Ok(below)
}

/// Writes `entry` for `va` at `level` (0 = PTE, 1 = PMD, 2 = PUD), making the tables above it.
fn map_at(
    va: u64,
    level: u32,
    entry: Entry,
    alloc: &mut dyn FnMut() -> Option<Pfn>,
) -> Result<(), NoMemory> {
    let va = VirtAddr(va);
    let mut table = kernel_root();
    for l in (level + 1..=3).rev() {
        table = descend(table, va.table_index(l), alloc)?;
    }
    pt_cell(table, va.table_index(level)).store(entry.0, Ordering::Release);
    Ok(())
}

/// Maps `pfn` at `va`, readable and writable, not executable, in the heap or stack window. `alloc`
/// gives frames for page tables, of which those of whole spans go back with [`unmap_kernel_spans`].
/// Serialised by the caller.
///
/// # Errors
/// [`NoMemory`] when `alloc` gives nothing; tables made so far stay and are used by the next call.
///
/// # Panics
/// When `va` lies outside of both windows.
pub(crate) fn map_kernel_page(
    va: VirtAddr,
    pfn: Pfn,
    alloc: &mut dyn FnMut() -> Option<Pfn>,
) -> Result<(), NoMemory> {
    let inside = (HEAP_BASE..HEAP_MAX).contains(&va.0)
        || (STACK_BASE..STACK_BASE + PGD_SIZE).contains(&va.0);
    assert!(inside, "map_kernel_page: {va:?} is in no window");
    map_at(va.0, 0, Entry::new(pfn, KERNEL_RW), alloc)
}

/// The PMD entry of `va` in the kernel's tables, if there is a table for it.
fn pmd_cell(va: VirtAddr) -> Option<&'static AtomicU64> {
    let below = |table, level| {
        let entry = Entry(pt_cell(table, va.table_index(level)).load(Ordering::Relaxed));
        entry.is_present().then(|| entry.pfn())
    };
    let pmd = below(below(kernel_root(), 3)?, 2)?;
    Some(pt_cell(pmd, va.table_index(1)))
}

/// Takes everything out that [`map_kernel_page`] has mapped in `spans` whole spans of 2 MiB from
/// `va` on, in the heap window, and flushes every CPU; then `freed` gets each frame, and each page
/// table. Interrupts are on. Serialised by the caller.
///
/// # Safety
/// Nobody uses an address of these spans any more, nor will before it is mapped again.
///
/// # Panics
/// When the spans do not lie in the heap window, or `va` is no multiple of 2 MiB.
pub unsafe fn unmap_kernel_spans(va: VirtAddr, spans: u64, freed: &mut dyn FnMut(Pfn)) {
    assert!(
        va.0 >= HEAP_BASE && va.0 + spans * PMD_SIZE <= HEAP_MAX && va.0.is_multiple_of(PMD_SIZE),
        "unmap_kernel_spans: {va:?} and {spans} spans of 2 MiB are not the heap window's"
    );
    let cells = || (0..spans).filter_map(|i| pmd_cell(VirtAddr(va.0 + i * PMD_SIZE)));
    for cell in cells() {
        // The number of the table stays, for below.
        cell.fetch_and(!PRESENT, Ordering::Relaxed);
    }
    super::call_on(super::online(), |_| flush_global(), 0);
    for cell in cells() {
        let table = Entry(cell.swap(0, Ordering::Relaxed));
        if table.is_none() {
            continue;
        }
        for entry in frame_words(table.pfn()) {
            let entry = Entry(entry.load(Ordering::Relaxed));
            if entry.is_present() {
                freed(entry.pfn());
            }
        }
        freed(table.pfn());
    }
}

/// The entry of `root`'s tables that maps `va` and the level it was found at, if one is present.
fn walk(root: Pfn, va: VirtAddr) -> Option<(Entry, u32)> {
    let mut table = root;
    for level in (0..=3).rev() {
        let entry = Entry(pt_cell(table, va.table_index(level)).load(Ordering::Relaxed));
        if !entry.is_present() {
            return None;
        }
        if level == 0 || entry.is_huge() {
            return Some((entry, level));
        }
        table = entry.pfn();
    }
    None
}

/// The physical address that the tables under `root` translate `va` to.
fn translate_in(root: Pfn, va: u64) -> Option<u64> {
    let (entry, level) = walk(root, VirtAddr(va))?;
    let size = span(level);
    let base = entry.pfn().phys().0 & !(size - 1);
    Some(base + (va & (size - 1)))
}

/// The physical address of a kernel virtual address, if it is mapped.
pub fn translate(va: VirtAddr) -> Option<PhysAddr> {
    translate_in(kernel_root(), va.0).map(PhysAddr)
}

fn image_sections() -> [(u64, u64, u64); 3] {
    let at = |p: *const u8| p as u64;
    [
        (
            at(&raw const __text_start),
            at(&raw const __text_end),
            KERNEL_RO,
        ),
        (
            at(&raw const __rodata_start),
            at(&raw const __rodata_end),
            KERNEL_RO | NX,
        ),
        (
            at(&raw const __data_start),
            at(&raw const __data_end),
            KERNEL_RW,
        ),
    ]
}

/// Calls `f(va, physical address, flags)` for each page of the kernel image, as the tables under
/// `root` map it.
fn for_image(root: Pfn, mut f: impl FnMut(u64, u64, u64)) {
    for (start, end, flags) in image_sections() {
        for va in (start & !(PAGE_SIZE - 1)..end).step_by(PAGE_SIZE as usize) {
            let phys = translate_in(root, va).expect("the bootloader maps all of the image");
            f(va, phys, flags);
        }
    }
}

/// Takes the image's frames off the memory map. Before any early frame is allocated.
pub(super) fn claim_image(boot_root: Pfn) {
    let mut run = (0, 0);
    for_image(boot_root, |_, phys, _| {
        if phys != run.1 {
            memory::claim_image(run.0, run.1);
            run = (phys, phys);
        }
        run.1 += PAGE_SIZE;
    });
    memory::claim_image(run.0, run.1);
}

/// Builds the kernel's tables beside those of the bootloader (`boot_root`).
///
/// # Errors
/// [`NoMemory`] when there are not even enough frames for page tables.
pub(super) fn build(boot_root: Pfn) -> Result<(), NoMemory> {
    let mut alloc = memory::early_frame;
    let root = new_table(&mut alloc)?;
    ROOT.store(root.0, Ordering::Relaxed);
    for window in [DIRECT_BASE, MMIO_BASE, HEAP_BASE, STACK_BASE, IMAGE_BASE] {
        descend(root, VirtAddr(window).table_index(3), &mut alloc)?;
    }
    let pud = descend(root, VirtAddr(MMIO_BASE).table_index(3), &mut alloc)?;
    descend(pud, VirtAddr(MMIO_BASE).table_index(2), &mut alloc)?;
    build_direct(&mut alloc)?;
    let mut result = Ok(());
    for_image(boot_root, |va, phys, flags| {
        let entry = Entry::new(PhysAddr(phys).pfn(), flags);
        result = result.and(map_at(va, 0, entry, &mut alloc));
    });
    result
}

fn build_direct(alloc: &mut dyn FnMut() -> Option<Pfn>) -> Result<(), NoMemory> {
    let gib_pages = cpu::features().gib_pages;
    let large = |phys| Entry::new(PhysAddr(phys).pfn(), KERNEL_RW | HUGE);
    for gib in (0..memory::ram_top()).step_by(PUD_SIZE as usize) {
        if gib_pages && memory::all_ram(gib, gib + PUD_SIZE) {
            map_at(DIRECT_BASE + gib, 2, large(gib), alloc)?;
            continue;
        }
        for phys in (gib..gib + PUD_SIZE).step_by(PMD_SIZE as usize) {
            if memory::has_ram(phys, phys + PMD_SIZE) {
                map_at(DIRECT_BASE + phys, 1, large(phys), alloc)?;
            }
        }
    }
    Ok(())
}

/// Used 2 MiB slots of the MMIO window.
static MMIO_USED: Mutex<usize> = Mutex::new(0);

/// Maps `len` bytes of device registers from physical address `phys` on, uncached, for good.
/// Mapping the same place again gives the same address.
///
/// # Panics
/// When the window (1 GiB) is full: a machine with more registers than that is none we know.
pub fn map_mmio(phys: PhysAddr, len: u64) -> *mut u8 {
    let first = phys.0 & !(PMD_SIZE - 1);
    let slots = ((phys.0 + len - first).div_ceil(PMD_SIZE)) as usize;
    let pud =
        Entry(pt_cell(kernel_root(), VirtAddr(MMIO_BASE).table_index(3)).load(Ordering::Relaxed));
    let pmd = Entry(pt_cell(pud.pfn(), VirtAddr(MMIO_BASE).table_index(2)).load(Ordering::Relaxed));
    let cells = frame_words(pmd.pfn());
    let entry = |i: usize| {
        let at = PhysAddr(first + i as u64 * PMD_SIZE);
        Entry::new(at.pfn(), KERNEL_RW | UNCACHED | HUGE)
    };
    let mut used = MMIO_USED.lock();
    let mapped =
        |at: usize| (0..slots).all(|i| cells[at + i].load(Ordering::Relaxed) == entry(i).0);
    let found = (0..(*used + 1).saturating_sub(slots)).find(|&at| mapped(at));
    let at = found.unwrap_or_else(|| {
        let at = *used;
        assert!(
            at + slots <= (MMIO_SIZE / PMD_SIZE) as usize,
            "MMIO window full at {phys:?}"
        );
        for i in 0..slots {
            cells[at + i].store(entry(i).0, Ordering::Release);
        }
        *used += slots;
        at
    });
    (MMIO_BASE + at as u64 * PMD_SIZE + (phys.0 - first)) as *mut u8
}

/// Where `len` bytes of physical memory can be read: in the direct map where it shows them, else
/// mapped as MMIO (ACPI tables lie in memory that the firmware keeps).
pub fn phys_ptr(phys: PhysAddr, len: u64) -> *mut u8 {
    if translate_in(kernel_root(), DIRECT_BASE + phys.0).is_some()
        && translate_in(kernel_root(), DIRECT_BASE + phys.0 + len.max(1) - 1).is_some()
    {
        return (DIRECT_BASE + phys.0) as *mut u8;
    }
    map_mmio(phys, len)
}

/// The kernel's code.
pub(super) fn text() -> &'static [u8] {
    let start = &raw const __text_start;
    let len = &raw const __text_end as usize - start as usize;
    // SAFETY: the linker puts nothing but code between the two; it is mapped for good, and changes
    // only before other CPUs run (`entry::enable_smap`).
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// Whether `va` lies in the kernel's code.
pub(super) fn in_text(va: u64) -> bool {
    let [(start, end, _), ..] = image_sections();
    (start..end).contains(&va)
}
