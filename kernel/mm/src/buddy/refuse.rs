//! For tests: an allocation of a certain use that fails, as if memory were out, without anybody
//! being killed for it.
//!
//! No lock: the countdown is one word. Whatever allocates for the same use meanwhile counts too.

use crate::stats::Use;
use core::sync::atomic::{AtomicU64, Ordering};

/// Allocations that are still granted, plus 1 (0: all of them), above the use.
static LEFT: AtomicU64 = AtomicU64::new(0);
const USE_BITS: u32 = 8;

/// Until this is dropped one allocation is, or was, refused.
pub struct Refused(());

/// Refuses one allocation for `usage`, after `granted` that are not.
pub fn after(usage: Use, granted: u32) -> Refused {
    let left = (u64::from(granted) + 1) << USE_BITS;
    LEFT.store(left | usage as u64, Ordering::Relaxed);
    Refused(())
}

impl Drop for Refused {
    fn drop(&mut self) {
        LEFT.store(0, Ordering::Relaxed);
    }
}

/// This allocation is the one.
#[inline]
pub(super) fn is_this(usage: Use) -> bool {
    let left = LEFT.load(Ordering::Relaxed);
    left != 0 && left & ((1 << USE_BITS) - 1) == usage as u64 && count_down()
}

#[cold]
fn count_down() -> bool {
    let next = |left: u64| match left >> USE_BITS {
        0 => None,
        1 => Some(0),
        _ => Some(left - (1 << USE_BITS)),
    };
    let before = LEFT.try_update(Ordering::Relaxed, Ordering::Relaxed, next);
    before.is_ok_and(|left| left >> USE_BITS == 1)
}
