//! The calls that a machine makes upwards, registered once at boot by the layer above.

use crate::addr::VirtAddr;
use crate::block::Bio;

/// What an access wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Exec,
}

/// Why a fault could not be resolved: what a user program would get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// SIGSEGV, no mapping there.
    Unmapped,
    /// SIGSEGV, the mapping forbids it.
    Protection,
    /// SIGBUS: the page's content could not be read.
    Bus,
    /// The address space was picked by the OOM killer.
    Killed,
}

/// What the layers above do for the machine.
///
/// # Safety
/// [`Upcalls::kernel_frame`] gives away frames that nobody else uses. After [`Upcalls::switch_mm`]
/// the running CPU's root is that of the address space which the token names (for 0, one that may
/// be walked), and [`Upcalls::tlb_ipi`] makes it forget what it was asked to.
pub unsafe trait Upcalls: Sync {
    /// A user-half access of the running actor found no (sufficient) translation. Runs in the
    /// actor's thread with interrupts on and may sleep. `Ok` means: retry the access.
    ///
    /// # Errors
    /// What the access shall fail with.
    fn page_fault(&self, va: VirtAddr, access: Access) -> Result<(), FaultError>;
    /// The TLB IPI arrived at this CPU. Interrupts are off; must not sleep or take a lock.
    fn tlb_ipi(&self);
    /// `bio` completed. Any CPU, interrupts off.
    fn bio_done(&self, bio: &'static Bio);
    /// The running thread's adopted word (see `thread::set_adopted`) is `token` from now on; 0 is a
    /// kernel thread, which stays on the root that is loaded. Interrupts are off.
    fn switch_mm(&self, irq: &sync::irq::IrqGuard, token: u64);
    /// A frame for the machine's own stacks and page tables, which are never given back. Any
    /// context where frames may be allocated; does not sleep. `None` when memory is out.
    fn kernel_frame(&self) -> Option<crate::addr::Pfn> {
        None
    }
}

static UPCALLS: spin::Once<&'static dyn Upcalls> = spin::Once::new();

/// Registers the upcalls; later calls have no effect.
pub fn set_upcalls(u: &'static dyn Upcalls) {
    UPCALLS.call_once(|| u);
}

/// The registered upcalls, if boot came that far.
#[inline]
pub fn upcalls() -> Option<&'static dyn Upcalls> {
    UPCALLS.get().copied()
}
