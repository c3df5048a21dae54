//! The atomics that the primitives are made of: the machine's, or with the feature `loom` the
//! model's.
//!
//! Only what several threads touch comes from here. Words of one thread or CPU (`CpuLocal`, the
//! ranks held) and statistics name `core` themselves, so that the model does not try their orders.

#[cfg(not(feature = "loom"))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};

#[cfg(feature = "loom")]
pub(crate) use crate::model::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};
