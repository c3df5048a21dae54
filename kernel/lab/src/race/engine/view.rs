//! Where everybody stands between two steps, as the search sees it.
//!
//! Locks: the engine's own; what a stopped actor waits for is asked under it.

use algo::explore::{ActorSet, ActorState, ObjectId, Point, PointKind};

use super::{DELIVERY, DISKS, Engine, Wait, Where, id};

impl Engine {
    /// The state of every actor of a run with `n` threads, for a view.
    pub(in crate::race) fn actor_states(&self, n: usize, states: &mut [ActorState]) {
        let s = self.state();
        states.fill(ActorState::Done);
        let mut mail = ActorSet::EMPTY;
        for (i, a) in s.actors[..n].iter().enumerate() {
            let delivery = DELIVERY + i;
            states[delivery] = match (a.mail, a.irq_on) {
                (false, _) => ActorState::Idle,
                (true, true) => ActorState::Ready(Point {
                    kind: PointKind::IpiServe,
                    object: ObjectId(self.mailbox(i)),
                }),
                (true, false) => ActorState::Masked { by: id(i) },
            };
            if a.mail {
                mail.insert(id(delivery));
            }
        }
        for (i, a) in s.actors[..n].iter().enumerate() {
            states[i] = match a.at {
                Where::Home | Where::Ended => ActorState::Done,
                Where::Stopped if self.slots[i].holds() => ActorState::Ready(Point {
                    kind: a.kind,
                    object: a.access.object,
                }),
                Where::Stopped => match a.wait {
                    Wait::Acks => ActorState::IpiWait { missing: mail },
                    Wait::Wake => ActorState::Asleep {
                        on: a.access.object,
                    },
                    Wait::Lock | Wait::Nothing => ActorState::LockBlocked {
                        lock: a.access.object,
                    },
                },
            };
        }
        for (n, disk) in DISKS {
            states[n] = match disk.next() {
                None => ActorState::Idle,
                Some(kind) => ActorState::Ready(Point {
                    kind,
                    object: ObjectId(disk.object()),
                }),
            };
        }
    }
}
