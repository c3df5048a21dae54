//! Interrupts off, as a token: [`IrqGuard`] proves that this CPU takes no interrupt and does not
//! migrate.
//!
//! Guards nest and must be dropped innermost first (checked with `debug_assertions`). Nothing may
//! sleep, or wait for another CPU's acknowledgement, while one exists.

use crate::cpu::backend;
use core::marker::PhantomData;

/// Interrupts are off on this CPU until it is dropped.
#[must_use = "interrupts come back on when the guard is dropped"]
pub struct IrqGuard {
    was_on: bool,
    not_send: PhantomData<*const ()>,
}

/// The token's other name, where it is asked for rather than held.
pub type IrqOff = IrqGuard;

/// Turns interrupts off; the guard restores what was.
#[inline]
pub fn disable() -> IrqGuard {
    IrqGuard {
        was_on: backend::irq_save(),
        not_send: PhantomData,
    }
}

/// Interrupts are on.
#[inline]
pub fn enabled() -> bool {
    backend::irq_enabled()
}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        debug_assert!(!enabled(), "interrupt guards dropped out of order");
        backend::irq_restore(self.was_on);
    }
}

/// A place where a simulated interrupt may arrive (long loops without locks); nothing on the real
/// machine.
#[inline]
pub fn poll() {
    backend::poll();
}

/// An interrupt handler runs until it is dropped: [`in_handler`] is true. The machine holds one
/// around every handler, entered with interrupts off.
pub struct HandlerGuard {
    not_send: PhantomData<*const ()>,
}

/// Enters an interrupt handler.
#[inline]
pub fn handler() -> HandlerGuard {
    backend::irq_depth_inc();
    HandlerGuard {
        not_send: PhantomData,
    }
}

/// An interrupt handler is running on this CPU.
#[inline]
pub fn in_handler() -> bool {
    backend::irq_depth() != 0
}

impl Drop for HandlerGuard {
    #[inline]
    fn drop(&mut self) {
        backend::irq_depth_dec();
    }
}

/// Until it is dropped, what runs is no part of the step of an actor that the explorer drives, as
/// in a handler.
pub struct Aside {
    #[cfg(feature = "lab")]
    _handler: HandlerGuard,
    not_send: PhantomData<*const ()>,
}

/// Steps aside. Interrupts are off. Without the feature `lab` it is nothing.
#[must_use = "it ends when this is dropped"]
#[inline(always)]
pub fn aside() -> Aside {
    Aside {
        #[cfg(feature = "lab")]
        _handler: handler(),
        not_send: PhantomData,
    }
}

impl Aside {
    /// The same as dropping it.
    #[inline(always)]
    pub fn end(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_nest_and_restore() {
        assert!(enabled());
        let a = disable();
        let b = disable();
        assert!(!enabled());
        drop(b);
        assert!(!enabled());
        drop(a);
        assert!(enabled());
    }

    #[test]
    #[should_panic(expected = "out of order")]
    #[cfg(debug_assertions)]
    fn out_of_order_is_caught() {
        let a = disable();
        let b = disable();
        drop(a);
        drop(b);
    }

    #[test]
    fn handlers_nest() {
        assert!(!in_handler());
        let a = handler();
        let b = handler();
        drop(b);
        assert!(in_handler());
        drop(a);
        assert!(!in_handler());
    }
}
