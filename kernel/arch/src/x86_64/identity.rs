//! The trampoline page at its physical address, in the lower half of the kernel's root, while CPUs
//! start.
//!
//! Whoever starts on it has its translation, and the tables that lead to it, cached: it is gone
//! only once every CPU has forgotten both. Locks: none. The boot CPU does all of this, before there
//! are threads; it waits for the others with interrupts on.

use core::sync::atomic::{AtomicU64, Ordering};

use super::frame::{flush_local, pt_cell};
use super::memory::TRAMPOLINE;
use super::paging::{kernel_root, translate};
use super::{ipi, smp};
use crate::addr::{PhysAddr, VirtAddr, WORDS};
use crate::pte::{ACCESSED, Entry, WRITE};

/// Page tables that show the trampoline page at its physical address.
#[repr(C, align(4096))]
struct Tables([[AtomicU64; WORDS]; 3]);

static IDENTITY: Tables = Tables([const { [const { AtomicU64::new(0) }; WORDS] }; 3]);

/// Shows the trampoline page, read-only and executable.
pub(super) fn map() {
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

/// Takes the page away again. Afterwards no CPU that runs can reach it.
pub(super) fn unmap() {
    look(Look::Shown);
    pt_cell(kernel_root(), 0).store(0, Ordering::Release);
    ipi::call_on(smp::online(), |_| flush_local(), 0);
    look(Look::Gone);
}

#[cfg(not(feature = "lab"))]
fn look(_: Look) {}

/// When [`look`] looks.
#[derive(Clone, Copy)]
enum Look {
    Shown,
    Gone,
}

#[cfg(feature = "lab")]
use seen::look;
#[cfg(feature = "lab")]
pub use seen::{Identity, identity_seen};

/// What the MMU of each CPU made of the page's address, for a self-test.
#[cfg(feature = "lab")]
mod seen {
    use super::{Look, TRAMPOLINE, ipi, smp};
    use crate::machine::user::reads;
    use core::sync::atomic::Ordering;
    use sync::{AtomicCpuMask, CpuMask};

    static SHOWN: AtomicCpuMask = AtomicCpuMask::new();
    static STALE: AtomicCpuMask = AtomicCpuMask::new();

    /// CPUs that could read the trampoline page at its physical address.
    #[derive(Clone, Copy, Debug)]
    pub struct Identity {
        /// Just before it was unmapped.
        pub shown: CpuMask,
        /// Just after.
        pub stale: CpuMask,
    }

    /// What was seen when the other CPUs had been started.
    pub fn identity_seen() -> Identity {
        Identity {
            shown: SHOWN.load(Ordering::Acquire),
            stale: STALE.load(Ordering::Acquire),
        }
    }

    /// Each CPU reads the page, if it can. (Before the first look of the second kind it has it
    /// cached.)
    pub(super) fn look(when: Look) {
        let note = |stale: usize| {
            let seen = if stale == 0 { &SHOWN } else { &STALE };
            if reads(TRAMPOLINE) {
                seen.insert(sync::cpu::id(), Ordering::AcqRel);
            }
        };
        ipi::call_on(smp::online(), note, when as usize);
    }
}
