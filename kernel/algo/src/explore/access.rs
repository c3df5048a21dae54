//! What a step touches, and when two steps commute.
//!
//! Two steps are dependent if both touch an object and at least one of them changes it. Whoever writes points
//! owes one rule: *a step that may enable or disable another actor's step must be dependent with it.* Locks
//! do so by themselves; a mailbox, an interrupt flag or a wait queue is an object that both sides change.

/// What steps may conflict on: a lock, a page-table cell, a frame's counters, a mailbox. The world numbers
/// them; two objects with one number only cost reduction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct ObjectId(pub u32);

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

/// One object touched in one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// What.
    pub object: ObjectId,
    /// How.
    pub kind: AccessKind,
}

impl Access {
    /// `kind` of access to the object numbered `object`.
    #[inline]
    pub const fn new(kind: AccessKind, object: u32) -> Self {
        Self {
            object: ObjectId(object),
            kind,
        }
    }

    #[inline]
    fn conflicts(self, other: Self) -> bool {
        self.object == other.object && (self.kind.writes() || other.kind.writes())
    }
}

/// Accesses that a footprint holds one by one; a step with more is dependent with every step.
const INLINE: usize = 6;

/// Everything one step touched.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    accesses: [Access; INLINE],
    len: u8,
    everything: bool,
}

impl Default for Footprint {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Footprint {
    /// A step on private state only: commutes with all others.
    pub const EMPTY: Self = Self {
        accesses: [Access::new(AccessKind::Read, 0); INLINE],
        len: 0,
        everything: false,
    };

    /// A step that commutes with none.
    pub const EVERYTHING: Self = Self {
        everything: true,
        ..Self::EMPTY
    };

    /// A step that touched one object.
    #[inline]
    pub const fn of(access: Access) -> Self {
        let mut f = Self::EMPTY;
        f.accesses[0] = access;
        f.len = 1;
        f
    }

    /// Adds an access. When there is no room left, the footprint becomes "everything".
    #[inline]
    pub fn add(&mut self, access: Access) {
        if self.accesses().contains(&access) {
            return;
        }
        match self.accesses.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = access;
                self.len += 1;
            }
            None => self.everything = true,
        }
    }

    /// The accesses, as far as there was room for them.
    #[inline]
    pub fn accesses(&self) -> &[Access] {
        &self.accesses[..usize::from(self.len)]
    }

    /// Swapping the two steps, where they are adjacent, may make a difference. Actors are compared by the
    /// caller: two steps of one actor never commute.
    #[inline]
    pub fn conflicts(&self, other: &Self) -> bool {
        if self.everything || other.everything {
            return true;
        }
        let pair = |a: &Access| other.accesses().iter().any(|b| a.conflicts(*b));
        self.accesses().iter().any(pair)
    }

    /// It may touch `object`.
    pub(super) fn touches(&self, object: ObjectId) -> bool {
        self.everything || self.accesses().iter().any(|a| a.object == object)
    }

    /// It gives back a lock that `later` takes: before this step, `later` could not have been taken.
    pub(super) fn hands_over_to(&self, later: &Self) -> bool {
        let gives = |lock| {
            self.accesses().iter().any(|a| {
                a.object == lock && matches!(a.kind, AccessKind::Unlock | AccessKind::UnlockShared)
            })
        };
        let takes = |a: &Access| match a.kind {
            AccessKind::Lock => gives(a.object),
            // A shared hold given back did not keep another sharer out.
            AccessKind::LockShared => self.accesses().contains(&Access {
                object: a.object,
                kind: AccessKind::Unlock,
            }),
            _ => false,
        };
        later.accesses().iter().any(takes)
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
}

/// Where a ready actor stands: what its next step begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// The kind of operation.
    pub kind: PointKind,
    /// What it is about to touch.
    pub object: ObjectId,
}
