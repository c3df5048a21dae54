//! One value per CPU, each on cache lines of its own.

use crate::preempt::PreemptGuard;
use crate::{MAX_CPUS, cpu, irq::IrqGuard};

/// A guard that keeps the running thread on its CPU: preemption or interrupts are off while it
/// lives.
pub trait Pinned {}
impl Pinned for PreemptGuard {}
impl Pinned for IrqGuard {}

#[repr(align(64))]
struct Line<T>(T);

/// One `T` per CPU. Other CPUs may read a CPU's value, so `T` must cope (atomics, a lock).
pub struct PerCpu<T>([Line<T>; MAX_CPUS]);

impl<T> PerCpu<T> {
    /// The values by CPU number.
    pub const fn new(values: [T; MAX_CPUS]) -> Self {
        let values = core::mem::ManuallyDrop::new(values);
        let mut lines = [const { core::mem::MaybeUninit::<Line<T>>::uninit() }; MAX_CPUS];
        let mut cpu = 0;
        while cpu < MAX_CPUS {
            // SAFETY: `values` is never dropped and each element is moved out exactly once.
            let value = unsafe { core::ptr::read((&raw const values).cast::<T>().add(cpu)) };
            lines[cpu] = core::mem::MaybeUninit::new(Line(value));
            cpu += 1;
        }
        // SAFETY: every element was written above; `MaybeUninit<Line<T>>` has the layout of
        // `Line<T>`.
        Self(unsafe { core::ptr::read((&raw const lines).cast()) })
    }

    /// The running CPU's value; `pin` keeps it the running CPU.
    #[inline]
    pub fn this<'a>(&'a self, _pin: &'a impl Pinned) -> &'a T {
        self.get(cpu::id())
    }

    /// The value of `cpu`.
    ///
    /// # Panics
    /// If `cpu` is not below [`MAX_CPUS`].
    #[inline]
    pub fn get(&self, cpu: usize) -> &T {
        &self.0[cpu].0
    }

    /// Every CPU's value, by CPU number.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preempt;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn values_are_apart_and_this_is_the_own_one() {
        let p = PerCpu::new(std::array::from_fn(|i| AtomicU32::new(i as u32)));
        let pin = preempt::disable();
        assert_eq!(p.this(&pin).load(Ordering::Relaxed) as usize, cpu::id());
        assert_eq!(p.get(7).load(Ordering::Relaxed), 7);
        assert_eq!(p.iter().count(), MAX_CPUS);
        let (a, b): (*const AtomicU32, *const AtomicU32) = (p.get(0), p.get(1));
        assert!(b as usize - a as usize >= 64);
    }

    #[test]
    fn values_are_dropped_once() {
        let one = std::sync::Arc::new(());
        let p = PerCpu::new(std::array::from_fn(|_| one.clone()));
        assert_eq!(std::sync::Arc::strong_count(&one), MAX_CPUS + 1);
        drop(p);
        assert_eq!(std::sync::Arc::strong_count(&one), 1);
    }
}
