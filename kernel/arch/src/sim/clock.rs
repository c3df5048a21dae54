//! Time: the host's monotonic clock. No locks, never sleeps.

/// Nanoseconds since the first use of the clock.
pub fn now_ns() -> u64 {
    sync::host::now_ns()
}

/// The finest clock there is. On this machine nanoseconds: nothing here counts instructions.
pub fn cycles() -> u64 {
    now_ns()
}
