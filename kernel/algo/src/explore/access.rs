//! What a step touches, and when two steps commute.
//!
//! Two steps are dependent if both touch an object and at least one of them changes it. Whoever writes points
//! owes one rule: *a step that may enable or disable another actor's step must be dependent with it.* Locks
//! do so by themselves; a mailbox, an interrupt flag or a wait queue is an object that both sides change.

pub use crate::point::{AccessKind, PointKind};

/// What steps may conflict on: a lock, a page-table cell, a frame's counters, a mailbox. The world numbers
/// them; two objects with one number only cost reduction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct ObjectId(pub u32);

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
pub(super) const INLINE: usize = 14;

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

/// Where a ready actor stands: what its next step begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// The kind of operation.
    pub kind: PointKind,
    /// What it is about to touch.
    pub object: ObjectId,
}
