//! The disks among the actors of a run: which works on which place of which disk, and which fails
//! what is there.
//!
//! Locks: those of the disks, spinning leaves.

use super::{ActorState, Engine, Footprint};
use crate::race::disk::{self, PLACES, RaceDisk};
use algo::explore::{Access, AccessKind, ObjectId, Point, PointKind};

/// What an actor of a disk does.
#[derive(Clone, Copy)]
pub(super) struct Role {
    /// Its number.
    pub(super) actor: usize,
    disk: &'static RaceDisk,
    place: usize,
    fails: bool,
}

/// All of them. Those that fail have the last numbers: what goes on by default comes before.
pub(super) static ROLES: [Role; 4 * PLACES] = [
    works(4, &disk::DATA, 1),
    works(5, &disk::SWAP, 1),
    works(6, &disk::DATA, 0),
    works(7, &disk::SWAP, 0),
    fails(12, &disk::DATA, 0),
    fails(13, &disk::SWAP, 0),
    fails(14, &disk::DATA, 1),
    fails(15, &disk::SWAP, 1),
];

const fn works(actor: usize, disk: &'static RaceDisk, place: usize) -> Role {
    Role {
        actor,
        disk,
        place,
        fails: false,
    }
}

const fn fails(actor: usize, disk: &'static RaceDisk, place: usize) -> Role {
    Role {
        fails: true,
        ..works(actor, disk, place)
    }
}

impl Role {
    /// That of actor `n`, if it is one of a disk.
    pub(super) fn of(n: usize) -> Option<Self> {
        ROLES.iter().find(|r| r.actor == n).copied()
    }

    fn next(self) -> Option<PointKind> {
        match self.fails {
            true => self
                .disk
                .may_fail(self.place)
                .then_some(PointKind::DiskFail),
            false => self.disk.next(self.place),
        }
    }

    /// How its next step begins.
    pub(super) fn point(self) -> (PointKind, Access) {
        let kind = self.next().unwrap_or(PointKind::DiskStart);
        let object = self.disk.object(self.place);
        (kind, Access::new(AccessKind::Write, object))
    }

    pub(super) fn state(self) -> ActorState {
        match self.next() {
            None => ActorState::Idle,
            Some(kind) => ActorState::Ready(Point {
                kind,
                object: ObjectId(self.disk.object(self.place)),
            }),
        }
    }

    /// It works, and has something to do.
    pub(super) fn is_busy(self) -> bool {
        !self.fails && self.next().is_some()
    }
}

impl Engine {
    /// A disk does what is next for the actor, in an interrupt on this CPU.
    pub(super) fn disk_step(&self, role: Role) {
        let mut touched = Footprint::EMPTY;
        self.handle(|| {
            let _handler = sync::point::Delivery::begin();
            match role.fails {
                true => role.disk.fail(role.place, &mut touched),
                false => role.disk.step(role.place, &mut touched),
            }
        });
        let stray = role.disk.stray();
        let mut s = self.state();
        if let Some(text) = stray {
            s.note_violation("disk", text);
        }
        if let Some(step) = &mut s.step {
            touched.accesses().iter().for_each(|a| step.add(*a));
        }
    }
}
