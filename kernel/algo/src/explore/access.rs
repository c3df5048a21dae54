//! What a step touches, and when two steps commute.
//!
//! Two steps are dependent if both touch an object and at least one of them changes it. Points owe
//! one rule: *a step that may enable or disable another actor's step must be dependent with it.*
//! Locks do so by themselves; a mailbox, an interrupt flag or a wait queue is an object that both
//! sides change.

pub use crate::point::{AccessKind, PointKind};

/// What steps may conflict on: a lock, a page-table cell, a frame's counters, a mailbox. The world
/// numbers them; two objects with one number only cost reduction.
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

    /// Swapping the two steps, where they are adjacent, may make a difference. Actors are compared
    /// by the caller: two steps of one actor never commute.
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

    /// It gives back a lock that `later` begins with: before this step, `later` could not have been
    /// taken. (A lock that the step takes itself and gives back was free before it; a try at a lock
    /// is no such beginning.)
    pub(super) fn hands_over_to(&self, later: &Self) -> bool {
        let Some(takes) = later.accesses().first() else {
            return false;
        };
        let first = self.accesses().iter().find(|a| a.object == takes.object);
        matches!(
            (first.map(|a| a.kind), takes.kind),
            (Some(AccessKind::Unlock), AccessKind::Lock | AccessKind::LockShared)
                // A shared hold given back did not keep another sharer out.
                | (Some(AccessKind::UnlockShared), AccessKind::Lock)
        )
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

#[cfg(test)]
mod tests {
    use super::AccessKind::{Lock, LockShared, Unlock, UnlockShared, Write};
    use super::*;

    fn step(kinds: &[AccessKind]) -> Footprint {
        let mut f = Footprint::EMPTY;
        kinds.iter().for_each(|k| f.add(Access::new(*k, 1)));
        f
    }

    #[test]
    fn a_lock_is_handed_over_by_who_held_it_before_the_step() {
        for (gives, takes, yes) in [
            (&[Unlock][..], &[Lock][..], true),
            (&[Unlock], &[LockShared], true),
            (&[Unlock], &[Lock, Unlock], true),
            (&[UnlockShared], &[Lock], true),
            (&[UnlockShared], &[LockShared], false),
            // It was free until the step took it.
            (&[Lock, Unlock], &[Lock], false),
            // A try does not wait.
            (&[Unlock], &[Write, Lock], false),
            (&[Unlock], &[], false),
        ] {
            let found = step(gives).hands_over_to(&step(takes));
            assert_eq!(found, yes, "{gives:?} before {takes:?}");
        }
    }
}
