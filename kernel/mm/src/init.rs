//! Power-on of the memory manager: memmap, zone, heap, upcalls. Boot CPU alone; nothing here
//! sleeps.

#![expect(unsafe_code, reason = "what firmware left is handed over once")]

use crate::buddy::{self, Gfp};
use crate::frame::{self, frame};
use crate::stats::{self, Use};
use crate::{heap, workingset, zero};
use arch::addr::{PAGE_SIZE, page_align_up};
use arch::upcall::{Access, FaultError, Upcalls};
use arch::{Pfn, PhysAddr, RegionKind, VirtAddr};

/// Why the memory manager cannot start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitError {
    /// There is less RAM than [`MIN_PAGES`] frames, or no run long enough for the memmap.
    TooLittleMemory {
        /// Usable frames found.
        pages: u64,
    },
}

/// Fewest usable frames to start with: 8 MiB.
pub const MIN_PAGES: u64 = 2048;

struct Calls;

// SAFETY: a frame for the machine is allocated for good; `pt::tlb` loads roots and serves requests.
unsafe impl Upcalls for Calls {
    fn page_fault(&self, va: VirtAddr, access: Access) -> Result<(), FaultError> {
        crate::fault::current(va, access)
    }
    fn tlb_ipi(&self) {
        crate::pt::tlb::on_ipi();
    }
    fn bio_done(&self, bio: &'static arch::block::Bio) {
        let _known = crate::swap::io::done(bio) || crate::file::io::done(bio);
    }
    fn kernel_frame(&self) -> Option<Pfn> {
        buddy::alloc(0, Use::Kernel, Gfp::NOWAIT)
            .ok()
            .map(buddy::Page::into_pfn)
    }
    fn switch_mm(&self, irq: &sync::irq::IrqGuard, token: u64) {
        crate::pt::tlb::switch_mm(irq, (token as u32).checked_sub(1));
    }
}

/// Brings the memory manager up on the RAM of [`arch::memory_map`].
///
/// # Errors
/// [`InitError::TooLittleMemory`], with what was found.
pub fn init() -> Result<(), InitError> {
    arch::upcall::set_upcalls(&Calls);
    let map = arch::memory_map();
    let usable = || map.iter().filter(|r| r.kind == RegionKind::Usable);
    let pages: u64 = usable().map(|r| (r.end.0 - r.start.0) / PAGE_SIZE).sum();
    let frames = map
        .iter()
        .filter(|r| r.kind != RegionKind::Firmware)
        .map(|r| r.end.0 / PAGE_SIZE)
        .max()
        .unwrap_or(0);
    let memmap_bytes = page_align_up(frames * size_of::<frame::Frame>() as u64);
    let home = usable()
        .filter(|r| r.end.0 - r.start.0 >= memmap_bytes)
        .max_by_key(|r| r.end.0 - r.start.0);
    let Some(home) = home.filter(|_| pages >= MIN_PAGES) else {
        return Err(InitError::TooLittleMemory { pages });
    };
    frame::install(home.start.pfn(), frames as usize);
    let after = PhysAddr(home.start.0 + memmap_bytes);
    claim(home.start.pfn(), after.pfn(), Use::Memmap);
    for r in map {
        let start = if r.start == home.start {
            after
        } else {
            r.start
        };
        match r.kind {
            RegionKind::Usable => buddy::add_range(start.pfn(), r.end.pfn()),
            RegionKind::Kernel => claim(start.pfn(), r.end.pfn(), Use::Kernel),
            RegionKind::Firmware => {}
        }
    }
    let known: u64 = map
        .iter()
        .filter(|r| r.kind != RegionKind::Firmware)
        .map(|r| (r.end.0 - r.start.0) / PAGE_SIZE)
        .sum();
    stats::found_use(Use::Reserved, frames - known);
    crate::reclaim::init();
    crate::file::init();
    buddy::tune(arch::nr_cpus() as u32);
    let little = |_| InitError::TooLittleMemory { pages };
    zero::init(buddy::alloc(0, Use::Misc, Gfp::NOWAIT).map_err(little)?);
    heap::init().map_err(little)?;
    workingset::init();
    Ok(())
}

/// Sizes the per-CPU lists once the machine has started its CPUs.
pub fn cpus_known() {
    buddy::tune(arch::online().count() as u32);
}

fn claim(start: Pfn, end: Pfn, usage: Use) {
    for pfn in start.0..end.0 {
        let record = frame(Pfn(pfn));
        record.init_flags(0, 0, usage);
        record.init_refcount(1);
    }
    stats::found_use(usage, u64::from(end.0 - start.0));
}

/// Full check of the accounting: every frame is in the use that the counters say, the allocator's
/// lists are sound. To be called when nothing else runs.
///
/// # Errors
/// A sentence naming what does not add up.
pub fn check() -> Result<(), alloc::string::String> {
    use alloc::format;
    buddy::pcp::drain();
    buddy::validate().map_err(|(what, pfn)| format!("{what}: {pfn:?}"))?;
    let mut seen = [0u64; Use::ALL.len()];
    let mut pfn = 0;
    while pfn < frame::max_pfn() {
        let head = frame(Pfn(pfn as u32));
        let pages = 1 << head.order();
        seen[head.usage() as usize] += pages as u64;
        pfn += pages;
    }
    for (usage, name) in Use::ALL {
        let (scan, count) = (seen[usage as usize], stats::use_pages(usage));
        if scan != count {
            return Err(format!(
                "{name}: the memmap shows {scan} pages, the counter {count}"
            ));
        }
    }
    crate::file::check()
}
