//! Panics of the code under test. On the host they are caught and are verdicts; one of the kernel
//! ends the machine.

use alloc::string::String;

#[cfg(not(target_os = "none"))]
mod machine {
    use super::String;
    use std::cell::{Cell, RefCell};
    use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

    thread_local! {
        /// In [`catch`].
        static CATCHING: Cell<bool> = const { Cell::new(false) };
        /// Where the last panic was that is a verdict.
        static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
    }

    /// For the panic hook: true when the panic is a verdict of the explorer, which tells it, and no
    /// end of the program.
    pub fn is_verdict(info: &PanicHookInfo<'_>) -> bool {
        let caught = CATCHING.get() || arch::simctl::is_playing();
        if caught && let Some(at) = info.location() {
            PLACE.set(format!("{}:{}", at.file(), at.line()));
        }
        caught
    }

    /// From now on the panic hook says nothing of a panic that is a verdict: a search may make
    /// hundreds, whose backtraces would hide everything else.
    pub fn hide_verdicts() {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !is_verdict(info) {
                others(info);
            }
        }));
    }

    /// The message, and where it came from if the panic hook has asked [`is_verdict`].
    pub(crate) fn with_place(message: String) -> String {
        let place = PLACE.take();
        if place.is_empty() {
            message
        } else {
            format!("{message} ({place})")
        }
    }

    /// Runs `f`; what it panicked with, if it did.
    pub(crate) fn catch(f: impl FnOnce()) -> Result<(), String> {
        let outer = CATCHING.replace(true);
        let result = catch_unwind(AssertUnwindSafe(f));
        CATCHING.set(outer);
        result.map_err(|panic| with_place(arch::simctl::panic_message(&*panic)))
    }
}

#[cfg(target_os = "none")]
mod machine {
    use super::String;

    /// The message.
    pub(crate) fn with_place(message: String) -> String {
        message
    }

    /// Runs `f`.
    pub(crate) fn catch(f: impl FnOnce()) -> Result<(), String> {
        f();
        Ok(())
    }
}

pub(super) use machine::{catch, with_place};
#[cfg(not(target_os = "none"))]
pub use machine::{hide_verdicts, is_verdict};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handlers_panic_is_told() {
        assert_eq!(catch(|| ()), Ok(()));
        assert_eq!(catch(|| panic!("told")), Err("told".into()));
    }
}
