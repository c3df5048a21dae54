//! Preemption off, as a token: [`PreemptGuard`] keeps the running thread on its CPU. Interrupts
//! still arrive. Nothing may sleep while one exists. Spin locks hold one.

use crate::cpu::{self, backend};
use crate::{irq, threads};
use core::marker::PhantomData;

/// The running thread is not switched away from until it is dropped.
#[must_use = "preemption comes back on when the guard is dropped"]
pub struct PreemptGuard {
    not_send: PhantomData<*const ()>,
}

/// Turns preemption off; nests.
#[inline]
pub fn disable() -> PreemptGuard {
    enter();
    PreemptGuard {
        not_send: PhantomData,
    }
}

/// How many guards (spin locks included) this CPU holds.
#[inline]
pub fn count() -> u32 {
    backend::preempt_count()
}

impl Drop for PreemptGuard {
    #[inline]
    fn drop(&mut self) {
        exit();
    }
}

#[inline]
pub(crate) fn enter() {
    backend::preempt_inc();
}

#[inline]
pub(crate) fn exit() {
    if backend::preempt_dec() && cpu::need_resched() {
        reschedule();
    }
    backend::poll();
}

/// Only outside of interrupt handlers: the handler's return path looks at the request itself.
#[cold]
fn reschedule() {
    if irq::enabled() && !irq::in_handler() {
        threads().reschedule();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_count() {
        let before = count();
        let a = disable();
        let b = disable();
        assert_eq!(count(), before + 2);
        drop(a);
        drop(b);
        assert_eq!(count(), before);
    }
}
