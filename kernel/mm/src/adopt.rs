//! Adopting an address space: from now on the thread's user half is that of an mm.
//!
//! The thread's adopted word holds the mm's id + 1; the scheduler hands it to
//! [`crate::pt::tlb::switch_mm`] at each switch. A thread keeps a counted handle for as long as it
//! has adopted. Takes no lock.

#![expect(
    unsafe_code,
    reason = "the word by which the scheduler finds the address space"
)]

use crate::handle::MmRef;
use crate::mm::by_id;
use crate::pt::tlb;
use crate::pt::walk::{self, Held, HeldToWrite};
use arch::VirtAddr;
use sync::irq::IrqGuard;

/// The thread's user half is `mm`'s, until this is dropped. Stays on the thread that adopted.
pub struct Adopted {
    mm: MmRef,
    _thread: core::marker::PhantomData<*const ()>,
}

impl Adopted {
    /// The address space.
    pub fn mm(&self) -> &MmRef {
        &self.mm
    }
}

impl MmRef {
    /// Makes the running thread's user half this address space.
    ///
    /// # Panics
    /// If the thread has adopted one already.
    pub fn adopt(&self) -> Adopted {
        assert!(
            arch::thread::adopted() == 0,
            "this thread has adopted an address space already"
        );
        let irq = sync::irq::disable();
        // Before the word: a CPU that was lazy may have old translations until it has switched, and
        // a look at the word from outside takes it for one that has none.
        tlb::switch_mm(&irq, Some(self.id()));
        // SAFETY: the handle below keeps the address space until the word is 0 again; switched to
        // above.
        unsafe { arch::thread::set_adopted(u64::from(self.id()) + 1) };
        drop(irq);
        Adopted {
            mm: self.clone(),
            _thread: core::marker::PhantomData,
        }
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        let irq = sync::irq::disable();
        // SAFETY: no address space; switched to next.
        unsafe { arch::thread::set_adopted(0) };
        tlb::switch_mm(&irq, None);
        drop(irq);
    }
}

/// The id of the address space that the running thread has adopted.
pub(crate) fn current() -> Option<u32> {
    (arch::thread::adopted() as u32).checked_sub(1)
}

/// The folio mapped at `va` in the address space that the running thread has adopted, found without
/// a lock, for reading; `None` when there is none that can be had this way (not present, the zero
/// page, or just changing), or none is adopted: take the fault path then.
pub fn follow_fast(irq: &IrqGuard, va: VirtAddr) -> Option<Held> {
    walk::follow_fast(irq, by_id(current()?), va)
}

/// As [`follow_fast`], for writing, which the entry must allow; not a page of a file. What is
/// written is the page's only before it may be swapped out, copied or shared, so it ends while
/// interrupts are off:
///
/// ```compile_fail,E0505
/// fn late(irq: sync::irq::IrqGuard, va: arch::VirtAddr) {
///     let held = mm::adopt::follow_fast_to_write(&irq, va);
///     drop(irq);
///     drop(held);
/// }
/// ```
pub fn follow_fast_to_write(irq: &IrqGuard, va: VirtAddr) -> Option<HeldToWrite<'_>> {
    walk::follow_fast_to_write(irq, by_id(current()?), va)
}
