//! The simulator's verdict on freed frames: its TLBs know whether one still translates to them. The
//! real machine has no such oracle, so nothing is ever found there.

use alloc::string::String;

/// What the oracle saw go wrong since the last call, if anything.
#[cfg(not(target_os = "none"))]
pub fn take() -> Option<String> {
    let seen = arch::simctl::take_violations();
    let first = seen.first()?;
    Some(alloc::format!(
        "{} violations of the TLB oracle, the first: {first}",
        seen.len()
    ))
}

/// What the oracle saw go wrong since the last call, if anything.
#[cfg(target_os = "none")]
pub fn take() -> Option<String> {
    None
}
