//! Sets of CPUs, as values and as shared words. No locks; [`AtomicCpuMask`] states its ordering per
//! call.

use crate::MAX_CPUS;
use crate::atomic::AtomicU32;
use core::sync::atomic::Ordering;

/// A set of CPU numbers below [`MAX_CPUS`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CpuMask(u32);

impl CpuMask {
    /// No CPU.
    pub const EMPTY: Self = Self(0);

    /// No CPU.
    #[inline]
    pub const fn empty() -> Self {
        Self(0)
    }
    /// The CPU `cpu` alone.
    #[inline]
    pub const fn single(cpu: usize) -> Self {
        debug_assert!(cpu < MAX_CPUS);
        Self(1 << cpu)
    }
    /// The CPUs `0..n`.
    #[inline]
    pub const fn first(n: usize) -> Self {
        if n >= 32 {
            Self(u32::MAX)
        } else {
            Self((1 << n) - 1)
        }
    }
    /// The set with these bits.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
    /// One bit per CPU.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }
    /// Adds `cpu`.
    #[inline]
    pub const fn insert(&mut self, cpu: usize) {
        self.0 |= Self::single(cpu).0;
    }
    /// Takes `cpu` out.
    #[inline]
    pub const fn remove(&mut self, cpu: usize) {
        self.0 &= !Self::single(cpu).0;
    }
    /// `cpu` is in the set.
    #[inline]
    pub const fn contains(self, cpu: usize) -> bool {
        self.0 & Self::single(cpu).0 != 0
    }
    /// The set without `cpu`.
    #[inline]
    pub const fn without(self, cpu: usize) -> Self {
        Self(self.0 & !Self::single(cpu).0)
    }
    /// The set with `cpu`.
    #[inline]
    pub const fn with(self, cpu: usize) -> Self {
        Self(self.0 | Self::single(cpu).0)
    }
    /// CPUs in both sets.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// CPUs in either set.
    #[inline]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// How many CPUs.
    #[inline]
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }
    /// No CPU is in the set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The CPU numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let cpu = left.trailing_zeros() as usize;
            left &= left - 1;
            Some(cpu)
        })
    }
}

impl core::fmt::Debug for CpuMask {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A [`CpuMask`] that CPUs change concurrently.
#[derive(Default)]
pub struct AtomicCpuMask(AtomicU32);

impl AtomicCpuMask {
    /// An empty set.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }
    /// A snapshot.
    #[inline]
    pub fn load(&self, order: Ordering) -> CpuMask {
        CpuMask(self.0.load(order))
    }
    /// Replaces the set.
    #[inline]
    pub fn store(&self, mask: CpuMask, order: Ordering) {
        self.0.store(mask.0, order);
    }
    /// Adds `cpu`; true if it was not there.
    #[inline]
    pub fn insert(&self, cpu: usize, order: Ordering) -> bool {
        let bit = CpuMask::single(cpu).0;
        self.0.fetch_or(bit, order) & bit == 0
    }
    /// Takes `cpu` out; true if it was there.
    #[inline]
    pub fn remove(&self, cpu: usize, order: Ordering) -> bool {
        let bit = CpuMask::single(cpu).0;
        self.0.fetch_and(!bit, order) & bit != 0
    }
    /// Adds all of `mask`; returns the set before.
    #[inline]
    pub fn fetch_or(&self, mask: CpuMask, order: Ordering) -> CpuMask {
        CpuMask(self.0.fetch_or(mask.0, order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_operations() {
        let mut m = CpuMask::empty();
        assert!(m.is_empty());
        m.insert(3);
        m.insert(31);
        m.insert(0);
        assert_eq!(m.iter().collect::<Vec<_>>(), [0, 3, 31]);
        assert_eq!(m.without(3).iter().collect::<Vec<_>>(), [0, 31]);
        m.remove(0);
        assert_eq!(m.count(), 2);
        assert!(m.contains(31) && !m.contains(0));
        assert_eq!(CpuMask::first(32).count(), 32);
        assert_eq!(CpuMask::first(4).and(m), CpuMask::single(3));
    }

    #[test]
    fn shared_mask_reports_change() {
        let m = AtomicCpuMask::new();
        assert!(m.insert(5, Ordering::SeqCst));
        assert!(!m.insert(5, Ordering::SeqCst));
        assert!(m.remove(5, Ordering::SeqCst));
        assert!(!m.remove(5, Ordering::SeqCst));
    }
}
