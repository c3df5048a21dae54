//! Whether a panic is on its way out. Checks that a value makes when it is dropped are silent then:
//! the panic has told what is wrong, and the work that it cut short is not done.

/// The calling thread is being unwound. Only the host unwinds: a panic of the kernel ends it.
#[must_use]
pub fn unwinding() -> bool {
    #[cfg(target_os = "none")]
    return false;
    #[cfg(not(target_os = "none"))]
    std::thread::panicking()
}
