//! The operations on address spaces: what system calls do. Each file says what it locks.

pub mod exit;
pub mod stack;
pub mod zap;
