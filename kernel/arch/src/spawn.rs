//! What both machines are told to start a kernel thread, and why they may refuse.

/// How a thread is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spawn {
    /// What it is called in messages and lists.
    pub name: &'static str,
    /// The CPU it shall run on; `None`: any.
    pub cpu: Option<usize>,
}

/// Why a thread was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpawnError {
    /// There are as many threads as there can be.
    TooMany,
    /// No memory for its stack.
    NoMemory,
    /// There is no such CPU.
    NoSuchCpu,
}
