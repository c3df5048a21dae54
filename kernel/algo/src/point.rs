//! The words that the places where the explorer may stop a thread are described with. They exist in
//! every build, the search itself only with the feature `explore`.

/// How a step touches an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum AccessKind {
    /// Looks at it.
    Read,
    /// Changes it, or changes who may go on because of it.
    Write,
    /// Takes it as a lock, alone.
    Lock,
    /// Gives it back.
    Unlock,
    /// Takes it as a lock, together with other sharers.
    LockShared,
    /// Gives a shared hold back.
    UnlockShared,
}

impl AccessKind {
    /// It does not commute with a look at the same object.
    #[inline]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Lock | Self::Unlock)
    }
}

macro_rules! point_kinds {
    ($($name:ident = $text:literal, $doc:literal;)+) => {
        /// What kind of place an actor stands at.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum PointKind { $(#[doc = $doc] $name,)+ }

        impl PointKind {
            /// Every kind.
            pub const ALL: [Self; [$(Self::$name),+].len()] = [$(Self::$name),+];

            /// As traces print it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

point_kinds! {
    Start = "start", "Before the actor's first step.";
    Lock = "lock", "About to take a lock.";
    Unlock = "unlock", "About to give a lock back.";
    CellRead = "cell-read", "About to read a page-table cell.";
    CellWrite = "cell-write", "About to change a page-table cell.";
    Count = "count", "About to change a reference or map count, or a folio's flags.";
    Space = "space", "About to change, or to ask for, what an address space or a CPU says of who may translate.";
    IpiSend = "ipi-send", "About to send an interrupt.";
    IpiServe = "ipi-serve", "About to serve the mailbox of a CPU.";
    IpiWait = "ipi-wait", "About to go on after the last acknowledgement.";
    IrqOff = "irq-off", "About to turn interrupts off or on.";
    Flush = "flush", "About to drop translations of this CPU.";
    DiskStart = "disk-start", "About to hand a request to the disk.";
    DiskDone = "disk-done", "About to report a finished request.";
    UserRead = "user-read", "About to load through the MMU.";
    UserWrite = "user-write", "About to store through the MMU.";
    Wake = "wake", "About to wake a sleeper, or to go on after a sleep.";
    Mark = "mark", "A place that a scenario named itself.";
    DiskHalf = "disk-half", "About to move the second half of a request's data.";
    DiskFail = "disk-fail", "About to fail a request.";
}
