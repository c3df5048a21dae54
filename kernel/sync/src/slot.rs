//! Where the controller asks whether a stopped actor could go on.
//!
//! A lock of its own, held while the condition is asked; the condition takes none. Does not sleep.

/// What a stopped actor waits for, where the controller can ask for it.
pub struct Slot(spin::Mutex<Option<&'static (dyn Fn() -> bool + Sync)>>);

impl Slot {
    /// Nobody is stopped here.
    pub const fn new() -> Self {
        Self(spin::Mutex::new(None))
    }

    /// Runs `stopped`, during which [`Slot::holds`] asks `cond`.
    pub fn during<R>(&self, cond: &(dyn Fn() -> bool + Sync), stopped: impl FnOnce() -> R) -> R {
        struct Clear<'a>(&'a Slot);
        impl Drop for Clear<'_> {
            fn drop(&mut self) {
                *self.0.0.lock() = None;
            }
        }
        // SAFETY: only the lifetime changes. `Clear` empties the slot before this function returns
        // or unwinds, hence while `cond` still lives; and `holds` keeps the lock for as long as it
        // uses the reference.
        let cond: &'static (dyn Fn() -> bool + Sync) = unsafe { core::mem::transmute(cond) };
        *self.0.lock() = Some(cond);
        let _clear = Clear(self);
        stopped()
    }

    /// Whether the condition of who is stopped here is true; true too when nobody is.
    pub fn holds(&self) -> bool {
        self.0.lock().is_none_or(|cond| cond())
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_slot_asks_the_condition_while_somebody_is_stopped_and_not_after() {
        let slot = Slot::new();
        assert!(slot.holds());
        let came = AtomicBool::new(false);
        slot.during(&|| came.load(Ordering::Relaxed), || {
            assert!(!slot.holds());
            came.store(true, Ordering::Relaxed);
            assert!(slot.holds());
        });
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            slot.during(&|| false, || -> () { panic!("the stopped one is dropped") })
        }));
        assert!(unwound.is_err() && slot.holds());
    }
}
