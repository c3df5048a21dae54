//! The cancel flag: Ctrl-C raises it, long work looks at it between steps and ends early.
//!
//! Locks: none. Any context, interrupt handlers included.

use core::sync::atomic::{AtomicBool, Ordering};

/// A flag that asks the running command to end.
pub struct Cancel(AtomicBool);

/// The flag of the console: there is one console, so there is one running command.
pub static CONSOLE: Cancel = Cancel::new();

impl Cancel {
    /// A flag that is down.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }
    /// Asks the running command to end.
    pub fn request(&self) {
        // Relaxed: the flag publishes nothing but itself.
        self.0.store(true, Ordering::Relaxed);
    }
    /// Takes the request back, before the next command starts.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
    /// Whether the command shall end.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}
